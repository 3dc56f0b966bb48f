"""The append-only file: what is acknowledged survives, what is damaged is named."""

from __future__ import annotations

import json
import os
import resource
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.study import journal
from search.study.drivers import driver
from search.study.journal import FILE, Journal, JournalError, decode, encode, read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study folder whose journal holds four records."""
    with_records = tmp_path / "study"
    book = Journal(with_records)
    for number in range(4):
        book.append("note", text=f"number {number}", value=number / 8)
    book.close()
    return with_records


def texts(folder: Path) -> list[str]:
    return [record["text"] for record in read(folder)]


def test_records_come_back_in_order(folder: Path) -> None:
    """What was appended is read back, numbered from 0, and appending goes on from there."""
    book = Journal(folder)
    book.append("note", text="number 4", value=0)
    book.close()

    assert texts(folder) == [f"number {number}" for number in range(5)]
    assert [record["seq"] for record in read(folder)] == list(range(5))


def test_a_torn_tail_is_dropped_wherever_it_was_cut(folder: Path) -> None:
    """Cut at every byte of the last record: the ones before it survive, a warning says so."""
    whole = (folder / FILE).read_bytes()
    start = whole.rindex(b"\n", 0, -1) + 1
    for cut in range(start, len(whole)):
        (folder / FILE).write_bytes(whole[:cut])
        assert texts(folder) == ["number 0", "number 1", "number 2"]
    with pytest.warns(UserWarning, match="torn last record"):
        book = Journal(folder)
    book.append("note", text="after", value=0)
    book.close()

    assert texts(folder) == ["number 0", "number 1", "number 2", "after"]


def test_every_flipped_bit_is_noticed(folder: Path) -> None:
    """No byte of a whole record can change unseen: the record is named, the file left alone."""
    whole = (folder / FILE).read_bytes()
    end = whole.index(b"\n")
    for place in range(end):
        changed = bytearray(whole)
        changed[place] ^= 1
        (folder / FILE).write_bytes(changed)
        with pytest.raises(JournalError, match=rf"{FILE}:\d+: this record is damaged"):
            read(folder)


def test_a_missing_record_is_noticed(folder: Path) -> None:
    """Taking a whole line out of the middle breaks the numbering."""
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    (folder / FILE).write_bytes(b"".join(lines[:1] + lines[2:]))

    with pytest.raises(JournalError, match="its number is 2, not 1"):
        read(folder)


def test_a_repeated_record_is_noticed(folder: Path) -> None:
    """A line written twice is refused as well."""
    lines = (folder / FILE).read_bytes().splitlines(keepends=True)
    (folder / FILE).write_bytes(b"".join([*lines, lines[-1]]))

    with pytest.raises(JournalError, match="its number is 3, not 4"):
        read(folder)


def test_one_driver_at_a_time(folder: Path) -> None:
    """A second process is refused and told who has the study; the lock ends with its holder."""
    book = Journal(folder)
    ask = (
        "from pathlib import Path; from search.study.journal import Journal, JournalError\n"
        f"try: Journal(Path({str(folder)!r}))\n"
        "except JournalError as error: print(error)"
    )
    refused = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    assert f"pid {os.getpid()} on {socket.gethostname()} (this machine)" in refused.stdout
    assert driver(folder) is not None
    book.close()

    assert driver(folder) is None
    assert subprocess.run([sys.executable, "-c", ask], capture_output=True).stdout == b""


def test_a_full_disk_leaves_the_file_as_it_was(folder: Path) -> None:
    """A record that does not fit is not there at all, and the next one that fits is."""
    before = (folder / FILE).read_bytes()
    ask = (
        "import resource, signal; from pathlib import Path\n"
        "from search.study.journal import Journal\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"book = Journal(Path({str(folder)!r}))\n"
        f"most = ({len(before) + 200}, {resource.RLIM_INFINITY})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, most)\n"
        "try: book.append('note', text='x' * 1000)\n"
        "except OSError as error: print(type(error).__name__)\n"
        "book.append('note', text='y'); book.close()"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "OSError"
    assert texts(folder)[-1] == "y"
    assert (folder / FILE).read_bytes().startswith(before)


def test_no_study_is_said_and_nothing_made(tmp_path: Path) -> None:
    """Reading a folder without a journal names it and creates nothing."""
    with pytest.raises(JournalError, match="no study here"):
        read(tmp_path / "nothing")

    assert not (tmp_path / "nothing").exists()
    assert not journal.exists(tmp_path)


def test_values_json_has_no_word_for_are_refused(folder: Path) -> None:
    """NaN and infinity would be read back by nobody else: they never enter."""
    book = Journal(folder)
    with pytest.raises(ValueError, match="not JSON compliant"):
        book.append("note", text="bad", value=float("nan"))
    book.append("note", text="good", value=1.0)
    book.close()

    assert texts(folder)[-1] == "good"


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.one_of(st.text(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    )
)
def test_any_record_survives_the_trip(record: dict) -> None:
    """Whatever JSON can say comes back equal, newlines and odd letters in it included."""
    line = encode(record)

    assert line.count(b"\n") == 1
    assert decode(line[:-1]) == json.loads(json.dumps(record))
