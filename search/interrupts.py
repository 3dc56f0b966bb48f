"""Signals that stop a search: asked once it stops in order, asked twice at once.

Ray and Tune install handlers of their own when they start; `check`, called from the loop, takes the
signals back.
"""

from __future__ import annotations

import os
import signal
import time
from types import FrameType, TracebackType
from typing import Any

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}
"""Exit codes by signal; SIGUSR1 is what batch systems send before they take the machine away."""

ECHO = 0.5
"""Seconds in which a second signal is taken for the first: `timeout` and Slurm send it twice."""

_DECIDING = {"search.journal", "search.study"}
"""Modules that are not interrupted half way: what they write down must also have its effect."""


class Interrupts:
    """Inside `with`, the first signal raises `KeyboardInterrupt` in the main thread.

    The exception is `KeyboardInterrupt` for every signal, because Ray's compiled parts let no other
    one pass. `signum` says which it was.
    """

    def __init__(self) -> None:
        self.signum: int | None = None
        self._since = 0.0
        self._due = False
        self._before: dict[int, Any] = {}

    @property
    def code(self) -> int:
        """The exit code that says which signal came."""
        return CODES[signal.Signals(self.signum or signal.SIGINT)]

    def __enter__(self) -> Interrupts:
        self._before = {signum: signal.getsignal(signum) for signum in CODES}
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for signum, before in self._before.items():
            signal.signal(signum, before)

    def check(self) -> None:
        """Stop here if a signal came while a decision was being written down."""
        self._arm()
        if self._due:
            self._due = False
            raise KeyboardInterrupt

    def _arm(self) -> None:
        for signum in CODES:
            if signal.getsignal(signum) != self._catch:
                signal.signal(signum, self._catch)

    def _catch(self, signum: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signum is not None:
            if now - self._since > ECHO:
                os._exit(CODES[signal.Signals(signum)])
            return
        self.signum, self._since = signum, now
        _say(b"stopping in order; the same again stops at once\n")
        self._due = _deciding(frame)
        if not self._due:
            raise KeyboardInterrupt


def _say(line: bytes) -> None:
    """To stderr past Python's own buffers, which a signal may have come in the middle of."""
    try:
        os.write(2, line)
    except OSError:
        pass  # nobody reads it


def _deciding(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_globals.get("__name__") in _DECIDING:
            return True
        frame = frame.f_back
    return False
