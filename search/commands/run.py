"""`run` and `resume`: drive a study, show how it goes, say what came out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands import address, command, overrides, plugin, tracking_uri, warn

if TYPE_CHECKING:
    from search.study.study import Study

    Watch = Callable[[Study], None]
    Say = Callable[[str], None]

out = click.option(
    "--out",
    default="runs",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder of studies; the study's own is DIR/<name>.",
)
executor = click.option(
    "--executor",
    type=click.Choice(["ray", "inprocess"]),
    help="Where trials train; else what the space says, which is Ray unless it says more.",
)
max_concurrent = click.option(
    "--max-concurrent",
    type=click.IntRange(min=1),
    metavar="N",
    help="At most so many trials at a time.",
)
log_format = click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How progress is told on stderr: for a person, or one JSON object a line.",
)
metrics_port = click.option(
    "--metrics-port",
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Serve figures for Prometheus on this machine's loopback.",
)
again = click.option(
    "--resume", "again", is_flag=True, help="Go on where the study was started before."
)
fork = click.option(
    "--fork",
    is_flag=True,
    help="Begin a new study beside it that keeps what fits of its results.",
)
force = click.option(
    "--force",
    is_flag=True,
    help="Take over from a driver on another machine that you know to be dead.",
)


@command(
    example="eca-search run digits search.trials=24\n"
    "eca-search run my-search.yaml training.epochs=30 --out /data/runs --max-concurrent 4"
)
@click.argument("space")
@overrides
@out
@executor
@address
@max_concurrent
@plugin
@again
@fork
@force
@log_format
@metrics_port
@tracking_uri
def run(
    space: str,
    overrides: tuple[str, ...],
    out: Path,
    executor: str | None,
    address: str | None,
    max_concurrent: int | None,
    plugins: tuple[Path, ...],
    again: bool,
    fork: bool,
    force: bool,
    log_format: str,
    metrics_port: int | None,
    tracking_uri: str | None,
) -> int:
    """Search SPACE, a file or the name of a ready space: train its trials, print the Pareto front.

    KEY.PATH=VALUE overrides what the space says, such as `search.trials=24`. Everything is kept in
    DIR/<name>: the resolved space, the journal, checkpoints. Stopped with Ctrl-C it can be resumed.
    """

    def start(watch: Watch, say: Say, found: Callable[[Path], None]) -> Study:
        import spaces
        from search.execution import launch
        from spaces import catalogue

        for file in plugins:
            catalogue.plug(file)
        loaded = spaces.load(space, overrides=overrides)
        found(out.absolute() / loaded.name)
        return launch.run(
            loaded,
            out=out,
            executor=executor,
            address=address,
            max_concurrent=max_concurrent,
            plugins=plugins,
            resume=again,
            fork=fork,
            force=force,
            tracking_uri=tracking_uri,
            watch=watch,
            say=say,
        )

    return drive(start, _summed_up, as_json=log_format == "json", metrics_port=metrics_port)


@command(
    example="eca-search resume runs/digits --trials 48\n"
    "eca-search resume runs/digits search.timeouts.trial=600\n"
    "eca-search resume s3://bucket/studies/digits"
)
@click.argument("study_dir")
@overrides
@click.option(
    "--trials", type=click.IntRange(min=1), metavar="N", help="The study's new total of trials."
)
@out
@fork
@force
@executor
@address
@max_concurrent
@log_format
@metrics_port
@tracking_uri
def resume(
    study_dir: str,
    overrides: tuple[str, ...],
    trials: int | None,
    out: Path,
    fork: bool,
    force: bool,
    executor: str | None,
    address: str | None,
    max_concurrent: int | None,
    log_format: str,
    metrics_port: int | None,
    tracking_uri: str | None,
) -> int:
    """Go on with the study in STUDY_DIR from its journal.

    What was running goes on from its last checkpoint; what was learnt is not asked again. Its
    space.yaml may be edited before, or with KEY.PATH=VALUE here, in what no result depends on; with
    --fork in anything. Where STUDY_DIR is the URI of its mirror (`search.mirror`, a slash, its
    name), the journal is fetched to --out first.
    """

    def start(watch: Watch, say: Say, found: Callable[[Path], None]) -> Study:
        from search.execution import launch

        if "://" not in study_dir:
            found(Path(study_dir).absolute())
        return launch.resume(
            study_dir,
            out=out,
            overrides=overrides,
            trials=trials,
            fork=fork,
            force=force,
            executor=executor,
            address=address,
            max_concurrent=max_concurrent,
            tracking_uri=tracking_uri,
            watch=watch,
            say=say,
        )

    return drive(start, _summed_up, as_json=log_format == "json", metrics_port=metrics_port)


def _summed_up(study: Study) -> None:
    """How it ended; what a comparison or a confirmation has told comes first."""
    from search import text
    from search.comparison import comparison_text, confirming

    if study.space.search.confirms is not None:
        lines = confirming.told(study)
    elif study.space.arms is not None:
        lines = comparison_text.so_far(study)
    else:
        lines = iter(())
    for line in lines:
        click.echo(line)
    click.echo(text.summary(study))


def drive(
    start: Callable[[Watch, Say, Callable[[Path], None]], Study],
    tell: Callable[[Study], None],
    *,
    as_json: bool = False,
    metrics_port: int | None = None,
) -> int:
    """Drive a study under signals and in sight, and `tell` how it ended; returns the exit code."""
    from search.commands import progress
    from search.errors import Stopped
    from search.execution.interrupts import Interrupts
    from search.study import journal

    folder: list[Path] = []
    speak = progress.JsonLines(sys.stderr).say if as_json else warn
    color = click.get_current_context().color
    with Interrupts() as interrupts:
        try:
            with (
                progress.shown(color=color, as_json=as_json) as shown,
                _served(metrics_port) as figures,
            ):

                def watch(study: Study) -> None:
                    folder[:] = [study.folder]  # a fork's is not the one that was given
                    shown(study)
                    figures(study)
                    interrupts.check()

                def say(line: str) -> None:
                    shown.say(line)
                    interrupts.check()

                study = start(watch, say, folder.append)
        except KeyboardInterrupt:
            _paused(folder, "stopped before the study began; nothing was written", speak)
            return interrupts.code
        except Stopped:
            _paused(folder, "", speak)
            return 75
        except OSError as error:
            if not (folder and journal.exists(folder[-1])):
                raise
            speak(f"{error.filename or folder[-1]}: {error.strerror or error}")
            _paused(folder, "", speak)
            return 75
    tell(study)
    return verdict(study)


@contextmanager
def _served(port: int | None) -> Iterator[Watch]:
    """Figures for Prometheus, where a port is named for them."""
    if port is None:
        yield lambda study: None
        return
    from search.execution import metrics

    with metrics.served(port) as figures:
        yield figures


def _paused(folder: list[Path], otherwise: str, speak: Say) -> None:
    from search import text
    from search.study import journal

    if folder and journal.exists(folder[-1]):
        speak(f"paused; go on with: {text.typed('resume', folder[-1], None)}")
    elif otherwise:
        speak(otherwise)


def verdict(study: Study) -> int:
    """The exit code of a study that was driven.

    75: it is not over. 1: without a result. 4: with too many failures, or given up for them.
    """
    if not (study.history.ended or study.history.halted):
        return 75
    outcomes = study.outcomes()
    if not outcomes["finished"]:
        return 1
    allowed = study.space.search.failures.max
    if study.history.halted:
        return 4
    return 4 if outcomes["failed"] / sum(outcomes.values()) > allowed else 0
