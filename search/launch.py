"""Where the parts are put together: a space becomes a study in a folder, driven to its end.

`run`, `resume`, `load` and `sync` are what the command line and `import search` offer.
"""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import spaces
from search import executors, journal, preflight, store
from search.errors import StudyExists, Unfit
from search.executors import Executor, Say, Watch, Wish
from search.study import Study, pruner_spec
from spaces import Space, SpaceError, catalogue
from spaces.errors import Problem

if TYPE_CHECKING:
    from search.tracking import Tracking

__all__ = ["StudyExists", "Unfit", "load", "resume", "run", "sync"]

SPACE = "space.yaml"
PROGRESS = 10.0
"""Seconds between two looks of MLflow at a trial that is still running."""


def run(
    source: str | Path | Space,
    *,
    out: str | Path = "runs",
    overrides: Sequence[str] = (),
    executor: str | None = None,
    address: str | None = None,
    max_concurrent: int | None = None,
    plugins: Sequence[str | Path] = (),
    resume: bool = False,
    tracking_uri: str | None = None,
    watch: Watch = lambda study: None,
    say: Say = lambda text: None,
) -> Study:
    """Start a study in `out/<name>` and drive it to its end.

    Args:
        source: a space file, the bare name of a ready one, or a loaded `Space`.
        out: the folder of studies; also of the MLflow store where no other is named.
        overrides: `key.path=value`, typed by the space's schema; of a file or a name alone.
        executor: `ray` or `inprocess`; the space's own choice where None.
        address: a Ray cluster; else `$RAY_ADDRESS`, else one is started here.
        max_concurrent: at most so many trials at a time; else what the cluster holds.
        plugins: files with variants of one's own; their source is part of the run key.
        resume: go on where this study was started before; more trials than then extend it.
        tracking_uri: the MLflow store; else the space's, else `$MLFLOW_TRACKING_URI`, else SQLite.
        watch: called after every commit: what it sees is on the disk.
        say: given one line for each thing a person should know before the first trial.

    Raises:
        SpaceError: the space is not valid. Nothing was created.
        StudyExists: `out/<name>` holds a study and `resume` was not asked for, or another study.
        Unfit: data is missing, or the cluster holds no trial. Nothing was created.
        JournalError: another driver owns the study, or its journal is damaged.
    """
    for plugin in plugins:
        catalogue.plug(plugin)
    if isinstance(source, Space) and overrides:
        said = "they are for a file or a name: spaces.load(source, overrides=...) applies them"
        raise SpaceError([Problem(None, "overrides", said)])
    space = source if isinstance(source, Space) else spaces.load(source, overrides=overrides)
    preflight.check(space)
    _store(space, tracking_uri)
    folder = Path(out).absolute() / space.name
    journal.refuse_driven(folder)
    wish = Wish(executor, address, max_concurrent)
    if journal.exists(folder):
        if not resume:
            raise StudyExists(
                f"{folder}: a study was started here\n"
                f"  go on with it:   eca-search resume {folder}\n"
                "  or start another: give it another `name`, or another --out"
            )
        trials = _agreed(load(folder), space, "the space you gave")
        return _resume(folder, trials, wish, tracking_uri, watch, say)
    from search.examine import examiner
    from search.survey import reference

    examine = examiner(space)
    at = reference(space)
    first = preflight.first_point(space, examine)
    with executors.held(space, wish, say) as executor_:
        _fits_device(space, first, executor_)
        study = Study.create(
            folder,
            space,
            examine,
            reference=at,
            chance=_chance(space, first),
            versions=preflight.versions(),
            plugins=[str(path) for path in catalogue.plugins()],
        )
        _write(folder / SPACE, _preamble(space) + space.to_yaml())
        return _drive(study, executor_, tracking_uri, watch, say)


def resume(
    folder: str | Path,
    *,
    trials: int | None = None,
    executor: str | None = None,
    address: str | None = None,
    max_concurrent: int | None = None,
    tracking_uri: str | None = None,
    watch: Watch = lambda study: None,
    say: Say = lambda text: None,
) -> Study:
    """Go on with a study from its journal; `trials` is its new total. Raises as `run` does.

    A `space.yaml` that was edited is refused, but for a larger `search.trials`.
    """
    folder = Path(folder).absolute()
    study = load(folder)
    if trials is not None and trials < len(study.trials):
        have = len(study.trials)
        said = f"{have} trials exist already (got {trials}; allowed: {have} or more)"
        raise SpaceError([Problem(None, "trials", said)])
    if trials is None and (folder / SPACE).is_file():
        edited = spaces.load(folder / SPACE)
        trials = _agreed(study, edited, f"{folder / SPACE}")
    wish = Wish(executor, address, max_concurrent)
    return _resume(folder, trials, wish, tracking_uri, watch, say)


def load(folder: str | Path) -> Study:
    """The study as its journal tells it now; raises `JournalError` where there is none."""
    folder = Path(folder).absolute()
    records = journal.read(folder)
    if not records:
        raise journal.JournalError(f"{folder}: the journal holds no record yet")
    for plugin in records[0]["plugins"]:
        catalogue.plug(plugin)
    space = spaces.load(folder / SPACE, text=records[0]["space"])
    return Study(folder, space, records)


def sync(folder: str | Path, *, tracking_uri: str | None = None, say: Say = print) -> None:
    """Bring MLflow level with the journal; what is there already is left alone.

    A study that is being driven is left to its driver. Raises `TrackingError` when the store cannot
    be written.
    """
    study = load(folder)
    if journal.busy(study.folder):
        say(f"{study.name} is being driven just now: its driver writes MLflow")
        return
    _tracking(study, tracking_uri or study.tracking_uri, say).project(study)


def _resume(
    folder: Path,
    trials: int | None,
    wish: Wish,
    tracking_uri: str | None,
    watch: Watch,
    say: Say,
) -> Study:
    ended = load(folder)
    journal.refuse_driven(folder)
    if ended.history.ended and trials in (None, ended.history.total):
        say(f"{ended.name} is finished ({ended.history.ended}); --trials N goes on to N in all")
        watch(ended)
        return ended
    from search.examine import examiner

    space = ended.space
    wish = replace(wish, executor=wish.executor or ended.history.executor)
    examine = examiner(space)
    first = preflight.first_point(space, examine)  # its data may have gone since
    with executors.held(space, wish, say) as executor:
        _fits_device(space, first, executor)
        study = Study.drive(folder, space, examine)
        try:
            if trials is not None:
                study.extend(trials)
        except BaseException:
            study.close()
            raise
        return _drive(study, executor, tracking_uri or ended.tracking_uri, watch, say)


def _agreed(study: Study, space: Space, called: str) -> int | None:
    """The study's new total where a space asks for more; raises StudyExists for another study."""
    differing = preflight.differences(study.space, space)
    if differing:
        raise StudyExists(
            f"{study.folder}: this study was started otherwise than {called}\n"
            f"  they differ in {', '.join(differing[:4])}{', ...' * (len(differing) > 4)}\n"
            "  give the new one another `name` or another --out, or take the change back"
        )
    asked = space.search.trials or 1
    return asked if asked > study.history.total else None


def _drive(
    study: Study, executor: Executor, tracking_uri: str | None, watch: Watch, say: Say
) -> Study:
    """Hand the study to an executor; whatever happens, close it and bring MLflow level."""
    from search import pruning

    warning = pruning.warning(pruner_spec(study.space), study.objectives)
    if warning:
        say(f"warning: {warning}")
    try:
        tracking = _tracking(study, tracking_uri, say)
        study.begin(
            pid=os.getpid(),
            host=socket.gethostname(),
            executor=executor.name,
            versions=preflight.versions(),
            tracking_uri=_told(tracking.uri, study),
        )
        with tracking:
            try:
                executor.drive(study, _followed(tracking, watch))
            finally:
                study.close()  # before MLflow is told how it ended
    finally:
        study.close()
    watch(study)
    return study


def _followed(tracking: Tracking, watch: Watch) -> Watch:
    """`watch`, and MLflow told of each trial when it ends and now and then while it runs."""
    looked: dict[int, float] = {}

    def follow(study: Study) -> None:
        now = time.monotonic()
        for trial in study.touched():
            due = now - looked.setdefault(trial.number, now) > PROGRESS
            if trial.outcome is not None or due:
                looked[trial.number] = now
                tracking.submit(trial)
        watch(study)

    return follow


def _tracking(study: Study, uri: str | None, say: Say) -> Tracking:
    """The study's place in MLflow: asked, the space's, `$MLFLOW_TRACKING_URI`'s, or SQLite."""
    from search.tracking import Tracking

    where = _store(study.space, uri) or store.default_uri(study.folder.parent)
    experiment = study.space.search.tracking.experiment or study.name
    return Tracking(where, experiment, study, say=say)


def _told(uri: str, study: Study) -> str | None:
    """The store as the journal names it: not the one beside the study, which moves with it."""
    return None if uri == store.default_uri(study.folder.parent) else store.public(uri)


def _store(space: Space, uri: str | None) -> str | None:
    """The MLflow store that somebody has named; raises SpaceError for one that cannot be."""
    for key, where in (
        ("tracking_uri", uri),
        ("search.tracking.uri", space.search.tracking.uri),
        ("$MLFLOW_TRACKING_URI", os.environ.get("MLFLOW_TRACKING_URI")),
    ):
        if where:
            if said := store.refusal(where):
                raise SpaceError([Problem(None, key, said)])
            return where
    return None


def _fits_device(space: Space, values: dict[str, object], executor: Executor) -> None:
    """Raise SpaceError for a recipe that the device cannot do; a GPU is looked at by its worker."""
    import trainers

    if executor.device == "cpu":
        try:
            trainers.check_device(space.at(values), "cpu")
        except ValueError as error:
            key, _, message = str(error).partition(": ")
            raise preflight.refusal(space, key, message) from None


def _chance(space: Space, values: dict[str, object]) -> float:
    import trainers

    return float(trainers.chance(space.at(values)))


def _preamble(space: Space) -> str:
    """The comments a space file opens with: its question, command, cost and expectation."""
    if not space.source.is_file():
        return ""
    lines = itertools.takewhile(
        lambda line: line.startswith("#"), space.source.read_text().splitlines()
    )
    return "".join(f"{line}\n" for line in lines if "yaml-language-server" not in line)


def _write(path: Path, text: str) -> None:
    """Put a text in place whole; the journal has it as well, so that losing it loses nothing."""
    draft = path.with_suffix(".draft")
    try:
        draft.write_text(text)
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
