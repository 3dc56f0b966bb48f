"""A study goes on with an edited space: what may change, what may not, what a fork keeps.

What the study's results and the sampler's sequence rest on stays as it was. What only says how
long, how wide and how patiently the search goes may change with any driver.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import yaml

from search.study import verdict
from search.trial import Trial
from spaces import Space
from spaces.errors import shown
from spaces.latency import LATENCIES
from spaces.parameters import Parameter

if TYPE_CHECKING:
    from search.study.proposing import Examine
    from search.study.study import Study

Values = dict[str, Any]
FREE = (
    "search.budget",
    "search.checkpoints.every",
    "search.checkpoints.keep",
    "search.checkpoints.of",
    "search.executor",
    "search.failures",
    "search.further",
    "search.max_concurrent",
    "search.mirror",
    "search.oom",
    "search.pruner.promote",
    "search.resources",
    "search.timeouts",
    "search.tracking",
    "search.trials",
)
"""Keys that any driver may change: no result and no proposal depends on them."""
GROWING = "search.replicates"
SEEDS = (GROWING, "search.further")
"""Keys that give networks seeds which they were not to have."""
GOES_ON = ("search.budget", "search.further", "search.pruner.promote")


def changes(old: Space, new: Space) -> dict[str, tuple[Any, Any]]:
    """The dotted keys in which two spaces differ, with the old value and the new one."""
    pair = (yaml.safe_load(old.to_yaml()), yaml.safe_load(new.to_yaml()))
    return dict(_changes(*pair))


def free(key: str, old: Any, new: Any) -> bool:
    """Whether a study may go on where that key has changed so; of seeds there may come more."""
    if key == GROWING:
        return bool(new > old)
    return any(key == at or key.startswith(f"{at}.") for at in FREE)


def longer(key: str) -> bool:
    """Whether a study that had come to its end may have more to do where that key has changed."""
    return key == GROWING or key.startswith(GOES_ON)


def told(found: dict[str, tuple[Any, Any]], *, lines: int = 3) -> str:
    """The changes as a diff of so many lines."""
    said = [f"  {key}: {shown(old)} -> {shown(new)}" for key, (old, new) in found.items()]
    more = f"  and {len(said) - lines + 1} more"
    return "\n".join(said if len(said) <= lines else [*said[: lines - 1], more])


def carried(old: Study, space: Space, examine: Examine) -> Iterator[tuple[Trial, Values]]:
    """The finished trials of a study that are points of another space too, with their values there.

    A result is the same where the run key is: network, data, recipe and seeds. Where latency is an
    objective of the new space the trial must have it.
    """
    timed = any(name in LATENCIES for name in space.search.objectives)
    if old.space.search.seed != space.search.seed:
        return  # other seeds: other first weights, other order
    for trial in old.trials:
        if trial.outcome != "finished" or trial.accumulate > 1:
            continue
        if timed and not verdict.timed(trial, space.search.timing):
            continue
        try:
            values = space.fill(_known(trial))
            same = examine(values).key == trial.key
        except (ValueError, LookupError):
            continue  # no point of this space
        if same:
            yield trial, values


def _known(trial: Trial) -> Callable[[Parameter], Any]:
    """What the trial says of a hole: its value, or the constant it had where there was no hole."""

    def value(parameter: Parameter) -> Any:
        if parameter.name in trial.values:
            return trial.values[parameter.name]
        path = parameter.name
        for parent, label in reversed(parameter.condition):
            path = parent + path.removeprefix(f"{parent}.{label}")
        found: Any = trial.config
        for word in path.split("."):
            if isinstance(found, list):  # an element of a subset
                return word in map(str, found)
            found = found[word]
        return found["name"] if isinstance(found, dict) else found

    return value


def _changes(old: Any, new: Any, key: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _changes(old.get(name), new.get(name), f"{key}.{name}" if key else name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, pair in enumerate(zip(old, new, strict=True), start=1):
            yield from _changes(*pair, f"{key}.{place}")
    elif old != new:
        yield key, (old, new)
