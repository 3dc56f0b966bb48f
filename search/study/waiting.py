"""What waits for a worker: one seed of a trial after another."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from search.study.history import History, planned, replicate_of
from search.trial import Trial
from spaces import Space

Place = tuple[int, int]
"""A trial's number and a replicate's."""
GROWING = "search.replicates"
"""The key of the space that says how many seeds there are."""


class Waiting(deque[Place]):
    """Places in the order in which they are handed out, what was interrupted first.

    `handed` are those whose workers have yet to begin: on a cluster that takes a while.
    """

    def __init__(self, space: Space, history: History) -> None:
        super().__init__()
        self._space = space
        self._history = history
        self.handed: set[Place] = set()

    def take(self, paid: Callable[[Place], bool]) -> Place | None:
        """The first that is paid for, which waits no longer; None: none is.

        The arms of a comparison go block by block: what is cut short is still complete.
        """
        if self._space.arms is not None:
            ordered = sorted(self, key=lambda place: (place[1], place[0]))
            self.clear()
            self.extend(ordered)
        found = next(filter(paid, self), None)
        if found is not None:
            self.remove(found)
            self.handed.add(found)
        return found

    def of(self, number: int) -> list[Place]:
        """What waits of a trial."""
        return [place for place in self if place[0] == number]

    def add_replicates(self, number: int, first: int = 1) -> None:
        """What a trial whose first replicate has finished still lacks, from the seed `first` on."""
        trial = self._history.trials[number]
        began = trial.replicates[0].outcome if trial.replicates else None
        if began != "finished" or number in self._history.stopping:
            return
        self.extend(
            (number, index)
            for index in range(first, max(self._space.search.replicates, planned(trial)))
            if replicate_of(trial, index) is None
            and (number, index) not in self
            and (number, index) not in self.handed
        )

    def add_more(self) -> None:
        """The seeds that a driver was given beyond those that the study began with.

        Earlier ones that a finished trial lacks were stopped by a person, and stay so.
        """
        grown = any(GROWING in edit for edit in self._history.edits)
        for number in sorted(self._history.trials) if grown else ():
            trial = self._history.trials[number]
            if trial.outcome == "finished":
                self.add_replicates(number, first=self.added(trial).start)

    def added(self, trial: Trial) -> range:
        """The numbers of a trial's seeds beyond those that the study began with."""
        grown = [edit[GROWING][0] for edit in self._history.edits if GROWING in edit]
        now: int = self._space.search.replicates
        return range(grown[0] if grown else now, max(now, planned(trial)))
