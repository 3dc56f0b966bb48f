"""The commands of `eca-search`, and what they share: options, the example, the JSON envelope."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

from search import store

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
VERSION = 1
"""Of the JSON envelope; keys are only ever added."""


@dataclass
class Session:
    """What holds for the whole command line."""

    debug: bool = False


class Command(click.Command):
    """A command whose help ends with an example, and which takes the common options."""

    def __init__(self, *args: Any, example: str, **kwargs: Any) -> None:
        super().__init__(*args, **{"context_settings": CONTEXT, **kwargs})
        self.example = example
        self.params += common_options()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The example, as it is typed."""
        with formatter.section("Example"), formatter.indentation():
            for line in self.example.splitlines():
                formatter.write(f"  {line}\n")


command = partial(click.command, cls=Command)


def common_options() -> list[click.Parameter]:
    """Options that stand before or after any command's name."""
    return [
        click.Option(
            ["--debug"],
            is_flag=True,
            expose_value=False,
            callback=_debug,
            help="Show tracebacks.",
        ),
        click.Option(
            ["--no-color"],
            is_flag=True,
            expose_value=False,
            callback=_no_color,
            help="No colours (nor with NO_COLOR set).",
        ),
    ]


def _debug(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.ensure_object(Session).debug = True


def _no_color(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted:
        ctx.color = False


as_json = click.option("--json", "as_json", is_flag=True, help="Data as JSON on stdout.")
study_dir = click.argument("study_dir", type=click.Path(path_type=Path))
plugin = click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A Python file with a variant of your own (repeatable).",
)


class StoreUri(click.ParamType[str]):
    """Where an MLflow store is: a URI of a kind that MLflow writes."""

    name = "uri"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The URI as it is; a usage error for one that MLflow cannot write."""
        said = store.refusal(value)
        if said is not None:
            self.fail(said, param)
        return value


tracking_uri = click.option(
    "--tracking-uri",
    type=StoreUri(),
    metavar="URI",
    help="The MLflow store; else $MLFLOW_TRACKING_URI, else SQLite.",
)
address = click.option(
    "--address", metavar="RAY", help="A Ray cluster; else $RAY_ADDRESS, else one started here."
)
overrides = click.argument("overrides", nargs=-1, metavar="[KEY.PATH=VALUE]...")


def emit(**data: Any) -> None:
    """Print data in the JSON envelope."""
    click.echo(json.dumps({"version": VERSION, **data}, indent=2, allow_nan=False))


def whole(costs: Mapping[str, float]) -> dict[str, float]:
    """Costs for JSON: a count without a decimal point."""
    return {name: int(cost) if cost == int(cost) else cost for name, cost in costs.items()}


def warn(text: str) -> None:
    """Say something on stderr that leaves the data on stdout alone."""
    click.echo(text, err=True)
