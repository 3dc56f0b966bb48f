"""Every network of a space that can be listed, with no work done twice.

Settings are many, their parts few: the 36,884 settings of `cifar10_mobilenetv2` are made of 4
backbones, 128 placements and 36 mappings. A part is checked where it first appears, a network is
measured where its backbone, its sites and their kernels first meet.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any

import trainers
from search.beforehand.options import reason
from spaces import Config, Space
from spaces.config import Attention
from spaces.errors import VariantError
from spaces.fit import misfits
from spaces.parameters import Parameter
from spaces.site import Site
from trainers.build import kernel, sites, stands
from trainers.datasets import DatasetError

Values = dict[str, Any]
Key = tuple[Any, ...]
INNER = ("placement", "mapping")
"""Parts of the attention that have parameters, and so parts, of their own."""


@dataclass(frozen=True, slots=True)
class Network:
    """A built network, by its identity, and what it costs."""

    identity: str
    costs: dict[str, float]


def measured(config: Config) -> dict[str, float]:
    """The costs of a config's network; raises ValueError for one that cannot be built or run."""
    try:
        cost = trainers.measure(config)
    except (ValueError, OSError, MemoryError):
        raise
    except Exception as error:  # a person's own variant may raise anything
        said = f"{type(error).__name__}: {error}"
        raise VariantError(("attention", said)) from error
    return {"params": float(cost.params), "macs": float(cost.macs)}


@dataclass(frozen=True, slots=True)
class Bin:
    """How many networks cost from `least` to `most`; the last bin includes its end."""

    least: float
    most: float
    networks: int


def histogram(costs: Collection[float], bins: int = 12) -> tuple[Bin, ...]:
    """Positive costs in bins of equal ratio from the least to the most; one bin of equal costs."""
    least, most = min(costs), max(costs)
    if least == most:
        return (Bin(least, most, len(costs)),)
    ratio = math.log(most / least)
    counts = Counter(min(int(bins * math.log(cost / least) / ratio), bins - 1) for cost in costs)
    edges = [least * math.exp(ratio * place / bins) for place in range(bins)] + [most]
    return tuple(Bin(edges[place], edges[place + 1], counts[place]) for place in range(bins))


class Networks:
    """The networks of a space's settings; `invalid` gathers why some cannot be built.

    `first` is the first setting that cannot, with what it raised.
    """

    def __init__(self, space: Space) -> None:
        self.invalid: dict[str, None] = {}
        self.first: tuple[Values, ValueError] | None = None
        self._space = space
        self._parts_of = {
            parameter.name: (*Config.model_fields, *INNER) if space.arms else (part(parameter),)
            for parameter in space.parameters
        }
        self._parts: dict[tuple[str, Key], Any] = {}
        self._standing: dict[Key, tuple[Site, ...]] = {}
        self._kernels: dict[Key, int | None] = {}
        self._networks: dict[Key, Network] = {}

    def __iter__(self) -> Iterator[tuple[Values, Network]]:
        """Each setting that can be built, in the order of the settings, with its network."""
        for values in self._space.settings():
            try:
                yield values, self._network(values)
            except DatasetError:
                raise
            except ValueError as error:
                self.first = self.first or (values, error)
                self.invalid[reason(error)] = None

    def _network(self, values: Values) -> Network:
        keys = self._keys(values)
        config = self._assembled(keys) or self._checked(values, keys)
        key = self._built(config, keys)
        if key not in self._networks:
            self._networks[key] = Network(trainers.identity(config), measured(config))
        return self._networks[key]

    def _keys(self, values: Values) -> dict[str, Key]:
        """What each part is made from: its own values, and the attention that it is inside of."""
        keys: dict[str, list[Any]] = {name: [] for name in (*Config.model_fields, *INNER)}
        for name, value in values.items():
            for of in self._parts_of[name]:
                keys[of].append((name, value))
        for inner in INNER:
            keys[inner].append(values.get("attention"))
        return {name: tuple(found) for name, found in keys.items()}

    def _checked(self, values: Values, keys: dict[str, Key]) -> Config:
        """The config in full, its parts remembered."""
        config = self._space.at(values)
        for part, key in keys.items():
            whole = config.attention if part in INNER else config
            self._parts[part, key] = getattr(whole, part)
        return config

    def _assembled(self, keys: dict[str, Key]) -> Config | None:
        """The config from parts seen before; None where one is new, or they do not fit."""
        try:
            parts = {part: self._parts[part, key] for part, key in keys.items()}
        except KeyError:
            return None
        inner = {part: parts.pop(part) for part in INNER}
        parts["attention"] = parts["attention"].model_copy(update=inner)
        if misfits(*(parts[part].model_dump() for part in ("backbone", "attention", "task"))):
            return None
        return Config.model_construct(**parts)

    def _built(self, config: Config, keys: dict[str, Key]) -> Key:
        """What the network is built from: equal only where `trainers.identity` is."""
        attention = config.attention
        around = (keys["task"], keys["dataset"], keys["backbone"])
        where = (*around, keys["placement"], attention.position)
        if where not in self._standing:
            self._standing[where] = tuple(s for s in sites(config) if stands(attention, s))
        standing = self._standing[where]
        sizes = tuple(self._kernel(attention, keys["mapping"], site) for site in standing)
        own = (attention.name, repr(attention.params)) if standing else ()
        return (*around, own, attention.position, standing, sizes)

    def _kernel(self, attention: Attention, mapping: Key, site: Site) -> int | None:
        key = (mapping, site)
        if key not in self._kernels:
            self._kernels[key] = kernel(attention, site)
        return self._kernels[key]


def part(parameter: Parameter) -> str:
    """Which part of a config a parameter belongs to: `mapping` for `attention.eca.mapping.b`.

    Its name without the labels of the choices it lies inside of is its place in the config.
    """
    path = parameter.name
    for parent, label in reversed(parameter.condition):
        path = parent + path.removeprefix(f"{parent}.{label}")
    section, *below = path.split(".")
    return below[0] if section == "attention" and below and below[0] in INNER else section
