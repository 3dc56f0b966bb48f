"""Where the parts are put together: a space becomes a study in a folder, driven to its end.

`run`, `resume`, `load` and `sync` are what the command line and `import search` offer.
"""

from __future__ import annotations

import importlib.metadata
import itertools
import os
import platform
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import spaces
from search import journal, store
from search.study import Examine, Study
from search.trial import COSTS
from spaces import Space, SpaceError, catalogue
from spaces.errors import Problem
from trainers.datasets import DatasetError

if TYPE_CHECKING:
    from search.by_name import SpecError
    from search.ray_tune import Cluster
    from search.tracking import Tracking
    from search.worker import Workplace

Watch = Callable[[Study], None]
Say = Callable[[str], None]
Drive = Callable[[Study, Watch], None]
Held = Callable[[Space], AbstractContextManager[Drive]]
"""An executor for a space, with what it needs (a connection to Ray) held open while it is used."""

SPACE = "space.yaml"
TRIED = 100
PROGRESS = 10.0
"""Seconds between two looks of MLflow at a trial that is still running."""


class StudyExists(RuntimeError):
    """A study was already started in this folder; `resume` goes on with it."""


class Unfit(RuntimeError):
    """This machine or cluster cannot run the study; the message says what is missing."""


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
        overrides: `key.path=value`, typed by the space's schema.
        executor: `ray` or `inprocess`; the space's own choice where None.
        address: a Ray cluster; else `$RAY_ADDRESS`, else one is started here.
        max_concurrent: at most so many trials at a time; else what the cluster holds.
        plugins: files with variants of one's own; their source is part of the run key.
        resume: go on where a study of this name was started before.
        tracking_uri: the MLflow store; else the space's, else `$MLFLOW_TRACKING_URI`, else SQLite.
        watch: called after every commit: what it sees is on the disk.
        say: given one line for each thing a person should know before the first trial.

    Raises:
        SpaceError: the space is not valid. Nothing was created.
        StudyExists: `out/<name>` holds a study and `resume` was not asked for.
        DatasetError, Unfit: data is missing, or the cluster holds no trial. Nothing was created.
        JournalError: another driver owns the study, or its journal is damaged.
    """
    for plugin in plugins:
        catalogue.plug(plugin)
    space = source if isinstance(source, Space) else spaces.load(source, overrides=overrides)
    check(space)
    _store(space, tracking_uri)
    folder = Path(out).absolute() / space.name
    journal.refuse_driven(folder)
    held = partial(
        _executor, say=say, executor=executor, address=address, max_concurrent=max_concurrent
    )
    if journal.exists(folder):
        if not resume:
            raise StudyExists(
                f"{folder}: a study was started here\n"
                f"  go on with it:   eca-search resume {folder}\n"
                "  or start another: give it another `name`, or another --out"
            )
        return _resume(folder, None, held, tracking_uri, watch, say)
    from search.examine import examiner
    from search.survey import reference

    examine = examiner(space)
    at = reference(space)  # no network within the limits: said before anything exists
    first = _first(space, examine)  # likewise data that is missing, or a baseline that is nonsense
    with held(space) as drive:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SPACE).write_text(_preamble(space) + space.to_yaml())
        study = Study.create(
            folder,
            space,
            examine,
            reference=at,
            chance=_chance(space, first),
            versions=versions(),
            plugins=[str(path) for path in catalogue.plugins()],
        )
        return _drive(study, drive, tracking_uri, watch, say)


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
    """Go on with a study from its journal; `trials` is its new total. Raises as `run` does."""
    held = partial(
        _executor, say=say, executor=executor, address=address, max_concurrent=max_concurrent
    )
    return _resume(Path(folder).absolute(), trials, held, tracking_uri, watch, say)


def _resume(
    folder: Path,
    trials: int | None,
    held: Held,
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
    with held(space) as drive:
        study = Study.drive(folder, space, examiner(space))
        try:
            if trials is not None:
                study.extend(trials)
        except BaseException:
            study.close()
            raise
        return _drive(study, drive, tracking_uri, watch, say)


def load(folder: str | Path) -> Study:
    """The study as its journal tells it now; raises `JournalError` where there is none."""
    folder = Path(folder).absolute()
    return Study.read(folder, _space_of(folder))


def sync(folder: str | Path, *, tracking_uri: str | None = None, say: Say = print) -> None:
    """Bring MLflow level with the journal; what is there already is left alone.

    Raises `TrackingError` when the store cannot be written.
    """
    study = load(folder)
    _tracking(study, tracking_uri, say).project(study)


def check(space: Space) -> None:
    """Refuse a sampler or pruner that cannot work; raises `SpaceError` naming the key."""
    from search import pruning, samplers
    from search.by_name import SpecError
    from search.study import pruner_spec

    search = space.search
    costs = {name: o.tolerance for name, o in search.objectives.items() if name in COSTS}
    try:
        samplers.sampler(
            search.sampler.model_dump(), seed=0, space=space, objectives=search.objectives
        )
    except SpecError as error:
        raise _wrong("sampler", error) from None
    try:
        pruning.Pruning(pruner_spec(space), name=space.name, costs=costs)
    except SpecError as error:
        raise _wrong("pruner", error) from None


def _first(space: Space, examine: Examine) -> dict[str, Any]:
    """A point that can be built, with its data there; every baseline must be one."""
    for number, values in enumerate(space.baselines(), start=1):
        try:
            examine(values)
        except DatasetError:
            raise
        except ValueError as error:
            raise SpaceError([Problem(None, f"search.baselines.{number}", str(error))]) from None
    for seed in range(TRIED):
        values = space.sample(seed=seed)
        try:
            examine(values)
        except DatasetError:
            raise
        except ValueError as error:
            reason = error
        else:
            return values
    said = f"none of {TRIED} random points can be built: {reason}"
    raise SpaceError([Problem(None, "", said)])


def _preamble(space: Space) -> str:
    """The comments a space file opens with: its question, command, cost and expectation."""
    if not space.source.is_file():
        return ""
    lines = itertools.takewhile(
        lambda line: line.startswith("#"), space.source.read_text().splitlines()
    )
    return "".join(f"{line}\n" for line in lines if "yaml-language-server" not in line)


def _wrong(key: str, error: SpecError) -> SpaceError:
    return SpaceError([Problem(None, f"search.{key}.{error.key}", error.message)])


def versions() -> dict[str, str]:
    """What this study ran on: Python, the platform and the libraries that shape its numbers."""
    libraries = ("eca-search", "torch", "torchvision", "optuna", "ray", "mlflow", "numpy")
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for library in libraries:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found


def _drive(
    study: Study,
    drive: Drive,
    tracking_uri: str | None,
    watch: Watch,
    say: Say,
) -> Study:
    """Hand the study to an executor; whatever happens, close it and bring MLflow level."""
    from search import pruning
    from search.study import pruner_spec

    warning = pruning.warning(pruner_spec(study.space), study.objectives)
    if warning:
        say(f"warning: {warning}")
    try:
        study.begin(pid=os.getpid(), host=socket.gethostname(), versions=versions())
        with _tracking(study, tracking_uri, say) as tracking:
            try:
                drive(study, _followed(tracking, watch))
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


@contextmanager
def _executor(
    space: Space,
    *,
    say: Say,
    executor: str | None,
    address: str | None,
    max_concurrent: int | None,
) -> Iterator[Drive]:
    """A function that drives a study, with what it needs held open."""
    from search.worker import Workplace

    resources = space.search.resources

    def workplace(study: Study, gpu: float) -> Workplace:
        kept = study.space.search.checkpoints
        return Workplace(
            checkpoints=kept.uri or str(study.folder / "checkpoints"),
            every=kept.every,
            keep=kept.keep,
            threads=max(1, int(resources.cpu)),
            gpu=gpu > 0,
            plugins=tuple(str(path) for path in catalogue.plugins()),
        )

    if (executor or space.search.executor) == "inprocess":
        from search import inprocess

        gpu = _gpu_here() if resources.gpu == "auto" else resources.gpu
        yield lambda study, watch: inprocess.drive(study, workplace(study, gpu), watch=watch)
        return
    from search import ray_tune

    with _connected(address) as cluster:
        gpu = (1.0 if cluster.gpus else 0.0) if resources.gpu == "auto" else resources.gpu
        slots = ray_tune.slots(resources.cpu, gpu, max_concurrent or space.search.max_concurrent)
        if slots() < 1:
            raise Unfit(
                f"no room for a trial: it wants {resources.cpu:g} CPU and {gpu:g} GPU, "
                f"Ray at {cluster.address} has {cluster.cpus:g} CPU and {cluster.gpus:g} GPU\n"
                "  ask for less in `search.resources`, or give --address of a larger cluster"
            )
        say(
            f"Ray at {cluster.address}: {cluster.nodes} node{'s'[: cluster.nodes != 1]}, "
            f"{cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs; {slots()} trials at a time"
        )
        yield lambda study, watch: ray_tune.drive(
            study, workplace(study, gpu), cpu=resources.cpu, gpu=gpu, slots=slots, watch=watch
        )


@contextmanager
def _connected(address: str | None) -> Iterator[Cluster]:
    """Ray, or `Unfit` where there is none."""
    from search import ray_tune

    connection = ray_tune.connected(address)
    try:
        cluster = connection.__enter__()
    except ConnectionError as error:
        raise Unfit(str(error)) from None
    with ExitStack() as stack:
        stack.push(connection)
        yield cluster


def _gpu_here() -> float:
    import torch

    return float(torch.cuda.is_available())


def _chance(space: Space, values: dict[str, Any]) -> float:
    import trainers

    return float(trainers.chance(space.at(values)))


def _space_of(folder: Path) -> Space:
    """The space a study was started with, its plugins plugged in again."""
    first = journal.read(folder)[0]
    for plugin in first["plugins"]:
        catalogue.plug(plugin)
    return spaces.load(folder / SPACE)


def _tracking(study: Study, uri: str | None, say: Say) -> Tracking:
    """The study's place in MLflow: asked, the space's, `$MLFLOW_TRACKING_URI`'s, or SQLite."""
    from search.tracking import Tracking, default_uri

    where = _store(study.space, uri) or default_uri(study.folder.parent)
    experiment = study.space.search.tracking.experiment or study.name
    return Tracking(where, experiment, study, say=say)


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
