"""`init` and `validate`: a space file, and what it spans."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, overrides, plugin

if TYPE_CHECKING:
    from search.beforehand.networks import Bin
    from search.beforehand.survey import Survey
    from spaces import Space
    from spaces.parameters import Parameter

SCHEMA = "eca-search.schema.json"
OFTEN = 30.0
"""Seconds between checkpoints below which `validate` asks whether epochs were meant."""
BARS = "▁▂▃▄▅▆▇█"


@command(example="eca-search init my-search && eca-search run my-search.yaml")
@click.argument("path", default="search", metavar="[NAME|PATH]")
@click.option("--force", is_flag=True, help="Overwrite what is there.")
def init(path: str, force: bool) -> None:
    """Write a commented space file to start from, NAME.yaml or PATH.

    It is valid as written and runs in a minute on scikit-learn's digits. Beside it comes the JSON
    Schema that editors complete and check it with.
    """
    from search.commands.template import TEMPLATE
    from spaces import schema

    file = Path(path)
    if file.suffix not in (".yaml", ".yml"):
        file = file.with_name(f"{file.name}.yaml")
    if not file.parent.is_dir():
        raise click.UsageError(f"no folder {str(file.parent)!r}")
    text = TEMPLATE.format(name=file.stem, file=file.name, schema=SCHEMA)
    _check(text, file)
    if file.exists() and not force:
        raise click.UsageError(f"{file} is there already; --force overwrites it")
    file.write_text(text, encoding="utf-8")
    (file.parent / SCHEMA).write_text(schema.text(), encoding="utf-8")
    click.echo(f"written: {file}")
    click.echo(f"check:   eca-search validate {file}")
    click.echo(f"run:     eca-search run {file}")


def _check(text: str, file: Path) -> None:
    """Refuse a file name that cannot be a study's before anything is written."""
    from spaces.config import NAME

    if not NAME.fullmatch(file.stem):
        raise click.UsageError(
            f"{file.stem!r} cannot be a study's name "
            "(allowed: a-z 0-9 . _ -, at most 80 of them, the first a letter or digit)"
        )


@command(
    example="eca-search validate digits\n"
    "eca-search validate my-search.yaml backbone.depth=20 --json | jq .networks"
)
@click.argument("space")
@overrides
@plugin
@as_json
def validate(
    space: str, overrides: tuple[str, ...], plugins: tuple[Path, ...], as_json: bool
) -> None:
    """Check SPACE and say what it spans: parameters, settings, networks, costs. Trains nothing.

    Networks are counted where the settings are few enough to look at each (50,000, on at most 200
    backbones); costs are exact there, and elsewhere the least and most that moving one hole at a
    time reaches.
    """
    import spaces
    from search.beforehand import preflight
    from search.beforehand.survey import survey
    from spaces import catalogue

    for file in plugins:
        catalogue.plug(file)
    loaded = spaces.load(space, overrides=overrides)
    preflight.check(loaded)
    preflight.trackable(loaded)
    loaded.baselines()
    spanned = survey(loaded)
    preflight.foreseen(loaded)
    notes = list(_notes(loaded, spanned))
    if as_json:
        emit(
            name=loaded.name,
            parameters=[_described(parameter) for parameter in loaded.parameters],
            settings=spanned.settings,
            networks=spanned.networks,
            costs={name: list(map(int, ends)) for name, ends in spanned.costs.items()},
            histograms={
                name: [asdict(one) for one in bins] for name, bins in spanned.histograms.items()
            },
            within_limits=spanned.within,
            networks_within_limits=spanned.allowed,
            notes=notes,
        )
        return
    click.echo(f"{loaded.name}: valid ({loaded.source})")
    for parameter in loaded.parameters:
        where = " and ".join(f"{name} is {label}" for name, label in parameter.condition)
        suffix = f"   where {where}" if where else ""
        click.echo(f"  {parameter.name}: {_range(parameter)}{suffix}")
    click.echo(f"settings  {_count(spanned.settings)}")
    click.echo(f"networks  {_count(spanned.networks)}")
    for name, (least, most) in spanned.costs.items():
        bars = _bars(spanned.histograms.get(name, ()))
        click.echo(f"{name:8}  {least:,.0f} to {most:,.0f}{bars}")
    if spanned.histograms:
        click.echo(
            "          (in brackets the networks, from the least to the most by equal ratios)"
        )
    for note in notes:
        click.echo(f"note: {note}")


def _bars(bins: Sequence[Bin]) -> str:
    """A histogram in a few characters, `[▁▂█▅ ▁]`: a bin without a network is a blank."""
    highest = max((one.networks for one in bins), default=0)
    heights = (math.ceil(len(BARS) * one.networks / highest) for one in bins)
    bars = "".join(BARS[height - 1] if height else " " for height in heights)
    return f"   [{bars}]" if bins else ""


def _notes(space: Space, spanned: Survey) -> Iterator[str]:
    """What is legal but worth knowing before hours are spent."""
    from search import pruning
    from search.beforehand import preflight
    from search.beforehand.lint import lint
    from search.beforehand.survey import remarks

    yield from space.notes
    if (every := space.search.checkpoints.every) < OFTEN:
        yield (
            f"search.checkpoints.every: {every:g} seconds: a long epoch stores its whole state as "
            "often as that (it counted epochs once; 600 is usual)"
        )
    yield from preflight.pretrained(space)
    spec = space.search.pruner.model_dump() if space.search.pruner else None
    warning = pruning.warning(spec, space.search.objectives)
    if warning:
        yield warning
    recipe = [p for p in space.parameters if not p.name.startswith(("backbone", "attention"))]
    free = [p.name for p in recipe if p.count() is None]
    if free:
        yield (
            f"{', '.join(free)} is continuous and part of the run key: no proposal will be a "
            "duplicate, so networks that are equal are trained again for every value"
        )
    elif spanned.networks is not None and spanned.settings is not None:
        yield from _duplicates(
            spanned.settings, spanned.networks, bool(recipe), space.search.trials
        )
    if spanned.networks is None and spanned.settings is not None:
        yield (
            f"networks are not counted: {spanned.settings:,} settings, or the backbones among "
            "them, are too many to look at each"
        )
    yield from remarks(space)
    yield from lint(space)
    if space.search.limits and spanned.within is not None and spanned.within < 1:
        yield (
            f"{spanned.allowed:,} of {spanned.networks:,} networks ({spanned.within:.0%} of the "
            "settings) are within `search.limits`"
        )
    if spanned.beyond:
        yield f"no network within `search.limits` has {_beyond(spanned.beyond)}"
    if spanned.unbuilt.failed:
        yield str(spanned.unbuilt)


def _duplicates(settings: int, networks: int, recipe: bool, trials: int | None) -> Iterator[str]:
    if networks < settings and recipe:
        yield (
            f"{settings:,} settings are {networks:,} networks; with holes outside backbone and "
            "attention, one network is trained once for each recipe"
        )
    elif networks < settings:
        yield (
            f"{settings:,} settings are {networks:,} networks: a proposal that builds one seen "
            "before is answered from the journal and costs nothing"
        )
    if not recipe and trials is not None and networks < trials:
        yield (
            f"search.trials is {trials:,}, and there are {networks:,} networks: "
            "the study ends when all are seen"
        )


def _beyond(values: Mapping[str, Sequence[Any]]) -> str:
    """`backbone.width 1.0, 2.0; attention.eca.mapping.b 3`, the first few."""
    from spaces.errors import listed, shown

    said = [f"{name} {listed(map(shown, found), most=3)}" for name, found in values.items()]
    return "; ".join(said[:3]) + (f"; ... ({len(said)} in all)" if len(said) > 3 else "")


def _described(parameter: Parameter) -> dict[str, Any]:
    """A parameter as JSON: only what its kind has, `default` only where there is one."""
    from spaces.parameters import MISSING

    about = asdict(parameter)
    unused = ("low", "high", "step", "log") if parameter.kind == "categorical" else ("choices",)
    for key in unused:
        del about[key]
    if parameter.default is MISSING:
        del about["default"]
    about["condition"] = dict(parameter.condition)
    return about


def _range(parameter: Parameter) -> str:
    from spaces.errors import listed, shown
    from spaces.parameters import MISSING

    if parameter.kind == "categorical":
        words = listed(map(shown, parameter.choices))
    else:
        words = f"{parameter.low} to {parameter.high}"
        if parameter.step is not None:
            words += f" in steps of {parameter.step}"
        words += ", log" if parameter.log else ""
    if parameter.default is not MISSING:
        words += f"   (default {shown(parameter.default)})"
    return words


def _count(number: int | None) -> str:
    return "not counted" if number is None else f"{number:,}"
