"""That what is trained in this process is to leave: its machine is wanted, or is going away.

A signal says so, or whoever watches the node. The training asks after every step, stores what it
has and ends its attempt; within `GRACE` seconds of a signal, or the process ends without it. A
driver on Ray passes it on to its workers.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

GRACE = 25.0
"""Seconds; batch systems and Kubernetes send SIGKILL 30 after SIGTERM unless told otherwise."""

_why = ""
_heeding = False
_listening = False


def given() -> str:
    """Why to leave; empty: stay."""
    return _why


def give(why: str, *, late: Callable[[], None] | None = None) -> bool:
    """Say that it is time to leave; whether there is a training that will at its next step.

    `late` is called in a thread of its own where that has not come within `GRACE` seconds.
    """
    global _why
    _why = _why or why
    if _heeding and late is not None:
        timer = threading.Timer(GRACE, lambda: late() if _heeding else None)
        timer.daemon = True
        timer.start()
    return _heeding


def heeding() -> bool:
    """Whether there is a training, or a search on Ray, that asks."""
    return _heeding


def withdraw() -> None:
    """Nothing was said: the process is wanted again."""
    global _why
    _why = ""


@contextmanager
def heeded() -> Iterator[None]:
    """A block whose training asks `given` after every step, or whose search does, often."""
    global _heeding
    _heeding = True
    try:
        yield
    finally:
        _heeding = False


def listen() -> None:
    """From now on SIGTERM is such a notice in this process; while nothing trains it is as before.

    A process forked from it is ended by SIGTERM as ever.
    """
    global _listening
    if threading.current_thread() is not threading.main_thread():
        return  # which alone hears signals
    before = signal.getsignal(signal.SIGTERM)

    def told(signum: int, frame: FrameType | None) -> None:
        if not give("SIGTERM", late=lambda: os._exit(128 + signum)) and callable(before):
            before(signum, frame)

    signal.signal(signal.SIGTERM, told)
    _listening = True


def _forked() -> None:
    global _heeding
    _heeding = False
    if _listening:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


os.register_at_fork(after_in_child=_forked)
