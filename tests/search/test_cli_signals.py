"""Signals: asked once a search stops in order, asked twice at once; exit codes say which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import search
from search.execution.interrupts import CODES, Interrupts

ROOT = Path(__file__).parents[2]
SPACE = """\
name: long
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: 0.5}
training: {epochs: 500, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
"""


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("signum", CODES)
def test_the_first_signal_raises_in_the_main_thread(signum: signal.Signals) -> None:
    """Every signal is a KeyboardInterrupt, with an exit code of its own; handlers come back."""
    before = signal.getsignal(signum)
    interrupts = Interrupts()
    with pytest.raises(KeyboardInterrupt), interrupts:
        signal.raise_signal(signum)
    assert interrupts.code == {"SIGINT": 130, "SIGTERM": 143, "SIGUSR1": 75}[signum.name]
    assert signal.getsignal(signum) == before


def test_a_decision_is_not_interrupted_half_way() -> None:
    """A signal that comes in `search.study.study` waits for the next `check`."""
    interrupts = Interrupts()
    deciding = {"__name__": "search.study.study", "signal": signal}
    with interrupts:
        exec("signal.raise_signal(signal.SIGTERM); written = True", deciding)
        assert deciding["written"]
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
    assert interrupts.code == 143


def test_signals_that_a_library_took_are_taken_back() -> None:
    """Ray installs a SIGTERM handler and Tune one for SIGUSR1: `check` installs ours again."""
    with Interrupts() as interrupts:
        for signum in CODES:
            signal.signal(signum, signal.SIG_IGN)
        interrupts.check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGUSR1)


@pytest.mark.parametrize(
    ("pause", "code"),
    [
        (0.0, 0),  # `timeout` and Slurm send a signal twice: an echo is not asking twice
        (0.8, 143),
    ],
)
def test_the_second_signal_leaves_at_once(pause: float, code: int) -> None:
    """A second signal ends a process that is still tidying up, unless it is the first's echo."""
    script = (
        "import os, signal, sys, time\n"
        "from search.execution.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT); time.sleep(5)\n"
        "    except KeyboardInterrupt:\n"
        f"        time.sleep({pause}); os.kill(os.getpid(), signal.SIGTERM); time.sleep(0.1)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("stopping in order")) == (code, 1)


def test_a_second_signal_is_heard_in_compiled_code() -> None:
    """A main thread that hears no signals, as in Ray's connecting, is left all the same."""
    script = (
        "import hashlib, os, signal, threading, time\n"
        "from search.execution.interrupts import Interrupts\n"
        "def twice():\n"
        "    for pause in (0.2, 0.8):\n"
        "        time.sleep(pause); os.kill(os.getpid(), signal.SIGINT)\n"
        "with Interrupts():\n"
        "    threading.Thread(target=twice, daemon=True).start()\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)\n"  # a quarter of an hour in C
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment(), capture_output=True, text=True
    )
    assert (done.returncode, done.stderr.count("stopping in order")) == (130, 1)
    assert "KeyboardInterrupt" not in done.stderr


def test_a_forked_process_has_its_usual_signals() -> None:
    """A data loader's worker dies of its parent's SIGTERM, and the parent does not hear of it."""
    # A Ray that tests before have had in this process leaves its handler there.
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    up, told = os.pipe()
    with Interrupts() as interrupts:
        child = os.fork()
        if not child:
            os.write(told, b"!")
            time.sleep(60)
            os._exit(1)
        os.read(up, 1)  # it is a process of its own by now
        os.kill(child, signal.SIGTERM)
        _, status = os.waitpid(child, 0)
        interrupts.check()
    signal.signal(signal.SIGTERM, before)
    assert os.WTERMSIG(status) == signal.SIGTERM
    assert interrupts.signum is None


def interrupted(tmp_path: Path, executor: str, signum: signal.Signals) -> tuple[int, str]:
    """Send a signal to a search that has reported an epoch; its exit code and what it said."""
    (tmp_path / "long.yaml").write_text(SPACE)
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "run", "long.yaml", "--executor", executor],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    journal = tmp_path / "runs" / "long" / "journal.jsonl"
    while process.poll() is None:
        if journal.exists() and '"kind":"epoch"' in journal.read_text():
            process.send_signal(signum)
            break
        time.sleep(0.1)
    assert process.stderr is not None
    with process.stderr:
        said = process.stderr.read()
    return process.wait(), said


@pytest.mark.parametrize(
    ("executor", "signum"),
    [
        ("inprocess", signal.SIGTERM),
        pytest.param("inprocess", signal.SIGINT, marks=pytest.mark.slow),
        pytest.param("inprocess", signal.SIGUSR1, marks=pytest.mark.slow),
        pytest.param("ray", signal.SIGINT, marks=[pytest.mark.slow, pytest.mark.ray]),
        pytest.param("ray", signal.SIGTERM, marks=[pytest.mark.slow, pytest.mark.ray]),
        pytest.param("ray", signal.SIGUSR1, marks=[pytest.mark.slow, pytest.mark.ray]),
    ],
)
def test_a_search_stops_whole(tmp_path: Path, executor: str, signum: signal.Signals) -> None:
    """The running attempt ends as interrupted, the lock is free, and the next step is named."""
    code, said = interrupted(tmp_path, executor, signum)
    assert code == CODES[signum], said
    assert "paused; go on with: eca-search resume runs/long" in said
    assert "Traceback" not in said
    study = search.load(tmp_path / "runs" / "long")
    (replicate,) = study.trials[0].replicates
    (attempt,) = replicate.attempts
    assert attempt.outcome == "interrupted"
    if executor == "ray" and signum != signal.SIGINT:  # its worker was told, and has stored it
        assert attempt.reason.startswith("SIGTERM: left after")
    assert study.history.ended is None
