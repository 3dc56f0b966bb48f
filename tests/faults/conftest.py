"""What the fault tests share: a search to be killed, and what must hold of what it left."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import search
from search.study.journal import FILE
from search.study.study import Study
from search.tracking.projection import Snapshot, trial_run

ROOT = Path(__file__).parents[2]
VICTIM = Path(__file__).parent / "victim.py"
NAMES = {"study": "victim", "digits": "digits-victim"}
NEVER = "folder.made:999999:kill"  # strikes at no time, but counts what is reached

Drive = Callable[..., int]
Twin = Callable[[str], Study]


@pytest.fixture(scope="session")
def victim() -> ModuleType:
    """tests/faults/victim.py, whose folder is on no path."""
    spec = importlib.util.spec_from_file_location("victim", VICTIM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["victim"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drive]:
    """Drive the study of a folder in a process of its own; answers exit code, or minus the signal.

    `drive(folder, failpoint, kind="study", limits={})`, the limits by their names in `resource`.
    The process is a fork of one that has imported all.
    """
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "ECA_SEARCH_CACHE": str(tmp_path_factory.mktemp("victims-cache")),
    }
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(VICTIM)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdin is not None
    assert server.stdout is not None

    def call(
        folder: Path,
        failpoint: str | None = None,
        *,
        kind: str = "study",
        limits: dict[str, int] | None = None,
    ) -> int:
        assert server.stdin is not None
        assert server.stdout is not None
        folder.parents[1].mkdir(exist_ok=True)
        asked = {
            "folder": str(folder),
            "failpoint": failpoint,
            "kind": kind,
            "limits": limits or {},
        }
        server.stdin.write(json.dumps(asked) + "\n")
        server.stdin.flush()
        return os.waitstatus_to_exitcode(int(server.stdout.readline()))

    yield call
    server.stdin.close()
    server.stdout.close()
    server.wait()


@pytest.fixture(scope="session")
def undisturbed(drive: Drive, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of the same search as it goes when nobody kills it, trained once."""
    done: dict[str, Path] = {}

    def folder(kind: str) -> Path:
        if kind not in done:
            done[kind] = tmp_path_factory.mktemp(kind) / "case" / "runs" / NAMES[kind]
            assert drive(done[kind], NEVER, kind=kind) == 0
        return done[kind]

    return folder


@pytest.fixture(scope="session")
def twin(undisturbed: Callable[[str], Path]) -> Twin:
    """The study in that folder."""
    return lambda kind: search.load(undisturbed(kind))


def timeless(value: Any) -> Any:
    """The same without what a clock has said."""
    if isinstance(value, dict):
        clock = ("time", "seconds", "images_per_second")
        return {name: timeless(part) for name, part in value.items() if name not in clock}
    return [timeless(part) for part in value] if isinstance(value, (list, tuple)) else value


def _acknowledged_is_there(folder: Path) -> None:
    """What was said to be on the disk is in the journal, byte for byte."""
    acked = folder.parents[1] / "acked"
    data = (folder / FILE).read_bytes() if (folder / FILE).exists() else b""
    for line in acked.read_text().splitlines() if acked.exists() else ():
        size, digest = line.split()
        assert hashlib.sha256(data[: int(size)]).hexdigest() == digest


def facts(study: Study) -> list[Any]:
    """What a study came to, trial by trial, without times and attempts."""
    return [
        timeless((t.values, t.outcome, t.objectives, t.aliases, [r.curve for r in t.replicates]))
        for t in study.trials
    ]


@pytest.fixture(scope="session")
def came_to() -> Callable[[Study], list[Any]]:
    """What a study came to, for another that should have come to the same."""
    return facts


def _holds(folder: Path, twin: Study, *, kills: int) -> None:
    """Every invariant, of a study that was disturbed so often and has come to its end."""
    _acknowledged_is_there(folder)
    study = search.load(folder)

    # I1, I7: the same trials with the same numbers, each once; for Optuna and for MLflow too
    assert facts(study) == facts(twin)
    told = [(t.state, t.params, t.values) for t in study.optuna.trials]
    assert told == [(t.state, t.params, t.values) for t in twin.optuna.trials]
    snapshot = Snapshot.of(study, live=False)
    runs = [trial_run(trial, snapshot, "parent") for trial in snapshot.shown]
    assert [run.tags["eca.trial"] for run in runs] == [str(t.number) for t in twin.trials]

    # I2: an epoch is trained again only where the kill came before its checkpoint
    trained = folder.parents[1] / "trained"
    if trained.exists():
        times = Counter(trained.read_text().splitlines())
        assert sum(times.values()) - len(times) <= kills

    # I3: nothing runs
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    assert all(attempt.outcome for attempt in attempts)
    assert all(trial.state.is_finished() for trial in study.optuna.trials)
    assert all(run.status == "FINISHED" for run in runs)

    # I4, I5: no network twice, the whole budget used, and interruptions are no failures
    assert len({trial.key for trial in study.trials}) == len(study.trials)
    assert study.history.ended == twin.history.ended
    assert study.outcomes() == twin.outcomes()

    # I6: every file is whole under its name
    for file in folder.rglob("*.pt"):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name.split(".")[1]
    assert (folder / "space.yaml").read_text()


@pytest.fixture(scope="session")
def acknowledged_is_there() -> Callable[[Path], None]:
    """Look that the journal in a folder has all that was acknowledged, whatever became of it."""
    return _acknowledged_is_there


@pytest.fixture(scope="session")
def holds() -> Callable[..., None]:
    """Look at a study that is over: `holds(folder, twin, kills=1)`."""
    return _holds
