"""A space: a config with holes. ``load`` reads one from YAML; ``Space.at`` fills its holes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spaces import baselines, holes, writer
from spaces.config import Attention, Config, Dataset, Training
from spaces.errors import Place, Problem, SpaceError, listed, nearest
from spaces.find import find
from spaces.overrides import applied
from spaces.parameters import Parameter, every
from spaces.paths import READY, absolute, locate
from spaces.probe import configs, configured, validated
from spaces.reader import Node, located, read
from spaces.settings import Search

SECTIONS = (*Config.model_fields, "search")
INSIDE: dict[str, type[BaseModel]] = {
    "training": Training,
    "search": Search,
    "dataset": Dataset,
    "attention": Attention,
}


@dataclass(frozen=True)
class Space:
    """A region of networks and recipes, and how it is to be searched.

    ``parameters`` are its holes as a sampler sees them, in the order of the document, each after
    the choices that it depends on. ``notes`` say what is legal but worth knowing. Two spaces are
    equal when they mean the same, wherever they were read from.
    """

    name: str
    search: Search
    tree: Node = field(repr=False)
    parameters: tuple[Parameter, ...]
    notes: tuple[str, ...] = field(compare=False)
    source: Path = field(compare=False)

    def fill(self, choose: Callable[[Parameter], Any]) -> dict[str, Any]:
        """Values by name: ``choose`` is asked for each active parameter, in order, and no other."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if parameter.active(values):
                values[parameter.name] = choose(parameter)
        return values

    def sample(self, seed: int) -> dict[str, Any]:
        """Values drawn at random; the same for the same seed."""
        source = random.Random(seed)
        return self.fill(lambda parameter: parameter.sample(source))

    def at(self, values: Mapping[str, Any]) -> Config:
        """The config at one point.

        Raises SpaceError for values that are missing, unknown, not active or not legal, and for a
        combination that makes no config.
        """
        config, problems = configured(holes.filled(self.tree, self._canonical(values)))
        if config is None:
            raise SpaceError(problems)
        return config

    def _canonical(self, values: Mapping[str, Any]) -> dict[str, Any]:
        wrong: list[tuple[str, str]] = []
        canonical: dict[str, Any] = {}
        for parameter in self.parameters:
            name = parameter.name
            if not parameter.active(canonical):
                if name in values:
                    options = listed(f"{of} is {label}" for of, label in parameter.condition)
                    wrong.append((name, f"not active here (allowed: where {options})"))
            elif name not in values:
                wrong.append((name, "a value is missing"))
            else:
                try:
                    canonical[name] = parameter.legal(values[name])
                except ValueError as error:
                    wrong.append((name, str(error)))
        known = [parameter.name for parameter in self.parameters]
        wrong += [(n, f"no such parameter{nearest(n, known)}") for n in values if n not in known]
        if wrong:
            raise SpaceError(Problem(None, name, message) for name, message in wrong)
        return canonical

    def size(self) -> int | None:
        """The number of settings; None where a float without step is open."""
        return holes.size(self.tree)

    def settings(self) -> Iterator[dict[str, Any]]:
        """All values, one setting after the other. Raises SpaceError where they are not finite."""
        if self.size() is None:
            free = [p.name for p in self.parameters if p.count() is None]
            said = f"settings cannot be listed: a float without step (got {listed(free)})"
            raise SpaceError([Problem(None, free[0], said)])
        return every(self.parameters)

    def baselines(self) -> list[dict[str, Any]]:
        """The values of ``search.baselines``; a hole that one leaves open takes its default."""
        given = located(self.search.baselines, Place("search.baselines")).value
        return _baselines(self.tree, self.parameters, given, [])

    def to_yaml(self) -> str:
        """The space as YAML that loads as an equal space, overrides applied, paths absolute."""
        search = self.search.model_dump(mode="json")
        return writer.dump({**holes.spelled(self.tree), "search": search})


def load(source: str | Path, *, overrides: Sequence[str] = ()) -> Space:
    """Read a space from a YAML file, or a ready one by its bare name (``digits``).

    ``overrides`` are ``key.path=value``, applied in order. Every constant and the ends of every
    hole are checked here, so that a misspelt key or an impossible value never reaches training.
    Raises SpaceError, whose text is at most six lines.
    """
    path = locate(source)
    document = read(path, str(path if path.parent == READY else source))
    document = absolute(applied(document, overrides), path.parent)
    problems = _unknown(document)
    open_part = {key: node for key, node in document.value.items() if key in Config.model_fields}
    tree = find(Node(open_part, document.place), problems)
    written = document.value.get("search", Node({}, document.place))
    search, wrong = validated(Search, written, "search")
    if problems or wrong:
        raise SpaceError(_ordered([*problems, *wrong]))
    assert search is not None
    parameters = tuple(holes.parameters(tree))
    epochs = max(
        (c.training.epochs for c in configs(tree, parameters, problems, holes.size(tree))),
        default=0,
    )
    problems += _across(search, written, parameters, epochs)
    if not problems and search.baselines:
        _baselines(tree, parameters, written.value["baselines"].value, problems)
    if problems:
        raise SpaceError(_ordered(problems))
    if search.trials is None:
        search = search.model_copy(update={"trials": 1})
    return Space(
        name=tree.value["name"].value,
        search=search,
        tree=tree,
        parameters=parameters,
        notes=tuple(_notes(search, tree, parameters)),
        source=path.resolve(),
    )


def _unknown(document: Node) -> list[Problem]:
    """Sections that there are not, with the one where the key belongs."""
    problems = []
    for key, node in document.value.items():
        if key not in SECTIONS:
            home = next((s for s, model in INSIDE.items() if key in model.model_fields), None)
            hint = f"; it belongs under {home}" if home else nearest(key, SECTIONS)
            said = f"unknown key{hint} (allowed: {listed(SECTIONS)})"
            problems.append(Problem(node.key, key, said))
    return problems


def _across(
    search: Search, written: Node, parameters: Sequence[Parameter], epochs: int
) -> list[Problem]:
    """What is wrong between the search and what it searches."""
    problems = []
    if search.trials is None and parameters:
        said = f"required key is missing, as there are {len(parameters)} holes (allowed: 1 or more)"
        problems.append(Problem(written.key or written.place, "search.trials", said))
    warmup = search.pruner.params.get("n_warmup_steps") if search.pruner else None
    if isinstance(warmup, int) and 0 < epochs <= warmup:
        place = written.value["pruner"].value["n_warmup_steps"].place
        said = f"it would never prune (got {warmup}; allowed: less than the {epochs} epochs)"
        problems.append(Problem(place, "search.pruner.n_warmup_steps", said))
    return problems


def _baselines(
    tree: Node, parameters: Sequence[Parameter], given: Sequence[Node], problems: list[Problem]
) -> list[dict[str, Any]]:
    return [
        baselines.values(tree, parameters, node, f"search.baselines.{number}", problems)
        for number, node in enumerate(given, 1)
    ]


def _notes(search: Search, tree: Node, parameters: Sequence[Parameter]) -> Iterator[str]:
    """What is legal, but may not be meant."""
    if not parameters:
        yield "no holes: this is one network"
    elif holes.size(tree) == 1:
        yield "the holes leave one setting only"
    for parameter in parameters:
        if parameter.count() == 1:
            yield f"{parameter.name} can have one value only: {parameter.at(0)}"
    size = holes.size(tree)
    if size is not None and search.trials is not None and search.trials > size > 1:
        yield f"{search.trials} trials, but there are {size} settings only"
    if search.max_concurrent and search.trials and search.max_concurrent > search.trials:
        yield f"{search.max_concurrent} trials at once, but there are {search.trials} only"


def _ordered(problems: Sequence[Problem]) -> list[Problem]:
    """In the order of the file, then of the overrides."""

    def position(problem: Problem) -> tuple[bool, str, int, int]:
        place = problem.place or Place("")
        return place.line is None, place.source, place.line or 0, place.column or 0

    return sorted(problems, key=position)
