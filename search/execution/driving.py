"""A study in the hands of an executor, and MLflow told of it as it goes."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from search import store
from search.beforehand import filesystems, preflight
from search.errors import Stopped
from search.execution.executors import Executor, Say, Watch
from search.execution.sweeping import Sweeping
from search.study.control import Requests
from search.study.study import Study, pruner_spec
from spaces import Space, SpaceError
from spaces.errors import Problem

if TYPE_CHECKING:
    from search.study.mirror import Mirror
    from search.tracking.following import Tracking

PROGRESS = 10.0
"""Seconds between two looks of MLflow at a trial that is still running."""


def drive(
    study: Study,
    executor: Executor,
    tracking_uri: str | None,
    watch: Watch,
    say: Say,
    mirror: Mirror | None = None,
) -> Study:
    """Hand the study to an executor; whatever happens, close it and bring MLflow level."""
    from search import pruning

    warning = pruning.warning(pruner_spec(study.space), study.objectives)
    if warning:
        say(f"warning: {warning}")
    shared = _shared(store.file(settled_store(study.space, tracking_uri, study.folder.parent)))
    if shared:
        say(f"warning: MLflow's SQLite store is on {shared}, where its locks may not hold;")
        say("  a store on a local disk or a server: --tracking-uri, or MLFLOW_TRACKING_URI")
    budget = study.space.search.budget
    if budget is not None and budget.gpu_hours is not None and not executor.gpu:
        say("warning: search.budget.gpu_hours: trials have no GPU here, so none are spent")
    try:
        tracking = tracking_of(study, tracking_uri, say)
        study.begin(
            pid=os.getpid(),
            host=socket.gethostname(),
            executor=executor.name,
            gpu=executor.gpu,
            versions=preflight.versions(),
            tracking_uri=_told(tracking.uri, study),
        )
        study.behind = tracking.behind
        if mirror is not None:
            mirror.begin(study.uuid)
        with tracking, Sweeping(study, say) as sweeping:
            try:
                executor.drive(study, _followed(study.folder, tracking, sweeping, mirror, watch))
                study.conclude()
                sweeping.close()
            except Stopped:
                study.close("stopped by hand")
                raise
            finally:
                study.close()  # before MLflow is told how it ended
    finally:
        study.close()
    watch(study)
    return study


def _followed(
    folder: Path, tracking: Tracking, sweeping: Sweeping, mirror: Mirror | None, watch: Watch
) -> Watch:
    """`watch`, with MLflow told of each trial when it ends and now and then while it runs.

    What a person asks from another terminal is done here too; raises Stopped where that is to stop.
    """
    looked: dict[int, float] = {}
    requests = Requests(folder)

    def follow(study: Study) -> None:
        requests.obey(study)
        if mirror is not None:
            mirror.look(study.acknowledged)
        sweeping.look()
        now = time.monotonic()
        for trial in study.touched():
            due = now - looked.setdefault(trial.number, now) > PROGRESS
            if trial.outcome is not None or due:
                looked[trial.number] = now
                tracking.submit(trial)
        watch(study)

    return follow


def _shared(file: Path | None) -> str:
    """The network's file system that a file is to lie on; empty where it is a local one."""
    if file is None:
        return ""
    place = next(place for place in file.absolute().parents if place.exists())
    there = filesystems.mount(place)
    return str(there) if there is not None and there.network else ""


def tracking_of(study: Study, uri: str | None, say: Say) -> Tracking:
    """The study's place in MLflow."""
    from search.tracking.following import Tracking

    where = settled_store(study.space, uri, study.folder.parent)
    experiment = study.space.search.tracking.experiment or study.name
    return Tracking(where, experiment, study, say=say)


def _told(uri: str, study: Study) -> str | None:
    """The store as the journal names it: not the one beside the study, which moves with it."""
    return None if uri == store.default_uri(study.folder.parent) else store.public(uri)


def settled_store(space: Space, uri: str | None, out: Path) -> str:
    """The MLflow store of a study in `out`; raises SpaceError for one that cannot be.

    It is the one asked for, the space's, `$MLFLOW_TRACKING_URI`'s, or SQLite beside the study.
    """
    if not uri and space.search.tracking.uri:
        preflight.trackable(space)
        return space.search.tracking.uri
    for key, where in (
        ("tracking_uri", uri),
        ("$MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI")),
    ):
        if where:
            if said := store.refusal(where):
                raise SpaceError([Problem(None, key, said)])
            return where
    if said := store.homeless(out):
        raise SpaceError([Problem(None, "out", said)])
    return store.default_uri(out)


def without_password(space: Space, uri: str | None, say: Say) -> tuple[Space, str | None]:
    """The space without the credentials in its store, and the store that this driver writes to.

    What is in the space is written down: to the study's folder, its journal and MLflow.
    """
    tracking = space.search.tracking
    if not tracking.uri or store.public(tracking.uri):
        return space, uri
    say("search.tracking.uri holds credentials, which are not written down: for `resume` give them")
    say("again by --tracking-uri, or always by MLFLOW_TRACKING_USERNAME and _PASSWORD")
    bare = tracking.model_copy(update={"uri": store.stripped(tracking.uri)})
    search = space.search.model_copy(update={"tracking": bare})
    return replace(space, search=search), uri or tracking.uri
