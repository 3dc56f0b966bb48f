"""`stop`, `logs` and `status` on a study that another process drives, and on one that failed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import search
from search.cli import main
from search.study import control, journal, logs
from search.study.study import Study
from search.trial import Ending

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugins" / "loud.py"
LONG = """\
name: long
task: {name: classification}
dataset: {name: digits, subset: 200, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention: {name: loud}
training: {epochs: 10000, batch_size: 100, optimizer: {name: sgd, lr: 0.01}}
search: {trials: 2, executor: inprocess, sampler: {name: RandomSampler}}
"""
Synthetic = Callable[..., Study]


class Said(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as data."""
        return json.loads(self.out)


Eca = Callable[..., Said]


@pytest.fixture
def eca(capsys: pytest.CaptureFixture[str]) -> Eca:
    """Run `eca-search ARGUMENTS` here."""

    def call(*arguments: object) -> Said:
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


@pytest.fixture
def driven(tmp_path: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A study that a process of its own drives, and that has reported an epoch."""
    (tmp_path / "long.yaml").write_text(LONG)
    driver = subprocess.Popen(
        [sys.executable, "-m", "search", "run", "long.yaml", "--plugin", str(PLUGIN)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    )
    folder = tmp_path / "runs" / "long"
    try:
        wait_for(driver, folder, '"kind":"epoch"')
        yield folder, driver
    finally:
        driver.kill()
        driver.wait()
        assert driver.stderr is not None
        driver.stderr.close()


def wait_for(driver: subprocess.Popen[str], folder: Path, mark: str) -> None:
    """Until the journal has that text; the test's own timeout is the limit."""
    while not (folder / journal.FILE).exists() or mark not in (folder / journal.FILE).read_text():
        assert driver.poll() is None, driver.stderr and driver.stderr.read()
        time.sleep(0.1)


def test_a_search_is_stopped_from_another_terminal(
    eca: Eca, driven: tuple[Path, subprocess.Popen[str]]
) -> None:
    """A trial first, then the study: each answer is the truth, and the driver leaves with 75."""
    folder, driver = driven
    pid = f"pid {driver.pid} on "

    said = eca("status", folder)
    assert "long: running" in said.out
    assert "epoch " in said.out
    assert f"driver   {pid}" in said.out
    told = eca("status", folder, "--json").json
    assert told["driver"]["pid"] == driver.pid
    assert told["driver"]["executor"] == "inprocess"
    (run,) = told["running"]
    assert run["trial"] == 0
    assert run["worker"].endswith(f":{driver.pid}")
    assert run["since"] >= told["started"]

    said = eca("stop", folder, "77")
    assert said.code == 2
    assert "no trial '77' in long (there are: #000 to #000; running: #000)" in said.err

    said = eca("stop", folder, "#0")
    assert (said.code, said.out.endswith(": pruned (stopped by hand)\n")) == (0, True), said
    assert f"asked its driver ({pid}" in said.err
    said = eca("stop", folder, "0")
    assert (said.code, said.out.endswith("has ended already: pruned\n")) == (0, True)

    wait_for(driver, folder, '"kind":"epoch","trial":1')
    said = eca("logs", folder, "1")
    assert said.code == 0
    assert "Python speaks" in said.out

    said = eca("stop", folder)
    assert (said.code, said.out) == (0, f"stopped; go on with: eca-search resume {folder}\n"), said
    assert driver.wait() == 75
    assert driver.stderr is not None
    assert "paused; go on with: eca-search resume runs/long\n" in driver.stderr.read()
    assert not any((folder / control.FOLDER).iterdir())

    study = search.load(folder)
    assert [trial.outcome for trial in study.trials] == ["pruned", None]
    (attempt,) = study.trials[1].replicates[0].attempts
    assert attempt.outcome == "interrupted"
    said = eca("stop", folder)
    assert (said.code, said.out) == (0, "nobody drives long: nothing to stop\n")
    said = eca("stop", folder, "1")
    assert said.code == 2
    assert "nobody drives long, so no trial runs" in said.err
    assert eca("status", folder, "--json").json["driver"] is None
    assert not any((folder / control.FOLDER).iterdir())


def test_a_driver_that_does_not_look(eca: Eca, synthetic: Synthetic) -> None:
    """The truth is that it has not stopped: exit 75, and the request stands."""
    study = synthetic()
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    for what in ((), ("0",)):
        said = eca("stop", study.folder, *what, "--wait", "0")
        assert said.code == 75
        assert "was asked" in said.out
        assert "when the running epoch has ended" in said.out
    assert control.wishes(study.folder, 1) == [control.Wish("stop", 0), control.STOP]


def test_a_second_chance_is_refused(eca: Eca, synthetic: Synthetic) -> None:
    """What the pruner has stopped is no longer over for good with `promote`: `stop` makes it so."""
    study = synthetic(pruner={"name": "ThresholdPruner", "lower": 0.3, "promote": 0.3})
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    assert study.report(0, 0, {"epoch": 1, "val_accuracy": 0.1}) is not None
    study.commit()
    left = threading.Event()

    def follow() -> None:
        requests = control.Requests(study.folder)
        while not left.wait(0.1):
            requests.obey(study)

    driver = threading.Thread(target=follow)
    driver.start()
    try:
        said = eca("stop", study.folder, "0")
    finally:
        left.set()
        driver.join()
    assert said.code == 0, said
    assert ": pruned (" in said.out
    assert said.out.endswith("), without a second chance\n")
    said = eca("stop", study.folder, "0")
    assert (said.code, said.out.endswith("has ended already: pruned\n")) == (0, True)
    assert study.history.dismissed == {0}


@pytest.fixture
def failed(synthetic: Synthetic) -> Study:
    """A study with a trial of two attempts, the first with a log, and one that waits."""
    study = synthetic(failures={"crashed": 1})
    for number, end in enumerate(("crashed", "diverged"), start=1):
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, f"node{number}:1")
        detail = "Traceback (most recent call last):\n  in a file\nOSError: \x1b[31mred"
        study.end(0, 0, Ending(end, "a \x07 reason", detail))
    logs.append(study.folder, 0, 0, 1, "progress 1%\rprogress 2%\nOSError: \x1b[31mred")
    later = study.next()
    assert later is not None
    study.start(later, "node3:1")
    study.end(later.trial, 0, Ending("preempted", ""))
    study.close()
    return study


def test_logs_of_a_trial_with_several_attempts(eca: Eca, failed: Study) -> None:
    """All are listed with outcome and reason, the newest is shown, an older one when asked for."""
    said = eca("logs", failed.folder, "0")
    assert said.code == 0
    head, older, newer, missing, *rest = said.out.splitlines()
    assert head.startswith("#000 ")
    assert head.endswith(": diverged")
    assert older.startswith("  replicate 0 attempt 1 on node1:1, ")
    assert older.endswith(": crashed: a   reason")
    assert newer.startswith("> replicate 0 attempt 2 on node2:1, ")
    assert missing.startswith("no log was kept")
    assert rest[-1] == "OSError: \\x1b[31mred"

    said = eca("logs", failed.folder, "000", "--attempt", "1")
    assert said.out.splitlines()[3:] == [
        f"{logs.path(failed.folder, 0, 0, 1)}:",
        "progress 1%",
        "progress 2%",
        "OSError: \\x1b[31mred",
    ]
    assert "\x1b" not in said.out


def test_logs_as_data(eca: Eca, failed: Study) -> None:
    """--json has the text as it was, every attempt, and where its log is."""
    told = eca("logs", failed.folder, "0", "--attempt", "1", "--json").json
    assert told["version"] == 1
    assert (told["study"], told["trial"], told["outcome"]) == ("synthetic", 0, "diverged")
    assert (told["replicate"], told["attempt"]) == (0, 1)
    assert told["text"] == "progress 1%\rprogress 2%\nOSError: \x1b[31mred\n"
    assert told["log"] == str(logs.path(failed.folder, 0, 0, 1))
    assert [go["outcome"] for go in told["attempts"]] == ["crashed", "diverged"]
    assert [go["log"] is None for go in told["attempts"]] == [False, True]
    assert told["attempts"][1]["detail"].startswith("Traceback")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "Missing argument 'TRIAL'"),
        (("nowhere", "0"), "no study here"),
        (("{study}", "x"), "no trial 'x' in synthetic (there are: #000 to #001)"),
        (("{study}", "9" * 500), "no trial '9999"),
        (("{study}", "\u0660"), "no trial"),  # a zero, in Arabic
        (("{study}", "0", "--attempt", "3"), "no attempt 3 of trial #000"),
        (("{study}", "0", "--attempt", "0"), "--attempt"),
        (("{study}", "0", "--replicate", "1"), "no replicate 1 of trial #000"),
        (("{study}", "0", "--replicate", "x"), "--replicate"),
    ],
)
def test_what_logs_cannot_show(
    eca: Eca, failed: Study, arguments: tuple[str, ...], said: str
) -> None:
    """Exit 2, in at most six lines that say what there is."""
    told = eca("logs", *(a.format(study=failed.folder) for a in arguments))
    assert told.code == 2
    assert said in told.err
    assert len(told.err.splitlines()) <= 6
    assert len(told.err) < 1000


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere",), "no study here"),
        (("{study}", "x"), "no trial 'x' in synthetic (there are: #000 to #001; running: none)"),
        (("{study}", "1"), "nobody drives synthetic"),
        (("{study}", "--wait", "-1"), "--wait"),
        (("{study}", "--wait", "soon"), "--wait"),
    ],
)
def test_what_cannot_be_stopped(
    eca: Eca, failed: Study, arguments: tuple[str, ...], said: str
) -> None:
    """Exit 2, in at most six lines; no request is left for a later driver."""
    told = eca("stop", *(a.format(study=failed.folder) for a in arguments))
    assert told.code == 2
    assert said in told.err
    assert len(told.err.splitlines()) <= 6
    assert not (failed.folder / control.FOLDER).exists()


def test_status_counts_every_outcome_by_its_word(eca: Eca, failed: Study) -> None:
    """Beside the promised three, --json has each word."""
    told = eca("status", failed.folder, "--json").json
    assert told["outcomes"] == {"diverged": 1}
    assert told["trials"] == {"finished": 0, "pruned": 0, "failed": 1}
    assert (told["state"], told["running"], told["stopping"]) == ("paused", [], [])
