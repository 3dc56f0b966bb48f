"""The fault tests are worth something: whoever breaks one fsync, lock or check makes one fail."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
POWER = "tests/faults/test_failpoints.py::test_a_power_cut_takes_nothing_that_was_acknowledged"
AGAIN = "tests/faults/test_failpoints.py::test_killed_again_and_again[commit.synced]"

pytestmark = pytest.mark.slow


class Mutant(NamedTuple):
    """One line that is something else, and the test that must notice."""

    name: str
    file: str
    line: str
    instead: str
    test: str


MUTANTS = (
    Mutant(
        "records are not synced",
        "search/journal.py",
        'durable.step("commit.begun")\n        os.fsync(self._file)',
        'durable.step("commit.begun")',
        POWER,
    ),
    Mutant(
        "the journal's folder is not synced",
        "search/journal.py",
        "durable.sync_folder(path.parent)",
        "pass",
        "tests/faults/test_failpoints.py::test_a_power_cut_leaves_the_first_record",
    ),
    Mutant(
        "a new folder is not synced",
        "spaces/durable.py",
        "sync_folder(made.parent)",
        "pass",
        POWER,
    ),
    Mutant(
        "a whole file is not synced",
        "spaces/durable.py",
        "os.fsync(file.fileno())",
        "pass",
        POWER,
    ),
    Mutant(
        "a whole file's folder is not synced",
        "spaces/durable.py",
        "sync_folder(path.parent)",
        "pass",
        POWER,
    ),
    Mutant(
        "a failed fsync is forgotten",
        "search/journal.py",
        "            self._failed = error\n            self._cut(self._durable.size, error)",
        "            pass",
        "tests/faults/test_disk_full.py::test_a_failed_fsync_ends_the_journal",
    ),
    Mutant(
        "half a record stays",
        "search/journal.py",
        "            self._cut(self._size, error)\n            raise",
        "            raise",
        "tests/faults/test_disk_full.py::test_the_driver_pauses_while_it_lasts",
    ),
    Mutant(
        "nobody holds the lock",
        "search/lease.py",
        "lock.acquire()",
        "pass",
        "tests/search/test_journal.py::test_one_driver_at_a_time",
    ),
    Mutant(
        "duplicates are not looked for",
        "search/proposing.py",
        "known = self._seen.get(candidate.key)",
        "known = None",
        AGAIN,
    ),
    Mutant(
        "what ran is not handed back",
        "search/study.py",
        "study._recover()",
        "pass",
        "tests/faults/test_failpoints.py::test_killed_at[append.written]",
    ),
    Mutant(
        "checksums are not compared",
        "search/journal.py",
        ' or tail[:-2] != _checksum(head + "}")',
        "",
        "tests/faults/test_journal_damage.py::test_every_digit_of_a_real_journal_counts",
    ),
    Mutant(
        "records are not counted",
        "search/journal.py",
        'if record["seq"] != len(records):',
        "if False:",
        "tests/faults/test_journal_damage.py::test_damage_is_named_and_nothing_changes",
    ),
    Mutant(
        "an emptied journal is no journal",
        "search/journal.py",
        "if left and not records:",
        "if False:",
        "tests/faults/test_journal_damage.py::test_a_journal_that_lost_everything_is_refused",
    ),
    Mutant(
        "a checkpoint's digest is not compared",
        "trainers/checkpoint.py",
        'if named and hashlib.sha256(data).hexdigest() == named["digest"]:',
        "if named:",
        "tests/faults/test_damaged_checkpoints.py::test_damage_costs_epochs_and_no_more",
    ),
    Mutant(
        "a stop is forgotten when its driver ends",
        "search/study.py",
        "reason = self.stopping.get(number)",
        "reason = None",
        "tests/faults/test_state_machine.py::test_a_stop_outlives_its_driver",
    ),
    Mutant(
        "what waited for a worker is forgotten",
        "search/study.py",
        "if trial.outcome is None and not trial.replicates:",
        "if False:",
        "tests/faults/test_state_machine.py::test_nothing_is_lost[200]",
    ),
    Mutant(
        "an epoch counts whenever it is told",
        "search/study.py",
        "if isinstance(epoch, (int, float)) and epoch <= len(replicate.curve):",
        "if False:",
        "tests/search/test_study.py::test_what_is_reported_twice_is_kept_once",
    ),
)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository's code and tests that may be broken."""
    folder = tmp_path_factory.mktemp("copy")
    for name in ("spaces", "trainers", "search", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def outcome(folder: Path, test: str) -> subprocess.CompletedProcess[str]:
    """Run one test of the copy, on the copy."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-n",
        "0",
        "-p",
        "no:cacheprovider",
        test,
    ]
    environment = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("test", sorted({mutant.test for mutant in MUTANTS}))
def test_the_copy_as_it_is_passes(test: str, copy: Path) -> None:
    """What fails below fails for its mutation alone."""
    done = outcome(copy, test)

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_noticed(mutant: Mutant, copy: Path) -> None:
    """The named test fails, by an assertion and not because nothing runs any more."""
    file = copy / mutant.file
    text = file.read_text()
    assert text.count(mutant.line) == 1
    file.write_text(text.replace(mutant.line, mutant.instead))
    try:
        done = outcome(copy, mutant.test)
    finally:
        file.write_text(text)

    assert done.returncode == 1, done.stdout
    assert "SyntaxError" not in done.stdout
    assert "NameError" not in done.stdout
