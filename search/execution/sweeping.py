"""Checkpoints that nobody will ask for again are deleted while the search goes on, and at its end.

What is dead is `search.study.garbage`'s to say. It is done by the driver, off its own path: a store
that is away, or hangs, holds up no training, and what is left then is `eca-search gc`'s.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from search import text
from search.background import Background
from search.errors import JournalError
from search.redaction import redacted
from search.study import garbage, lease
from search.study.study import Study

Say = Callable[[str], None]

EVERY = 60.0
"""Seconds between two looks for what is dead while a search runs."""
SHARE = 0.1
"""The most of the driver's time that is spent on it."""
PATIENCE = 60.0
"""Seconds for the last sweep, when the search has ended."""
HURRY = 10.0
"""The same where the store is known to be away."""


class Sweeping:
    """One study's sweeps, in a `with`; none at all where `search.checkpoints.of` is `all`, nor of a
    comparison or a confirmation: their networks were chosen by a person, who may want each.

    Each folder is listed once: what was swept is remembered. A store that is away is said once.
    """

    def __init__(self, study: Study, say: Say) -> None:
        self._study = study
        self._say = say
        self._dead: dict[str, int] = {}
        self._swept: set[str] | None = None
        self._looked = time.monotonic()
        self._left = threading.Event()
        self._told = False
        self._background: Background | None = None

    def __enter__(self) -> Sweeping:
        space = self._study.space
        if space.search.checkpoints.of == "front" and space.arms is None:
            self._background = Background(self._work, self._complain, share=SHARE)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave: nothing more is deleted, but what is being deleted just now."""
        self._left.set()
        if self._background is not None:
            self._background.close(0.0, 0.0)
            self._background = None

    def look(self) -> None:
        """Called by the driver when all that it knows is on the disk: sweep what is dead by that,
        where the last time is long ago.
        """
        now = time.monotonic()
        if self._background is not None and now - self._looked >= EVERY:
            self._looked = now
            self._dead = garbage.dead(self._study, driven=True, over=False)
            self._background.wake()

    def close(self) -> None:
        """Sweep once more, all workers being gone and the study's last word on the disk."""
        if self._background is None:
            return
        self._dead = garbage.dead(self._study, driven=False, over=False)
        done = self._background.close(PATIENCE, min(HURRY, PATIENCE))
        self._background = None
        self._left.set()  # of work that is not done no more is done
        if not done:
            self._complain(TimeoutError(f"no answer within {PATIENCE:g} s"))

    def _work(self, last: bool) -> None:
        if self._left.is_set():
            return
        dead = self._dead
        if self._swept is None:  # what earlier drivers have swept has no folder
            self._swept = dead.keys() - garbage.folders(self._study)
        self._swept &= dead.keys()  # who was taken up again may die again
        for key in dead.keys() - self._swept:
            if self._left.is_set():
                return
            waste = garbage.of(self._study, key, dead[key])
            if self._left.is_set():
                return
            if waste is not None:
                garbage.remove(self._study, waste)
            self._swept.add(key)
            if (background := self._background) is not None:
                background.pause()

    def _complain(self, error: Exception) -> None:
        if self._told:
            return
        self._told = True
        where = redacted(self._study.checkpoints)
        why = text.clean(redacted(str(error)))[:160] or type(error).__name__
        again = text.typed("gc", self._study.folder, None)
        self._say(
            f"warning: {where}: {why}; the search goes on, and `{again}` removes the checkpoints "
            "that it needs no more"
        )


def once(study: Study, say: Say) -> None:
    """Sweep a study that has ended, unless somebody drives it."""
    try:
        with lease.apart(study.folder) as driver:
            if driver is None:
                with Sweeping(study, say) as sweeping:
                    sweeping.close()
    except (OSError, JournalError):
        return  # somebody begins to, or the disk is full: the next one sweeps
