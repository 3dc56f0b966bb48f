"""A journal that was damaged is cut at its torn end or refused by name: never started over."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

import search
from search.cli import main
from search.study import journal
from search.study.journal import FILE, Journal, JournalError

COMMANDS = ("run", "run --resume", "resume", "resume --trials 9", "status", "sync")
DRIVING = ("run --resume", "resume")


class Said(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str


Eca = Callable[[str, Path], Said]


@pytest.fixture
def eca(capfd: pytest.CaptureFixture[str], victim: ModuleType) -> Eca:
    """Run one of `COMMANDS` here, on the study in a folder."""

    def call(command: str, folder: Path) -> Said:
        first, *options = command.split()
        space = folder.parents[1] / "victim.yaml"
        space.write_text(victim.SPACE)
        what = [str(space), "--out", str(folder.parent)] if first == "run" else [str(folder)]
        executor = ["--executor", "inprocess"] if first in ("run", "resume") else []
        code = main([first, *what, *options, *executor])
        return Said(code, *capfd.readouterr())

    return call


@pytest.fixture(scope="module")
def studied(drive: Callable[..., int], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a study killed midway, with space.yaml and checkpoints."""
    folder = tmp_path_factory.mktemp("studied") / "case" / "runs" / "victim"
    assert drive(folder, "append.written:16:kill") == -9
    return folder


@pytest.fixture
def study(studied: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(studied, tmp_path / "runs" / "victim"))


def everything(folder: Path) -> dict[str, str]:
    """Every file below the folder's parent, by content; of the lease and lock only the names."""
    return {
        str(path.relative_to(folder.parent)): ""
        if path.name.startswith(".driver")
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.parent.rglob("*")
        if path.is_file()
    }


def lines(folder: Path) -> list[bytes]:
    return (folder / FILE).read_bytes().splitlines(keepends=True)


def put(folder: Path, *parts: bytes) -> None:
    (folder / FILE).write_bytes(b"".join(parts))


def flipped(line: bytes, place: int, bit: int) -> bytes:
    return line[:place] + bytes([line[place] ^ 1 << bit]) + line[place + 1 :]


def digit(line: bytes) -> bytes:
    """One digit of a metric is another."""
    place = line.index(b'"val_accuracy":') + len(b'"val_accuracy":0.0')
    return line[:place] + (b"1" if line[place : place + 1] != b"1" else b"2") + line[place + 1 :]


def epoch(folder: Path) -> int:
    """The place of a line that holds an epoch."""
    return next(i for i, line in enumerate(lines(folder)) if b'"kind":"epoch"' in line)


def damaged_digit(folder: Path) -> int:
    whole, place = lines(folder), epoch(folder)
    put(folder, *whole[:place], digit(whole[place]), *whole[place + 1 :])
    return place + 1


def damaged_middle(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole[:5], b"\0" * len(whole[5]), *whole[6:])
    return 6


def damaged_first(folder: Path) -> int:
    whole = lines(folder)
    put(folder, flipped(whole[0], 100, 3), *whole[1:])
    return 1


def missing(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole[:4], *whole[5:])
    return 5


def repeated(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole, whole[-1])
    return len(whole) + 1


def swapped(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole[:6], whole[7], whole[6], *whole[8:])
    return 7


def last_newline(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole[:-1], whole[-1][:-1] + b"\x0b")
    return len(whole)


def other_text(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole, b"2026-11-22 10:00:00 WARNING not a record\n")
    return len(whole) + 1


def binary(folder: Path) -> int:
    whole = lines(folder)
    put(folder, *whole[:3], b"\x89PNG\r\n\x1a\n\xff\xfe\n", *whole[3:])
    return 4


DAMAGE = (
    damaged_digit,
    damaged_middle,
    damaged_first,
    missing,
    repeated,
    swapped,
    last_newline,
    other_text,
    binary,
)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: damage.__name__)
def test_damage_is_named_and_nothing_changes(
    damage: Callable[[Path], int], command: str, study: Path, eca: Eca
) -> None:
    """Every command ends with exit 2 and the record's line; not a byte of the study is another."""
    line = damage(study)
    before = everything(study)
    said = eca(command, study)

    assert said.code == 2
    assert f"{study / FILE}:{line}: this record is damaged" in said.err
    assert "nothing was changed" in said.err
    assert len(said.err.splitlines()) <= 6
    assert "Traceback" not in said.err
    assert everything(study) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("left", [0, 40], ids=["empty", "half a record"])
def test_a_journal_that_lost_everything_is_refused(
    left: int, command: str, study: Path, eca: Eca
) -> None:
    """A study that is seen to have been here is not begun anew over an emptied journal."""
    put(study, lines(study)[0][:left])
    before = everything(study)
    said = eca(command, study)

    assert said.code == 2
    assert f"{study / FILE}" in said.err
    assert "holds no record" in said.err
    assert everything(study) == before


@pytest.mark.parametrize("text", [b"", b'{"seq":0,"time":1.0'], ids=["empty", "half a record"])
def test_a_study_that_never_began_begins(
    text: bytes, tmp_path: Path, drive: Callable[..., int]
) -> None:
    """A driver killed before its first record was whole has acknowledged nothing."""
    folder = tmp_path / "case" / "runs" / "victim"
    folder.mkdir(parents=True)
    put(folder, text)

    assert not journal.exists(folder)
    assert drive(folder) == 0


@pytest.mark.parametrize("command", ["run", "status"])
def test_a_torn_end_is_read_over(command: str, study: Path, eca: Eca) -> None:
    """Who only reads sees the records before it, and leaves the file alone."""
    whole = lines(study)
    put(study, *whole[:-1], whole[-1][: len(whole[-1]) // 2])
    before = everything(study)
    said = eca(command, study)

    assert said.code == (2 if command == "run" else 0)
    assert ("eca-search resume" in said.err) == (command == "run")
    assert "damaged" not in said.err
    assert everything(study) == before


def test_cut_at_every_byte_of_the_last_record(study: Path) -> None:
    """The records before it are read, and a driver goes on behind them with a warning."""
    whole = lines(study)
    for cut in range(1, len(whole[-1])):
        put(study, *whole[:-1], whole[-1][:cut])
        assert len(journal.read(study)) == len(whole) - 1
        if cut % 16 != 1:  # opening costs four fsyncs
            continue
        with pytest.warns(UserWarning, match="dropped a torn last record"):
            book = Journal(study)
        book.append("note", text="after")
        book.close()
        assert lines(study)[:-1] == whole[:-1]
        assert journal.read(study)[-1]["text"] == "after"


def test_every_flipped_bit_is_noticed(study: Path) -> None:
    """Any bit of a short journal: all of it is refused, and nothing before it is believed less."""
    folder = study.parent / "short"
    book = Journal(folder)
    book.append("note", text="one")
    book.append("note", text="two")
    book.close()
    whole = (folder / FILE).read_bytes()
    for place in range(len(whole)):
        for bit in range(8):
            (folder / FILE).write_bytes(flipped(whole, place, bit))
            with pytest.raises(JournalError, match=rf"{FILE}:\d: this record is damaged"):
                journal.read(folder)


def test_every_digit_of_a_real_journal_counts(study: Path) -> None:
    """No digit of any record can become another unseen."""
    whole = (study / FILE).read_bytes()
    for place in [place for place, byte in enumerate(whole) if chr(byte).isdigit()][::7]:
        other = b"1" if whole[place : place + 1] != b"1" else b"2"
        put(study, whole[:place], other, whole[place + 1 :])
        with pytest.raises(JournalError, match="this record is damaged"):
            journal.read(study)


def test_a_later_tail_is_an_earlier_study(study: Path, drive: Callable[..., int]) -> None:
    """Cut between two records it is whole: what is gone is decided again, from the checkpoints."""
    whole = lines(study)
    put(study, *whole[:-6])

    assert len(search.load(study).trials) > 0
    assert drive(study) == 0
    assert search.load(study).history.ended == "4 of 4 trials"


def test_a_damaged_lease_is_no_obstacle(study: Path, drive: Callable[..., int]) -> None:
    """The lease of a dead driver says who it was and no more: half of it is enough."""
    for path in study.glob(".driver.0*"):
        path.write_bytes(b'{"pid": 1')
        os.utime(path, (0, 0))

    assert drive(study) == 0


def a_pipe(path: Path) -> None:
    os.mkfifo(path)


def a_link(path: Path) -> None:
    path.symlink_to(path.parents[1] / "elsewhere")


def a_link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parents[1] / "nowhere")


@pytest.mark.parametrize("make", [Path.mkdir, a_pipe, a_link, a_link_to_nowhere])
@pytest.mark.parametrize("command", COMMANDS)
def test_what_is_no_plain_file_is_no_journal(
    make: Callable[[Path], None], command: str, study: Path, eca: Eca
) -> None:
    """A pipe would be waited for without end; two folders with one journal have two drivers."""
    path = study / FILE
    path.rename(study.parent / "elsewhere")
    make(path)
    before = everything(study)
    said = eca(command, study)
    assert said.code == 2
    assert "this is no plain file" in said.err
    assert len(said.err.splitlines()) <= 6
    assert everything(study) == before
    with pytest.raises(JournalError, match="no plain file"):
        Journal(study)


def a_later_format(folder: Path) -> None:
    first, *others = lines(folder)
    put(folder, journal.encode({**journal.decode(first.strip()), "version": 2}), *others)


def an_unknown_kind(folder: Path) -> None:
    whole = lines(folder)
    last = journal.decode(whole[-1].strip())
    later = {"seq": last["seq"] + 1, "time": last["time"], "fence": last["fence"], "kind": "moved"}
    put(folder, *whole, journal.encode(later))


@pytest.mark.parametrize("make", [a_later_format, an_unknown_kind])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_later_release_s_journal_is_refused(
    make: Callable[[Path], None], command: str, study: Path, eca: Eca
) -> None:
    """What is not understood is never read over: nothing is shown, driven or written."""
    make(study)
    before = everything(study)
    said = eca(command, study)
    assert (said.code, said.out) == (2, "")
    assert "release" in said.err
    assert len(said.err.splitlines()) <= 6
    assert everything(study) == before
