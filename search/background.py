"""Work that must not hold up the search: done in a thread, tried again when it fails.

It shares the interpreter with the search, and rests while something is timed in this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LOOK = 0.5
"""Seconds between two looks at work that a measurement waits for."""
IDLE = 0.05
"""A process that computes for a smaller share of the time has nothing but waiting to do."""


class Background:
    """A thread that calls `work(last)` whenever it is woken, and once more with `last` at the end.

    A failure (any Exception) is told to `failed`, and the work is done again after 1, 2, 4 ... 30
    seconds. The thread works at most the given share of the time, so that the caller keeps the
    interpreter for itself the rest of it, and not at all while something is `undisturbed`. Work
    that never returns holds up nobody: the thread is left behind when the process ends.
    """

    def __init__(
        self,
        work: Callable[[bool], None],
        failed: Callable[[Exception], None],
        *,
        share: float = 0.25,
    ) -> None:
        self._work = work
        self._failed = failed
        self._share = share
        self._begun = 0.0
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._done = False
        self._thread = threading.Thread(target=self._run, name="eca-search", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is work; returns at once."""
        self._wake.set()

    def pause(self) -> None:
        """Called by the work between two pieces of it: what is to be timed waits for one alone."""
        before = time.monotonic()
        _INTERPRETER.leave()
        _INTERPRETER.enter()
        self._begun += time.monotonic() - before  # it has rested

    def close(self, timeout: float, failing: float) -> bool:
        """Do the last work, within `timeout` seconds; whether it was done.

        As long as the newest piece of work has failed, it is waited for `failing` seconds alone.
        """
        begun = time.monotonic()
        self._closing.set()
        self._wake.set()
        while self._thread.is_alive():
            if time.monotonic() - begun >= (failing if self._failing else timeout):
                break
            self._thread.join(0.05)
        return self._done

    def _run(self) -> None:
        patience = 1.0
        while True:
            self._wake.wait()
            self._wake.clear()
            last = self._closing.is_set()
            try:
                _INTERPRETER.enter()
                self._begun = time.monotonic()
                try:
                    self._work(last)
                finally:
                    _INTERPRETER.leave()
            except Exception as error:
                self._failing = True
                self._failed(error)
                if last:
                    return
                self._wake.set()
                self._closing.wait(max(patience, self._rest()))
                patience = min(2 * patience, 30.0)
                continue
            self._failing = False
            if last:
                self._done = True
                return
            patience = 1.0
            self._closing.wait(self._rest())

    def _rest(self) -> float:
        return (time.monotonic() - self._begun) * (1 / self._share - 1)


class _Interpreter:
    """This process's one interpreter: shared by pieces of work, or left alone to a measurement.

    A measurement goes first: from the moment that it is asked for no work begins.
    """

    def __init__(self) -> None:
        self._turn = threading.Condition()
        self._working: set[int] = set()
        self._measuring: set[object] = set()

    def enter(self) -> None:
        """Begin a piece of work in this thread, once nothing is measured."""
        with self._turn:
            self._turn.wait_for(lambda: not self._measuring)
            self._working.add(threading.get_ident())

    def leave(self) -> None:
        """End it."""
        with self._turn:
            self._working.discard(threading.get_ident())
            self._turn.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Inside, no work is done."""
        mine = object()  # an alarm may strike anywhere: what is taken back twice is no harm
        try:
            with self._turn:
                self._measuring.add(mine)
                self._settle()
            yield
        finally:
            with self._turn:
                self._measuring.discard(mine)
                self._turn.notify_all()

    def _settle(self) -> None:
        """Wait until the work under way has come to its next pause, or computes no more."""
        while self._working:
            computed = time.process_time()
            if self._turn.wait_for(lambda: not self._working, LOOK):
                return
            if time.process_time() - computed < IDLE * LOOK:
                return  # it waits for a store that is away, which may take minutes


_INTERPRETER = _Interpreter()


@contextmanager
def undisturbed() -> Iterator[None]:
    """Inside, no `Background` of this process works: what is timed here is timed alone.

    Work under way is waited for until its next pause. One that computes nothing, since it waits for
    a store that does not answer, is not: an answer in the middle costs a pass or two.
    """
    with _INTERPRETER.alone():
        yield
