"""What can be known to go wrong before a study exists is said here, with nothing created."""

from __future__ import annotations

import importlib.metadata
import json
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import trainers
from search import store
from search.beforehand import options
from search.errors import Unfit
from spaces import Space, SpaceError, arms, holes
from spaces.errors import Problem, clipped
from trainers.datasets import DatasetError

if TYPE_CHECKING:
    from search.study.proposing import Examine
    from search.study.study import Study

TRIED = 100
"""Random points that may turn out impossible before the space is refused."""
FEW = 20
"""Random points that a run looks at to say how many cannot be built; `validate` looks at more."""
LIBRARIES = ("eca-search", "torch", "torchvision", "optuna", "ray", "mlflow", "numpy")


def check(space: Space) -> None:
    """Refuse a sampler, pruner or place for checkpoints that cannot work.

    Raises `SpaceError` naming the key, and `Unfit` where a library for it is not installed.
    """
    from search import pruning
    from search.front import pareto
    from search.sampling import samplers
    from search.sampling.by_name import SpecError
    from search.study.study import pruner_spec

    search = space.search
    costs = pareto.foreseen(search.objectives)
    try:
        samplers.sampler(
            search.sampler.model_dump(), seed=0, space=space, objectives=search.objectives
        )
    except SpecError as error:
        raise refusal(space, f"search.sampler.{error.key}", error.message) from None
    try:
        pruning.Pruning(pruner_spec(space), name=space.name, costs=costs)
    except SpecError as error:
        raise refusal(space, f"search.pruner.{error.key}", error.message) from None
    _storable(space)
    pretrained(space)


def pretrained(space: Space) -> list[str]:
    """What a person should know of the weights that networks of the space start from.

    Raises `SpaceError` where a file of them is not there or fits none of these networks.
    """
    if not _mentioned("pretrained", holes.spelled(space.tree)):
        return []
    from trainers import pretrained

    remarks: dict[str, None] = {}

    def check(values: dict[str, Any]) -> None:
        said = pretrained.check(space.at(values))
        remarks.update(dict.fromkeys(f"backbone.pretrained: {line}" for line in said))

    _possible(space, check)
    options.refuse_dead(space, check)
    for number, values in enumerate(space.baselines(), start=1):
        try:
            check(values)
        except ValueError as error:
            raise refusal(space, f"search.baselines.{number}", options.reason(error)) from None
    return list(remarks)


def _mentioned(key: str, part: Any) -> bool:
    """Whether a key stands anywhere in plain values."""
    if isinstance(part, dict):
        return key in part or any(_mentioned(key, inner) for inner in part.values())
    return isinstance(part, list) and any(_mentioned(key, inner) for inner in part)


def _storable(space: Space) -> None:
    """Refuse a URI for checkpoints that nothing can be stored under; the place is not asked."""
    uri, key = space.search.checkpoints.uri, "search.checkpoints.uri"
    if uri is None:
        return
    if store.public(uri) is None:
        said = "it holds credentials, which would be written down with the study"
        raise refusal(
            space, key, f"{said} (allowed: without, the store's own environment has them)"
        )
    schemes, separator, _ = uri.rpartition("://")
    if not separator:
        if not uri.strip():
            raise refusal(space, key, 'no place (got ""; allowed: a folder, an fsspec URI, null)')
        return
    import fsspec

    for scheme in schemes.split("::"):
        try:
            fsspec.get_filesystem_class(scheme.rpartition("/")[2])
        except ValueError:
            said = f"no file system of kind {clipped(scheme, 20)}://"
            raise refusal(space, key, f"{said} (allowed: a folder, or what fsspec knows)") from None
        except ImportError as error:
            raise Unfit(f"{key}: {error}") from None


def trackable(space: Space) -> None:
    """Refuse a space's own MLflow store that cannot be one. Raises SpaceError at its URI."""
    uri = space.search.tracking.uri
    if uri and (said := store.refusal(uri)):
        raise refusal(space, "search.tracking.uri", said)


def first_point(space: Space, examine: Examine) -> dict[str, Any]:
    """A point that can be built and trained, its data being there; every baseline must be one.

    Raises SpaceError where there is none, or a baseline is over a limit, and Unfit for data that is
    not to be had.
    """
    for number, values in enumerate(space.baselines(), start=1):
        key = f"search.baselines.{number}" if space.arms is None else f"arms.{arms.of(values)}"
        try:
            costs = examine(values).costs
        except ValueError as error:
            raise refusal(space, key, options.reason(error)) from None
        for name, limit in space.search.limits.items():
            if costs[name] > limit:
                said = f"over search.limits.{name} (got {costs[name]:,.0f}; allowed: {limit:,.0f})"
                raise refusal(space, key, said)
    return _possible(space, examine)


def foreseen(space: Space) -> None:
    """Refuse a recipe that the data cannot suit, as far as that is known without looking for them,
    and a network that cannot be shared by the processes that are to train it.

    Raises SpaceError at the setting, and Unfit where classes are counted in missing data.
    """
    team = space.search.resources.team

    def check(values: dict[str, Any]) -> None:
        try:
            trainers.foresee(space.at(values), team)
            if team > 1:
                from trainers.team import shareable  # with PyTorch, which takes long to import

                shareable(space.at(values))
        except DatasetError as error:
            raise Unfit(str(error)) from None

    _possible(space, check)
    options.refuse_dead(space, check)


def _possible(space: Space, check: options.Check) -> dict[str, Any]:
    """A random point that passes the check; raises SpaceError, saying what is wrong, for none."""
    wrong: list[Problem] = []
    for seed in range(TRIED):
        values = space.sample(seed=seed)
        try:
            check(values)
        except ValueError as error:
            wrong = wrong or options.located(space, error, values)
        else:
            return values
    tried = f" (at {TRIED} of {TRIED} random points)" if space.parameters else ""
    raise SpaceError(Problem(at.place, at.key, f"{at.message}{tried}") for at in wrong)


def chance(space: Space, values: dict[str, Any]) -> float:
    """What guessing scores by the task's own metric. Raises SpaceError where it leaves a loss open.

    That is measured from the loss of guessing, ln(1 / chance), and there is none where chance is 0.
    """
    found = float(trainers.chance(space.at(values)))
    for name in space.search.objectives:
        if found <= 0 and name.endswith("loss") and name not in (space.search.reference or {}):
            said = "missing: hypervolume is measured from it, and nobody knows the loss of guessing"
            key = f"search.reference.{name}"
            raise refusal(space, key, f"{said} (allowed: the largest loss that counts)")
    return found


def whole(space: Space, examine: Examine, say: Callable[[str], None]) -> None:
    """Refuse a space with an option that nothing can be trained with; say how much cannot be.

    Raises SpaceError where the option is, and Unfit as `first_point` does.
    """
    options.refuse_dead(space, examine)
    unbuilt = options.drawn(space, examine, FEW)
    if unbuilt.failed:
        say(f"note: {unbuilt}")
    for remark in pretrained(space):
        say(f"note: {remark}")


def unchanged(study: Study, examine: Examine) -> None:
    """Refuse to go on where what was trained would not train today to what it did then.

    The run key tells, which holds the data's content and the source of plugins. One trial is
    examined anew for each dataset and each set of variants. Raises Unfit, naming the trial.
    """
    seen: set[str] = set()
    for trial in study.trials:
        if trial.failed:
            continue  # a plugin that was mended is welcome
        parts = [trial.config.get("dataset"), *_named([*trial.config.values()])]
        if (made := json.dumps(parts, sort_keys=True)) in seen:
            continue
        seen.add(made)
        try:
            found = f"its run key is {examine(trial.values).key}"
        except ValueError as error:
            found = f"it cannot be built: {options.reason(error)}"
        if found != f"its run key is {trial.key}":
            raise Unfit(
                f"{study.folder}: the data (or a plugin, or eca-search) is not what this study "
                f"began with\n  trial {trial.number}: {found}; it was {trial.key}\n"
                "  put back what has changed, or with --fork begin a new study with what is there"
            )


def _named(part: Any) -> Iterator[str]:
    """The names of the variants in a part of a config."""
    if isinstance(part, dict):
        if "name" in part:
            yield part["name"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from _named(inner)


def refusal(space: Space, key: str, message: str) -> SpaceError:
    """A `SpaceError` at the place in the space's file where `key` stands."""
    return SpaceError([space.problem(key, message)])


def upgraded(then: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Libraries that are not as they were when a driver wrote down its versions."""
    now = versions()
    changed = (name for name in LIBRARIES if name in then and then[name] != now[name])
    return {name: (then[name], now[name]) for name in changed}


def versions() -> dict[str, str]:
    """What this study ran on: Python, the platform and the libraries that shape its numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found
