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
LEASE = "tests/search/test_lease.py"
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
        "search/study/journal.py",
        'durable.step("commit.begun")\n        os.fsync(self._file)',
        'durable.step("commit.begun")',
        POWER,
    ),
    Mutant(
        "the journal's folder is not synced",
        "search/study/journal.py",
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
        "search/study/journal.py",
        "            self._failed = error\n            self._cut(self._durable.size, error)",
        "            pass",
        "tests/faults/test_disk_full.py::test_a_failed_fsync_ends_the_journal",
    ),
    Mutant(
        "half a record stays",
        "search/study/journal.py",
        "            self._cut(self._size, error)\n            raise",
        "            raise",
        "tests/faults/test_disk_full.py::test_the_driver_pauses_while_it_lasts",
    ),
    Mutant(
        "nobody holds the lock",
        "search/study/lease.py",
        "lock.acquire()",
        "pass",
        "tests/search/test_journal.py::test_one_driver_at_a_time",
    ),
    Mutant(
        "duplicates are not looked for",
        "search/study/proposing.py",
        "known = self._seen.get(candidate.key)",
        "known = None",
        AGAIN,
    ),
    Mutant(
        "what ran is not handed back",
        "search/study/study.py",
        "study._recover()",
        "pass",
        "tests/faults/test_failpoints.py::test_killed_at[append.written]",
    ),
    Mutant(
        "checksums are not compared",
        "search/study/journal.py",
        ' or tail[:-2] != _checksum(head + "}")',
        "",
        "tests/faults/test_journal_damage.py::test_every_digit_of_a_real_journal_counts",
    ),
    Mutant(
        "records are not counted",
        "search/study/journal.py",
        'if record["seq"] != len(records):',
        "if False:",
        "tests/faults/test_journal_damage.py::test_damage_is_named_and_nothing_changes",
    ),
    Mutant(
        "an emptied journal is no journal",
        "search/study/journal.py",
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
        "random numbers begin anew within an epoch",
        "trainers/run.py",
        "generator.set_state(self._drawn[place])",
        'generator.manual_seed(derive(self.seed, "network", self.epoch))',
        "tests/trainers/test_train.py::test_a_run_that_left_within_an_epoch_goes_on_exactly[dropout]",
    ),
    Mutant(
        "the steps of an open epoch are not summed up",
        "trainers/run.py",
        "self._totals = totals[self.team.rank :: self.team.size].sum(0).to(self.device)",
        "self._totals = None",
        "tests/trainers/test_train.py::test_a_run_that_left_within_an_epoch_goes_on_exactly[sgd]",
    ),
    Mutant(
        "a training that leaves stores nothing",
        "trainers/train.py",
        "if stored is not None and (leaving or due):",
        "if stored is not None and due:",
        "tests/trainers/test_train.py::test_a_run_that_left_within_an_epoch_goes_on_exactly[sgd]",
    ),
    Mutant(
        "a half-made copy of images counts",
        "trainers/nearby.py",
        "if not (folder / MANIFEST).is_file():",
        "if not folder.is_dir():",
        "tests/trainers/test_nearby.py::test_a_fetch_cut_short_is_gone_on_with",
    ),
    Mutant(
        "a stop is forgotten when its driver ends",
        "search/study/study.py",
        "reason = self.stopping.get(number)",
        "reason = None",
        "tests/faults/test_state_machine.py::test_a_stop_outlives_its_driver",
    ),
    Mutant(
        "what waited for a worker is forgotten",
        "search/study/study.py",
        "if trial.outcome is None and not trial.replicates:",
        "if False:",
        "tests/faults/test_state_machine.py::test_nothing_is_lost[200]",
    ),
    Mutant(
        "what runs is not reserved in a budget",
        "search/study/spending.py",
        "if have + owed + need > limit * SLACK",
        "if have + need > limit * SLACK",
        "tests/search/test_budget.py::test_epochs_are_never_overspent[4]",
    ),
    Mutant(
        "what is trained again costs nothing",
        "search/study/history.py",
        "self.spending.repeated(1)",
        "pass",
        "tests/search/test_budget.py::test_retries_count",
    ),
    Mutant(
        "an epoch counts whenever it is told",
        "search/study/deciding.py",
        "if isinstance(epoch, (int, float)) and epoch <= len(replicate.curve):",
        "if False:",
        "tests/search/test_study.py::test_what_is_reported_twice_is_kept_once",
    ),
    Mutant(
        "a replaced driver acknowledges",
        "search/study/journal.py",
        "            if level:\n",
        "            if False:\n",
        f"{LEASE}::test_a_driver_that_is_replaced_while_it_commits_acknowledges_nothing[True]",
    ),
    Mutant(
        "a replaced driver looks before its fsync",
        "search/study/journal.py",
        "            level = self._level_with(Reach(self._seq, self._size), now)\n"
        "            if level:\n                self._lease.check()",
        "            self._lease.check()\n"
        "            level = self._level_with(Reach(self._seq, self._size), now)",
        f"{LEASE}::test_a_driver_that_is_replaced_while_it_commits_acknowledges_nothing[True]",
    ),
    Mutant(
        "a replaced driver writes",
        "search/study/journal.py",
        "            raise self._failed\n        self._lease.check()\n",
        "            raise self._failed\n",
        f"{LEASE}::test_a_driver_that_was_replaced_writes_nothing",
    ),
    Mutant(
        "what a replaced driver wrote counts",
        "search/study/journal.py",
        'if record.get("fence", 0) < fence:',
        "if False:",
        f"{LEASE}::test_what_a_replaced_driver_wrote_last_is_passed_over",
    ),
    Mutant(
        "what the next driver counted on without counts",
        "search/study/journal.py",
        "if previous < fence:",
        "if False:",
        f"{LEASE}::test_a_driver_that_was_replaced_acknowledges_nothing",
    ),
    Mutant(
        "two may have one number",
        "search/study/lease.py",
        "os.link(beside, path)",
        "os.replace(beside, path)",
        f"{LEASE}::test_of_two_that_take_over_one_is_first",
    ),
    Mutant(
        "a stale view of the folder is believed",
        "search/study/lease.py",
        "if any(number(other) > fence for other in leases(folder)):",
        "if False:",
        f"{LEASE}::test_a_stale_view_of_the_folder_removes_nobody",
    ),
    Mutant(
        "every other lease is removed",
        "search/study/lease.py",
        "if number(old) < fence:",
        "if old != path:",
        f"{LEASE}::test_only_older_leases_are_removed",
    ),
    Mutant(
        "ages are told by two clocks",
        "search/study/drivers.py",
        "max(0.0, _now(folder) - heard)",
        "max(0.0, time.time() - heard)",
        f"{LEASE}::test_ages_are_the_folders_own[40.0]",
    ),
    Mutant(
        "a lock of another machine is one of ours",
        "search/study/drivers.py",
        "return self.locked and self.boot == boot_id()",
        "return True",
        f"{LEASE}::test_another_machines_lock_is_as_good_as_its_lease[True]",
    ),
    Mutant(
        "who drives without the lock is dead when it is free",
        "search/study/drivers.py",
        "return self.locked and self.boot == boot_id()",
        "return self.boot == boot_id()",
        f"{LEASE}::test_another_machines_lock_is_as_good_as_its_lease[True]",
    ),
    Mutant(
        "a wait for a lease is a decision",
        "search/execution/interrupts.py",
        "if (module, frame.f_code.co_name) in _WAITING:",
        "if False:",
        f"{LEASE}::test_a_wait_is_interrupted",
    ),
    Mutant(
        "a stop is read by the folder's newest number",
        "search/study/control.py",
        "own = study.fence",
        "own = max(map(drivers.number, drivers.leases(self._folder)))",
        "tests/search/test_control.py"
        "::test_a_driver_that_was_replaced_leaves_what_is_asked_of_the_next",
    ),
    Mutant(
        "what a replaced driver seals counts",
        "search/study/mirror.py",
        "if -minus < newest:",
        "if False:",
        "tests/search/test_mirror.py::test_what_a_replaced_driver_seals_counts_for_nothing[memory]",
    ),
    Mutant(
        "a mirror is read before it is ours",
        "search/study/mirror.py",
        "mirror = Mirror(place, _claim(place, force=force, say=say), file, say)",
        "sealed = _agreed(place, file)\n"
        "    mirror = Mirror(place, _claim(place, force=force, say=say), file, say)\n"
        "    mirror.follow(sealed)\n"
        "    yield mirror\n"
        "    mirror.close()\n"
        "    return",
        "tests/search/test_mirror.py::test_what_is_sealed_until_the_takeover_is_kept[memory]",
    ),
    Mutant(
        "a segment whose answer was lost is never looked at",
        "search/study/mirror.py",
        "        except FileExistsError:  # our",
        "        except ZeroDivisionError:  # our",
        "tests/search/test_mirror.py::test_a_segment_that_is_there_already_holds_up_nothing[memory-whole]",
    ),
    Mutant(
        "a segment's digest is not compared",
        "search/study/mirror.py",
        "if hashlib.sha256(body).hexdigest() != digest:",
        "if False:",
        "tests/search/test_mirror.py::test_damage_is_named[memory-changed]",
    ),
    Mutant(
        "gc holds no driver off",
        "search/commands/maintain.py",
        "else lease.apart(folder)",
        "else nullcontext(drivers.driver(folder))",
        "tests/search/test_gc.py::test_no_driver_begins_meanwhile",
    ),
    Mutant(
        "a later parameter makes networks of before other networks",
        "trainers/complexity.py",
        "if name not in later or later[name] != value",
        "if name not in later or True",
        "tests/trainers/test_identity.py::test_keys_outlive_new_parameters",
    ),
    Mutant(
        "the front's weights go too",
        "search/study/garbage.py",
        "if t.number in front or _wanted(study, t, driven, over)",
        "if _wanted(study, t, driven, over)",
        "tests/search/test_sweeping.py::test_the_front_keeps_its_weights",
    ),
    Mutant(
        "the newest words push others off the front at once",
        "search/study/garbage.py",
        "if not _lately(trial)] if driven else []",
        "if False]",
        "tests/search/test_sweeping.py::test_newest_words_put_nobody_off_the_front",
    ),
    Mutant(
        "who may have a second chance loses its place",
        "search/study/garbage.py",
        "return not over  # it may have a second chance",
        "return False",
        "tests/search/test_sweeping.py::test_who_may_have_a_second_chance_keeps_its_place",
    ),
    Mutant(
        "a study of a release that kept all is swept",
        "search/study/earlier.py",
        '[ALL] * (found["of"] is None)',
        "[]",
        "tests/search/test_launch.py::test_a_study_that_kept_all_checkpoints_keeps_them",
    ),
    Mutant(
        "a seed that was handed out is handed out again",
        "search/study/waiting.py",
        "and (number, index) not in self.handed",
        "",
        "tests/search/test_study.py::test_a_seed_is_handed_out_once",
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
        "--hypothesis-profile=unshrunk",
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
