"""A study and its place in an MLflow store: brought level at once, or followed while it is driven.

The journal is the truth, and MLflow is made equal to it (`search.tracking.in_mlflow` does the
writing). The driver alone writes, off its own path: a store that is away, or hangs, holds up no
training.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from search import text
from search.background import Background
from search.errors import JournalError
from search.front import pareto
from search.tracking import away
from search.tracking.away import TrackingError
from search.tracking.in_mlflow import PARENT, Store, pages
from search.tracking.projection import Snapshot, sha, study_run, trial_run
from search.tracking.view import Layout

if TYPE_CHECKING:
    from search.study.study import Study
    from search.trial import Trial

Say = Callable[[str], None]

REFRESH = 30.0
"""Seconds between two writings of the study's own run while it is driven."""
SHARE = 0.1
"""The most of the driver's time that is spent on MLflow while it drives."""
PATIENCE = 60.0
"""Seconds to bring MLflow level when a search has ended."""
HURRY = 10.0
"""The same when it was stopped (batch systems kill what lingers) or when the store is away."""


class Tracking:
    """One study's place in an MLflow store.

    `project` writes everything now and raises `TrackingError` when it cannot. Between `start` and
    `close` (or in a `with`), `submit` hands over a trial that changed and returns at once; what
    cannot be written is said once and tried again, and `close` never raises.
    """

    def __init__(self, uri: str, experiment: str, study: Study, *, say: Say | None = None) -> None:
        self.uri = uri
        self.experiment = experiment
        self._study = study
        self._say = say or (lambda line: print(line, file=sys.stderr))
        self._store: Store | None = None
        self._storing = threading.Lock()
        self._background: Background | None = None
        self._changed: dict[int, Trial] = {}
        self._changing = threading.Lock()
        self._trials: dict[int, Trial] = {}
        self._unwritten: set[int] = set()
        self._front: set[int] = set()
        self._refresh = 0.0
        self._final: Snapshot | None = None
        self._told: set[str] = set()
        self._left = False

    def project(self, study: Study) -> None:
        """Make MLflow equal to what the journal tells of the study, with nobody driving it."""
        self._level(Snapshot.of(study, live=False))

    def pages(self) -> dict[str, str]:
        """The study's views below an MLflow server's address, by name; empty where it is not there.

        Nothing is written but views that its experiment lacks; raises `TrackingError`.
        """
        try:
            return pages(self.uri, self.experiment, Layout.of(self._study))
        except Exception as error:
            raise TrackingError(self.uri, error) from error

    def start(self) -> None:
        """Begin to follow the study; the store is opened when there is something to write."""
        self._background = Background(self._work, self._complain, share=SHARE)
        for trial in Snapshot.of(self._study, live=True).shown:
            self.submit(trial)

    def submit(self, trial: Trial) -> None:
        """A trial has changed; of each trial only the newest word waits to be written."""
        if self._background is None:
            raise RuntimeError("nothing follows this study: `start` comes before `submit`")
        with self._changing:
            self._changed[trial.number] = trial
        self._background.wake()

    def behind(self) -> int:
        """How many trials have changed since MLflow was told of them."""
        with self._changing:
            return len(self._unwritten | self._changed.keys())

    def close(self, timeout: float = PATIENCE) -> bool:
        """Write the study as it is now, and end; False, and said, where that took too long.

        A store that is known to be away is not waited for longer than `HURRY`.
        """
        if self._background is None:
            return True
        self._final = Snapshot.of(self._study, live=False)
        level = self._background.close(timeout, min(timeout, HURRY))
        self._background = None
        if not level:
            self._left = True
            self._say(f"MLflow is behind: {self._again}")
        return level

    def leave(self) -> None:
        """End without another word; what is being written just now is waited for a little."""
        if self._background is not None:
            self._left = True
            self._background.close(HURRY, HURRY)
            self._background = None

    def __enter__(self) -> Tracking:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close; the study may hold more than its journal took, or be another driver's by now."""
        if isinstance(error, JournalError):
            self.leave()
        elif isinstance(error, OSError) and not self._retold():
            self.leave()
            self._say(f"MLflow is behind: {self._again}")
        else:
            self.close(HURRY if kind else PATIENCE)

    @property
    def _again(self) -> str:
        """The command that brings this store level later."""
        return text.typed("sync", self._study.folder, self.uri)

    def _retold(self) -> bool:
        """Go by what the journal tells on the disk from now on; False where that is not to be had.

        What was decided, but not acknowledged, will be decided anew.
        """
        from search.study.study import Study

        try:
            self._study = Study.read(self._study.folder, self._study.space)
        except (OSError, JournalError):
            return False
        return True

    def _work(self, last: bool) -> None:
        if self._left:
            return
        if last and self._final is not None:
            self._level(self._final)
        else:
            self._attempt(self._update)

    def _level(self, snapshot: Snapshot) -> None:
        """Write everything, after a new look: people delete runs while a study goes on."""
        self._store = None
        self._attempt(lambda store: _write(store, snapshot))
        unfiled = self._store and self._store.unfiled
        if unfiled:
            raise TrackingError(self.uri, unfiled, what="its files: ")

    def _update(self, store: Store) -> None:
        """Write the trials that changed, the front's tags, and now and then the study's run."""
        with self._changing:
            changed, self._changed = self._changed, {}
        self._trials |= changed
        self._unwritten |= changed.keys()
        snapshot = Snapshot(self._study, tuple(self._trials.values()), live=True)
        if any(self._trials[number].objectives for number in self._unwritten):
            self._front = _front(snapshot)
        parent = _parent(store, snapshot)
        for number in sorted(self._unwritten):
            if self._left:
                return
            run = trial_run(self._trials[number], snapshot, parent)
            store.put(number, run, front=number in self._front)
            self._unwritten.discard(number)
            self._pause()
        store.mark(self._front)
        self._pause()
        begun = time.monotonic()
        if begun >= self._refresh:
            store.put(PARENT, study_run(snapshot, links=store.links(), pages=store.pages))
            now = time.monotonic()
            self._refresh = now + max(REFRESH, (now - begun) / SHARE)
        if store.unfiled is not None:
            self._complain(TrackingError(self.uri, store.unfiled, what="its files: "))

    def _pause(self) -> None:
        """Let what is timed in this process go first."""
        if (background := self._background) is not None:  # None where nobody waits any more
            background.pause()

    def _attempt(self, write: Callable[[Store], None]) -> None:
        """Write; where what is remembered of the store was wrong, again after a new look."""
        with self._storing:
            for again in (True, False):
                try:
                    write(self._opened())
                    return
                except Exception as error:
                    self._store = None
                    if not (again and away.stale(error)):
                        raise TrackingError(self.uri, error) from error

    def _opened(self) -> Store:
        if self._store is None:
            self._store = Store(
                self.uri,
                self.experiment,
                self._study.uuid,
                Layout.of(self._study),
                say=self._say,
                left=lambda: self._left,
            )
            self._unwritten |= self._trials.keys()  # what was written may be gone
        return self._store

    def _complain(self, error: Exception) -> None:
        kind = error.kind if isinstance(error, TrackingError) else ""
        if kind not in self._told and not self._left:
            self._told.add(kind)
            self._say(f"{error}; the search goes on, and `{self._again}` catches up")


def _write(store: Store, snapshot: Snapshot) -> None:
    """Write each trial's run, the front's tags, then the study's own run with its files."""
    parent, front = _parent(store, snapshot), _front(snapshot)
    digests = []
    for trial in snapshot.shown:
        run = trial_run(trial, snapshot, parent)
        store.put(trial.number, run, front=trial.number in front)
        digests.append(run.digest)
    store.mark(front)
    study = study_run(
        snapshot,
        links=store.links(),
        pages=store.pages,
        files=_figures(snapshot),
        depends=sha(repr(digests)),
    )
    store.put(PARENT, study)


def _parent(store: Store, snapshot: Snapshot) -> str:
    return store.find(PARENT) or store.create(
        PARENT, study_run(snapshot, links={}, pages=store.pages)
    )


def _front(snapshot: Snapshot) -> set[int]:
    members = pareto.front(snapshot.trials, snapshot.study.objectives)
    return {trial.number for trial in members}


def _figures(snapshot: Snapshot) -> dict[str, Callable[[], str | bytes]]:
    """The files that show the front, drawn when they are written."""
    from search.front import plots, tables
    from search.report import document

    study, trials = snapshot.study, snapshot.trials
    return {
        "front.md": lambda: tables.front_markdown(trials, study.objectives),
        "front.csv": lambda: tables.front_csv(trials, study.objectives, study.membership()),
        "pareto.png": lambda: plots.png(study),
        "pareto.html": lambda: plots.html(study),
        "report.html": lambda: document.as_html(study),
    }
