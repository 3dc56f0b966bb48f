"""One driver a study, also across machines: who holds it, who waits, who has been replaced."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import filelock
import pytest

from search.cli import _report
from search.errors import JournalError, LeaseLost
from search.execution.interrupts import Interrupts
from search.study import drivers, lease
from search.study.drivers import driver, holder
from search.study.journal import FILE, Journal, encode, read
from search.study.lease import acquire, apart, refuse_driven
from search.study.study import Study

ELSEWHERE = {"pid": 7, "host": "node7", "boot": "another-boot", "since": 1.7e9}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A term of a second: nothing here measures one, it is only waited for."""
    monkeypatch.setattr(drivers, "TERM", 1.0)
    monkeypatch.setattr(lease, "BEAT", 0.1)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Callable[..., Path]:
    """A lease as a driver on another machine leaves it."""

    def leave(*, ago: float = 0.0, fence: int = 3) -> Path:
        path = tmp_path / f".driver.{fence:06d}"
        path.write_text(json.dumps(ELSEWHERE))
        heard = time.time() - ago
        os.utime(path, (heard, heard))
        return path

    return leave


def test_numbers_only_rise(tmp_path: Path) -> None:
    """Each driver has a number above the last one's, whether that one let go or not."""
    first = acquire(tmp_path)
    first.release()
    second = acquire(tmp_path)

    assert (first.fence, second.fence) == (1, 2)
    held = holder(tmp_path)
    assert held is not None
    assert (held.fence, held.pid, held.released) == (2, os.getpid(), False)
    second.release()
    assert [path.name for path in tmp_path.glob(".driver.0*")] == [".driver.000002"]
    assert driver(tmp_path) is None


def test_a_dead_driver_of_this_machine_is_not_waited_for(tmp_path: Path) -> None:
    """The kernel's lock went with it; its lease file alone holds nobody back."""
    code = f"from pathlib import Path; from search.study.lease import acquire; import os; \
acquire(Path({str(tmp_path)!r})); os._exit(9)"
    subprocess.run([sys.executable, "-c", code], check=False)
    before = holder(tmp_path)
    said: list[str] = []
    new = acquire(tmp_path, say=said.append)

    assert before is not None
    assert not before.released
    assert driver(tmp_path) is not None
    assert new.fence == before.fence + 1
    assert said == []
    new.release()


def test_a_silent_driver_elsewhere_is_waited_for(
    tmp_path: Path, elsewhere: Callable[..., Path]
) -> None:
    """A requeued job takes over when the lease has run out, and says what it waits for."""
    old = elsewhere()
    said: list[str] = []
    new = acquire(tmp_path, say=said.append)

    assert new.fence == 4
    assert not old.exists()
    assert "pid 7 on node7" in said[0]
    assert "lease to run out" in said[0]
    new.release()


def test_a_lease_that_has_run_out_is_taken_at_once(
    tmp_path: Path, elsewhere: Callable[..., Path]
) -> None:
    """Nobody is waited for who was silent for longer than the term."""
    elsewhere(ago=5)
    said: list[str] = []
    acquire(tmp_path, say=said.append).release()

    assert said == []


def test_a_living_driver_elsewhere_is_refused_by_name(
    tmp_path: Path, elsewhere: Callable[..., Path]
) -> None:
    """One that touches its lease while it is waited for is alive."""
    path = elsewhere()
    over = threading.Event()

    def beat() -> None:
        while not over.wait(0.1):
            os.utime(path)

    beating = threading.Thread(target=beat)
    beating.start()
    try:
        assert driver(tmp_path) is not None
        with pytest.raises(JournalError, match=r"pid 7 on node7, since .*\n.*--force"):
            acquire(tmp_path)
    finally:
        over.set()
        beating.join()
    assert path.exists()


def test_force_takes_over_at_once(tmp_path: Path, elsewhere: Callable[..., Path]) -> None:
    """Somebody knows that it is dead."""
    old = elsewhere()
    said: list[str] = []
    new = acquire(tmp_path, force=True, say=said.append)

    assert said == []
    assert not old.exists()
    new.release()


def taken_over(folder: Path, asleep: Journal) -> Journal:
    """Another driver takes over, where the kernel's locks hold for one machine only."""
    assert asleep._lease._lock is not None
    asleep._lease._lock.release()
    return Journal(folder, force=True)


def test_a_driver_that_was_replaced_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was asleep while another took over: its commit fails, what it wrote is passed over."""
    asleep = Journal(tmp_path)
    asleep.append("note", text="before")
    asleep.commit()
    awake = taken_over(tmp_path, asleep)
    with monkeypatch.context() as unseen:  # it fell asleep after its last look, before it wrote
        unseen.setattr(asleep._lease, "check", lambda: None)
        asleep.append("note", text="late")
        awake.append("note", text="after")
        asleep.append("note", text="later")
        awake.append("note", text="last")

    with pytest.raises(LeaseLost, match=rf"pid {os.getpid()} on .* has taken over"):
        asleep.commit()
    awake.close()
    assert [record["text"] for record in read(tmp_path)] == ["before", "after", "last"]


@pytest.mark.parametrize("now", [True, False])
def test_a_driver_that_is_replaced_while_it_commits_acknowledges_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: bool
) -> None:
    """It fell asleep before its fsync; the other one had read the journal without the record."""
    asleep = Journal(tmp_path)
    asleep.append("note", text="first")
    asleep.commit()
    acknowledged = (tmp_path / FILE).stat().st_size
    asleep.append("note", text="late")
    late = (tmp_path / FILE).read_bytes()[acknowledged:]
    os.truncate(tmp_path / FILE, acknowledged)  # so far it is in that machine's memory alone
    others: list[Journal] = []
    once = threading.Lock()  # where the journal's thread is slow, it syncs in both

    def sync() -> None:
        with once:
            if not others:
                others.append(taken_over(tmp_path, asleep))
                with open(tmp_path / FILE, "ab") as file:
                    file.write(late)

    def commit() -> None:
        while not asleep.commit(now=now):
            time.sleep(0.01)

    monkeypatch.setattr(asleep, "_sync", sync)
    with pytest.raises(LeaseLost, match="has taken over"):
        commit()
    others[0].append("note", text="after")
    others[0].close()
    assert [record["text"] for record in read(tmp_path)] == ["first", "after"]


def test_a_driver_that_was_replaced_writes_nothing(tmp_path: Path) -> None:
    """Neither what it goes on with nor how it ends: the file is another one's."""
    asleep = Journal(tmp_path)
    asleep.append("note", text="before")
    asleep.commit()
    awake = taken_over(tmp_path, asleep)
    awake.append("note", text="after")
    awake.commit()
    whole = (tmp_path / FILE).read_bytes()

    for _ in range(2):
        with pytest.raises(LeaseLost, match="has taken over"):
            asleep.append("note", text="late")
    with pytest.raises(LeaseLost):  # it lets go, and says why nothing was written
        asleep.close()
    assert (tmp_path / FILE).read_bytes() == whole
    now = holder(tmp_path)
    assert now is not None
    assert (now.fence, now.released) == (awake.fence, False)
    awake.close()


def test_a_study_that_was_taken_over_is_left_alone(synthetic: Callable[..., Study]) -> None:
    """Closing it ends no attempt in the journal: they are the other driver's."""
    study = synthetic()
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "virtual:1")
    study.commit()
    book = study._journal
    assert book is not None
    awake = taken_over(study.folder, book)
    whole = (study.folder / FILE).read_bytes()

    with pytest.raises(LeaseLost):
        study.commit()
    with pytest.raises(LeaseLost):
        study.close()
    assert (study.folder / FILE).read_bytes() == whole
    awake.close()


def test_a_driver_hears_by_itself_that_it_was_replaced(tmp_path: Path) -> None:
    """Its heart stops beating when the file is gone; letting go then changes nothing."""
    asleep = Journal(tmp_path)
    awake = taken_over(tmp_path, asleep)
    asleep._lease._beating.join(10)
    assert asleep._lease.lost
    with pytest.raises(LeaseLost):  # it lets go, and says why nothing was written
        asleep.close()
    assert [path.name for path in drivers.leases(tmp_path)] == [".driver.000002"]
    awake.close()


def test_a_lease_that_was_removed_is_lost(tmp_path: Path) -> None:
    """By hand, say: nobody else is named, as nobody else is known."""
    book = Journal(tmp_path)
    (tmp_path / ".driver.000001").unlink()
    with pytest.raises(LeaseLost, match=r"the lease \.driver\.000001 was removed"):
        book.commit()
    with pytest.raises(LeaseLost):
        book.close()


def test_a_lost_lease_is_a_pause(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 75: another driver goes on and nothing is lost; other journal errors are usage."""
    said = "runs/digits: pid 7 on node7 has taken over"
    assert _report(LeaseLost(said), debug=False) == 75
    assert _report(JournalError(said), debug=False) == 2
    assert capsys.readouterr().err.splitlines() == [said] * 2


def test_what_a_replaced_driver_wrote_last_is_passed_over(tmp_path: Path) -> None:
    """A later driver goes on behind it, with the right number."""
    book = Journal(tmp_path)
    book.append("note", text="one")
    fence = book._lease.fence
    book.close()
    with open(tmp_path / FILE, "ab") as file:
        file.write(
            encode({"seq": 1, "time": 0, "fence": fence - 1, "kind": "note", "text": "late"})
        )
    book = Journal(tmp_path)
    book.append("note", text="two")
    book.close()

    assert [record["text"] for record in read(tmp_path)] == ["one", "two"]


def test_the_journal_remembers_the_number(tmp_path: Path) -> None:
    """A folder copied without its lease files still counts on: no number is used twice."""
    for _ in range(3):
        book = Journal(tmp_path)
        book.append("note", text="")
        book.close()
    for path in tmp_path.glob(".driver.*"):
        path.unlink()
    book = Journal(tmp_path)
    book.append("note", text="")
    book.close()

    assert [record["fence"] for record in read(tmp_path)] == [1, 2, 3, 4]


def test_a_heart_beats_while_a_lease_is_held(tmp_path: Path) -> None:
    """Touched again and again, never after it was let go."""
    held = acquire(tmp_path)
    path = tmp_path / ".driver.000001"
    os.utime(path, (0, 0))
    for _ in range(100):
        if path.stat().st_mtime > 0:
            break
        time.sleep(0.05)
    assert path.stat().st_mtime > 0
    held.release()
    os.utime(path, (0, 0))
    time.sleep(0.3)
    assert path.stat().st_mtime == 0


def test_of_two_that_take_over_one_is_first(
    tmp_path: Path, elsewhere: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel's lock means nothing, creating the numbered file decides."""
    elsewhere(ago=5)
    winner = tmp_path / ".driver.000004"
    winner.write_text(json.dumps({**ELSEWHERE, "host": "node8"}))
    monkeypatch.setattr(drivers, "leases", lambda folder: [folder / ".driver.000003"])

    with pytest.raises(JournalError, match="is running this study"):
        acquire(tmp_path)
    assert "node8" in winner.read_text()


def test_a_lease_appears_whole(tmp_path: Path) -> None:
    """Killed before it was written there is none: nobody takes a driver that begins for one gone.

    What is under the name is all there, also an empty file that a power cut has left: not released.
    """
    code = "import sys; from pathlib import Path; from search.study.lease import acquire; \
acquire(Path(sys.argv[1]))"
    failpoint = {**os.environ, "ECA_SEARCH_FAILPOINT": "lease.created:1:kill"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=failpoint, check=False)
    assert (tmp_path / lease.LOCK).exists()
    assert holder(tmp_path) is None

    (tmp_path / ".driver.000007").touch()
    left = driver(tmp_path)
    assert left is not None
    assert (left.fence, left.released) == (7, False)


def test_without_hard_links_one_is_first_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On FAT, which says EPERM, the file is created under its name, by one alone."""

    def link(source: Path, target: Path) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)
    held = acquire(tmp_path)
    now = holder(tmp_path)
    assert now is not None
    assert now.pid == os.getpid()
    with pytest.raises(JournalError, match="is running this study"):
        lease._claim(tmp_path, held.fence, locked=False)
    held.release()
    assert driver(tmp_path) is None


def test_a_link_whose_answer_was_lost_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is asked again says that the name is taken, by what we have put there."""
    link = os.link

    def deaf(source: Path, target: Path) -> None:
        link(source, target)
        link(source, target)

    monkeypatch.setattr(os, "link", deaf)
    held = acquire(tmp_path)
    assert (held.fence, driver(tmp_path) is not None) == (1, True)
    held.release()


@pytest.mark.parametrize("skew", [-40.0, 40.0])
def test_ages_are_the_folders_own(
    tmp_path: Path, elsewhere: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """A machine whose clock is wrong sees who is alive and who is dead all the same."""
    clock = time.time
    alive, dead = tmp_path / "alive", tmp_path / "dead"
    for folder, ago in ((alive, 0.0), (dead, 5.0)):
        folder.mkdir()
        elsewhere(ago=ago).rename(folder / ".driver.000003")
    monkeypatch.setattr(time, "time", lambda: clock() + skew)

    assert driver(alive) is not None
    assert driver(dead) is None


def test_a_stale_view_of_the_folder_removes_nobody(
    tmp_path: Path, elsewhere: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A network's file system showed driver 5 while 7 is at work: refused, and 7 stays."""
    elsewhere(ago=60, fence=5)
    alive = elsewhere(fence=7)
    monkeypatch.setattr(drivers, "leases", lambda folder: [folder / ".driver.000005"])
    with pytest.raises(JournalError, match="is running this study"):
        acquire(tmp_path)

    assert alive.exists()
    assert not (tmp_path / ".driver.000006").exists()


def test_only_older_leases_are_removed(
    tmp_path: Path, elsewhere: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A driver that takes over from us at this very moment keeps its lease, and we have lost."""
    elsewhere(ago=60, fence=5)
    claim = lease._claim

    def replaced(folder: Path, fence: int, *, locked: bool) -> Path:
        path = claim(folder, fence, locked=locked)
        elsewhere(fence=fence + 1)
        path.unlink()
        return path

    monkeypatch.setattr(lease, "_claim", replaced)
    late = acquire(tmp_path)
    with pytest.raises(LeaseLost, match="pid 7 on node7 has taken over"):
        late.check()
    late.release()
    assert [path.name for path in drivers.leases(tmp_path)] == [".driver.000007"]


def test_who_began_while_we_waited_for_the_lock_is_seen(
    tmp_path: Path, elsewhere: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The driver that matters is the one there is once the lock is ours."""
    elsewhere(ago=60, fence=5)
    locked = lease._locked

    def late(folder: Path) -> filelock.BaseFileLock | None:
        lock = locked(folder)
        elsewhere(fence=9)
        return lock

    monkeypatch.setattr(lease, "_locked", late)
    new = acquire(tmp_path)
    assert new.fence == 10
    new.release()


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[filelock.FileLock]:
    """The lock of a machine that died or sleeps, on a file system where locks hold for all."""
    monkeypatch.setattr(lease, "PATIENCE", 0.1)
    with filelock.FileLock(tmp_path / lease.LOCK) as lock:
        yield lock


@pytest.mark.parametrize("force", [False, True])
def test_another_machines_lock_is_as_good_as_its_lease(
    tmp_path: Path,
    elsewhere: Callable[..., Path],
    foreign: filelock.FileLock,
    force: bool,
) -> None:
    """It is waited for, or passed by --force; who has taken over so is safe from its own machine.

    Its lock is none of the kernel's here, so that a free lock does not mean that it is dead.
    """
    elsewhere()
    said: list[str] = []
    refuse_driven(tmp_path, force=True, say=said.append)
    new = acquire(tmp_path, force=force, say=said.append)
    assert ["lease to run out" in line for line in said] == ([] if force else [True])
    assert new.fence == 4

    foreign.release()
    assert driver(tmp_path) is not None
    with pytest.raises(JournalError, match=rf"pid {os.getpid()} on .* is running this study"):
        acquire(tmp_path)
    new.check()
    new.release()
    acquire(tmp_path).release()


def test_a_lock_whose_lease_has_run_out_is_nobodys(
    tmp_path: Path, elsewhere: Callable[..., Path], foreign: filelock.FileLock
) -> None:
    """The machine is gone; its lock stays until the server notices."""
    elsewhere(ago=60)
    assert driver(tmp_path) is None
    acquire(tmp_path).release()


def test_who_lets_go_is_not_waited_for(tmp_path: Path, elsewhere: Callable[..., Path]) -> None:
    """Released while it is waited for, it is followed at once, and not taken for alive."""
    path = elsewhere()

    def say(line: str) -> None:
        with path.open("a") as file:
            file.write("\n" + drivers.RELEASED)

    new = acquire(tmp_path, say=say)
    assert new.fence == 4
    new.release()


def test_a_wait_is_interrupted(
    tmp_path: Path, elsewhere: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C ends the wait for a lease, though it is the journal that waits; nothing is taken."""
    monkeypatch.setattr(drivers, "TERM", 2.0)
    path = elsewhere()
    asked = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt), Interrupts():
        Journal(tmp_path, say=lambda line: asked.start())
    assert [path.name for path in drivers.leases(tmp_path)] == [path.name]
    with filelock.FileLock(tmp_path / lease.LOCK, timeout=0):
        pass


def test_drivers_are_held_off(tmp_path: Path, elsewhere: Callable[..., Path]) -> None:
    """What is done where nobody drives keeps a driver out until it is done; one at work goes on."""
    elsewhere(ago=60)
    with apart(tmp_path) as nobody:
        assert nobody is None
        with pytest.raises(JournalError, match="is running this study"):
            acquire(tmp_path)
    held = acquire(tmp_path)
    with apart(tmp_path) as somebody:
        assert somebody is not None
        assert somebody.fence == held.fence
    held.check()
    held.release()


@pytest.mark.skipif(os.getuid() != 0, reason="gives a link to another user")
def test_a_link_that_another_user_made_is_not_followed(tmp_path: Path) -> None:
    """It may lead to any folder of ours; one's own link is as good as the folder."""
    (tmp_path / "real").mkdir()
    link = tmp_path / "link"
    link.symlink_to("real")
    acquire(link).release()
    before = sorted((tmp_path / "real").iterdir())
    os.chown(link, 65534, 65534, follow_symlinks=False)
    for take in (acquire, partial(refuse_driven, force=False, say=pytest.fail)):
        with pytest.raises(JournalError, match="another user"):
            take(link)
    assert sorted((tmp_path / "real").iterdir()) == before
