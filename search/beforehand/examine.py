"""What is known of a point before it is trained: its network, its costs, its name, its run key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import trainers
from search.errors import Unfit
from search.trial import Candidate
from spaces import Config, Space, arms
from trainers import pretrained
from trainers.data import content, sources
from trainers.datasets import DatasetError

Values = dict[str, Any]
SAID = re.compile(
    r"^(backbone\.width(\.\d+)?|attention)$|^attention\..*(placement|mapping|position)\b"
)
"""Parameters that a label tells in words of its own."""


def examiner(space: Space) -> Callable[[Values], Candidate]:
    """A function from values to what is known of them.

    It raises `ValueError` for a point that cannot be built or trained, with the reason in its
    message, and `Unfit` where its data is not to be had. Content digests of datasets are asked for
    once, so that only the first call reads data.
    """
    judge = space.search.judge
    digests: dict[str, str] = {}
    fitting: set[str] = set()
    shared: set[str] = set()

    def examine(values: Values) -> Candidate:
        config = space.at(values)
        try:
            return candidate(config, values)
        except DatasetError as error:
            raise Unfit(str(error)) from None
        except (ValueError, OSError, MemoryError):
            raise
        except Exception as error:  # a person's own variant may raise anything
            raise ValueError(f"{type(error).__name__}: {error}") from error

    def candidate(config: Config, values: Values) -> Candidate:
        dataset = config.dataset.model_dump_json()
        if dataset not in digests:
            digests[dataset] = content(sources(config.dataset, judge))
        task = config.task.model_dump_json()
        recipe = dataset + task + config.training.model_dump_json()
        if recipe not in fitting:  # for a folder of images this walks it
            trainers.fits(config, judge)
            fitting.add(recipe)
        pretrained.check(config)
        parts = config.backbone.model_dump_json() + task + config.attention.model_dump_json()
        if space.search.resources.team > 1 and parts not in shared:
            from trainers.team import shareable

            shareable(config)
            shared.add(parts)
        cost = trainers.measure(config)
        kernels = trainers.kernels(config)
        return Candidate(
            config=config.model_dump(mode="json"),
            identity=trainers.identity(config),
            key=trainers.run_key(config, digests[dataset], judge),
            costs={"params": float(cost.params), "macs": float(cost.macs)},
            kernels=kernels,
            placement=placement(config),
            label=label(config, kernels, values),
        )

    return examine


def placement(config: Config) -> str:
    """Where attention stands: `none`, `everywhere`, `stages 2,3`, `blocks stage1.block1`."""
    if config.attention.placement is None:
        return "none"
    answer = config.attention.placement
    chosen = answer.params.get(answer.name)
    if answer.name in {"stages", "blocks"} and isinstance(chosen, list):
        return f"{answer.name} {','.join(map(str, chosen))}" if chosen else "none"
    return answer.name


def label(config: Config, kernels: Mapping[str, int], values: Values) -> str:
    """The trial's name without its number: `w0.75 eca s2,3 k3-5-5`, then any training values.

    In a comparison it begins with the arm: `published: w0.75 eca k3-5-5`.
    """
    arm = arms.of(values)
    words = [] if arm is None else [f"{arm}:"]
    values = values if arm is None else dict(arms.block(values))
    width = config.backbone.params.get("width")
    if width is not None:
        words.append(
            "w" + "-".join(f"{w:g}" for w in (width if isinstance(width, list) else [width]))
        )
    where = placement(config)
    words.append(config.attention.name if where != "none" else "none")
    kind, _, chosen = where.partition(" ")
    if kind == "stages":
        words.append(f"s{chosen}")
    elif kind == "blocks":
        words.append(f"b{len(chosen.split(','))}")
    if kernels:
        words.append("k" + "-".join(_by_stage(kernels)))
    if config.attention.position not in (None, "final"):
        words.append(str(config.attention.position))
    words += [
        _word(name, _task(config) if name == "task" else value)
        for name, value in values.items()
        if not SAID.search(name)
    ]
    return " ".join(words)


def _task(config: Config) -> str:
    """Of several tasks, which: by its detector where it has one."""
    detector: dict[str, str] = config.task.params.get("detector", {})
    return detector.get("name", config.task.name)


def _word(name: str, value: Any) -> str:
    last = name.rpartition(".")[2]
    return f"{last}{value:g}" if isinstance(value, int | float) else f"{last}={value}"


def _by_stage(kernels: Mapping[str, int]) -> Iterator[str]:
    """One word a stage: its kernel, or all of its kernels where blocks differ."""
    stages: dict[str, dict[int, None]] = {}
    for site, kernel in kernels.items():
        stages.setdefault(site.partition(".")[0], {})[kernel] = None
    return ("/".join(map(str, found)) for found in stages.values())
