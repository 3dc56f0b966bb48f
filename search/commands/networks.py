"""`complexity`: what networks cost, before any space is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, plugin

if TYPE_CHECKING:
    from spaces import Config


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
    from spaces import published as backbones
    from trainers.complexity import count, measure
    from trainers.datasets import Description

    if name in backbones.names():
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
        check_name(source)
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
    from spaces.published import split

    check_name(name)
    _check_attention(attention)
    kind, depth = split(name)
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


def check_name(name: str) -> None:
    """Refuse a name that is no backbone and no ready space, naming the nearest."""
    from spaces.errors import clipped, listed, nearest
    from spaces.paths import ready
    from spaces.published import names, split

    networks = names()
    if name in (*networks, *ready()):
        return
    kind, depth = split(name)
    depths = [known for known in map(split, networks) if depth and known[0] == kind and known[1]]
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
