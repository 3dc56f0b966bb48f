"""Work that must not hold up the search: done in a thread, tried again when it fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Background:
    """A thread that calls `work(last)` whenever it is woken, and once more with `last` at the end.

    A failure (any Exception) is told to `failed`, and the work is done again after 1, 2, 4 ... 30
    seconds. The thread works at most the given share of the time, so that the caller keeps the
    interpreter for itself the rest of it. Work that never returns holds up nobody: the thread is
    left behind when the process ends.
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
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._done = False
        self._thread = threading.Thread(target=self._run, name="eca-search", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There is work; returns at once."""
        self._wake.set()

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
            last, begun = self._closing.is_set(), time.monotonic()
            try:
                self._work(last)
            except Exception as error:
                self._failing = True
                self._failed(error)
                if last:
                    return
                self._wake.set()
                self._closing.wait(max(patience, self._rest(begun)))
                patience = min(2 * patience, 30.0)
                continue
            self._failing = False
            if last:
                self._done = True
                return
            patience = 1.0
            self._closing.wait(self._rest(begun))

    def _rest(self, begun: float) -> float:
        return (time.monotonic() - begun) * (1 / self._share - 1)
