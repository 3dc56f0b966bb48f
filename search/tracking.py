"""MLflow as a projection of a study. The only file that imports mlflow.

The journal is the truth, and MLflow is made equal to it. Runs are found by their tags, never
remembered between drivers, and a run's digest is written last: what a kill left half done has no
digest and is done again, what is level is not touched. The driver alone writes, off its own path.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from search import pareto, text, view
from search.background import Background
from search.projection import Point, Run, Snapshot, sha, study_run, trial_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run as MlflowRun

    from search.study import Study
    from search.trial import Trial

Say = Callable[[str], None]

REFRESH = 30.0
"""Seconds between two writings of the study's own run while it is driven."""
SHARE = 0.1
"""The most of the driver's time that is spent on MLflow while it drives."""
PATIENCE = 60.0
"""Seconds to bring MLflow level when a search has ended."""
HURRY = 10.0
"""The same when it was stopped: batch systems kill what lingers; `sync` catches up."""
PARENT = -1
"""The study's own run; its trials' runs go by their numbers."""
COLOURS = {True: "#d9480f", False: "#adb5bd"}
"""Of a run on the front, and of any other, in MLflow's charts."""
BATCH = 1000
"""Metrics a request; MLflow's own limit, as are 100 params or tags."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # A server that is away must be noticed in seconds; MLflow would try for four minutes a call.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


class TrackingError(RuntimeError):
    """The MLflow store cannot be written now; the message says which and why, on one line."""


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
        self._store: _Store | None = None
        self._storing = threading.Lock()
        self._background: Background | None = None
        self._changed: dict[int, Trial] = {}
        self._changing = threading.Lock()
        self._trials: dict[int, Trial] = {}
        self._unwritten: set[int] = set()
        self._refresh = 0.0
        self._final: Snapshot | None = None
        self._complained = False

    def project(self, study: Study) -> None:
        """Make MLflow equal to what the journal tells of the study, with nobody driving it."""
        snapshot = Snapshot.of(study, live=False)
        self._attempt(lambda store: _write(store, snapshot))

    def page(self) -> str:
        """The study's page below an MLflow server's address; raises `TrackingError`."""
        pages: list[str] = []
        self._attempt(lambda store: pages.append(store.page))
        return pages[0]

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

    def close(self, timeout: float = PATIENCE) -> bool:
        """Write the study as it is now, and end; False, and said, where that took too long."""
        if self._background is None:
            return True
        self._final = Snapshot.of(self._study, live=False)
        level = self._background.close(timeout)
        self._background = None
        if not level:
            self._say(f"MLflow is behind: {self._again}")
        return level

    def __enter__(self) -> Tracking:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(HURRY if kind else PATIENCE)

    @property
    def _again(self) -> str:
        """The command that brings this store level later."""
        return text.typed("sync", self._study.folder, self.uri)

    def _work(self, last: bool) -> None:
        final = self._final
        if last and final is not None:
            self._attempt(lambda store: _write(store, final))
        else:
            self._attempt(self._update)

    def _update(self, store: _Store) -> None:
        """Write the trials that changed, the front's tags, and now and then the study's run."""
        with self._changing:
            changed, self._changed = self._changed, {}
        self._trials |= changed
        self._unwritten |= changed.keys()
        snapshot = Snapshot(self._study, tuple(self._trials.values()), live=True)
        parent = _parent(store, snapshot)
        for number in sorted(self._unwritten):
            store.put(number, trial_run(self._trials[number], snapshot, parent))
            self._unwritten.discard(number)
        _mark(store, snapshot)
        begun = time.monotonic()
        if begun >= self._refresh:
            store.put(PARENT, study_run(snapshot, links=store.links(), page=store.page))
            now = time.monotonic()
            self._refresh = now + max(REFRESH, (now - begun) / SHARE)

    def _attempt(self, write: Callable[[_Store], None]) -> None:
        with self._storing:
            try:
                if self._store is None:
                    self._store = _Store(self.uri, self.experiment, self._study, self._say)
                write(self._store)
            except Exception as error:
                self._store = None  # what it remembers may be wrong by now: look again
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise TrackingError(f"MLflow at {self.uri}: {lines[0][:200]}") from error

    def _complain(self, error: Exception) -> None:
        if not self._complained:
            self._say(f"{error}; the search goes on, and `{self._again}` catches up")
        self._complained = True


def _write(store: _Store, snapshot: Snapshot) -> None:
    """Write each trial's run, the front's tags, then the study's own run with its files."""
    parent = _parent(store, snapshot)
    digests = []
    for trial in snapshot.shown:
        run = trial_run(trial, snapshot, parent)
        store.put(trial.number, run)
        digests.append(run.digest)
    _mark(store, snapshot)
    study = study_run(snapshot, links=store.links(), page=store.page, depends=sha(repr(digests)))
    store.put(PARENT, study, attach=lambda: _figures(snapshot))


def _parent(store: _Store, snapshot: Snapshot) -> str:
    return store.find(PARENT) or store.create(
        PARENT, study_run(snapshot, links={}, page=store.page)
    )


def _mark(store: _Store, snapshot: Snapshot) -> None:
    members = pareto.front(snapshot.trials, snapshot.study.objectives)
    store.mark({trial.number for trial in members})


def _figures(snapshot: Snapshot) -> dict[str, str | bytes]:
    from search import plots, tables

    study = snapshot.study
    return {
        "front.md": tables.front_markdown(snapshot.trials, study.objectives),
        "front.csv": tables.front_csv(snapshot.trials, study.objectives),
        "pareto.png": plots.png(study),
        "pareto.html": plots.html(study),
    }


@dataclass(slots=True)
class _Known:
    """What is known of a run in the store; `points` is None where nobody has looked yet."""

    id: str
    digest: str = ""
    status: tuple[str, int | None] = ("RUNNING", None)
    params: set[str] = field(default_factory=set)
    metrics: set[str] = field(default_factory=set)
    points: dict[tuple[str, int], tuple[float, int]] | None = None
    front: bool = False


class _Store:
    """The runs of one study (by its uuid) in one experiment of a store."""

    def __init__(self, uri: str, experiment: str, study: Study, say: Say) -> None:
        self._uuid = study.uuid
        self._say = say
        self._client = _client(uri)
        self._experiment = self._open(uri, experiment, study.judged)
        self._known: dict[int, _Known] = {}
        self._deleted: set[int] = set()
        self._look()

    def find(self, key: int) -> str:
        """The id of a run, empty where there is none."""
        known = self._known.get(key)
        return known.id if known else ""

    @property
    def page(self) -> str:
        """Where the experiment is found in the UI."""
        return view.page(self._experiment)

    def links(self) -> dict[int, str]:
        """Where a trial's run is found in the UI, by trial number."""
        return {
            key: f"#/experiments/{self._experiment}/runs/{known.id}"
            for key, known in self._known.items()
            if key != PARENT
        }

    def create(self, key: int, run: Run) -> str:
        """Make a run that carries its tags from the start, so that it can be found again."""
        if key in self._deleted:
            self._deleted.discard(key)
            self._say(f"MLflow: the run {run.name!r} was deleted there; it is made again")
        tags = {**run.tags, **run.once}
        if key != PARENT:
            tags["mlflow.runColor"] = COLOURS[False]
        made = self._client.create_run(self._experiment, run.started, tags, run.name)
        self._known[key] = _Known(made.info.run_id, points={})
        return str(made.info.run_id)

    def put(
        self,
        key: int,
        run: Run,
        attach: Callable[[], Mapping[str, str | bytes]] = dict,
    ) -> None:
        """Make the run in the store equal to `run`; no call is made where it is already."""
        if key not in self._known:
            self.create(key, run)
        known = self._known[key]
        if known.digest == run.digest:
            return
        if not known.digest:  # new, or cut short the first time
            self._put_dataset(known, run)
            self._put_files(known, run.files)
        self._put_files(known, attach())
        self._put_status(known, run)
        self._put_values(known, run)

    def mark(self, front: set[int]) -> None:
        """Tag the runs of the front, and take the tag from those that have left it."""
        for key, known in self._known.items():
            if key != PARENT and known.front != (key in front):
                self._client.set_tag(known.id, "mlflow.runColor", COLOURS[key in front])
                if key in front:
                    self._client.set_tag(known.id, "eca.front", "1")
                else:
                    self._client.delete_tag(known.id, "eca.front")
                known.front = key in front

    def _open(self, uri: str, name: str, judged: str | None) -> str:
        """The experiment's id; a deleted one keeps its name, so the next free one is taken."""
        wanted, number = name, 1
        while (found := self._client.get_experiment_by_name(name)) is not None:
            if found.lifecycle_stage == "active":
                return str(found.experiment_id)
            number += 1
            name = f"{wanted} ({number})"
        if number > 1:
            self._say(f"MLflow: the experiment {wanted!r} was deleted there; this is {name!r}")
        tags = {
            "mlflow.experimentKind": "custom_model_development",
            view.TAG: view.state(judged),
        }
        if judged is not None:
            tags["mlflow.experiment.primaryMetric.name"] = f"final_{judged}"
        return str(self._client.create_experiment(name, _artifacts(uri), tags))

    def _look(self) -> None:
        """Find the study's runs; of two for one trial (a request sent twice) one is deleted."""
        from mlflow.entities import ViewType

        page: str | None = None
        query = f"tags.`eca.study` = '{self._uuid}'"
        found: list[MlflowRun] = []
        while page is None or page:
            runs = self._client.search_runs(
                [self._experiment], query, ViewType.ALL, 1000, page_token=page
            )
            found += runs
            page = runs.token or ""
        for run in sorted(
            found, key=lambda run: ("eca.digest" not in run.data.tags, run.info.run_id)
        ):
            key = int(run.data.tags.get("eca.trial", PARENT))
            if run.info.lifecycle_stage == "deleted":
                self._deleted.add(key)
            elif key in self._known:
                self._client.delete_run(run.info.run_id)
            else:
                self._known[key] = _known(run)
        self._deleted -= self._known.keys()

    def _put_dataset(self, known: _Known, run: Run) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if run.dataset is not None:
            data = run.dataset
            dataset = Dataset(data.name, data.digest, "local", data.source, profile=data.profile)
            tags = [InputTag("mlflow.data.context", "train")]
            self._client.log_inputs(known.id, [DatasetInput(dataset, tags)])

    def _put_files(self, known: _Known, files: Mapping[str, str | bytes]) -> None:
        if not files:
            return
        with tempfile.TemporaryDirectory(prefix="eca-search-") as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.write_bytes(content.encode() if isinstance(content, str) else content)
                self._client.log_artifact(known.id, str(path))

    def _put_status(self, known: _Known, run: Run) -> None:
        wanted = (run.status, run.ended)
        if known.status == wanted:
            return
        if run.ended is None:
            self._client.update_run(known.id, run.status)
        else:
            self._client.set_terminated(known.id, run.status, run.ended)
        known.status = wanted

    def _put_values(self, known: _Known, run: Run) -> None:
        """Params, points and tags that are missing, the digest last of all."""
        from mlflow.entities import Metric, Param, RunTag

        points = [Metric(p.key, p.value, p.time, p.step) for p in self._missing(known, run.points)]
        params = [Param(k, v) for k, v in run.params.items() if k not in known.params]
        tags = [RunTag(k, v) for k, v in {**run.tags, "eca.digest": run.digest}.items()]
        while len(points) > BATCH - 200:
            self._client.log_batch(known.id, points[:BATCH])
            del points[:BATCH]
        while len(params) > 100 - len(tags):
            self._client.log_batch(known.id, params=params[:100])
            del params[:100]
        self._client.log_batch(known.id, points, params, tags)
        known.params |= run.params.keys()
        known.digest = run.digest

    def _missing(self, known: _Known, points: tuple[Point, ...]) -> list[Point]:
        """The points that the store has not, or has with another value: then a later one wins."""
        if known.points is None:
            known.points = {}
            for key in known.metrics:
                for old in self._client.get_metric_history(known.id, key):
                    place = (key, old.step)
                    if place not in known.points or known.points[place][1] <= old.timestamp:
                        known.points[place] = (old.value, old.timestamp)
        missing: list[Point] = []
        for point in points:
            value, time = known.points.get((point.key, point.step), (None, -1))
            if value != point.value:
                moved = Point(point.key, point.value, max(point.time, time + 1), point.step)
                known.points[point.key, point.step] = (moved.value, moved.time)
                missing.append(moved)
        return missing


def _client(uri: str) -> MlflowClient:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    _probe(uri)
    from mlflow import MlflowClient

    for name in ("alembic", "mlflow.store.db.utils", "mlflow.utils.requests_utils"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return MlflowClient(uri)


def _probe(uri: str) -> None:
    """Open a SQLite store once ourselves: MLflow would try for minutes. Raises OSError."""
    path = _sqlite(uri)
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path, timeout=2.0)
        try:
            connection.execute("PRAGMA schema_version")
        finally:
            connection.close()
    except sqlite3.Error as error:
        raise OSError(str(error)) from error


def _sqlite(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _artifacts(uri: str) -> str | None:
    """Beside a SQLite store; a server has its own place."""
    path = _sqlite(uri)
    return None if path is None else (path.absolute().parent / "mlartifacts").as_uri()


def _known(run: MlflowRun) -> _Known:
    tags = run.data.tags
    return _Known(
        id=run.info.run_id,
        digest=tags.get("eca.digest", ""),
        status=(run.info.status, run.info.end_time),
        params=set(run.data.params),
        metrics=set(run.data.metrics),
        front="eca.front" in tags,
    )
