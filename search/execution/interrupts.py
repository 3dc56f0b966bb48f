"""Signals that stop a search: asked once it stops in order, asked twice at once.

The first signal raises in the main thread. The second is answered by a thread of its own, because
the main thread may be stuck in compiled code (Ray's, PyTorch's) where Python hears no signal. Ray
and Tune install handlers when they start; `check`, called from the loop, takes the signals back.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from search.execution import notice

CODES: dict[int, int] = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}
"""Exit codes by signal; SIGUSR1 is what batch systems send before they take the machine away."""

ECHO = 0.5
"""Seconds in which a second signal is taken for the first: `timeout` and Slurm send it twice."""

_DECIDING = {f"search.study.{name}" for name in ("journal", "study", "deciding", "facts", "memory")}
"""Modules that are not interrupted half way: what they write down must also have its effect."""

_WAITING = {("search.study.lease", "_locked"), ("search.study.lease", "_outwait")}
"""Functions below them that only wait, until another driver is known to be dead."""


class Interrupts:
    """Inside `with`, the first signal raises `KeyboardInterrupt` in the main thread.

    The exception is `KeyboardInterrupt` for every signal, because Ray's compiled parts let no other
    one pass. `signum` says which it was. A process forked inside has its usual signals.

    What batch systems send while a training runs in this process lets that store its state first:
    the exception comes when it has, and after `notice.GRACE` seconds it is as a second signal.
    """

    _entered: Interrupts | None = None

    def __init__(self) -> None:
        self.signum: int | None = None
        self._due = False
        self._before: dict[int, Any] = {}
        self._wakeup = -1
        self._told = -1

    @property
    def code(self) -> int:
        """The exit code that says which signal came."""
        return CODES[self.signum or signal.SIGINT]

    def __enter__(self) -> Interrupts:
        notice.withdraw()
        heard, self._told = os.pipe()
        os.set_blocking(self._told, False)
        self._before = {signum: signal.getsignal(signum) for signum in CODES}
        self._wakeup = signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        threading.Thread(target=_second, args=(heard,), daemon=True).start()
        Interrupts._entered = self
        self._arm()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._disarm()

    def check(self) -> None:
        """Stop here if a signal came while a decision was being written down.

        Where a training is about to store its state first, that is waited for.
        Elsewhere than in the main thread, which alone hears signals, there is nothing to do.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._arm()
        if self._due and not notice.heeding():
            self._due = False
            raise KeyboardInterrupt

    def _arm(self) -> None:
        signal.set_wakeup_fd(self._told, warn_on_full_buffer=False)
        for signum in CODES:
            if signal.getsignal(signum) != self._catch:
                signal.signal(signum, self._catch)

    def _disarm(self) -> None:
        Interrupts._entered = None
        signal.set_wakeup_fd(self._wakeup)
        for signum, before in self._before.items():
            signal.signal(signum, before)
        os.close(self._told)

    def _catch(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is None:
            self.signum, self._due = signum, _deciding(frame)
            if signum != signal.SIGINT:  # a person waits for nothing
                why, late = signal.Signals(signum).name, lambda: os.kill(os.getpid(), signum)
                self._due = notice.give(why, late=late) or self._due
            if not self._due:
                raise KeyboardInterrupt


def _second(heard: int) -> None:
    """Read signals as they come, one byte each, until the other end is closed."""
    first: float | None = None
    while byte := os.read(heard, 1):
        now = time.monotonic()
        if byte[0] not in CODES:
            continue
        if first is None:
            first = now
            _say(b"stopping in order; once more stops at once\n")
        elif now - first > ECHO:
            os._exit(CODES[byte[0]])
    os.close(heard)


def _say(line: bytes) -> None:
    """To stderr past Python's own buffers, which the main thread may be in the middle of."""
    try:
        os.write(2, line)
    except OSError:
        pass  # nobody reads it


def _deciding(frame: FrameType | None) -> bool:
    while frame is not None:
        module = frame.f_globals.get("__name__")
        if (module, frame.f_code.co_name) in _WAITING:
            return False
        if module in _DECIDING:
            return True
        frame = frame.f_back
    return False


def _hold() -> None:
    """No signal between a fork and the moment its child is its own: the parent would hear it."""
    if Interrupts._entered is not None:
        signal.pthread_sigmask(signal.SIG_BLOCK, CODES)


def _release() -> None:
    if Interrupts._entered is not None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)


def _forked() -> None:
    """A child, such as a data loader's process, is ended by its parent's SIGTERM as ever."""
    if Interrupts._entered is not None:
        Interrupts._entered._disarm()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CODES)


os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=_forked)
