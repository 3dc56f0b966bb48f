"""Backbones at their published size, by name and depth: their stages, known without torch."""

from __future__ import annotations

from dataclasses import dataclass

from spaces import catalogue
from spaces.errors import VariantError, listed, nearest


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage at width 1: attention at position `final` of each block sees `channels` channels.

    ``number`` counts from 1.
    """

    number: int
    channels: int
    blocks: int


def names() -> list[str]:
    """Every backbone by name and depth: `resnet8`, ..., `mobilenetv2`; none that asks for more."""
    return [
        kind if depth is None else f"{kind}{depth}"
        for kind in catalogue.names("backbone")
        if not catalogue.required("backbone", kind) - {"depth"}
        for depth in catalogue.depths(kind) or (None,)
    ]


def split(name: str) -> tuple[str, int | None]:
    """`resnet50` as backbone and depth; `mobilenetv2` is a backbone's whole name."""
    if name in catalogue.names("backbone"):
        return name, None
    kind = name.rstrip("0123456789")
    return kind, int(name[len(kind) :][:9]) if kind != name else None


def stages(name: str) -> tuple[Stage, ...]:
    """The stages of a published backbone, first to last.

    Raises VariantError for a name that is none, or a backbone whose file lists no BLOCKS and
    CHANNELS.
    """
    if name not in names():
        known = names()
        said = f"no backbone named {name!r}{nearest(name, known)} (there are: {listed(known, 20)})"
        raise VariantError(("backbone", said))
    kind, depth = split(name)
    params = {"name": kind, "depth": depth}
    blocks, channels = catalogue.blocks(params), catalogue.channels(params)
    if blocks is None or channels is None:
        said = f"{kind} does not say its channels (its file lacks the literals BLOCKS, CHANNELS)"
        raise VariantError(("backbone", said))
    return tuple(
        Stage(number, width, count)
        for number, (width, count) in enumerate(zip(channels, blocks, strict=True), 1)
    )
