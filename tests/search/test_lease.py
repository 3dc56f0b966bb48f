"""One driver a study, also across machines: who holds it, who waits, who has been replaced."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from search import lease
from search.errors import JournalError
from search.journal import FILE, Journal, encode, read
from search.lease import acquire, driver, holder

ELSEWHERE = {"pid": 7, "host": "node7", "boot": "another-boot", "since": 1.7e9}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """A term of a second: nothing here measures one, it is only waited for."""
    monkeypatch.setattr(lease, "TERM", 1.0)
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
    code = f"from pathlib import Path; from search.lease import acquire; import os; \
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


def test_a_driver_that_was_replaced_acknowledges_nothing(tmp_path: Path) -> None:
    """It was asleep while another took over: its commit fails, what it wrote is passed over."""
    asleep = Journal(tmp_path)
    asleep.append("note", text="before")
    asleep.commit()
    asleep._lease._lock.release()  # as on a file system where locks hold for one machine only
    awake = Journal(tmp_path, force=True)
    asleep.append("note", text="late")
    awake.append("note", text="after")
    asleep.append("note", text="later")
    awake.append("note", text="last")

    with pytest.raises(JournalError, match="has taken over"):
        asleep.commit()
    awake.close()
    assert [record["text"] for record in read(tmp_path)] == ["before", "after", "last"]


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
    monkeypatch.setattr(lease, "_leases", lambda folder: [folder / ".driver.000003"])

    with pytest.raises(JournalError, match="is running this study"):
        acquire(tmp_path)
    assert "node8" in winner.read_text()
