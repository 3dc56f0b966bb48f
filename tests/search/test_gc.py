"""`gc` removes the checkpoints that nobody will ask for again, and those alone."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search.cli import main
from search.errors import JournalError
from search.study import drivers, garbage, lease
from search.study.study import Study
from search.trial import Assignment, Ending

Synthetic = Callable[..., Study]
SIZE = 1000
"""Bytes of every checkpoint here."""


def begin(study: Study, *accuracies: float) -> Assignment:
    """Hand out the next attempt and report its epochs."""
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    for epoch, accuracy in enumerate(accuracies, start=assignment.known + 1):
        study.report(assignment.trial, 0, {"epoch": epoch, "val_accuracy": accuracy})
    return assignment


def go(study: Study, outcome: str, accuracy: float = 0.5) -> Assignment:
    """An attempt from its beginning to its end."""
    assignment = begin(study, accuracy)
    study.end(assignment.trial, assignment.replicate, Ending(outcome, ""))
    return assignment


def store(study: Study, assignment: Assignment, *, files: int = 1) -> str:
    """Checkpoints as a worker leaves them; returns the folder."""
    system, place = garbage._place(study)
    folder = f"{place}/{assignment.key}"
    system.makedirs(folder, exist_ok=True)
    for number in range(files):
        system.pipe_file(f"{folder}/epoch-{number:06d}.{'0' * 64}.pt", SIZE * b"x")
    return folder


def there(study: Study, folder: str) -> bool:
    """Whether a checkpoint is in the folder."""
    system, _ = garbage._place(study)
    system.invalidate_cache()
    return bool(system.exists(folder) and system.ls(folder))


def clean(study: Study, *, driven: bool = False) -> int:
    """Remove what there is to be removed; bytes freed."""
    return sum(garbage.remove(study, waste) for waste in garbage.find(study, driven=driven))


@pytest.fixture(params=["here", "memory", "file"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Checkpoints in the study's folder, or at a URI."""
    where = {"memory": f"memory://{tmp_path.name}", "file": f"file://{tmp_path}/elsewhere"}
    return {"uri": where[request.param]} if request.param in where else {}


def test_the_front_and_what_may_go_on_is_kept(synthetic: Synthetic, uri: dict[str, str]) -> None:
    """Pruned, failed, and finished off the front goes; the front, open and waiting trials stay."""
    study = synthetic(checkpoints=uri, failures={"crashed": 0, "consecutive": 100})
    best, off = go(study, "finished", 0.9), go(study, "finished", 0.8)
    pruned, diverged = go(study, "pruned"), go(study, "diverged")
    top = go(study, "finished", 0.95)
    interrupted, running = go(study, "interrupted"), begin(study, 0.5)
    dead = [store(study, one, files=2) for one in (off, pruned, diverged)]
    alive = [store(study, one, files=2) for one in (best, top, interrupted, running)]
    study.commit()

    assert clean(study) == 3 * 2 * SIZE
    assert [there(study, folder) for folder in dead] == [False] * 3
    assert [there(study, folder) for folder in alive] == [True] * 4
    assert clean(study) == 0


def test_who_may_be_promoted_is_kept_until_the_end(synthetic: Synthetic) -> None:
    """With `promote` a pruned trial's checkpoints stay, unless a person stopped it, as long as the
    study is not over.
    """
    pruner = {"name": "ThresholdPruner", "lower": 0.0, "promote": 0.99}
    study = synthetic(trials=2, pruner=pruner)
    pruned, stopped = go(study, "pruned"), begin(study, 0.5)
    study.stop(stopped.trial)
    study.end(stopped.trial, 0, Ending("pruned", "stopped by hand"))
    kept, gone = store(study, pruned), store(study, stopped)
    study.commit()
    assert clean(study) == SIZE
    assert (there(study, kept), there(study, gone)) == (True, False)
    study.close()
    assert study.history.ended
    assert clean(study) == SIZE
    assert not there(study, kept)


def test_the_replicates_of_a_dead_trial_go_with_it(synthetic: Synthetic) -> None:
    """All of their checkpoints; a trial that lacks one yet is alive."""
    study = synthetic(replicates=2)
    first = go(study, "finished", 0.9)
    second = go(study, "finished", 0.9)
    assert (second.trial, second.replicate) == (first.trial, 1)
    off = go(study, "finished", 0.5)
    folder = store(study, off)
    study.commit()
    assert clean(study) == 0
    again = begin(study, 0.5)
    study.end(again.trial, 1, Ending("finished", ""))
    other = store(study, again)
    study.commit()
    assert clean(study) == 2 * SIZE
    assert not there(study, folder)
    assert not there(study, other)


def test_beside_a_driver_doubt_means_keep(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended a moment ago, or crashed and may be tried again, waits; the rest goes."""
    study = synthetic(failures={"crashed": 0, "consecutive": 100})
    crashed, pruned = go(study, "crashed"), go(study, "pruned")
    folders = [store(study, one) for one in (crashed, pruned)]
    study.commit()
    assert clean(study, driven=True) == 0
    monkeypatch.setattr(garbage, "FRESH", -1.0)
    assert clean(study, driven=True) == SIZE
    assert [there(study, folder) for folder in folders] == [True, False]
    assert clean(study) == SIZE


def test_what_batches_were_before_they_were_halved_goes(synthetic: Synthetic) -> None:
    """Smaller parts are another recipe, with checkpoints of its own: the old ones serve nobody."""
    study = synthetic(oom="halve_batch")
    before = go(study, "oom")
    old = store(study, before)
    now = begin(study, 0.5)
    assert now.trial == before.trial
    assert now.key != before.key
    new = store(study, now)
    study.commit()
    assert clean(study) == SIZE
    assert not there(study, old)
    assert there(study, new)


def test_other_files_are_left_alone(synthetic: Synthetic, tmp_path: Path) -> None:
    """Folders of other networks, links, and files that are no checkpoints of ours."""
    study = synthetic()
    pruned = go(study, "pruned")
    study.commit()
    folder = Path(store(study, pruned))
    (folder / "notes.txt").write_text("mine")
    (tmp_path / "precious.pt").write_text("precious")
    (folder / "link.pt").symlink_to(tmp_path / "precious.pt")
    other = folder.with_name("feedfeedfeedfeed-r0")
    other.mkdir()
    (other / "epoch.pt").write_text("of another study")
    assert clean(study) == SIZE
    assert sorted(path.name for path in folder.iterdir()) == ["link.pt", "notes.txt"]
    assert (tmp_path / "precious.pt").read_text() == "precious"
    assert (other / "epoch.pt").exists()


def test_what_killed_writers_have_left(synthetic: Synthetic) -> None:
    """Their temporary files go, beside a driver that may be writing only when an hour old."""
    study = synthetic()
    old, new = study.folder / ".space.yaml.1.tmp", study.folder / "checkpoints" / ".a.pt.2.tmp"
    new.parent.mkdir()
    for file in (old, new):
        file.write_bytes(SIZE * b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert clean(study, driven=True) == SIZE
    assert (old.exists(), new.exists()) == (False, True)
    assert clean(study) == SIZE


def test_two_at_a_time(synthetic: Synthetic) -> None:
    """What another has removed meanwhile is no error and is not counted twice."""
    study = synthetic()
    pruned = go(study, "pruned")
    store(study, pruned, files=3)
    study.commit()
    found = [list(garbage.find(study, driven=False)) for _ in range(2)]
    assert [sum(garbage.remove(study, waste) for waste in each) for each in found] == [
        3 * SIZE,
        0,
    ]


def test_the_command(
    synthetic: Synthetic, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--dry-run says what would go and leaves it; --json has the figures; words have them too."""
    study = synthetic()
    best, pruned = go(study, "finished", 0.9), go(study, "pruned")
    kept, gone = store(study, best), store(study, pruned, files=2)
    study.close()
    folder = str(study.folder)

    assert main(["gc", folder, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert f"#{pruned.trial:03d} pruned: 2 files, 2.0 KiB" in said
    assert "synthetic: would free 2.0 KiB; 1000 B of checkpoints are kept" in said
    assert there(study, gone)

    assert main(["gc", folder, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {
        "version": 1,
        "study": "synthetic",
        "dry_run": False,
        "bytes": 2 * SIZE,
        "kept": SIZE,
        "removed": [{"trial": pruned.trial, "where": gone, "files": 2, "bytes": 2 * SIZE}],
    }
    assert (there(study, gone), there(study, kept)) == (False, True)

    assert main(["gc", folder]) == 0
    assert capsys.readouterr().out == "synthetic: freed 0 B; 1000 B of checkpoints are kept\n"


def test_no_driver_begins_meanwhile(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is dead where nobody drives may be wanted by a driver: none begins until it is gone."""
    study = synthetic(failures={"crashed": 0, "consecutive": 100})
    crashed = go(study, "crashed")
    folder = store(study, crashed)
    study.close()
    remove, refused = garbage.remove, []

    def watched(study: Study, waste: garbage.Waste) -> int:
        with pytest.raises(JournalError) as error:
            lease.acquire(study.folder)
        refused.append(str(error.value))
        return remove(study, waste)

    monkeypatch.setattr(garbage, "remove", watched)
    assert main(["gc", str(study.folder)]) == 0
    assert "is running this study" in refused[0]
    assert not there(study, folder)
    assert drivers.driver(study.folder) is None


def test_a_driver_whose_clock_is_ahead_is_spared(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One on another machine is at work; this machine's clock, not the folder's, is far off."""
    study = synthetic(failures={"crashed": 0, "consecutive": 100})
    crashed = go(study, "crashed")
    folder = store(study, crashed)
    study.close()
    said = {"pid": 7, "host": "node7", "boot": "another-boot", "since": 1.7e9, "locked": True}
    (study.folder / ".driver.000009").write_text(json.dumps(said) + "\n")
    clock = time.time
    monkeypatch.setattr(time, "time", lambda: clock() + 3500)

    assert main(["gc", str(study.folder)]) == 0
    assert there(study, folder)
    last = drivers.holder(study.folder)
    assert last is not None
    assert last.fence == 9


@pytest.mark.parametrize("where", ["nowhere", "."])
def test_a_folder_without_a_study(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """Exit 2 in a line or two, and nothing is touched."""
    (tmp_path / "a.tmp").touch()
    assert main(["gc", str(tmp_path / where)]) == 2
    assert len(capsys.readouterr().err.splitlines()) <= 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.tmp"]
