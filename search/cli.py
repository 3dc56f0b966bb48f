"""The command line: which commands there are, and what a process's exit code says.

A command is imported when it is called, so that `eca-search --help` imports none of them.

Exit codes: 0 done; 1 no trial finished, or an internal error; 2 usage, or a space that is not
valid; 3 this environment is not fit; 4 more failures than the study allows; 75 paused, `resume`
goes on (SIGUSR1, or the disk is full or away), or another driver does (it has taken over); 130
SIGINT; 143 SIGTERM.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from search.commands import CONTEXT, Session, common_options

SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Plan": {
        "init": ("plan", "Write a commented space file to start from."),
        "validate": ("plan", "Check a space and say what it spans, without training."),
        "mappings": ("mappings", "Show which (gamma, b) give the same kernels."),
        "complexity": ("networks", "Count the parameters and MACs of networks."),
    },
    "Run": {
        "run": ("run", "Search a space: train its trials, end with the Pareto front."),
        "resume": ("run", "Go on with a study from its journal."),
        "status": ("status", "Say how far a study is, also while it runs."),
        "stop": ("hands", "Stop a study, or one of its trials, from another terminal."),
        "logs": ("hands", "Show what an attempt of a trial has printed."),
    },
    "Read": {
        "show": ("read", "Show one trial: its config, curve, attempts and why it ended."),
        "pareto": ("read", "Print a study's Pareto front."),
        "compare": ("compare", "Train arms with the same seeds, and say which differ."),
        "confirm": ("confirm", "Train a study's networks anew, judged by the test images."),
        "report": ("report", "Write what a study found as one HTML file."),
        "ui": ("ui", "Open a study's MLflow store in a browser on this machine."),
    },
    "Maintain": {
        "sync": ("maintain", "Bring MLflow level with a study's journal."),
        "export": ("export", "Write a trial's weights, program, config and model card."),
        "replay": ("replay", "Say what a pruner would have saved, and lost, on recorded curves."),
        "gc": ("maintain", "Remove checkpoints that a study needs no more."),
        "doctor": ("maintain", "Say whether this machine is fit, and what would make it so."),
        "schema": ("maintain", "Print the JSON Schema of space files."),
    },
}
"""Section -> command -> the module in `search.commands` that defines it, and its one-line help."""

EXIT = {
    "spaces.errors.SpaceError": 2,
    "spaces.errors.VariantError": 2,
    "search.errors.StudyExists": 2,
    "search.errors.LeaseLost": 75,
    "search.errors.JournalError": 2,
    "search.errors.ExportError": 2,
    "search.errors.TableError": 2,
    "search.errors.Unfit": 3,
    "trainers.datasets.DatasetError": 3,
    "search.tracking.away.TrackingError": 75,
}
"""Exit codes of what a person can cause, by name: naming a class here imports nothing."""
WIDEST = 1000
"""Characters of a line of an error."""


class Commands(click.Group):
    """The commands of `SECTIONS`, each imported on first use; errors become exit codes here."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command, in the order of the help."""
        return [name for commands in SECTIONS.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now."""
        for commands in SECTIONS.values():
            if cmd_name in commands:
                module = importlib.import_module(f"search.commands.{commands[cmd_name][0]}")
                command: click.Command = getattr(module, cmd_name)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with the nearest name where there is no such command."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand:
            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            meant = f"; did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"no command {args[0]!r}{meant}", ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The help's list of commands, from `SECTIONS` alone."""
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in commands.items()])

    def invoke(self, ctx: click.Context) -> NoReturn:
        """Run the command; a command's own return value is its exit code."""
        try:
            code = super().invoke(ctx) or 0
            if sys.stdout is not None:
                sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:  # `| head` has had enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            code = 0
        except KeyboardInterrupt:
            code = 130
        except Exception as error:
            code = _report(error, debug=ctx.ensure_object(Session).debug)
        ctx.exit(code)


def _report(error: Exception, *, debug: bool) -> int:
    """Say an error on stderr in at most six lines; returns the exit code."""
    if debug:
        traceback.print_exception(error)
    names = (f"{cls.__module__}.{cls.__qualname__}" for cls in type(error).__mro__)
    code = next((EXIT[name] for name in names if name in EXIT), None)
    if code is not None:
        text = str(error)
    elif isinstance(error, OSError):
        code, text = 3, ": ".join(filter(None, (error.filename, error.strerror))) or repr(error)
    else:
        code, text = 1, f"internal error: {type(error).__name__}: {error}\n(--debug shows where)"
    from search.redaction import redacted
    from search.text import escaped

    click.echo("\n".join(line[:WIDEST] for line in [*escaped(redacted(text))][:6]), err=True)
    return code


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    try:
        click.echo(f"eca-search {version('eca-search')}")
    except PackageNotFoundError:
        click.echo("eca-search, not installed: run from its source")
    ctx.exit()


@click.group(
    cls=Commands,
    context_settings=CONTEXT,
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_version,
            help="Print the version and leave.",
        ),
        *common_options(),
    ],
    epilog="Example:  eca-search run digits && eca-search pareto runs/digits",
)
def cli() -> None:
    """Find out where channel attention earns its place, which kernel mapping to use, and how wide
    the backbone should be: on your own data, as a Pareto front of accuracy against cost.
    """


def _occupied() -> None:
    """Put nothing behind a standard descriptor that was closed (`2>&-`).

    The next file that is opened would get its number, and what C code prints would go there.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)


def main(args: list[str] | None = None) -> int:
    """Run one command line (`sys.argv` where None); returns the exit code."""
    _occupied()
    for stream in (sys.stdout, sys.stderr):
        reconfigure: Any = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            # LANG=C knows no ±: the line is worth more than the character
            reconfigure(errors="backslashreplace")
    color = False if os.environ.get("NO_COLOR") else None
    try:
        cli.main(args, prog_name="eca-search", obj=Session(), color=color)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    return 0
