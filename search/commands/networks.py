"""`complexity`: what networks cost, before any space is written."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, plugin

if TYPE_CHECKING:
    from spaces import Config
    from trainers.datasets import Description


@command(
    example="eca-search complexity resnet50 mobilenetv2 --attention eca\n"
    "eca-search complexity resnet20 --image-size 64 --json\n"
    "eca-search complexity resnet50 --attention eca --latency --batch-size 8\n"
    "eca-search complexity --paper"
)
@click.argument("names", nargs=-1, metavar="NAME...")
@click.option("--attention", metavar="NAME", help="In every block: none, eca, se, ...")
@click.option(
    "--image-size", type=click.IntRange(4, 4096), metavar="PIXELS", help="Other than its own."
)
@click.option("--latency", "timed", is_flag=True, help="Measure a forward pass here, too.")
@click.option(
    "--batch-size",
    type=click.IntRange(1, 65536),
    metavar="N",
    help="Images of that pass; 1 unless given.",
)
@click.option("--paper", is_flag=True, help="The tables of the ECA-Net paper, beside our counts.")
@plugin
@as_json
def complexity(
    names: tuple[str, ...],
    attention: str | None,
    image_size: int | None,
    timed: bool,
    batch_size: int | None,
    paper: bool,
    plugins: tuple[Path, ...],
    as_json: bool,
) -> None:
    """Print the parameters and MACs of NAMEs, counted without allocating them.

    NAME is a backbone at its published size (resnet18 to resnet152 and mobilenetv2 at 224 pixels
    and 1000 classes, resnet8 to resnet110 at 32 and 10), a detector over one of them
    (faster_rcnn_resnet50: 80 classes, an image of 800 x 1280), or a space file, its holes at their
    defaults, or at their first values where they have none. The latency is that of this machine:
    what else runs on it is in it. --paper takes no NAME: every backbone with every attention at the
    paper's settings, what is printed there, and the convention that reconciles the two.
    """
    if paper:
        if names or attention or image_size or timed or batch_size or plugins:
            raise click.UsageError("--paper goes with --json alone")
        from search.commands import paper as printed

        table = printed.table()
        if as_json:
            emit(**table)
        else:
            click.echo(printed.text(table))
        return
    if not names:
        raise click.UsageError("Missing argument 'NAME...' (or --paper).")
    from spaces import catalogue

    if batch_size and not timed:
        raise click.UsageError("--batch-size is of --latency (give both)")

    for file in plugins:
        catalogue.plug(file)
    batch = (batch_size or 1) if timed else None
    models = [_model(name, attention, image_size, batch) for name in names]
    if as_json:
        emit(models=models)
        return
    from search.front import tables
    from search.text import LATENCY, MACS, columns
    from spaces.errors import counted
    from spaces.latency import Latency

    heading = ["name", "attention", "image_size", "params", "macs"]
    rows = [
        [*(str(model[key]) for key in heading[:3]), *(f"{model[key]:,}" for key in heading[3:])]
        for model in models
    ]
    found = [Latency(**model["latency"]) for model in models if "latency" in model]
    if found:
        heading.append("latency_ms")
        rows = [[*row, tables.milliseconds(it)] for row, it in zip(rows, found, strict=True)]
    click.echo(columns(heading, rows, left=heading[:2]))
    click.echo(MACS)
    for model in models:
        if "input" in model:
            _, height, width = model["input"]
            click.echo(f"{model['name']}: of an image of {height} x {width} pixels, padded")
    if found:
        images = counted(batch or 1, "image")
        click.echo(f"{LATENCY}, of {images} on {found[0].device}")


def _model(
    name: str, attention: str | None, image_size: int | None, batch_size: int | None
) -> dict[str, Any]:
    """What is told of a network; its latency only for a `batch_size`."""
    from spaces import published as backbones
    from trainers.complexity import count
    from trainers.datasets import Description
    from trainers.network import describe, image_of

    if _parted(name)[1] in backbones.names():
        _check_attention(attention or "none")
        config, published_size, classes = published(name, {"name": attention or "none"})
        data = Description(classes, 3, image_size or published_size)
    else:
        config = point(name, attention, image_size)
        data = describe(config)
    cost = count(config.backbone, config.attention, data, config.task)
    return {
        "name": name,
        "attention": config.attention.name,
        "image_size": data.image_size,
        "params": cost.params,
        "macs": cost.macs,
        **({"input": image_of(data, config.task)} if "detector" in config.task.params else {}),
        **({"latency": _latency(config, data, batch_size)} if batch_size else {}),
    }


def _latency(config: Config, data: Description, batch_size: int) -> dict[str, Any]:
    from dataclasses import asdict

    from trainers import check_device
    from trainers.build import drawn
    from trainers.latency import timed, whole

    network, shape = whole(drawn(config, seed=0, data=data), data, config.task)
    precision, place = config.training.precision, check_device(config)
    (found,) = timed(network, shape, place, precision=precision, batch_sizes=[batch_size])
    return asdict(found)


def point(source: str, attention: str | None = None, image_size: int | None = None) -> Config:
    """The one network of a space file: its holes at their defaults, else at their first values.

    A usage error for what is neither a file nor a ready space.
    """
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


def published(name: str, attention: dict[str, Any]) -> tuple[Config, int, int]:
    """A backbone by name and depth, with its published image size in pixels and classes.

    Three stages mean CIFAR-10's 32 and 10, any other number ImageNet's 224 and 1000. After the name
    of a detector it is its body, with COCO's 800 and 80.
    """
    from spaces import Config, catalogue
    from spaces.published import split

    check_name(name)
    detector, name = _parted(name)
    kind, depth = split(name)
    backbone = {"name": kind} if depth is None else {"name": kind, "depth": depth}
    backbone = catalogue.check("backbone", backbone)
    blocks = catalogue.blocks(backbone)
    size, classes = (32, 10) if blocks is not None and len(blocks) == 3 else (224, 1000)
    dataset, task = "digits", {"name": "classification"}
    if detector is not None:
        size, classes, dataset = 800, 80, "coco"
        fitting = next(t for t in catalogue.names("task") if detector in catalogue.heads(t))
        task = {"name": fitting, "detector": detector}
    backbone |= {"stem": "cifar" if size == 32 else "imagenet"} if "stem" in backbone else {}
    config = Config.model_validate(
        {
            "name": "published",
            "task": task,
            "dataset": {"name": dataset, "image_size": size},
            "backbone": backbone,
            "attention": attention,
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )
    return config, size, classes


def _parted(name: str) -> tuple[str | None, str]:
    """`faster_rcnn_resnet50` as a detector and its body; no detector where the name has none."""
    from spaces import catalogue

    for detector in catalogue.names("detector"):
        if name.startswith(f"{detector}_"):
            return detector, name.removeprefix(f"{detector}_")
    return None, name


def check_name(name: str) -> None:
    """Refuse a name that is no backbone and no ready space, naming the nearest."""
    from spaces.errors import clipped, listed, nearest
    from spaces.paths import ready
    from spaces.published import names, split

    networks = names()
    if name in ready():
        return
    name = _parted(name)[1]
    if name in networks:
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
