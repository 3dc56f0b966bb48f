"""`mappings` and `complexity`: kernels and costs of networks, before any space is written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, plugin

if TYPE_CHECKING:
    from spaces import Config

GAMMAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
SHIFTS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
WIDEST = 1_000_000
MOST = 500
"""Numbers of one option: of 500 gammas and 500 b there are 250,000 pairs to look at."""


class Numbers(click.ParamType[tuple[float, ...]]):
    """Numbers with commas between them, `1,1.5,2`, each only once."""

    name = "numbers"

    def __init__(self, kind: type[int] | type[float]) -> None:
        self.kind = kind

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        """The numbers; a usage error for what is none."""
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(dict.fromkeys(self.kind(part) for part in value.split(",")))
        except ValueError:
            from spaces.errors import clipped

            what = "whole numbers" if self.kind is int else "numbers"
            said = f"{clipped(repr(value), 60)} (allowed: {what} with commas between them)"
            self.fail(said, param, ctx)
        if len(numbers) > MOST:
            self.fail(f"{len(numbers)} numbers (allowed: {MOST})", param, ctx)
        return numbers


@command(
    example="eca-search mappings --backbone resnet18\n"
    "eca-search mappings --channels 16,32,64 --gamma 1,2,4 --b 0,1"
)
@click.option("--backbone", metavar="NAME", help="Its channel counts: resnet50, mobilenetv2, ...")
@click.option("--channels", type=Numbers(int), metavar="C,C,...", help="Channel counts instead.")
@click.option("--gamma", "gammas", type=Numbers(float), default=GAMMAS, help="Values of gamma.")
@click.option("--b", "shifts", type=Numbers(float), default=SHIFTS, help="Values of b.")
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "nearest_down", "floor", "ceil"]),
    default="nearest",
    show_default=True,
    help="To an odd number; nearest takes ties up, as in the paper's figure 3.",
)
@as_json
def mappings(
    backbone: str | None,
    channels: tuple[int, ...] | None,
    gammas: tuple[float, ...],
    shifts: tuple[float, ...],
    rounding: str,
    as_json: bool,
) -> None:
    """Show the kernel that (gamma, b) of the log2 mapping give each channel count.

    Pairs that give the same kernels everywhere are the same network, and stand in one row. Without
    --channels they are those where attention stands in a backbone (resnet50 unless named).
    """
    from spaces.mappings.log2 import mapping

    if backbone and channels:
        raise click.UsageError("--backbone or --channels, not both")
    for count in channels or ():
        if not 1 <= count <= WIDEST:
            said = f"got {str(count)[:40]}; allowed: at least 1, at most {WIDEST:,}"
            raise click.UsageError(f"channels out of range ({said})")
    repeats: dict[int, int] | None = None
    if not channels:
        backbone = backbone or "resnet50"
        repeats = _channels(backbone)
        channels = tuple(repeats)
    networks: dict[tuple[int, ...], list[tuple[float, float]]] = {}
    refused: dict[tuple[float, float], str] = {}
    for gamma in gammas:
        for b in shifts:
            try:
                kernels = tuple(mapping(c, gamma=gamma, b=b, rounding=rounding) for c in channels)  # type: ignore[arg-type]
            except ValueError as error:
                refused[gamma, b] = getattr(error, "message", str(error))
                continue
            networks.setdefault(kernels, []).append((gamma, b))
    if not networks:
        raise click.UsageError(_refusal(next(iter(refused.values())), gammas, shifts))
    if as_json:
        emit(
            backbone=backbone,
            channels=list(channels),
            rounding=rounding,
            pairs=len(gammas) * len(shifts),
            networks=len(networks),
            mappings=[
                {
                    "kernels": list(kernels),
                    "pairs": [{"gamma": gamma, "b": b} for gamma, b in pairs],
                    **({"params": _added(kernels, repeats)} if repeats else {}),
                }
                for kernels, pairs in sorted(networks.items())
            ],
            refused=[{"gamma": g, "b": b, "reason": why} for (g, b), why in refused.items()],
        )
        return
    click.echo(_table(networks, channels, repeats))
    where = backbone or "these channels"
    found = f"{len(networks)} network{'s'[: len(networks) != 1]}"
    click.echo(f"{len(gammas) * len(shifts)} pairs, {found} on {where}")
    for why, pairs in _by_reason(refused).items():
        click.echo(f"refused: {_pairs(pairs)}: {why}")


def _refusal(why: str, gammas: Sequence[float], shifts: Sequence[float]) -> str:
    """What is said of options of which no pair gives a kernel."""
    said = f"--gamma {','.join(f'{g:g}' for g in gammas)} --b {','.join(f'{b:g}' for b in shifts)}"
    return f"no pair of {said} gives a kernel: {why}"


def _table(
    networks: dict[tuple[int, ...], list[tuple[float, float]]],
    channels: Sequence[int],
    repeats: dict[int, int] | None,
) -> str:
    from search.text import columns

    heading = [f"k({c})" for c in channels] + (["params"] if repeats else []) + ["(gamma, b)"]
    rows = [
        [*map(str, kernels), *([f"{_added(kernels, repeats)}"] if repeats else []), _pairs(pairs)]
        for kernels, pairs in sorted(networks.items())
    ]
    return columns(heading, rows, left=["(gamma, b)"])


def _added(kernels: Sequence[int], repeats: dict[int, int]) -> int:
    """Parameters that ECA adds in every block: the sum of k."""
    return sum(k * blocks for k, blocks in zip(kernels, repeats.values(), strict=True))


def _pairs(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"({gamma:g},{b:g})" for gamma, b in pairs)


def _by_reason(refused: dict[tuple[float, float], str]) -> dict[str, list[tuple[float, float]]]:
    """Pairs by why they are refused, without the numbers of the single case."""
    reasons: dict[str, list[tuple[float, float]]] = {}
    for pair, why in refused.items():
        reasons.setdefault(why.partition(" (")[0], []).append(pair)
    return reasons


def _channels(backbone: str) -> dict[int, int]:
    """Channel counts where attention stands, with how many blocks have each, in network order."""
    from trainers.build import sites

    counts: dict[int, int] = {}
    for site in sites(published(backbone, "none")[0]):
        if site.position == "final":
            counts[site.channels] = counts.get(site.channels, 0) + 1
    return counts


@command(
    example="eca-search complexity resnet50 mobilenetv2 --attention eca\n"
    "eca-search complexity resnet20 --image-size 64 --json"
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
@click.option("--attention", metavar="NAME", help="In every block: none, eca, se, ...")
@click.option(
    "--image-size", type=click.IntRange(4, 4096), metavar="PIXELS", help="Other than its own."
)
@plugin
@as_json
def complexity(
    names: tuple[str, ...],
    attention: str | None,
    image_size: int | None,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print the parameters and MACs of NAMEs, counted without allocating them.

    NAME is a backbone at its published size (resnet18 to resnet152 and mobilenetv2 at 224 pixels
    and 1000 classes, resnet8 to resnet110 at 32 and 10), or a space file, its holes at their
    defaults, or at their first values where they have none.
    """
    from spaces import catalogue

    for file in plugins:
        catalogue.plug(file)
    models = [_model(name, attention, image_size) for name in names]
    if as_json:
        emit(models=models)
        return
    from search.text import MACS, columns

    heading = ["name", "attention", "image_size", "params", "macs"]
    rows = [
        [*(str(model[key]) for key in heading[:3]), *(f"{model[key]:,}" for key in heading[3:])]
        for model in models
    ]
    click.echo(columns(heading, rows, left=heading[:2]))
    click.echo(MACS)


def _model(name: str, attention: str | None, image_size: int | None) -> dict[str, Any]:
    from trainers.complexity import count, measure
    from trainers.datasets import Description

    if _is_backbone(name):
        config, published_size, classes = published(name, attention or "none")
        size = image_size or published_size
        cost = count(config.backbone, config.attention, Description(classes, 3, size))
    else:
        from trainers.network import describe

        config = _point(name, attention, image_size)
        size, cost = describe(config).image_size, measure(config)
    return {
        "name": name,
        "attention": config.attention.name,
        "image_size": size,
        "params": cost.params,
        "macs": cost.macs,
    }


def _point(source: str, attention: str | None, image_size: int | None) -> Config:
    """The one network of a space file: its holes at their defaults, else at their first values."""
    import spaces
    from spaces import Config

    if Path(source).suffix not in (".yaml", ".yml") and not os.path.lexists(source):
        _known(source)
    space = spaces.load(source)
    config = space.at(space.fill(lambda parameter: parameter.first()))
    told: dict[str, Any] = config.model_dump(mode="json")
    if attention is not None:
        _check_attention(attention)
        told["attention"] = {"name": attention}
    if image_size is not None:
        told["dataset"]["image_size"] = image_size
    return Config.model_validate(told)


def published(name: str, attention: str) -> tuple[Config, int, int]:
    """A backbone by name and depth, with its published image size in pixels and classes.

    Three stages mean CIFAR-10's 32 and 10, any other number ImageNet's 224 and 1000.
    """
    from spaces import Config, catalogue

    _known(name)
    _check_attention(attention)
    kind, depth = _split(name)
    backbone = {"name": kind} if depth is None else {"name": kind, "depth": depth}
    backbone = catalogue.check("backbone", backbone)
    blocks = catalogue.blocks(backbone)
    size, classes = (32, 10) if blocks is not None and len(blocks) == 3 else (224, 1000)
    backbone |= {"stem": "cifar" if size == 32 else "imagenet"} if "stem" in backbone else {}
    config = Config.model_validate(
        {
            "name": "published",
            "dataset": {"name": "digits", "image_size": size},
            "backbone": backbone,
            "attention": {"name": attention},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )
    return config, size, classes


def _is_backbone(name: str) -> bool:
    return name in _backbones()


def _backbones() -> list[str]:
    """Every backbone by name and depth: `resnet8`, ..., `mobilenetv2`."""
    from spaces import catalogue

    return [
        kind if depth is None else f"{kind}{depth}"
        for kind in catalogue.names("backbone")
        for depth in catalogue.depths(kind) or (None,)
    ]


def _split(name: str) -> tuple[str, int | None]:
    """`resnet50` as backbone and depth; `mobilenetv2` is a backbone's whole name."""
    from spaces import catalogue

    if name in catalogue.names("backbone"):
        return name, None
    kind = name.rstrip("0123456789")
    return kind, int(name[len(kind) :][:9]) if kind != name else None


def _known(name: str) -> None:
    """Refuse a name that is no backbone and no ready space, naming the nearest."""
    from spaces.errors import clipped, listed, nearest
    from spaces.paths import ready

    networks = _backbones()
    if name in (*networks, *ready()):
        return
    kind, depth = _split(name)
    depths = [known for known in map(_split, networks) if depth and known[0] == kind and known[1]]
    closest = min(depths, key=lambda known: abs((known[1] or 0) - (depth or 0)), default=None)
    near = (
        f"; did you mean '{kind}{closest[1]}'?" if closest else nearest(name, [*networks, *ready()])
    )
    raise click.UsageError(
        f"no backbone or space named {clipped(repr(name), 60)}{near} "
        f"(there are: {listed(networks, most=20)}, and space files)"
    )


def _check_attention(name: str) -> None:
    from spaces import catalogue
    from spaces.errors import VariantError

    try:
        catalogue.path("attention", name)
    except VariantError as error:
        raise click.UsageError(f"--attention: {error.message}") from None
