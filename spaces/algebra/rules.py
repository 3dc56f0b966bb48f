"""Rules: a kernel mapping with its parameters, under the name by which people speak of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from spaces import catalogue
from spaces.errors import SpaceError, VariantError, clipped, listed, nearest
from spaces.reader import parse

Answer = int | str
"""A kernel size, or why there is none."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A mapping: ``rule(channels, stage)`` is its answer, ``mapping`` how a space file says it."""

    name: str
    mapping: Mapping[str, Any]
    function: Callable[..., int]

    @property
    def staged(self) -> bool:
        """Whether it has a kernel for each stage rather than for channels."""
        return bool(self.mapping["name"] == "per_stage")

    def __call__(self, channels: int, stage: int | None = None) -> Answer:
        """The kernel size, or why the mapping refuses such channels, without their number."""
        try:
            return self.function(channels, stage)
        except VariantError as error:
            return error.message.partition(" (")[0]
        except ValueError as error:
            return str(error).partition(" (")[0]


def figure_3(channels: int, stage: int | None = None) -> int:
    """The listing of the paper's figure 3 with its gamma=2, b=1, word for word."""
    t = int(abs((math.log2(channels) + 1) / 2))
    return t if t % 2 else t + 1


PUBLISHED = "published"
NAMED: dict[str, dict[str, Any]] = {
    PUBLISHED: {"name": "log2", "gamma": 2.0, "b": 1.0},
    "nearest_odd_ties_up": {"name": "log2", "gamma": 2.0, "b": 1.0, "rounding": "nearest"},
    "nearest_odd_ties_down": {"name": "log2", "gamma": 2.0, "b": 1.0, "rounding": "nearest_down"},
    "floor_odd": {"name": "log2", "gamma": 2.0, "b": 1.0, "rounding": "floor"},
    "ceil_odd": {"name": "log2", "gamma": 2.0, "b": 1.0, "rounding": "ceil"},
    "timm": {"name": "log2", "gamma": 2.0, "b": 1.0, "k_min": 3},
    "constant_3": {"name": "constant", "kernel_size": 3},
}
"""Rules for any channels. `published` is evaluated as `figure_3`; timm clamps at 3 from below."""

RELEASED: dict[str, dict[str, tuple[int, ...]]] = {
    "resnet18": {"released": (3, 5, 7, 7)},
    "resnet34": {"released": (3, 3, 5, 7)},
    "resnet50": {"released": (3, 5, 5, 7), "released_coco": (3, 3, 7, 7)},
    "resnet101": {"released": (3, 3, 5, 7)},
    "resnet152": {"released": (3, 3, 5, 7)},
    "mobilenetv2": {"released": (1, 1, 1, 1, 3, 3, 3)},
}
"""Kernel per stage of the authors' checkpoints (BangguWu/ECANet): `released` on ImageNet,
`released_coco` of Mask R-CNN and RetinaNet."""


def of(mapping: Mapping[str, Any], name: str = "") -> Rule:
    """A mapping as a space file writes it, as a rule. Raises VariantError where it is none."""
    checked = catalogue.check("mapping", dict(mapping))
    function = import_module(f"spaces.mappings.{checked['name']}").mapping
    params = {key: value for key, value in checked.items() if key != "name"}

    def answer(channels: int, stage: int | None = None) -> int:
        kernel: int = function(channels, stage, **params)
        return kernel

    return Rule(name or checked["name"], dict(mapping), answer)


def named(name: str) -> Rule:
    """A rule of `NAMED`."""
    rule = of(NAMED[name], name)
    return Rule(name, rule.mapping, figure_3) if name == PUBLISHED else rule


def every(backbone: str | None = None) -> list[Rule]:
    """All rules that have a name, those released for a backbone among them."""
    profiles = RELEASED.get(backbone or "", {})
    return [*map(named, NAMED), *(_released(*profile) for profile in profiles.items())]


def read(text: str, backbone: str | None = None) -> Rule:
    """A rule as a person writes it: a name, or a mapping in YAML, `{name: linear, gamma: 64}`.

    A name is one of `NAMED`, of `RELEASED` for the backbone, or a mapping's (its defaults); a
    hyphen counts as an underscore. Raises SpaceError or VariantError where it is none.
    """
    try:
        written = parse(text, "rule").plain()
    except SpaceError as error:
        raise VariantError(("rule", error.problems[0].message)) from None
    if isinstance(written, dict):
        return of(written, clipped(text, 60))
    name = str(written).replace("-", "_")
    profiles = RELEASED.get(backbone or "", {})
    if name in NAMED:
        return named(name)
    if name in profiles:
        return _released(name, profiles[name])
    if name in catalogue.names("mapping"):
        return of({"name": name}, name)
    raise VariantError(("rule", _unknown(name, backbone)))


def _released(name: str, kernels: tuple[int, ...]) -> Rule:
    return of({"name": "per_stage", "kernel_sizes": list(kernels)}, name)


def _unknown(name: str, backbone: str | None) -> str:
    having = [known for known, profiles in RELEASED.items() if name in profiles]
    if having:
        where = f"for {backbone}" if backbone else "for channels alone"
        return f"no profile {name!r} {where} (there is one for: {listed(having)})"
    own = RELEASED.get(backbone or "", {})
    known = list(dict.fromkeys([*NAMED, *own, *catalogue.names("mapping")]))
    near = nearest(name, known)
    return (
        f"no rule named {clipped(repr(name), 60)}{near} "
        f"(there are: {listed(known, 20)}; or YAML such as {{name: constant, kernel_size: 3}})"
    )
