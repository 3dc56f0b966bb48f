"""A space: a config with holes. ``load`` reads one from YAML; ``Space.at`` fills its holes."""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from spaces import arms, baselines, holes, places, writer
from spaces.arm_options import added
from spaces.arms import Arms
from spaces.config import Attention, Config, Dataset, Training
from spaces.errors import Place, Problem, SpaceError, counted, listed, nearest
from spaces.find import find
from spaces.holes import dotted
from spaces.objectives import USUAL, shared, tasks
from spaces.overrides import applied
from spaces.parameters import Parameter, every
from spaces.paths import READY, absolute, locate
from spaces.probe import configs, configured, validated
from spaces.reader import Node, located, read, whole
from spaces.settings import Search, usual_objectives

SECTIONS = (*Config.model_fields, *arms.KEYS, "search")
EMPTY = ("stages", "blocks")
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
    the choices that it depends on. ``notes`` say what is legal but worth knowing. ``tree`` and
    ``written`` (the search) are the document, each value with its place. With ``arms`` it is a
    comparison: the settings are the arms, and ``tree`` is made of them. Two spaces are equal when
    they mean the same, wherever they were read from.
    """

    name: str
    search: Search
    tree: Node = field(repr=False)
    parameters: tuple[Parameter, ...]
    notes: tuple[str, ...] = field(compare=False)
    source: Path = field(compare=False)
    written: Node = field(repr=False, compare=False)
    arms: Arms | None = field(default=None, repr=False)

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
        """The values of ``search.baselines``; a hole that one leaves open takes its default.

        Of a space with arms: those of every arm, which are all there is to ask for.
        """
        if self.arms is not None:
            return list(self.settings())
        given = located(self.search.baselines, Place("search.baselines")).value
        return _baselines(self.tree, self.parameters, given, [])

    def problem(self, key: str, message: str, values: Mapping[str, Any] | None = None) -> Problem:
        """What turned out to be wrong with the value at a dotted key, at its place in the document.

        ``key`` is a parameter's name, a config's key, or one of the search (``search.limits.macs``,
        ``search.baselines.2``). What is not written is placed where its section is. With ``values``
        it is the config's key at that point, so that of two options the one taken is meant.
        """
        section, _, below = key.partition(".")
        if section == "search":
            return Problem(places.nearest(self.written, below), key, message)
        tree = self.tree if values is None else holes.filled(self.tree, values)
        return Problem(places.nearest(arms.chosen(tree), key), key, message)

    def to_yaml(self) -> str:
        """The space as YAML that loads as an equal space, overrides applied, paths absolute."""
        search = self.search.model_dump(mode="json")
        if self.arms is None:
            return writer.dump({**holes.spelled(self.tree), "search": search})
        for key in arms.NOT_SEARCHED:
            del search[key]
        return writer.dump({**self.arms.spelled(), "search": search})


def load(
    source: str | Path,
    *,
    overrides: Sequence[str] = (),
    text: str | None = None,
    compared: Sequence[str] | None = None,
    blocks: Sequence[str] = (),
) -> Space:
    """Read a space from a YAML file, or a ready one by its bare name (``digits``).

    ``text`` is what the file says where it is known already. ``overrides`` are ``key.path=value``,
    applied in order; a baseline of the file that one contradicts is left out, with a note. Every
    constant and the values of every hole are checked here, so that a misspelt key or an impossible
    value never reaches training. With ``compared`` it is loaded as a comparison of these arms
    (``arm_options.added``; of its own where the list is empty) over ``blocks``.
    Raises SpaceError, whose text is at most six lines.
    """
    path = locate(source) if text is None else Path(source)
    called = str(path if path.parent == READY else source)
    document = read(path, called) if text is None else whole(text, called)
    before, document = document, applied(document, overrides)
    if compared is not None:
        document = added(document, compared, blocks)
    document = absolute(document, path.parent)
    problems = _unknown(document)
    tree = _open(document, problems)
    problems += _nowhere(tree)
    called = tree.value["name"].value if "name" in tree.value else ""
    comparison: Arms | None = None
    opens: list[Problem] = []
    if "arms" in document.value and not problems:
        tree, comparison, opens = arms.opened(document, tree, problems)
        problems = list(dict.fromkeys(problems))
    elif "blocks" in document.value and "arms" not in document.value:
        said = "a comparison's, and there are no arms (allowed: leave it out)"
        problems.append(Problem(document.value["blocks"].key, "blocks", said))
    written = document.value.get("search", Node({}, document.place))
    named = tasks(tree)
    of = named or USUAL
    search, wrong = validated(Search, written, "search", {"tasks": of})
    if not named:  # of a task that there is not, that is what is wrong
        wrong = [problem for problem in wrong if not problem.key.startswith("search.objectives")]
    if search is not None and "objectives" not in written.value:
        search = search.model_copy(update={"objectives": usual_objectives(of)})
        if not shared(of):
            said = f"{' and '.join(of)} report nothing that is the same (allowed: name what counts)"
            problems.append(Problem(written.key or written.place, "search.objectives", said))
    if problems:
        raise SpaceError(_ordered([*problems, *wrong]))
    parameters = tuple(holes.parameters(tree))
    size = holes.size(tree)
    epochs = [c.training.epochs for c in configs(tree, parameters, problems, size)]
    problems = problems or opens  # a misspelt key leaves open what it was meant for
    if search is None or opens:
        raise SpaceError(_ordered([*problems, *wrong]))
    problems += _too_dear(search, written, epochs)
    if comparison is None:
        problems += _across(search, written, parameters, max(epochs, default=0))
    else:
        problems += arms.unsearched(written)
    against = search.compare.against
    if comparison is not None and against is not None and against not in comparison.replaced:
        known = list(comparison.replaced)
        said = f"no such arm{nearest(against, known)} (there are: {listed(known)})"
        problems.append(Problem(written.value["compare"].place, "search.compare.against", said))
    if search.confirms and comparison is None:
        said = "only arms are confirmed (allowed: leave it out; `eca-search confirm STUDY`)"
        problems.append(Problem(written.value["confirms"].key, "search.confirms", said))
    notes = list(_notes(search, tree, parameters))
    if not problems and search.baselines:
        given = written.value["baselines"].value
        dropped = _overridden(given, tree, before) if overrides else {}
        _baselines(tree, parameters, given, problems, dropped)
        kept = [number for number in range(len(given)) if number not in dropped]
        search = search.model_copy(update={"baselines": [search.baselines[n] for n in kept]})
        there = written.value["baselines"]
        left = Node([given[number] for number in kept], there.place, there.key)
        written = Node({**written.value, "baselines": left}, written.place, written.key)
        notes += dropped.values()
    if problems:
        raise SpaceError(_ordered(problems))
    if comparison is not None or search.trials is None:
        search = search.model_copy(update={"trials": holes.size(tree) if comparison else 1})
    return Space(
        name=called,
        search=search,
        tree=tree,
        parameters=parameters,
        notes=tuple(notes),
        source=path.resolve(),
        written=written,
        arms=comparison,
    )


def _open(document: Node, problems: list[Problem]) -> Node:
    """All of the document but the search, with its holes."""
    part = {key: node for key, node in document.value.items() if key in Config.model_fields}
    return find(Node(part, document.place), problems)


def _nowhere(node: Node, key: str = "") -> Iterator[Problem]:
    """Placements that are written as a list of nothing: a slip, as no attention has a name.

    A subset of which nothing is chosen is none: there it is one of the points.
    """
    inside = node.value
    if isinstance(inside, holes.Choice):
        for option in inside.options:
            yield from _nowhere(option.node, dotted(key, str(option.label)))
    elif isinstance(inside, dict):
        for name, below in inside.items():
            here = dotted(key, name)
            if name in EMPTY and below.value == [] and key.endswith("placement"):
                said = f"attention nowhere (got []; allowed: one or more {name}, or {{name: none}})"
                yield Problem(below.place, here, said)
            yield from _nowhere(below, here)


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
        said = (
            f"required key is missing, with {counted(len(parameters), 'hole')} (allowed: 1 or more)"
        )
        problems.append(Problem(written.key or written.place, "search.trials", said))
    warmup = search.pruner.params.get("n_warmup_steps") if search.pruner else None
    if isinstance(warmup, int) and 0 < epochs <= warmup:
        place = written.value["pruner"].value["n_warmup_steps"].place
        said = f"it would never prune (got {warmup}; allowed: less than {counted(epochs, 'epoch')})"
        problems.append(Problem(place, "search.pruner.n_warmup_steps", said))
    return problems


def _too_dear(search: Search, written: Node, epochs: Sequence[int]) -> Iterator[Problem]:
    """A budget that pays for not one training."""
    least, most = min(epochs, default=0), search.budget and search.budget.epochs
    if most and most < least:
        place = written.value["budget"].value["epochs"].place
        said = f"it pays for no training (got {most}; allowed: {least} or more)"
        yield Problem(place, "search.budget.epochs", said)


def _baselines(
    tree: Node,
    parameters: Sequence[Parameter],
    given: Sequence[Node],
    problems: list[Problem],
    dropped: Container[int] = (),
) -> list[dict[str, Any]]:
    return [
        baselines.values(tree, parameters, node, f"search.baselines.{number + 1}", problems)
        for number, node in enumerate(given)
        if number not in dropped
    ]


def _overridden(given: Sequence[Node], tree: Node, before: Node) -> dict[int, str]:
    """The file's baselines that only the overrides make impossible, with a note for each."""
    closed = _open(before, [])
    notes = {}
    for number, node in enumerate(given):
        key = f"search.baselines.{number + 1}"
        wrong = baselines.misfits(tree, node, key)
        if wrong and node.place.line is not None and not baselines.misfits(closed, node, key):
            said = f"{key} is left out, as an override closed what it asks for"
            notes[number] = f"{said} ({Problem(None, wrong[0].key, wrong[0].message)})"
    return notes


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
