"""`confirm`: networks of a study trained anew with fresh seeds, and judged by the test images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import (
    address,
    as_json,
    command,
    emit,
    overrides,
    study_dir,
    tracking_uri,
    warn,
)
from search.commands.read import trial_of
from search.commands.run import again, drive, executor, force, max_concurrent

if TYPE_CHECKING:
    from search.comparison.confirming import Confirmation
    from search.study.study import Study

    Watch = Callable[[Study], None]
    Say = Callable[[str], None]


@command(
    example="eca-search confirm runs/cifar10-where --front --replicates 5 training.epochs=200\n"
    "eca-search confirm runs/cifar10-where --trials 3,17"
)
@study_dir
@overrides
@click.option("--front", is_flag=True, help="Every network of the front (unless --trials).")
@click.option("--trials", "chosen", metavar="N,N,...", help="These trials instead.")
@click.option(
    "--replicates",
    type=click.IntRange(1, 100),
    default=5,
    show_default=True,
    metavar="N",
    help="Fresh seeds for each network.",
)
@click.option("--name", metavar="NAME", help="Of the confirming study; else STUDY-confirm.")
@executor
@address
@max_concurrent
@again
@force
@tracking_uri
@as_json
def confirm(
    study_dir: Path,
    overrides: tuple[str, ...],
    front: bool,
    chosen: str | None,
    replicates: int,
    name: str | None,
    executor: str | None,
    address: str | None,
    max_concurrent: int | None,
    again: bool,
    force: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> int:
    """Train networks of the study in STUDY_DIR anew, and judge them by the test images.

    Seeds are others than the search's, the validation images train too, and the test images, which
    no search reads, are read here alone. KEY.PATH=VALUE changes how they are trained, such as
    `training.epochs=200`, never the network or the data. It is a study of its own beside STUDY_DIR,
    named STUDY-confirm, which can be resumed; with that study for STUDY_DIR: what it has come to.
    """
    from search import text
    from search.comparison import confirming
    from search.execution import launch
    from spaces.errors import counted

    if front and chosen is not None:
        raise click.UsageError("--front or --trials, not both")
    study = launch.load(study_dir)
    if study.space.search.confirms is not None:
        if given := _given():
            said = f"{study_dir} is a confirmation, which takes no {given[0]} any more"
            resume = text.typed("resume", study.folder, None)
            raise click.UsageError(f"{said}: `{resume}` goes on, search.replicates=N adds seeds")
        _told(study, as_json)
        return 0
    if not study.history.ended:
        warn(f"note: {study.name} is not over: these are its best networks so far")
    if chosen is not None:
        trials = [trial_of(study, asked.strip()) for asked in chosen.split(",")]
        trials = list({trial.number: trial for trial in trials}.values())
    else:
        trials = study.pareto()
    space = confirming.space(study, trials, replicates=replicates, overrides=overrides, name=name)
    out = study.folder.parent
    warn(
        f"{space.name}: {counted(len(trials), 'network')} of {study.name}, "
        f"{counted(replicates, 'fresh seed')} each, "
        "trained on training and validation images, judged by the test images"
    )

    def start(watch: Watch, say: Say, found: Callable[[Path], None]) -> Study:
        found(out / space.name)
        return launch.run(
            space,
            out=out,
            executor=executor or study.history.executor,
            address=address,
            max_concurrent=max_concurrent,
            resume=again,
            force=force,
            tracking_uri=tracking_uri or study.tracking_uri,
            watch=watch,
            say=say,
        )

    return drive(start, lambda ended: _told(ended, as_json))


def _given() -> list[str]:
    """What the command line says of how to confirm, as it is typed."""
    context = click.get_current_context()
    return [
        param.opts[0] if isinstance(param, click.Option) else "KEY.PATH=VALUE"
        for param in context.command.params
        if param.name in context.params
        and param.name not in ("study_dir", "as_json")
        and context.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
        and context.params[param.name] != ()
    ]


def _told(study: Study, as_json: bool) -> None:
    from search.comparison import confirming

    if as_json:
        emit(**_data(study, confirming.confirmation(study)))
        return
    for line in confirming.told(study):
        click.echo(line)


def _data(study: Study, found: Confirmation) -> dict[str, Any]:
    return {
        "study": study.name,
        "confirms": found.study,
        "searched": found.searched,
        "judged": found.judged,
        "networks": [
            {
                "arm": one.arm,
                "trial": one.original,
                "label": one.trial.label,
                "identity": one.trial.identity,
                "searched": one.searched,
                "mean": one.mean,
                "sd": one.sd,
                "n": one.n,
                "searched_epochs": one.schedule[0],
                "epochs": one.schedule[1],
                "params": one.trial.costs["params"],
                "macs": one.trial.costs["macs"],
            }
            for one in found.networks
        ],
        "shrinkage": None if found.shrinkage is None else asdict(found.shrinkage),
        "spearman": found.spearman,
        "kendall": found.kendall,
        "changed": list(found.changed),
    }
