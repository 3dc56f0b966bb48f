"""The search in this process, one attempt after another: for tests, debugging and notebooks.

The same study, the same worker code, no Ray. A trial that hangs is interrupted by an alarm, which
reaches Python code and sleeping calls but not a loop in C, nor a process that is stopped: Ray's
workers are killed from outside, which nobody can do here. One stopped by hand ends at its next
epoch. A trial that ends the process ends the search (the journal is whole, `resume` goes on).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

from search.execution import notice, worker
from search.execution.worker import Workplace
from search.study.study import Study
from search.trial import Assignment, Ending
from spaces.settings import Timeouts

AGAIN = 1.0
"""Seconds after which the alarm rings again in a trial that has swallowed it."""

Watch = Callable[[Study], None]
Attempt = Callable[[Assignment, Workplace], Iterator[dict[str, Any] | Ending]]


def drive(
    study: Study,
    workplace: Workplace,
    *,
    watch: Watch = lambda study: None,
    attempt: Attempt = worker.attempt,
) -> None:
    """Run the study's attempts here until it is done; `watch` is called after every commit."""
    while (assignment := study.next()) is not None:
        study.start(assignment, worker.here())
        study.commit()
        watch(study)
        ending = _carry(study, assignment, attempt(assignment, workplace), watch)
        study.end(assignment.trial, assignment.replicate, ending)
        study.commit()
        watch(study)


def _carry(
    study: Study,
    assignment: Assignment,
    messages: Iterator[dict[str, Any] | Ending],
    watch: Watch,
) -> Ending:
    """Report every message of an attempt, until its ending or ours."""
    alarm = _Alarm(study.space.search.timeouts)
    while True:
        try:
            with alarm:  # it may ring in the trial's own code, never where the journal is written
                message = next(messages, None)
        except _Late as late:
            return Ending("timeout", str(late))
        if message is None:
            return Ending("bad_report", "the attempt ended without a word")
        if isinstance(message, Ending):
            if message.outcome == "preempted" and notice.given():
                raise KeyboardInterrupt  # it was this process that is to leave: the driver ends
            return message
        ending = study.report(assignment.trial, assignment.replicate, message)
        if study.commit(now=False):
            watch(study)
        if ending is not None:
            return ending


class _Late(BaseException):
    """Thrown into a trial that is over its time; no `except Exception` of a trial's swallows it."""


class _Alarm:
    """Inside `with`, throws `_Late` when a time (seconds) is over; in the main thread alone.

    A bare `except` or a `__del__` may swallow it, so it rings until the block is left.
    """

    def __init__(self, limits: Timeouts) -> None:
        self._limits = limits
        self._until = None if limits.trial is None else time.monotonic() + limits.trial
        asked = limits.trial is not None or limits.no_progress is not None
        self._armed = asked and threading.current_thread() is threading.main_thread()
        self._why = ""

    def __enter__(self) -> None:
        if not self._armed:
            return
        left: list[tuple[float, str]] = []
        if self._until is not None:
            total = max(self._until - time.monotonic(), 1e-3)
            left.append((total, f"over {self._limits.trial:g} s in all"))
        if self._limits.no_progress is not None:
            quiet = self._limits.no_progress
            left.append((quiet, f"no epoch for {quiet:g} s"))
        seconds, self._why = min(left)
        self._before = signal.signal(signal.SIGALRM, self._ring)
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._armed:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, self._before)

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code not in _OWN:  # thrown there it would leave the timer on
            raise _Late(self._why)


_OWN = (_Alarm.__enter__.__code__, _Alarm.__exit__.__code__)
