"""What can be known to go wrong before a study exists is said here, with nothing created."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import yaml

from search.trial import COSTS
from spaces import Space, SpaceError

if TYPE_CHECKING:
    from search.study import Examine

TRIED = 100
"""Random points that may turn out impossible before the space is refused."""
LIBRARIES = ("eca-search", "torch", "torchvision", "optuna", "ray", "mlflow", "numpy")


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
        raise refusal(space, f"search.sampler.{error.key}", error.message) from None
    try:
        pruning.Pruning(pruner_spec(space), name=space.name, costs=costs)
    except SpecError as error:
        raise refusal(space, f"search.pruner.{error.key}", error.message) from None


def first_point(space: Space, examine: Examine) -> dict[str, Any]:
    """A point that can be built and trained, its data being there; every baseline must be one.

    Raises SpaceError where there is none, or a baseline is over a limit, and Unfit for data that is
    not to be had.
    """
    for number, values in enumerate(space.baselines(), start=1):
        key = f"search.baselines.{number}"
        try:
            costs = examine(values).costs
        except ValueError as error:
            raise refusal(space, key, str(error)) from None
        for name, limit in space.search.limits.items():
            if costs[name] > limit:
                said = f"over search.limits.{name} (got {costs[name]:,.0f}; allowed: {limit:,.0f})"
                raise refusal(space, key, said)
    reasons: dict[str, None] = {}
    for seed in range(TRIED):
        values = space.sample(seed=seed)
        try:
            examine(values)
        except ValueError as error:
            reasons[str(error)] = None
        else:
            return values
    key, _, message = next(iter(reasons)).partition(": ")
    raise refusal(space, key, f"{message} (at {TRIED} of {TRIED} random points)")


def refusal(space: Space, key: str, message: str) -> SpaceError:
    """A `SpaceError` at the place in the space's file where `key` stands."""
    return SpaceError([space.problem(key, message)])


def differences(old: Space, new: Space) -> list[str]:
    """The dotted keys in which two spaces differ, but for `search.trials`."""
    pair = (yaml.safe_load(old.to_yaml()), yaml.safe_load(new.to_yaml()))
    return [key for key in _differing(*pair) if key != "search.trials"]


def _differing(old: Any, new: Any, key: str = "") -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _differing(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif old != new:
        yield key


def versions() -> dict[str, str]:
    """What this study ran on: Python, the platform and the libraries that shape its numbers."""
    found = {"python": platform.python_version(), "platform": platform.platform()}
    for library in LIBRARIES:
        try:
            found[library] = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            found[library] = "not installed"
    return found
