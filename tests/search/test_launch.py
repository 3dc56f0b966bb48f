"""Starting, resuming and refusing: what a person may do with a study's folder."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search import cli
from search.beforehand import preflight
from search.errors import JournalError, StudyExists, Unfit
from search.study import earlier, garbage, journal
from search.study.study import Study
from spaces import SpaceError

WriteSpace = Callable[..., Path]

SPACE = """\
name: small
task: {name: classification}
dataset: {name: digits, subset: 300, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention: {choice: [{name: none}, {name: eca}]}
training: {epochs: 1, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 2, seed: 0, executor: inprocess}
"""
"""What `write_space` writes with two trials of one epoch."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of studies that holds a finished one of two trials."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "small.yaml").write_text(SPACE)
    return search.run(folder / "small.yaml", out=folder / "runs").folder.parent


@pytest.fixture
def done(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished study, store and all."""
    return Path(shutil.copytree(finished, tmp_path / "runs")) / "small"


def test_a_second_run_is_refused_and_names_resume(done: Path, write_space: WriteSpace) -> None:
    """Nothing of the first study changes."""
    before = (done / journal.FILE).read_bytes()
    with pytest.raises(StudyExists, match="eca-search resume"):
        search.run(write_space(trials=2, epochs=1), out=done.parent)

    assert (done / journal.FILE).read_bytes() == before


def test_run_resume_goes_on_with_more_trials(done: Path, write_space: WriteSpace) -> None:
    """A job script that is requeued with a larger total extends the study."""
    study = search.run(write_space(trials=3, epochs=1), out=done.parent, resume=True)

    assert [trial.outcome for trial in study.trials] == ["finished"] * 3


def test_run_resume_refuses_another_space(done: Path, write_space: WriteSpace) -> None:
    """The keys that differ are named, and nothing is written."""
    before = (done / journal.FILE).read_bytes()
    with pytest.raises(StudyExists, match=r"training\.epochs"):
        search.run(write_space(trials=3, epochs=2), out=done.parent, resume=True)

    assert (done / journal.FILE).read_bytes() == before


def test_an_edited_space_file_is_refused(done: Path) -> None:
    """Trials of two recipes are never mixed on one front."""
    text = (done / "space.yaml").read_text()
    (done / "space.yaml").write_text(text.replace("epochs: 1", "epochs: 2"))
    with pytest.raises(StudyExists, match=r"training\.epochs"):
        search.resume(done)


def test_an_edited_total_extends(done: Path) -> None:
    """A larger `search.trials` in the folder's own space file is what it says."""
    text = (done / "space.yaml").read_text()
    (done / "space.yaml").write_text(text.replace("trials: 2", "trials: 3"))

    assert len(search.resume(done).trials) == 3


def test_what_no_result_depends_on_may_be_edited(done: Path) -> None:
    """Time-outs, failures, places: `resume` takes them from the file and from overrides."""
    text = (done / "space.yaml").read_text()
    (done / "space.yaml").write_text(text.replace("no_progress: null", "no_progress: 500"))
    study = search.resume(done, overrides=["search.timeouts.trial=600", "search.trials=3"])

    assert len(study.trials) == 3
    again = search.load(done)
    assert (again.space.search.timeouts.trial, again.space.search.timeouts.no_progress) == (
        600,
        500,
    )
    (edit,) = [record for record in journal.read(done) if record["kind"] == "edit"]
    assert edit["changes"] == {
        "search.timeouts.no_progress": [None, 500],
        "search.timeouts.trial": [None, 600],
        "search.trials": [2, 3],
    }
    assert "trial: 600" in (done / "space.yaml").read_text()


def test_a_refused_edit_is_shown_as_a_diff(done: Path) -> None:
    """Each key with what it was and what it is; --fork is the way out; at most six lines."""
    with pytest.raises(StudyExists) as refused:
        search.resume(
            done,
            overrides=[
                "training.epochs=2",
                "training.batch_size=64",
                "search.seed=9",
                "dataset.val=0.3",
            ],
        )

    text = str(refused.value)
    assert "dataset.val: 0.2 -> 0.3" in text
    assert "and 2 more" in text
    assert "--fork" in text
    assert len(text.splitlines()) <= 6


def test_a_fork_keeps_the_results_that_fit(done: Path) -> None:
    """A wider space begins with the old trials, trained once; the old study is left as it was."""
    before = (done / journal.FILE).read_bytes()
    old = search.load(done)
    said: list[str] = []
    study = search.resume(
        done,
        overrides=["backbone.width={choice: [0.25, 0.5, 0.75]}", "search.trials=4"],
        fork=True,
        say=said.append,
    )

    assert study.folder == done.with_name("small-2")
    assert study.name == "small-2"
    assert any("2 of 2 results of small carried over" in line for line in said)
    assert len(study.trials) == 4
    for kept, known in zip(study.trials, old.trials, strict=False):
        assert kept.key == known.key
        assert kept.objectives == known.objectives
        assert kept.replicates[0].curve == known.replicates[0].curve
        went, before_it = kept.replicates[0].attempts[0], known.replicates[0].attempts[0]
        assert (went.worker, went.device) == (before_it.worker, before_it.device)
        assert went.device
        assert kept.images == known.images
    assert study.optuna.trials[0].values == [
        old.trials[0].objectives[name] for name in study.objectives
    ]
    assert (done / journal.FILE).read_bytes() == before
    assert search.load(study.folder).pareto() == study.pareto()


def test_a_fork_has_at_least_as_many_trials_as_its_study(done: Path) -> None:
    """--trials of the command, else the study's own total: never fewer than were carried over."""
    search.resume(done, trials=3)
    study = search.resume(done, fork=True)
    assert [trial.reason for trial in study.trials] == ["carried over"] * 3
    assert study.history.total == 3

    longer = search.resume(done, fork=True, trials=4)
    assert longer.folder == done.with_name("small-3")
    assert len(longer.trials) == 4


def test_a_fork_cut_short_is_refused(done: Path) -> None:
    """One that was killed while it took results over would miss some for ever."""
    study = search.resume(done, fork=True)
    lines = (study.folder / journal.FILE).read_bytes().splitlines(keepends=True)
    cut = next(n for n, line in enumerate(lines) if b'"kind":"carried"' in line)
    (study.folder / journal.FILE).write_bytes(b"".join(lines[: cut - 1]))

    with pytest.raises(JournalError, match="cut short"):
        search.resume(study.folder)


def test_an_edited_store_is_written_to(done: Path, tmp_path: Path) -> None:
    """The space's new word on where to track counts for more than the last driver's."""
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    search.resume(done, overrides=[f"search.tracking.uri={uri}", "search.trials=3"])

    assert (tmp_path / "other.db").exists()


def test_an_edited_executor_is_taken(done: Path) -> None:
    """As `--executor` would be; an unknown machine is not started for it here."""
    said: list[str] = []
    search.resume(done, overrides=["search.executor=inprocess"], trials=3, say=said.append)
    text = (done / "space.yaml").read_text()
    (done / "space.yaml").write_text(text.replace("executor: inprocess", "executor: ray"))

    with pytest.raises(Unfit, match=r"no Ray cluster at 127\.0\.0\.1:1"):
        search.resume(done, trials=4, address="127.0.0.1:1")


def test_a_lost_journal_never_starts_a_study_anew(done: Path) -> None:
    """`run --resume` in a requeued job refuses a folder whose journal is gone."""
    (done / journal.FILE).unlink()
    with pytest.raises(JournalError, match="it is gone, but a study was here"):
        search.run(done / "space.yaml", out=done.parent, resume=True)


def test_a_fork_with_another_recipe_trains_anew(done: Path) -> None:
    """Results of another recipe are no results here; baselines are asked first all the same."""
    study = search.resume(
        done,
        overrides=["training.epochs=2", "search.trials=1", "name=longer"],
        fork=True,
    )

    assert study.folder.name == "longer"
    assert [len(trial.replicates[0].curve) for trial in study.trials] == [2]


def test_a_fork_keeps_results_where_a_hole_was_closed(done: Path) -> None:
    """What the hole is fixed to now is what the kept trials had there."""
    old = search.load(done)
    width = old.trials[0].values["backbone.width"]
    study = search.resume(done, overrides=[f"backbone.width={width}", "search.trials=2"], fork=True)

    kept = [trial for trial in old.trials if trial.values["backbone.width"] == width]
    assert [trial.key for trial in study.trials[: len(kept)]] == [trial.key for trial in kept]
    assert "backbone.width" not in study.trials[0].values


def test_a_fork_keeps_results_where_a_hole_was_opened(done: Path) -> None:
    """What was fixed then is the value that the kept trials have now."""
    study = search.resume(
        done,
        overrides=[
            "training.optimizer.lr={choice: [0.1, 0.2]}",
            "backbone.depth={choice: [8, 14]}",
            "search.trials=2",
        ],
        fork=True,
    )

    assert [trial.values["training.optimizer.lr"] for trial in study.trials] == [0.1, 0.1]
    assert [trial.values["backbone.depth"] for trial in study.trials] == [8, 8]
    assert [trial.reason for trial in study.trials] == ["carried over"] * 2


def test_other_versions_are_warned_of(done: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A study that goes on under another torch says so before it trains."""
    monkeypatch.setattr(
        "search.beforehand.preflight.versions",
        lambda now=preflight.versions: {**now(), "torch": "99.0"},
    )
    said: list[str] = []
    search.resume(done, trials=3, say=said.append)

    assert any("torch was" in line and "99.0" in line for line in said)


def test_the_journal_is_enough(done: Path) -> None:
    """Without its space file a study is read, and goes on."""
    (done / "space.yaml").unlink()

    assert len(search.load(done).trials) == 2
    assert len(search.resume(done, trials=3).trials) == 3


def test_a_total_below_what_exists_is_refused(done: Path) -> None:
    """The message says how many there are."""
    with pytest.raises(SpaceError, match="it has 2 trials already"):
        search.resume(done, trials=1)


def test_data_that_has_gone_stops_resume_before_anything(
    write_space: WriteSpace, tmp_path: Path
) -> None:
    """A missing folder is no exhausted space: nothing is recorded until it is back."""
    from PIL import Image

    for number in range(40):
        folder = tmp_path / "images" / "train" / ("ab"[number % 2])
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (number * 6, 0, 0)).save(folder / f"{number}.png")
    path = write_space(trials=1, epochs=1)
    images = (
        f"{{name: image_folder, root: {tmp_path}/images, image_size: 16, val: 0.2, workers: 0}}"
    )
    path.write_text(
        path.read_text()
        .replace("{name: digits, subset: 300, val: 0.2}", images)
        .replace("batch_size: 32", "batch_size: 8")
    )
    study = search.run(path, out=tmp_path / "runs")
    (tmp_path / "images").rename(tmp_path / "away")
    before = journal.read(study.folder)
    with pytest.raises(Unfit):
        search.resume(study.folder, trials=3)
    assert journal.read(study.folder) == before
    (tmp_path / "away").rename(tmp_path / "images")

    assert len(search.resume(study.folder, trials=3).trials) == 3


@pytest.mark.parametrize(
    ("part", "old", "new"),
    [
        ("training.batch_size", "batch_size: 32", "batch_size: 6000"),
        ("dataset.subset", "subset: 300", "subset: 50000"),
        ("training.precision", "epochs: 1,", "epochs: 1, precision: fp16,"),
        ("training.augmentation", "epochs: 1,", "epochs: 1, augmentation: {crop: 9},"),
    ],
)
def test_a_recipe_that_cannot_train_is_refused_before_anything_exists(
    write_space: WriteSpace, tmp_path: Path, part: str, old: str, new: str
) -> None:
    """Data and device are asked first: no folder, no store, no failed trials."""
    path = write_space(trials=2, epochs=1)
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(SpaceError, match=part.replace(".", r"\.")):
        search.run(path, out=tmp_path / "runs")

    assert not (tmp_path / "runs").exists()


def test_compiling_without_a_compiler_is_refused_before_anything_exists(
    write_space: WriteSpace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By file and line, with the remedy, in one line."""
    monkeypatch.setenv("CXX", "/nowhere/g++")
    path = write_space(trials=2, epochs=1)
    path.write_text(path.read_text().replace("epochs: 1,", "epochs: 1, compile: true,"))
    with pytest.raises(SpaceError) as raised:
        search.run(path, out=tmp_path / "runs")

    (said,) = str(raised.value).splitlines()
    assert re.search(r"small\.yaml:\d+:\d+: training\.compile: no C\+\+ compiler here", said)
    assert "apt-get install g++" in said
    assert not (tmp_path / "runs").exists()


def test_a_gpu_that_is_not_there_is_said_at_once(write_space: WriteSpace, tmp_path: Path) -> None:
    """In this process as on Ray: exit 3, nothing created."""
    import torch

    if torch.cuda.is_available():
        return
    with pytest.raises(Unfit, match="no CUDA device"):
        search.run(write_space(search="resources: {gpu: 1}"), out=tmp_path / "runs")

    assert not (tmp_path / "runs").exists()


def test_a_baseline_over_a_limit_is_refused(write_space: WriteSpace, tmp_path: Path) -> None:
    """A person asked for it: it must not vanish among the infeasible."""
    path = write_space(
        width="{choice: [0.25, 0.5], default: 0.5}",
        search="limits: {params: 10e3}\nbaselines: [{attention: {name: none}}]",
    )
    with pytest.raises(SpaceError, match=r"baselines\.1.*over search\.limits\.params"):
        search.run(path, out=tmp_path / "runs")


def test_a_variant_that_raises_is_an_invalid_point(write_space: WriteSpace, tmp_path: Path) -> None:
    """A person's own attention that cannot be built never takes the search down."""
    plugin = tmp_path / "fragile.py"
    plugin.write_text(
        "from torch import nn\n"
        "def attention(channels: int, *, limit: int = 0) -> nn.Module:\n"
        '    """Breaks on wide layers."""\n'
        "    if limit and channels > limit:\n"
        "        raise RuntimeError(f'{channels} channels are too many')\n"
        "    return nn.Identity()\n"
    )
    path = write_space(
        trials=6,
        epochs=1,
        attention="{name: fragile, limit: {choice: [0, 16]}}",
        width="{choice: [0.25, 1.0]}",
    )
    study = search.run(path, out=tmp_path / "runs", plugins=[plugin])

    assert study.counts()["invalid"] > 0
    assert all(trial.outcome == "finished" for trial in study.trials)
    assert study.history.ended is not None


def test_the_drivers_store_is_remembered(write_space: WriteSpace, tmp_path: Path) -> None:
    """`resume` writes where `run` wrote; credentials are never written down."""
    uri = f"sqlite:///{tmp_path}/elsewhere.db"
    study = search.run(write_space(trials=1, epochs=1), out=tmp_path / "runs", tracking_uri=uri)

    assert search.load(study.folder).tracking_uri == uri
    assert search.load(study.folder).history.executor == "inprocess"
    search.resume(study.folder, trials=2)
    assert not (tmp_path / "runs" / "mlflow.db").exists()
    from search import store

    assert store.public("http://me:secret@host:5000") is None


def test_overrides_of_a_loaded_space_are_refused(write_space: WriteSpace, tmp_path: Path) -> None:
    """They would be ignored otherwise."""
    import spaces

    space = spaces.load(write_space())
    with pytest.raises(SpaceError, match="overrides"):
        search.run(space, out=tmp_path / "runs", overrides=["search.trials=1"])


def test_the_record_of_the_study_holds_what_it_needs(done: Path) -> None:
    """The space, versions, reference and chance are in the journal's first record."""
    first = json.loads((done / journal.FILE).read_text().splitlines()[0])

    assert first["kind"] == "study"
    assert {"space", "versions", "reference", "chance", "uuid", "plugins"} <= first.keys()
    assert first["chance"] == 0.1


def test_a_search_that_cannot_work_is_given_up(
    write_space: WriteSpace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Three trials in a row that crash for one reason end it: exit 1, the reason, what to do."""
    path = write_space(
        trials=9,
        width="{choice: [0.25, 0.5, 0.75, 1.0]}",
        attention="{name: faulty, fault: raise, after: 0}",
        search="failures: {crashed: 0}",
    )
    plugin = Path(__file__).parent.parent / "plugins" / "faulty.py"
    code = cli.main(["run", str(path), "--out", str(tmp_path / "runs"), "--plugin", str(plugin)])

    study = search.load(tmp_path / "runs" / "small")
    assert code == 1
    assert [trial.outcome for trial in study.trials] == ["crashed"] * 3
    said = capfd.readouterr().out
    assert "3 trials in a row failed for one reason: crashed: RuntimeError: a fault" in said
    assert "resume" in said


def spell(done: Path, new: str, old: str) -> None:
    """Let a study's space and journal say what an earlier release would have written."""
    for path in (done / "space.yaml", done / journal.FILE):
        assert new in path.read_text()
    records = [json.loads(line) for line in (done / journal.FILE).read_text().splitlines()]
    (done / journal.FILE).unlink()
    made = journal.Journal(done)
    for record in records:
        known = {
            k: v for k, v in record.items() if k not in ("seq", "time", "sum", "kind", "fence")
        }
        if "space" in known:
            known["space"] = known["space"].replace(new, old)
        made.append(record["kind"], **known)
    made.close()
    (done / "space.yaml").write_text((done / "space.yaml").read_text().replace(new, old))


def test_a_plugin_s_every_is_its_own() -> None:
    """What an earlier release wrote is told by its checkpoints alone."""
    told = "attention: {name: mine, every: 4}\nsearch:\n  checkpoints: {uri: null, keep: 2, every: "
    assert earlier.overrides(f"{told}30.0, of: front}}\n") == []
    assert earlier.overrides(f"{told}30.0}}\n") == [earlier.ALL]
    assert earlier.overrides(f"{told}30}}\n") == [earlier.SECONDS, earlier.ALL]
    wide = told.replace("{uri: null, keep: 2, ", "\n    uri: null\n    keep: 2\n    ")
    assert earlier.overrides(f"{wide}30.0\n    of: all\n") == []


def test_a_study_that_counted_epochs_between_checkpoints_goes_on(done: Path) -> None:
    """Its `every: 1` is not taken for a second: it goes on with the usual 600."""
    spell(done, "every: 600.0", "every: 1")
    assert search.load(done).space.search.checkpoints.every == 600
    study = search.resume(done, trials=3)
    assert study.space.search.checkpoints.every == 600
    assert [trial.outcome for trial in study.trials] == ["finished"] * 3
    assert "every: 600.0" in (done / "space.yaml").read_text()


def test_a_study_that_kept_all_checkpoints_keeps_them(done: Path, write_space: WriteSpace) -> None:
    """A release that deleted none wrote no `of`: with this one nothing is deleted either, however
    the study goes on, before a person asks for it.
    """
    spell(done, "every: 600.0, of: front", "every: 600.0")
    study = search.load(done)
    assert study.space.search.checkpoints.of == "all"
    for trial in study.trials:
        folder = done / "checkpoints" / trial.key_of(0)
        folder.mkdir(exist_ok=True)
        (folder / "epoch-000001.pt").write_bytes(b"of that release")

    def kept() -> set[str]:
        return {path.name for path in (done / "checkpoints").iterdir()}

    search.resume(done)
    for trials in (3, 4):  # as a job's script that is started again and again
        study = search.run(write_space(trials=trials, epochs=1), out=done.parent, resume=True)
        assert study.space.search.checkpoints.of == "all"
    for trials in (None, 4):
        study = search.resume(done, trials=trials)
        assert kept() == {trial.key_of(0) for trial in study.trials}
    assert "of: all" in (done / "space.yaml").read_text()
    front = {trial.key_of(0) for trial in study.pareto()}
    assert front < kept()
    study = search.resume(done, trials=5, overrides=["search.checkpoints.of=front"])
    assert kept() == {trial.key_of(0) for trial in study.pareto()}
    assert search.load(done).space.search.checkpoints.of == "front"


def test_a_resume_says_that_it_cannot_see_its_store(
    done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which checkpoints are left is not known then; the study goes on all the same."""

    def away(study: Study) -> set[str]:
        raise ConnectionError("the bucket is away")

    monkeypatch.setattr(garbage, "folders", away)
    said: list[str] = []
    study = search.resume(done, overrides=["search.replicates=2"], say=said.append)
    (line,) = [line for line in said if "which checkpoints are left is not known" in line]
    assert line.startswith(f"warning: {done / 'checkpoints'}: the bucket is away;")
    assert all(trial.n == 2 for trial in study.trials)


def test_to_keep_all_is_not_answered_by_a_sweep(done: Path) -> None:
    """Of a study that has ended nothing is changed by it; what an absent store had kept stays."""
    study = search.load(done)
    for trial in study.trials:
        folder = done / "checkpoints" / trial.key_of(0)
        folder.mkdir(exist_ok=True)
        (folder / "epoch-000001.pt").write_bytes(b"left")
    said: list[str] = []
    search.resume(done, overrides=["search.checkpoints.of=all"], say=said.append)
    assert any("stays as it was: search.checkpoints.of" in line for line in said)
    assert len([*(done / "checkpoints").iterdir()]) == len(study.trials)


def test_more_seeds_for_networks_without_weights_are_warned_of(
    write_space: WriteSpace, tmp_path: Path
) -> None:
    """Their first seeds' were deleted, being off the front; where all are kept nothing is said."""
    for of, warned in (("front", True), ("all", False)):
        asked = f"objectives: {{val_accuracy: max}}\ncheckpoints: {{of: {of}}}"
        path = write_space(name=f"seeds-{of}", trials=2, epochs=1, search=asked)
        search.run(path, out=tmp_path / "runs", executor="inprocess")
        said: list[str] = []
        folder = tmp_path / "runs" / f"seeds-{of}"
        search.resume(folder, overrides=["search.replicates=2"], say=said.append)
        assert ["1 finished network" in line for line in said].count(True) == warned
