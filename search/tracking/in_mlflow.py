"""MLflow's side of a study: its experiment and its runs. The only file that imports mlflow.

Runs are found by their tags, never remembered between drivers. A run is level when its digest and
its status are those of the journal: the status is written last, so that what a kill left half done
is seen and done again, and what is level is not touched.
"""

from __future__ import annotations

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from search import store
from search.tracking import away, view
from search.tracking.known import Known
from search.tracking.points import Point
from search.tracking.projection import Run
from search.tracking.view import Layout
from spaces import durable

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment
    from mlflow.entities import Run as MlflowRun

PARENT = -1
"""The study's own run; its trials' runs go by their numbers."""
COLOURS = {True: "#d9480f", False: "#adb5bd"}
"""Of a run on the front, and of any other, in MLflow's charts."""
BATCH = 1000
"""Metrics a request; MLflow's own limit, as are 100 params or tags."""
PAUSE = 60.0
"""Seconds before files are tried again where their place is away and the store is not."""

_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # where a command's own answer goes
    # A server that is away must be noticed in seconds; MLflow would try for four minutes a call.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}
_LOUD = ("alembic", "mlflow.store.db.utils", "urllib3.connectionpool")
"""Loggers that would print a traceback, or a line a try, for what is said once by us."""


class Store:
    """The runs of one study (by its uuid) in one experiment of an MLflow store.

    Every call may raise what MLflow raises. `unfiled` is why files could not be written, which
    holds up nothing else: a run that lacks them gets no digest, and is done again another time.
    Once `left` is true nothing more is made: who was waited for too long must not come in between.
    """

    def __init__(
        self,
        uri: str,
        experiment: str,
        uuid: str,
        layout: Layout,
        *,
        say: Callable[[str], None],
        left: Callable[[], bool],
    ) -> None:
        self._uuid = uuid
        self._say = say
        self._left = left
        self._client = _client(uri)
        self._experiment = self._open(uri, experiment, layout)
        self._known: dict[int, Known] = {}
        self._deleted: set[int] = set()
        self._look()
        self._filing = 0.0
        self.unfiled: Exception | None = None

    def find(self, key: int) -> str:
        """The id of a run, empty where there is none."""
        known = self._known.get(key)
        return known.id if known else ""

    @property
    def pages(self) -> dict[str, str]:
        """Where the experiment's views are found in the UI, by name."""
        return view.pages(self._experiment)

    def links(self) -> dict[int, str]:
        """Where a trial's run is found in the UI, by trial number."""
        return {
            key: f"#/experiments/{self._experiment}/runs/{known.id}"
            for key, known in self._known.items()
            if key != PARENT
        }

    def create(self, key: int, run: Run, *, front: bool = False) -> str:
        """Make a run that carries its tags from the start, so that it can be found again.

        One that has ended has its digest from the start too: a request less.
        """
        self._stay()
        if key in self._deleted:
            self._deleted.discard(key)
            self._say(f"MLflow: the run {run.name!r} was deleted there; it is made again")
        tags = {**run.tags, **run.once, **_marks(key, front)}
        if key != PARENT and run.ended is not None:
            tags["eca.digest"] = run.digest
        made = self._client.create_run(self._experiment, run.started, tags, run.name)
        self._known[key] = Known(made.info.run_id, made.info.artifact_uri, tags=tags, points={})
        return str(made.info.run_id)

    def put(self, key: int, run: Run, *, front: bool = False) -> None:
        """Make the run in the store equal to `run`; no call is made where it is already."""
        self._stay()
        if key in self._known and not self._known[key].continues(run):
            self._client.delete_run(self._known.pop(key).id)  # MLflow takes no point back
        if key not in self._known:
            self.create(key, run, front=front)
        known = self._known[key]
        if known.digest == run.digest and known.status == (run.status, run.ended):
            return
        if not known.digest:  # new, or cut short the first time
            self._put_dataset(known, run)
        if known.filed != run.filed:
            self._put_files(known, run)
        self._put_values(known, run, {**run.tags, **_marks(key, front)})
        self._put_status(known, run)

    def mark(self, front: set[int]) -> None:
        """Tag the runs of the front, and take the tag from those that have left it."""
        for key, known in self._known.items():
            if key != PARENT:
                wanted = _marks(key, key in front)
                for name in wanted:
                    if known.tags.get(name) != wanted[name]:
                        self._client.set_tag(known.id, name, wanted[name])
                if "eca.front" in known.tags and "eca.front" not in wanted:
                    self._client.delete_tag(known.id, "eca.front")
                    del known.tags["eca.front"]
                known.tags |= wanted

    def _open(self, uri: str, wanted: str, layout: Layout) -> str:
        """The experiment's id, made where there is none; it has the study's views then."""
        found, name = _experiment(self._client, wanted)
        self._stay()
        if found is not None:
            return _furnished(self._client, found, layout)
        if name != wanted:
            self._say(f"MLflow: the experiment {wanted!r} was deleted there; this is {name!r}")
        return str(self._client.create_experiment(name, store.artifacts(uri), layout.tags))

    def _stay(self) -> None:
        if self._left():
            raise TimeoutError("nobody waits for this store any more")

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

    def _put_dataset(self, known: Known, run: Run) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if run.dataset is not None:
            data = run.dataset
            dataset = Dataset(data.name, data.digest, "local", data.source, profile=data.profile)
            tags = [InputTag("mlflow.data.context", "train")]
            self._client.log_inputs(known.id, [DatasetInput(dataset, tags)])

    def _put_files(self, known: Known, run: Run) -> None:
        if time.monotonic() < self._filing:
            return
        try:
            for name, render in run.files.items():
                content = render()
                data = content.encode() if isinstance(content, str) else content
                self._put_file(known, name, data)
        except Exception as error:  # S3 without a password, say: the store itself is well
            if away.stale(error):
                raise
            self.unfiled = error
            self._filing = time.monotonic() + PAUSE
        else:
            known.filed = run.filed

    def _put_file(self, known: Known, name: str, data: bytes) -> None:
        """One file of a run; in a folder of this machine without asking MLflow where that is."""
        place = urlsplit(known.artifacts)
        if place.scheme == "file":
            folder = Path(url2pathname(place.path))
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
            return
        with tempfile.TemporaryDirectory(prefix="eca-search-") as scratch:
            path = Path(scratch, name)
            path.write_bytes(data)
            self._client.log_artifact(known.id, str(path))

    def _put_status(self, known: Known, run: Run) -> None:
        wanted = (run.status, run.ended)
        if known.status == wanted:
            return
        if run.ended is None:
            self._client.update_run(known.id, run.status)
        else:
            self._client.set_terminated(known.id, run.status, run.ended)
        known.status = wanted

    def _put_values(self, known: Known, run: Run, wanted: dict[str, str]) -> None:
        """Params, points and tags that are missing; no digest where files are."""
        from mlflow.entities import Metric, Param, RunTag

        wanted["eca.digest"] = run.digest if known.filed == run.filed else ""
        if known.points is None:
            known.saw(self._history(known))
        points = [Metric(p.key, p.value, p.time, p.step) for p in known.lacks(run.points)]
        params = [Param(k, v) for k, v in run.params.items() if k not in known.params]
        tags = [RunTag(k, v) for k, v in wanted.items() if known.tags.get(k) != v]
        while len(points) > BATCH - 200:
            self._client.log_batch(known.id, points[:BATCH])
            del points[:BATCH]
        while len(params) > 100 - len(tags):
            self._client.log_batch(known.id, params=params[:100])
            del params[:100]
        self._client.log_batch(known.id, points, params, tags)
        known.params |= run.params.keys()
        known.tags |= wanted
        known.digest = wanted["eca.digest"]

    def _history(self, known: Known) -> Iterator[Point]:
        for key in known.metrics:
            for old in self._client.get_metric_history(known.id, key):
                yield Point(key, old.value, old.timestamp, old.step)


def pages(uri: str, experiment: str, layout: Layout) -> dict[str, str]:
    """Where the views of an experiment are found in the UI, by name; empty where there is none.

    No run is looked at and no experiment made; one of an older release is given the views that it
    lacks. May raise what MLflow raises.
    """
    client = _client(uri)
    found, _ = _experiment(client, experiment)
    return {} if found is None else view.pages(_furnished(client, found, layout))


def _experiment(client: MlflowClient, wanted: str) -> tuple[Experiment | None, str]:
    """The active experiment of that name, if there is one, and the name that it has or will have.

    A deleted one keeps its name, so the next free one is taken.
    """
    name, number = wanted, 1
    while (found := client.get_experiment_by_name(name)) is not None:
        if found.lifecycle_stage == "active":
            return found, name
        number += 1
        name = f"{wanted} ({number})"
    return None, name


def _furnished(client: MlflowClient, experiment: Experiment, layout: Layout) -> str:
    """The id of an experiment that has its views now."""
    for name, state in layout.lacking(experiment.tags).items():
        client.set_experiment_tag(experiment.experiment_id, name, state)
    return str(experiment.experiment_id)


def _client(uri: str) -> MlflowClient:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    path = store.file(uri)
    if path is not None and not path.exists():
        _make(path.absolute())
    store.probe(uri)
    return _quiet_client(uri)


def _quiet_client(uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    for name in _LOUD:
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return MlflowClient(uri)


def _make(path: Path) -> None:
    """Create a SQLite store, whole or not at all.

    MLflow makes its tables in a hundred steps, and one that was killed on the way can never be
    opened again (measured with 3.17: duplicate column, table exists already).
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    store.probe(f"sqlite:///{draft}")
    try:
        _quiet_client(f"sqlite:///{draft}").search_experiments(max_results=1)
        try:
            os.link(draft, path)
        except OSError:  # another study was first, or the file system knows no links
            if not path.exists():
                draft.replace(path)
        durable.sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _marks(key: int, front: bool) -> dict[str, str]:
    """The tags by which a trial's run is seen to be on the front, or not."""
    if key == PARENT:
        return {}
    return {"mlflow.runColor": COLOURS[front], **({"eca.front": "1"} if front else {})}


def _known(run: MlflowRun) -> Known:
    tags, status = dict(run.data.tags), (run.info.status, run.info.end_time)
    cut_short = status[0] == "RUNNING" and tags.get("eca.outcome", "running") != "running"
    return Known(
        id=run.info.run_id,
        artifacts=run.info.artifact_uri,
        digest="" if cut_short else tags.get("eca.digest", ""),
        status=status,
        tags=tags,
        params=set(run.data.params),
        metrics=set(run.data.metrics),
    )
