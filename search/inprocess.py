"""The search in this process, one attempt after another: for tests, debugging and notebooks.

The same study, the same worker code, no Ray. A trial that hangs is interrupted by an alarm, which
reaches Python code and sleeping calls but not a loop in C; a trial that ends the process ends the
search (the journal is whole, `resume` goes on).
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from search.study import Study
from search.trial import Assignment, Ending
from search.worker import Workplace, attempt, here


class _Alarm(BaseException):
    """Thrown into a trial that is over its time; no `except Exception` of a trial's swallows it."""


def drive(
    study: Study, workplace: Workplace, *, watch: Callable[[Study], None] = lambda study: None
) -> None:
    """Run the study's attempts here until it is done; `watch` is called after every commit."""
    while (assignment := study.next()) is not None:
        study.start(assignment, here())
        study.commit()
        watch(study)
        ending = _run(study, assignment, workplace, watch)
        study.end(assignment.trial, assignment.replicate, ending)
        study.commit()
        watch(study)


def _run(
    study: Study,
    assignment: Assignment,
    workplace: Workplace,
    watch: Callable[[Study], None],
) -> Ending:
    limits = study.space.search.timeouts
    try:
        with _alarm(limits.trial, limits.no_progress) as progress:
            for message in attempt(assignment, workplace):
                if isinstance(message, Ending):
                    return message
                progress()
                ending = study.report(assignment.trial, assignment.replicate, message)
                study.commit(now=False)
                watch(study)
                if ending is not None:
                    return ending
    except _Alarm as over:
        return Ending("timeout", str(over))
    return Ending("bad_report", "the attempt ended without a word")


@contextmanager
def _alarm(trial: float | None, no_progress: float | None) -> Iterator[Callable[[], None]]:
    """Throw `_Alarm` when either time (seconds) is over; the yielded call winds it up again."""
    limits = [limit for limit in (trial, no_progress) if limit is not None]
    if not limits or threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return
    end = None if trial is None else time.monotonic() + trial

    def left() -> tuple[float, str]:
        total = None if end is None else max(end - time.monotonic(), 1e-3)
        if total is not None and (no_progress is None or total <= no_progress):
            return total, f"over {trial:g} s in all"
        assert no_progress is not None
        return no_progress, f"no epoch for {no_progress:g} s"

    def ring(signum: int, frame: FrameType | None) -> None:
        raise _Alarm(why[0])

    why = [""]

    def wind() -> None:
        seconds, why[0] = left()
        signal.setitimer(signal.ITIMER_REAL, seconds)

    before = signal.signal(signal.SIGALRM, ring)
    try:
        wind()
        yield wind
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
