"""A disk that is full, over quota, read-only or broken, and too many open files: at every write.

What was acknowledged stays, the study pauses rather than acknowledge what it could not write, and
it goes on when there is room. A checkpoint that cannot be written costs a warning.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search.study import journal
from search.study.journal import FILE, Journal
from search.study.study import Study
from spaces import durable

Drive = Callable[..., int]
Twin = Callable[[str], Study]
PAUSED = 75
CHECKPOINT = tuple(point for point in durable.POINTS if point.startswith("checkpoint."))
DRIVER = tuple(point for point in durable.POINTS if point not in CHECKPOINT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the study will be."""
    return tmp_path / "case" / "runs" / "victim"


@pytest.fixture
def goes_on(
    folder: Path,
    drive: Drive,
    twin: Twin,
    acknowledged_is_there: Callable[[Path], None],
    holds: Callable[..., None],
) -> Callable[[], None]:
    """Look that nothing acknowledged is lost and that the study resumes to its end."""

    def look() -> None:
        acknowledged_is_there(folder)
        assert drive(folder) == 0
        holds(folder, twin("study"), kills=1)

    return look


@pytest.mark.parametrize("point", DRIVER)
def test_the_driver_pauses(
    point: str, drive: Drive, folder: Path, goes_on: Callable[[], None]
) -> None:
    """At the first such write the disk is full for a moment: the driver stops and can resume."""
    assert drive(folder, f"{point}:1:enospc") == PAUSED
    goes_on()


@pytest.mark.parametrize("error", durable.ERRORS)
@pytest.mark.parametrize("point", ["append.torn:9+", "commit.begun:5+"])
def test_the_driver_pauses_while_it_lasts(
    point: str, error: str, drive: Drive, folder: Path, goes_on: Callable[[], None]
) -> None:
    """From some moment on every write fails, those included with which a driver says good-bye."""
    assert drive(folder, f"{point}:{error}") == PAUSED
    assert (folder / FILE).read_bytes().endswith(b"\n")
    goes_on()


@pytest.mark.parametrize("point", CHECKPOINT)
def test_training_goes_on_without_checkpoints(
    point: str, drive: Drive, twin: Twin, holds: Callable[..., None], folder: Path
) -> None:
    """No checkpoint can be stored, but metrics can: the search comes to the same end."""
    assert drive(folder, f"{point}:1+:enospc") == 0
    holds(folder, twin("study"), kills=0)


def test_a_search_killed_without_checkpoints_trains_again(
    drive: Drive, twin: Twin, holds: Callable[..., None], folder: Path
) -> None:
    """What could not be stored is trained again, to the same numbers, and recorded once."""
    assert drive(folder, "checkpoint.torn:1+:enospc") == 0
    whole = (folder / FILE).read_bytes().splitlines(keepends=True)
    cut = next(i for i, line in enumerate(whole) if b'"trial":1' in line and b'"epoch":2' in line)
    (folder / FILE).write_bytes(b"".join(whole[: cut + 1]))
    (folder.parents[1] / "acked").unlink()  # the driver died before all that

    assert drive(folder) == 0
    holds(folder, twin("study"), kills=100)


@pytest.mark.parametrize("size", [2_000, 4_000, 7_000, 10_000])
def test_a_limit_of_the_kernel(
    size: int, drive: Drive, folder: Path, goes_on: Callable[[], None]
) -> None:
    """RLIMIT_FSIZE, as a quota does it: a record that fits in part is taken back."""
    assert drive(folder, limits={"RLIMIT_FSIZE": size}) == PAUSED
    data = (folder / FILE).read_bytes()
    assert len(data) <= size
    assert data.endswith(b"\n") or not data
    goes_on()


@pytest.mark.parametrize("files", range(6, 20, 3))
def test_too_many_open_files(
    files: int, drive: Drive, folder: Path, goes_on: Callable[[], None]
) -> None:
    """RLIMIT_NOFILE: wherever it strikes, the study is whole and goes on."""
    assert drive(folder, limits={"RLIMIT_NOFILE": files}) in (PAUSED, 0)
    goes_on()


def test_a_failed_fsync_ends_the_journal(tmp_path: Path) -> None:
    """After one nothing is acknowledged, also where the next fsync would succeed."""
    book = Journal(tmp_path)
    book.append("note", text="on the disk")
    book.commit()
    book.append("note", text="nowhere")
    durable.arm("commit.begun:1:eio")
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            book.commit()
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            book.append("note", text="after")
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            book.close()
    finally:
        durable.arm(None)

    assert [record["text"] for record in journal.read(tmp_path)] == ["on the disk"]
    Journal(tmp_path).close()  # it let go


def test_a_failed_fsync_in_the_background_is_told(tmp_path: Path) -> None:
    """The thread that syncs meanwhile has no voice of its own: the next commit speaks for it."""
    book = Journal(tmp_path)
    book.append("note", text="nowhere")
    durable.arm("commit.begun:1:enospc")
    try:
        assert not book.commit(now=False)
        with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
            book.commit()
    finally:
        durable.arm(None)

    assert (tmp_path / FILE).read_bytes() == b""


def test_the_old_file_is_intact(tmp_path: Path) -> None:
    """Whatever step of a whole writing fails: the old bytes or the new ones, and no litter."""
    path = tmp_path / "space.yaml"
    for step in durable.WHOLE:
        durable.write_whole(path, b"old")
        durable.arm(f"space.{step}:1:enospc")
        try:
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                durable.write_whole(path, b"new", kind="space")
        finally:
            durable.arm(None)
        late = step in ("renamed", "durable")
        assert path.read_bytes() == (b"new" if late else b"old")
        assert list(tmp_path.iterdir()) == [path]


# ---- real networks ------------------------------------------------------------------------------


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Where a study of digits networks will be."""
    return tmp_path / "case" / "runs" / "digits-victim"


def said(folder: Path) -> str:
    """What its drivers have printed since this was last asked."""
    path = folder.parents[1] / "said"
    text = path.read_text()
    path.unlink()
    assert "Traceback" not in text
    return text


def test_the_command_line_says_paused(drive: Drive, digits: Path) -> None:
    """Exit 75 with the error and the command that goes on; with room again, that command does."""
    assert drive(digits, "append.torn:5+:enospc", kind="run") == PAUSED
    text = said(digits)
    assert f"paused; go on with: eca-search resume {digits}" in text
    assert os.strerror(errno.ENOSPC) in text

    assert drive(digits, "append.begun:1+:enospc", kind="resume") == PAUSED
    assert "paused; go on with: eca-search resume" in said(digits)

    assert drive(digits, kind="resume") == 0
    assert search.load(digits).history.ended == "2 of 2 trials"


@pytest.mark.parametrize("point", ["folder.made", "lease.created", "append.torn"])
def test_no_study_where_none_could_begin(point: str, drive: Drive, digits: Path) -> None:
    """Nothing was acknowledged, so nothing is to resume: exit 3, and `run` may begin it later."""
    assert drive(digits, f"{point}:1:enospc", kind="run") == 3
    assert os.strerror(errno.ENOSPC) in said(digits)
    assert not journal.exists(digits)


@pytest.mark.slow
def test_digits_train_on_without_checkpoints(
    drive: Drive, twin: Twin, holds: Callable[..., None], digits: Path
) -> None:
    """No room for any checkpoint: every trial ends as if there were, with a warning in its log."""
    assert drive(digits, "checkpoint.torn:1+:enospc", kind="digits") == 0
    holds(digits, twin("digits"), kills=0)

    assert list(digits.rglob("*.pt")) == []
    for log in (digits / "logs").iterdir():
        assert log.read_text().count("no checkpoint of epoch") == 2
