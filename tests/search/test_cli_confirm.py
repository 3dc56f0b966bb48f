"""What `eca-search confirm` confirms, with which seeds, and what it refuses; on real trainings."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import search
from search import cli
from search.comparison import confirming
from search.report import confirmed
from search.study.study import seed_of

ROOT = Path(__file__).parents[2]
SPACE = """\
name: plain
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: 0.25}
attention:
  choice:
    - {name: none}
    - {name: se}
    - {name: faulty, fault: raise, after: 1}
training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
search:
  trials: 3
  executor: inprocess
  replicates: 2
  sampler: {name: BruteForceSampler}
  failures: {max: 1.0, crashed: 0}
  baselines: [{attention: {name: none}}, {attention: {name: se}}, {attention: {name: faulty}}]
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a search of three networks lies, the third of which has failed."""
    folder = tmp_path_factory.mktemp("confirm")
    (folder / "plain.yaml").write_text(SPACE)
    plugin = str(ROOT / "tests" / "plugins" / "faulty.py")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.main(["run", "plain.yaml", "--plugin", plugin]) == 0
    return folder


@pytest.fixture
def run(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command line there: its exit code, stdout and stderr."""
    monkeypatch.chdir(folder)

    def run(*args: str) -> tuple[int, str, str]:
        code = cli.main(list(args))
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture
def longer(run: Run, folder: Path) -> Path:
    """Two of its networks confirmed with a longer schedule."""
    found = folder / "runs" / "longer"
    if not found.exists():
        code, _, err = run(
            *("confirm", "runs/plain", "--trials", "1,0,#001", "training.epochs=2"),
            *("--replicates", "1", "--name", "longer"),
        )
        assert code == 0, err
        assert "longer: 2 networks of plain, 1 fresh seed each, " in err
    return found


@pytest.mark.parametrize(
    "override",
    [
        "backbone.width=2",
        "backbone={name: mobilenetv2}",
        "attention=none",
        "attention.placement={name: stages, stages: [1]}",
        "task=classification",
        "dataset.image_size=16",
        "dataset.subset=100",
        "dataset={name: cifar10}",
        "search.seed=3",
        "name=other",
    ],
)
def test_another_network_or_other_data_are_no_confirmation(
    run: Run, folder: Path, override: str
) -> None:
    """Exit 2 at the override, with what may be said instead; nothing is made."""
    before = sorted(folder.rglob("*"))
    code, out, err = run("confirm", "runs/plain", "training.epochs=2", override, "--name", "other")
    assert code == 2
    assert not out
    assert err.startswith(f"override 2: {override.partition('=')[0]}: ")
    assert "allowed: training.*; all else is for `eca-search run`" in err
    assert len(err.splitlines()) <= 6
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("training.epochs=0", "override 1: training.epochs: out of range (got 0"),
        ("training.epoch=2", "override 1: training.epoch: unknown key; did you mean 'epochs'?"),
        ("trainig.epochs=2", "override 1: trainig: unknown key; did you mean 'training'?"),
        ("arms.t000=none", "override 1: arms: unknown key"),
    ],
)
def test_a_slip_is_named_where_it_was_typed(run: Run, override: str, said: str) -> None:
    """Not in a file that nobody has."""
    code, _, err = run("confirm", "runs/plain", override, "--name", "slip")
    assert code == 2
    assert err.startswith(said)


def test_a_longer_schedule_is_what_a_confirmation_is_for(longer: Path) -> None:
    """`training.epochs` is every network's, which stays the one that the search found."""
    found, known = search.load(longer), search.load(longer.with_name("plain"))
    assert [len(r.curve) for trial in found.trials for r in trial.replicates] == [2, 2]
    assert {t.identity for t in found.trials} == {t.identity for t in known.trials[:2]}
    assert "trained for 2 epochs, by the search for 1: what that changes is in the difference" in [
        *confirming.lines(confirming.confirmation(found))
    ]


def test_another_recipe_is_said_beside_what_it_changes(run: Run, folder: Path) -> None:
    """In the lines, in --json and in the methods: the shrinkage is not the search's alone then."""
    changed = "training.optimizer.lr=0.05"
    asked = ("--trials", "0", "--replicates", "1", "--name", "otherwise")
    code, _, err = run("confirm", "runs/plain", changed, *asked)
    assert code == 0, err
    study = search.load(folder / "runs" / "otherwise")
    found = confirming.confirmation(study)
    assert found.changed == (changed,)
    assert any(
        f"trained with {changed}, as the search had not" in x for x in confirming.lines(found)
    )
    code, out, _ = run("confirm", "runs/otherwise", "--json")
    assert json.loads(out)["changed"] == [changed]
    assert f"with {changed} where the search had others" in confirmed.sentence(study)


@pytest.mark.parametrize("asked", ["", ",", "0,", "7", "0,x", "-1"])
def test_trials_that_there_are_not(run: Run, folder: Path, asked: str) -> None:
    """Exit 2 with those there are: nothing else is confirmed in their place."""
    code, _, err = run("confirm", "runs/plain", f"--trials={asked}", "--name", "absent")
    assert code == 2
    assert "(there are: #000 to #002)" in err
    assert not (folder / "runs" / "absent").exists()


def test_a_trial_without_a_result(run: Run, folder: Path) -> None:
    """One that failed has nothing to confirm, which is said with how it ended."""
    code, _, err = run("confirm", "runs/plain", "--trials", "0,2", "--name", "failed")
    assert code == 2
    assert "#002 has no result to confirm (it ended as crashed; allowed: finished trials)" in err
    assert not (folder / "runs" / "failed").exists()


def test_the_front_is_what_is_confirmed_unless_told(folder: Path) -> None:
    """Seeds are the study's own function: disjoint from the search's however many there are."""
    study = search.load(folder / "runs" / "plain")
    space = confirming.space(study, study.pareto(), replicates=100, name="front")
    assert space.arms is not None
    assert list(space.arms.replaced) == [f"t{t.number:03d}" for t in study.pareto()]
    fresh = {seed_of(space.search.seed, index) for index in range(100)}
    searched = {replicate.seed for trial in study.trials for replicate in trial.replicates}
    assert len(searched) == 2
    assert fresh.isdisjoint(searched | {seed_of(study.space.search.seed, i) for i in range(100)})
    again = confirming.space(study, study.trials[:1], replicates=1, name="again")
    assert again.search.seed == space.search.seed


def test_seeds_that_the_search_has_had_are_passed_over(folder: Path) -> None:
    """Where chance made one of the first choice's seeds the search's too, another is chosen."""
    study = search.load(folder / "runs" / "plain")
    first = confirming.space(study, study.trials[:1], replicates=1).search.seed
    taken = seed_of(first, 7)
    trial = study.trials[0]
    replicates = tuple(replace(known, seed=taken) for known in trial.replicates)
    study.history.trials[0] = replace(trial, replicates=replicates)
    other = confirming.space(study, study.trials[:1], replicates=1).search.seed
    assert taken not in {seed_of(other, index) for index in range(100)}


def test_it_runs_as_the_search_ran(folder: Path) -> None:
    """Checkpoints too go where the search's went: a folder of one node serves no cluster."""
    study = search.load(folder / "runs" / "plain")
    there = study.space.search.checkpoints.model_copy(update={"uri": "memory://there"})
    settings = study.space.search.model_copy(update={"checkpoints": there, "oom": "halve_batch"})
    study.space = replace(study.space, search=settings)
    space = confirming.space(study, study.trials[:1], replicates=1)
    assert space.search.checkpoints.uri == "memory://there"
    assert space.search.oom == "halve_batch"


def test_one_that_was_interrupted_goes_on(run: Run, folder: Path) -> None:
    """Ctrl-C pauses it; the same command with --resume ends it, and no seed is trained twice."""
    asked = ["confirm", "runs/plain", "--trials", "0,1", "--name", "cut", "--replicates", "2"]
    asked.append("training.epochs=10")
    driver = subprocess.Popen(
        [sys.executable, "-m", "search", *asked],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = folder / "runs" / "cut" / "journal.jsonl"
    end = time.monotonic() + 120
    while not (journal.exists() and journal.read_text().count('"kind":"epoch"') >= 12):
        assert time.monotonic() < end, "it never trained"
        time.sleep(0.05)
    driver.send_signal(signal.SIGINT)
    _, said = driver.communicate(timeout=120)
    assert driver.returncode == 130, said
    assert "paused; go on with: eca-search resume runs/cut" in said
    code, _, err = run(*asked)
    assert code == 2
    assert "or start another: give it another --name" in err
    assert len(err.splitlines()) <= 6
    code, _, err = run(*asked[:2], "--trials", "0", *asked[4:], "--resume")
    assert code == 2
    assert "undo that, or give `eca-search confirm` another --name" in err
    assert len(err.splitlines()) <= 6
    code, out, err = run(*asked, "--resume")
    assert code == 0, err
    assert "shrinkage (search minus confirmed)" in out
    study = search.load(folder / "runs" / "cut")
    assert [(trial.outcome, trial.n, trial.epochs) for trial in study.trials] == [
        ("finished", 2, 20),
        ("finished", 2, 20),
    ]


@pytest.mark.parametrize(
    "more", ["--replicates=9", "--front", "--trials=0", "training.epochs=3", "--name=x", "--resume"]
)
def test_what_it_has_come_to_is_told_of_it_alone(run: Run, longer: Path, more: str) -> None:
    """What would be done otherwise is refused, never passed over: `resume` does it."""
    code, out, err = run("confirm", str(longer), more)
    assert code == 2
    assert not out
    assert "`eca-search resume runs/longer` goes on, search.replicates=N adds seeds" in err
    assert len(err.splitlines()) <= 6
    assert run("confirm", str(longer), "--json")[0] == 0


def test_the_card_of_a_confirmed_network(run: Run, longer: Path) -> None:
    """Which images it saw, what it is worth on the test images, and what the search had said."""
    trial = search.load(longer).trials[0]
    assert run("export", "runs/longer", "0", "--out", "confirmed")[0] == 0
    said = (longer.parents[1] / "confirmed" / "README.md").read_text()
    value = (trial.objectives or {})["test_accuracy"]
    assert f"- their test accuracy: {value:.4f}" in said
    assert f"- test_accuracy over seeds: {value:.4f} (n = 1, no sd of one)" in said
    known = search.load(longer.with_name("plain"))
    original = int(trial.values["arm"].removeprefix("t"))
    before = (known.trials[original].objectives or {})["val_accuracy"]
    assert f"as its trial {original}: val_accuracy {before:.4f}" in said
    assert "One of 2 networks of the study plain that were trained anew" in said
    assert "judged by the test images" in said
    assert "Nothing was held out: `val: 0.1` was trained on too." in said
    assert f"it confirms study plain `{known.uuid}`" in said
    assert "No test set" not in said
    assert "of a search" not in said
    again = (longer.parents[1] / "confirmed" / "config.yaml").read_text()
    assert "it holds validation images out, which these weights were trained on" in again


def test_a_report_tells_of_every_confirmation(run: Run, longer: Path) -> None:
    """Of one without ado; of several each by its name and numbers, and that there are several."""
    out = longer.parent / "alone"
    shutil.copytree(longer, out / "longer")
    shutil.copytree(longer.with_name("plain"), out / "plain")
    assert run("report", str(out / "plain"), "--markdown", "--paper")[0] == 0
    made = out / "plain" / "report"
    for page in ("report.html", "report.md"):
        said = (made / page).read_text()
        assert "shrinkage (search minus confirmed)" in said
        assert "There are" not in said
    (epochs,) = {trial.config["training"]["epochs"] for trial in search.load(longer).trials}
    assert (
        f"2 of the networks were then trained anew for {epochs} epochs with 1 fresh seed each on "
        "training and validation images"
    ) in (made / "paper" / "methods.tex").read_text()

    asked = ("--trials", "0", "--replicates", "2", "--name", "second")
    assert run("confirm", str(out / "plain"), *asked)[0] == 0
    assert run("report", str(out / "plain"), "--markdown", "--paper")[0] == 0
    for page in ("report.html", "report.md"):
        said = (made / page).read_text()
        assert "There are 2 confirmations" in said
        assert "Confirmation 1 of 2, longer:" in said
        assert "Confirmation 2 of 2, second:" in said
    rows = list(csv.DictReader((made / "paper" / "confirmed.csv").open()))
    assert [(row["confirmation"], row["n"]) for row in rows] == [
        ("longer", "1"),
        ("longer", "1"),
        ("second", "2"),
    ]
    said = (made / "paper" / "methods.tex").read_text()
    assert "There were 2 confirmations of it." in said
    assert f"In longer, 2 of the networks were then trained anew for {epochs} epochs with 1" in said
    assert (
        "In second, 1 of the networks was then trained anew for 1 epoch with 2 fresh seeds" in said
    )
    assert run("report", str(out / "second"), "--paper")[0] == 0
    own = out / "second" / "report" / "paper"
    assert len((own / "confirmed.csv").read_text().splitlines()) == 2
    assert (
        "Of the study plain these are 1 network, trained anew with 2 seeds"
        in (own / "methods.tex").read_text()
    )


@pytest.mark.parametrize(
    "command",
    [
        ("resume", "runs/longer", "--fork", "backbone.width=2"),
        ("run", "runs/longer/space.yaml", "--fork", "backbone.width=2"),
    ],
)
def test_a_confirmation_has_no_forks(run: Run, longer: Path, command: tuple[str, ...]) -> None:
    """They could train another network with the search's name on it."""
    before = {path: path.read_bytes() for path in longer.glob("*.yaml")}
    code, _, err = run(*command)
    assert code == 2
    assert "confirm them another way: eca-search confirm runs/plain --name NAME" in err
    assert not longer.with_name("longer-2").exists()
    assert {path: path.read_bytes() for path in before} == before
