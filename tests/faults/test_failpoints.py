"""A search killed at every durable step, and resumed: nothing lost, nothing twice."""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import os
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

import search
from search.study import journal
from search.study.journal import FILE, Journal
from search.study.study import Study
from spaces import durable

Drive = Callable[..., int]
Twin = Callable[[str], Study]
KILLED = -9
Strike = Callable[..., bool]
ONCE = ("folder", "lease", "journal", "space")
"""Steps that a driver takes once, at its beginning."""
ROOT = Path(__file__).parents[2]


@pytest.fixture
def strike(
    drive: Drive,
    twin: Twin,
    acknowledged_is_there: Callable[[Path], None],
    holds: Callable[..., None],
) -> Strike:
    """Kill a search at a failpoint, resume it, look; False where it came to its end instead."""

    def once(folder: Path, failpoint: str, *, kind: str = "study") -> bool:
        code = drive(folder, failpoint, kind=kind)
        if code == 0:
            return False
        assert code == KILLED
        acknowledged_is_there(folder)
        assert drive(folder, kind=kind) == 0
        holds(folder, twin(kind), kills=1)
        return True

    return once


@pytest.mark.parametrize("point", durable.POINTS)
def test_killed_at(point: str, strike: Strike, tmp_path: Path) -> None:
    """SIGKILL at the point, the first time and late; resumed, it is as if it never was."""
    first, late = (tmp_path / name / "runs" / "victim" for name in ("first", "late"))

    assert strike(first, f"{point}:1:kill")
    assert strike(late, f"{point}:7:kill") != point.startswith(ONCE)


@pytest.mark.slow
@pytest.mark.parametrize("point", durable.POINTS)
def test_killed_whenever_it_is_reached(point: str, strike: Strike, tmp_path: Path) -> None:
    """The same for every single time that the search comes to the point."""
    for n in itertools.count(1):
        if not strike(tmp_path / str(n) / "runs" / "victim", f"{point}:{n}:kill"):
            break

    assert n > 1


@pytest.mark.slow
@pytest.mark.parametrize("point", durable.POINTS)
def test_digits_killed_at(point: str, strike: Strike, twin: Twin, tmp_path: Path) -> None:
    """With real networks, MLflow and all: one run a trial, none of them running."""
    folder = tmp_path / "case" / "runs" / "digits-victim"
    n = 1 if point.startswith(ONCE) else 3
    assert strike(folder, f"{point}:{n}:kill", kind="digits")
    everything_finished(folder, twin("digits"))


def everything_finished(folder: Path, twin: Study) -> None:
    """MLflow holds one run a trial and the study's own, and nothing in it runs."""
    with sqlite3.connect(folder.parent / "mlflow.db") as store:
        status = "select r.status from runs r join tags t on r.run_uuid = t.run_uuid and t.key = ?"
        children = store.execute(status, ["eca.trial"]).fetchall()
        everything = store.execute(status, ["eca.study"]).fetchall()

    assert children == [("FINISHED",)] * len(twin.trials)
    assert everything == [("FINISHED",)] * (len(children) + 1)


@pytest.mark.slow
def test_killed_while_mlflow_makes_its_tables(
    drive: Drive, twin: Twin, holds: Callable[..., None], tmp_path: Path
) -> None:
    """MLflow could never open such a store again: it comes into being whole."""
    folder = tmp_path / "case" / "runs" / "digits-victim"
    assert drive(folder, kind="making") == KILLED
    assert drive(folder, kind="digits") == 0
    holds(folder, twin("digits"), kills=1)
    everything_finished(folder, twin("digits"))


@pytest.mark.parametrize("point", ["append.torn", "commit.synced", "checkpoint.renamed"])
def test_killed_again_and_again(
    point: str,
    drive: Drive,
    twin: Twin,
    acknowledged_is_there: Callable[[Path], None],
    holds: Callable[..., None],
    tmp_path: Path,
) -> None:
    """Every driver dies at its sixth such step, also those that only just resumed."""
    folder = tmp_path / "case" / "runs" / "victim"
    kills = 0
    while (code := drive(folder, f"{point}:6:kill")) == KILLED:
        acknowledged_is_there(folder)
        kills += 1
        assert kills < 100

    assert code == 0
    assert kills > 1
    holds(folder, twin("study"), kills=kills)


def test_a_digits_search_reaches_every_point(undisturbed: Callable[[str], Path]) -> None:
    """No point is left that nothing comes to: each is a step of every real search."""
    reached = json.loads((undisturbed("digits").parents[1] / "reached").read_text())

    assert set(durable.POINTS) <= set(reached)


def test_the_code_names_no_other_point() -> None:
    """A new step has its point in `POINTS`, and so it has its kill here."""
    named = set()
    for room in ("spaces", "trainers", "search"):
        for file in (ROOT / room).rglob("*.py"):
            named |= set(points(ast.parse(file.read_text())))

    assert named == set(durable.POINTS)


def points(tree: ast.AST) -> list[str]:
    """The points that calls of `step`, `write` and `write_whole` name."""
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, (ast.Attribute, ast.Name)):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        texts = [
            value.value
            for value in (*node.args, *(keyword.value for keyword in node.keywords))
            if isinstance(value, ast.Constant) and isinstance(value.value, str)
        ]
        if called == "write_whole":
            found += [f"{kind}.{step}" for kind in texts for step in durable.WHOLE]
        elif called == "step" or (called == "write" and len(node.args) == 3):
            found += [text for text in texts if "." in text]
    return found


@pytest.mark.parametrize("text", ["nowhere:kill", "append.torn", "append.torn:1:faint", "append:"])
def test_a_failpoint_that_is_none_is_refused(text: str) -> None:
    """A misspelt point would never strike, and its test would pass."""
    with pytest.raises(ValueError, match="allowed point"):
        durable.arm(text)


# ---- power cuts ---------------------------------------------------------------------------------


def test_a_power_cut_takes_nothing_that_was_acknowledged(drive: Drive, tmp_path: Path) -> None:
    """Were only what was fsynced on the disk: after every acknowledgement it is all there."""
    folder = tmp_path / "case" / "runs" / "victim"
    assert drive(folder, kind="power") == 0
    acked = (tmp_path / "case" / "acked").read_text().splitlines()
    cuts = tmp_path / "case" / "cuts"
    assert len(list(cuts.iterdir())) == len(acked) > 5

    for number, line in enumerate(acked):
        left = cuts / str(number) / "runs" / "victim"
        size, digest = line.split()
        assert hashlib.sha256((left / FILE).read_bytes()[: int(size)]).hexdigest() == digest
        assert (left / "space.yaml").read_bytes() == (folder / "space.yaml").read_bytes()
        files = list(left.rglob("*.pt"))
        for file in files:
            assert hashlib.sha256(file.read_bytes()).hexdigest() == file.name.split(".")[1]
        stored = Counter(file.parent.name for file in files)
        for trial in search.load(left).trials:
            for replicate in trial.replicates:
                assert stored[replicate.key] >= min(len(replicate.curve), 2)  # `keep` leaves two


def test_a_power_cut_leaves_the_first_record(
    victim: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The journal's own folder is synced when it is made, and not only by what comes after."""
    monkeypatch.setattr(os, "fsync", os.fsync)  # taken back at the end, as `Disk` replaces it
    disk = victim.Disk(tmp_path)
    book = Journal(tmp_path / "runs" / "study")
    book.append("note", text="acknowledged")
    book.commit()
    disk.cut(tmp_path / "left")
    book.close()

    assert [r["text"] for r in journal.read(tmp_path / "left" / "runs" / "study")] == [
        "acknowledged"
    ]


@pytest.mark.parametrize("number", [0, 4, 7])
def test_a_search_goes_on_after_a_power_cut(
    number: int, drive: Drive, twin: Twin, holds: Callable[..., None], tmp_path: Path
) -> None:
    """What is left of the study is resumed to the same end."""
    assert drive(tmp_path / "case" / "runs" / "victim", kind="power") == 0
    left = tmp_path / "case" / "cuts" / str(number) / "runs" / "victim"

    assert drive(left) == 0
    holds(left, twin("study"), kills=1)
