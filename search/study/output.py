"""What an attempt prints goes to its log, as it comes: a worker that is killed leaves it whole.

A log keeps its first lines and its last: what is over `LIMIT` is cut from its middle. It is there
for people, so a disk that is full costs the log and never the trial.
"""

from __future__ import annotations

import ctypes
import io
import os
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, cast

from search.redaction import redaction
from search.study import logs
from search.trial import Assignment

if TYPE_CHECKING:
    from typing_extensions import Buffer

LIMIT = 256 * 1024
"""Bytes of a log."""
HEAD = 64 * 1024
"""Bytes of its beginning that are kept when it grows over `LIMIT`; twice as many of its end."""
LINE = 8 * 1024
"""Bytes of a line that is waited for."""
LOOK = 0.5
"""Seconds between two looks at the size of a log that C code may be writing to."""


class Output:
    """An attempt's log, open to be written; without one, all that is written is dropped.

    There is none where `path` is None or cannot be opened: what is printed then stays as it was.

    With `alone` the process is the attempt's, and all it prints goes to the log and nowhere else,
    that of C code too (file descriptors 1 and 2). Otherwise the log gets a copy of what Python
    prints, warnings among it: a person may be watching, or sit at a `breakpoint()`.
    """

    def __init__(self, path: Path | None, *, alone: bool = False) -> None:
        self._alone = alone
        self._redact = redaction()
        self._cut, self._gap, self._held = 0, b"", b""
        self._trimming = threading.Lock()
        self._over = threading.Event()
        self._file = self._place = -1
        if path is not None:
            with suppress(OSError):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
                self._place = os.open(path, flags, 0o600)  # appending ones write nowhere else
                self._file = os.open(path, flags | os.O_APPEND)
        self._text = io.TextIOWrapper(
            _Bytes(self), encoding="utf-8", errors="backslashreplace", write_through=True
        )
        if alone and self._file >= 0:
            threading.Thread(target=self._guard, name="log", daemon=True).start()

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def write(self, text: str) -> None:
        """Add a line, or several."""
        self._text.write(text if text.endswith("\n") else f"{text}\n")

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Inside, everything that is printed goes to the log."""
        if self._file < 0:
            yield
            return
        with ExitStack() as stack:
            if self._alone:
                with suppress(OSError):  # no descriptor left: what Python prints is kept
                    stack.enter_context(_descriptors(self._file))
            stack.enter_context(redirect_stdout(self._beside(sys.stdout)))
            stack.enter_context(redirect_stderr(self._beside(sys.stderr)))
            yield

    def close(self) -> None:
        """No more is written; what was is within the limit."""
        if self._file >= 0:
            self._put(self._held)
            self._over.set()
            self.trim()
            with self._trimming:
                os.close(self._file)
                self._file = -1
        if self._place >= 0:
            os.close(self._place)
            self._place = -1

    def put(self, data: bytes) -> None:
        """Write bytes, without the secrets in them, by lines; a full disk takes none.

        `print` writes a line in pieces, and `password:` is not known by either half: an unfinished
        line waits for its end, unless it is longer than `LINE`.
        """
        whole = self._held + data
        end = max(whole.rfind(b"\n"), whole.rfind(b"\r")) + 1
        if len(whole) - end > LINE:
            end = len(whole)
        self._held = whole[end:]
        self._put(whole[:end])

    def _put(self, data: bytes) -> None:
        if self._file < 0 or not data:
            return
        if len(data) > LIMIT:
            data = data[:HEAD] + _gap(len(data) - 3 * HEAD) + data[-2 * HEAD :]
        text = data.decode(errors="surrogateescape")
        left = memoryview(self._redact(text).encode(errors="surrogateescape"))
        with suppress(OSError):
            while left:
                left = left[os.write(self._file, left) :]
            self.trim()

    def trim(self) -> None:
        """Cut a log that is over the limit down to its head and its tail, in its place.

        Whatever the moment a process is killed at, head and tail are in the file. What somebody
        else writes in that moment may be lost.
        """
        # a forked child may find the lock held by a thread that it has not
        if not self._trimming.acquire(blocking=False):
            return
        try:
            size = os.fstat(self._file).st_size if self._file >= 0 else 0
            if size <= LIMIT:
                return
            head = os.pread(self._file, HEAD, 0)
            head = head[: head.rfind(b"\n") + 1] or head
            tail = os.pread(self._file, 2 * HEAD, size - 2 * HEAD)
            self._cut += size - len(head) - len(tail) - len(self._gap)
            self._gap = _gap(self._cut)
            middle = self._gap + tail
            os.pwrite(self._place, middle, len(head))
            os.ftruncate(self._place, len(head) + len(middle))
        except OSError:
            pass  # it is trimmed at the next write
        finally:
            self._trimming.release()

    def fileno(self) -> int:
        """The log's descriptor; raises OSError where there is none."""
        if self._file < 0:
            raise OSError("no log is open")
        return self._file

    def _beside(self, stream: TextIO | None) -> TextIO:
        if self._alone or stream is None:
            return self._text
        return cast("TextIO", _Both(stream, self._text))

    def _guard(self) -> None:
        while not self._over.wait(LOOK):
            self.trim()


class _Both:
    """A stream whose text goes to the log too."""

    def __init__(self, stream: TextIO, log: TextIO) -> None:
        self._stream = stream
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text)
        return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Bytes(io.BufferedIOBase):
    """The log as a binary stream that holds nothing back."""

    name = "log"

    def __init__(self, log: Output) -> None:
        self._log = log

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._log.fileno()

    def write(self, data: Buffer) -> int:
        taken = bytes(data)
        self._log.put(taken)
        return len(taken)


@contextmanager
def opened(
    folder: str, checkpoints: str, assignment: Assignment, worker: str, *, alone: bool
) -> Iterator[Output]:
    """The log of an attempt, with a first line that says whose it is.

    In `folder`; on a node that does not see the study's own, beside the checkpoints when the
    attempt ends, if those go to a URI. Without `folder` nothing is kept.
    """
    who = (assignment.trial, assignment.replicate, assignment.attempt)
    with ExitStack() as stack:
        path = Path(folder, logs.name(*who)) if folder else None
        if path is not None and "://" in checkpoints and not path.parent.parent.is_dir():
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="eca-search-log-"))
            path = Path(scratch, path.name)
            uri = logs.beside(checkpoints, assignment.key, *who)
            stack.callback(_upload, path, uri)  # once the log is closed
        log = stack.enter_context(Output(path, alone=alone))
        now = datetime.now().astimezone().isoformat(timespec="seconds")
        log.write("trial {}, replicate {}, attempt {}".format(*who) + f", on {worker}, {now}")
        with warnings.catch_warnings():
            pass  # Python forgets which it has shown: this log is to have its own
        yield log


def _upload(path: Path, uri: str) -> None:
    import fsspec

    with suppress(Exception):  # every file system has errors of its own; none is the trial's
        system, file = fsspec.core.url_to_fs(uri)
        system.makedirs(file.rpartition("/")[0], exist_ok=True)
        system.pipe_file(file, path.read_bytes())


@contextmanager
def _descriptors(file: int) -> Iterator[None]:
    """Inside, descriptors 1 and 2 are the log; what C code holds back is flushed at both ends."""
    with ExitStack() as stack:
        before = []
        for descriptor in (1, 2):
            before.append(os.dup(descriptor))
            stack.callback(os.close, before[-1])
        _flush()
        os.dup2(file, 1)
        os.dup2(file, 2)
        try:
            yield
        finally:
            _flush()
            os.dup2(before[0], 1)
            os.dup2(before[1], 2)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).fflush(None)


def _gap(count: int) -> bytes:
    return f"\n[... {count:,} bytes left out ...]\n".encode()
