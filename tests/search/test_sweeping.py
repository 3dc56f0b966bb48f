"""A search deletes the checkpoints it needs no more: each folder listed once, none waited for."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

import search
import spaces
from search.execution import sweeping
from search.execution.sweeping import Sweeping
from search.study import garbage
from search.study.study import Study
from search.trial import Candidate, Ending
from tests.search.test_gc import SIZE, begin, clean, go, store, there

Synthetic = Callable[..., Study]


class Watched(MemoryFileSystem):  # type: ignore[misc]
    """Files in memory whose folders' listings are counted; it can be away, or hang."""

    protocol = "watched"
    store: dict[str, Any] = {}  # noqa: RUF012  as the class above has it
    pseudo_dirs = [""]  # noqa: RUF012
    listed: ClassVar[Counter[str]] = Counter()
    away = False
    hang: threading.Event | None = None

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        """List a folder."""
        if Watched.away:
            raise ConnectionError("the bucket is away")
        if Watched.hang is not None:
            Watched.hang.wait()
        Watched.listed[path.rstrip("/").rsplit("/", 1)[-1]] += 1
        return super().ls(path, detail=detail, **kwargs)

    def rmdir(self, path: str) -> None:
        """A bucket has no folders (the class above would list one to see that it is empty)."""


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> str:
    """A URI of `Watched`, empty."""
    fsspec.register_implementation("watched", Watched, clobber=True)
    Watched.store.clear()
    Watched.pseudo_dirs[:] = [""]
    Watched.listed.clear()
    monkeypatch.setattr(Watched, "away", False)
    monkeypatch.setattr(Watched, "hang", None)
    return "watched://bucket"


def swept(study: Study, said: list[str] | None = None) -> None:
    """One last sweep."""
    with Sweeping(study, (said if said is not None else []).append) as sweeper:
        sweeper.close()


def look(sweeper: Sweeping) -> None:
    """A sweep beside the driver, now and here."""
    sweeper._dead = garbage.dead(sweeper._study, driven=True, over=False)
    sweeper._work(last=False)


def test_the_front_keeps_its_weights(synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who leaves the front loses its own at the next sweep, the new front never does."""
    monkeypatch.setattr(garbage, "FRESH", -1.0)
    study = synthetic()
    with Sweeping(study, print) as sweeper:
        dear, folders = [], []
        for accuracy in (0.5, 0.4, 0.9):  # of widths 0.25, 0.5, 0.75
            trial = go(study, "finished", accuracy)
            dear.append(trial)
            folders.append(store(study, trial))
            study.commit()
            look(sweeper)
            front = {member.number for member in study.pareto()}
            assert [there(study, each) for each in folders] == [t.trial in front for t in dear]
    assert front == {0, 2}


def test_newest_words_put_nobody_off_the_front(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who was beaten a moment ago is kept: a power cut may take the record that says so."""
    study = synthetic(baselines=[{"backbone": {"width": 2.0}}, {"backbone": {"width": 1.0}}])
    beaten = go(study, "finished", 0.5)
    folder = store(study, beaten)
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + garbage.FRESH + 30)
    monkeypatch.setattr(study._journal, "_clock", time.time)
    better = go(study, "finished", 0.9)
    store(study, better)
    assert {member.number for member in study.pareto()} == {better.trial}

    assert clean(study, driven=True) == 0
    assert there(study, folder)
    monkeypatch.setattr(time, "time", lambda: real() + 2 * garbage.FRESH + 60)
    assert clean(study, driven=True) == SIZE
    assert not there(study, folder)


def test_a_seed_to_come_may_bring_a_network_back(synthetic: Synthetic) -> None:
    """With `further` the leader's mean may fall: of what finished no sweep takes any, as the study
    may get more seeds; `gc` of one that has ended does.
    """
    study = synthetic(trials=2, further={"seeds": 1, "most": 2})
    leader, beaten = go(study, "finished", 0.9), go(study, "finished", 0.5)
    folders = [store(study, leader), store(study, beaten)]
    study.commit()
    assert clean(study) == 0
    while (seed := study.next()) is not None:
        study.start(seed, "virtual:1")
        study.report(seed.trial, seed.replicate, {"epoch": 1, "val_accuracy": 0.9})
        study.end(seed.trial, seed.replicate, Ending("finished", ""))
    study.conclude()
    assert study.history.ended
    swept(study)
    assert [there(study, each) for each in folders] == [True, True]
    study.close()
    clean(study)
    front = {member.number for member in study.pareto()}
    assert len(front) == 1
    assert [there(study, each) for each in folders] == [n in front for n in (0, 1)]


def test_who_may_have_a_second_chance_keeps_its_place(synthetic: Synthetic) -> None:
    """With `promote` a study that has ended may go on with a larger budget, and whom that promotes
    goes on from where it was stopped; `gc` takes the end for the end.
    """
    pruner = {"name": "ThresholdPruner", "lower": 0.0, "promote": 0.99}
    study = synthetic(trials=2, pruner=pruner, budget={"epochs": 9})
    folder = store(study, go(study, "pruned"))
    go(study, "finished")
    study.conclude()
    assert study.history.ended
    swept(study)
    assert there(study, folder)
    study.close()
    assert clean(study) == SIZE


def test_only_what_is_on_the_disk_is_acted_upon(
    synthetic: Synthetic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is decided after a look, and before its thread comes to work, is for the next one."""
    monkeypatch.setattr(garbage, "FRESH", -1.0)
    monkeypatch.setattr(sweeping, "EVERY", 0.0)
    study = synthetic(baselines=[{"backbone": {"width": 2.0}}, {"backbone": {"width": 1.0}}])
    folder = store(study, go(study, "finished", 0.5))
    with Sweeping(study, print) as sweeper:
        assert sweeper._background is not None
        monkeypatch.setattr(sweeper._background, "wake", lambda: None)
        study.commit()
        sweeper.look()
        better = go(study, "finished", 0.9)
        assert {member.number for member in study.pareto()} == {better.trial}
        sweeper._work(last=False)
        assert there(study, folder)
        study.commit()
        sweeper.look()
        sweeper._work(last=False)
        assert not there(study, folder)


def test_all_are_kept_where_that_is_wanted(synthetic: Synthetic) -> None:
    """`checkpoints: {of: all}`: no sweep takes one; `gc` does, being asked."""
    study = synthetic(checkpoints={"of": "all"})
    folder = store(study, go(study, "pruned"))
    study.conclude()
    swept(study)
    assert there(study, folder)
    assert clean(study) == SIZE


def test_a_thousand_folders_are_listed_once_each(
    tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often it is looked; those of the front and of what runs never."""
    monkeypatch.setattr(garbage, "FRESH", -1.0)
    path = tmp_path / "many.yaml"
    given = {
        "trials": 1000,
        "sampler": {"name": "RandomSampler"},
        "objectives": {"val_accuracy": "max"},
        "checkpoints": {"uri": bucket},
        "failures": {"consecutive": 10_000},
    }
    path.write_text(
        "name: many\ntask: {name: classification}\ndataset: {name: digits}\n"
        "backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0]}}\n"
        "training: {epochs: 3, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}\n"
        f"search: {json.dumps(given)}\n"
    )

    def examine(values: dict[str, Any]) -> Candidate:
        key = f"{int(values['backbone.width'] * 1e12):016x}"
        config = {"training": {"epochs": 3}, "attention": {"name": "none"}}
        return Candidate(config, key, key, {"params": 1.0, "macs": 1.0}, {}, "", "w")

    study = Study.create(tmp_path / "many", spaces.load(path), examine, reference={}, chance=0.1)
    study.begin(pid=1, host="here", executor="inprocess")
    keys = []
    with Sweeping(study, print) as sweeper:
        for number in range(1000):
            trial = go(study, "pruned" if number % 2 else "finished", number / 1000)
            store(study, trial)
            keys.append(trial.key)
            if number % 100 == 0:
                look(sweeper)
        running = begin(study) if study.next() else None
        assert running is None
        look(sweeper)
        study.conclude()
        sweeper.close()
    study.close()

    (best,) = study.pareto()
    assert best.number == 998
    assert {key: Watched.listed[key] for key in keys} == {
        key: int(key != best.key_of(0)) for key in keys
    }
    assert Watched.listed["many-" + study.uuid[:8]] == 1


def test_a_store_that_is_away_is_said_once(
    synthetic: Synthetic, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with the place and the remedy; what it could not delete goes when it is back."""
    study = synthetic(checkpoints={"uri": bucket})
    folder = store(study, go(study, "pruned"))
    study.conclude()
    said: list[str] = []
    monkeypatch.setattr(Watched, "away", True)
    swept(study, said)
    (line,) = said
    assert line.startswith("warning: watched://bucket/synthetic-")
    assert "the bucket is away" in line
    assert "eca-search gc" in line
    monkeypatch.setattr(Watched, "away", False)
    assert there(study, folder)
    swept(study, said)
    assert not there(study, folder)
    assert len(said) == 1


def test_a_store_that_hangs_is_left(
    synthetic: Synthetic, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end is bounded, and what answers too late deletes nothing any more."""
    study = synthetic(checkpoints={"uri": bucket})
    folder = store(study, go(study, "pruned"))
    study.conclude()
    monkeypatch.setattr(sweeping, "PATIENCE", 0.2)
    answers = threading.Event()
    monkeypatch.setattr(Watched, "hang", answers)
    said: list[str] = []
    before = set(threading.enumerate())
    swept(study, said)
    (late,) = set(threading.enumerate()) - before
    answers.set()
    late.join()
    assert ["no answer" in line for line in said] == [True]
    assert there(study, folder)


WriteSpace = Callable[..., Path]
OFF = "objectives: {val_accuracy: max}"  # one network is on the front, all others are off it


def test_a_study_finishes_without_its_store(
    write_space: WriteSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real search whose sweeps all fail warns once and is finished."""

    def away(*_: Any) -> None:
        raise ConnectionError("the bucket is away")

    monkeypatch.setattr(garbage, "of", away)
    said: list[str] = []
    path = write_space(trials=3, epochs=1, search=OFF)
    study = search.run(path, out=tmp_path / "runs", executor="inprocess", say=said.append)
    assert study.history.ended == "3 of 3 trials"
    assert len([line for line in said if "the bucket is away" in line]) == 1


@pytest.mark.timeout(240)
def test_nothing_is_left_after_a_killed_driver(write_space: WriteSpace, tmp_path: Path) -> None:
    """By kill -9 midway, then `resume`: what its driver left goes too, the front stays."""
    path = write_space(trials=4, epochs=4, search=OFF)
    command = [sys.executable, "-m", "search", "run", str(path), "--out", str(tmp_path / "runs")]
    driver = subprocess.Popen(
        [*command, "--executor", "inprocess"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = tmp_path / "runs" / "small"
    checkpoints = folder / "checkpoints"
    while driver.poll() is None and len([*checkpoints.glob("*")]) < 2:
        time.sleep(0.05)
    os.kill(driver.pid, signal.SIGKILL)
    driver.wait()
    assert len([*checkpoints.glob("*")]) >= 2

    study = search.resume(folder, executor="inprocess")
    assert study.outcomes()["finished"] == 4
    (best,) = study.pareto()
    assert [each.name for each in checkpoints.iterdir()] == [best.key_of(0)]

    dead = next(trial for trial in study.trials if trial.number != best.number)
    left = checkpoints / dead.key_of(0)
    left.mkdir()
    (left / "epoch-000001.pt").write_bytes(b"of a driver killed after its last word")
    search.resume(folder, executor="inprocess")
    assert [each.name for each in checkpoints.iterdir()] == [best.key_of(0)]
