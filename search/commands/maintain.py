"""`sync`, `gc`, `doctor` and `schema`."""

from __future__ import annotations

import shlex
from contextlib import nullcontext
from dataclasses import asdict
from itertools import chain
from pathlib import Path

import click

from search.commands import (
    address,
    as_json,
    command,
    emit,
    plugin,
    study_dir,
    tracking_uri,
    warn,
)


@command(example="eca-search sync runs/digits\neca-search sync runs/digits --optuna-log")
@study_dir
@tracking_uri
@click.option(
    "--optuna-log",
    is_flag=True,
    help="Write STUDY_DIR/optuna.log, an Optuna journal for optuna-dashboard, instead.",
)
def sync(study_dir: Path, tracking_uri: str | None, optuna_log: bool) -> None:
    """Bring MLflow level with the journal of the study in STUDY_DIR.

    What is there already is left alone, so it may be called at any time and as often as wanted.
    """
    from search import text
    from search.commands.ui import store
    from search.execution import launch
    from search.tracking import dashboard
    from spaces.errors import counted

    if optuna_log and tracking_uri:
        raise click.UsageError("--optuna-log writes no MLflow store; leave --tracking-uri out")
    if optuna_log:
        study = launch.load(study_dir)
        file = study.folder / dashboard.FILE
        count = dashboard.write(study, file)
        click.echo(
            f"{counted(count, 'proposal')}: optuna-dashboard {shlex.quote(text.shown(file))}"
        )
        return

    asked = tracking_uri or launch.load(study_dir).tracking_uri
    if not launch.sync(study_dir, tracking_uri=asked, say=warn):
        return
    uri = store(study_dir, tracking_uri)
    click.echo(f"level; look at it with: {text.typed('ui', study_dir.absolute(), uri)}")


@command(example="eca-search gc runs/digits --dry-run")
@study_dir
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@as_json
def gc(study_dir: Path, dry_run: bool, as_json: bool) -> None:
    """Remove the checkpoints that the study in STUDY_DIR needs no more.

    They are those of trials that were pruned, have failed, or finished and are not on the front.
    What is on the front, runs, waits or can be resumed is kept, so it may be called while the study
    runs. Of a study that has ended the front alone is kept, whatever `search.checkpoints.of` says:
    that is for the search's own sweeps. Other studies that keep checkpoints of the same networks at
    the same URI lose them too.
    """
    from search import text
    from search.execution import launch
    from search.study import drivers, garbage, lease
    from spaces.errors import counted

    folder = launch.load(study_dir).folder
    looking = nullcontext(drivers.driver(folder)) if dry_run else lease.apart(folder)
    with looking as driver:
        study = launch.load(folder)  # as the last driver left it
        waste = list(garbage.find(study, driven=driver is not None))
        freed = [each.size if dry_run else garbage.remove(study, each) for each in waste]
        kept = garbage.kept(study, waste)
    if as_json:
        emit(
            study=study.name,
            dry_run=dry_run,
            bytes=sum(freed),
            kept=kept,
            removed=[
                {"trial": each.trial, "where": each.where, "files": len(each.files), "bytes": size}
                for each, size in zip(waste, freed, strict=True)
            ],
        )
        return
    for each, size in zip(waste, freed, strict=True):
        whose = "left by killed writers" if each.trial is None else f"#{each.trial:03d}"
        outcome = "" if each.trial is None else study.history.trials[each.trial].outcome or ""
        files = counted(len(each.files), "file")
        click.echo(f"  {whose} {outcome}: {files}, {text.size(size)}".replace(" :", ":"))
    what = f"would free {text.size(sum(freed))}" if dry_run else f"freed {text.size(sum(freed))}"
    click.echo(f"{study.name}: {what}; {text.size(kept)} of checkpoints are kept")


@command(
    example="eca-search doctor --out /data/runs\n"
    "eca-search doctor --cluster --address head:6379 --space imagenet.yaml --out /shared/runs"
)
@click.option(
    "--out",
    default="runs",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder of studies whose disk and store are looked at.",
)
@click.option("--cluster", is_flag=True, help="Look at every node of a Ray cluster as well.")
@address
@click.option(
    "--space", metavar="SPACE", help="With --cluster: whose data and checkpoints are looked at."
)
@plugin
@tracking_uri
@as_json
def doctor(
    out: Path,
    cluster: bool,
    address: str | None,
    space: str | None,
    plugins: tuple[Path, ...],
    tracking_uri: str | None,
    as_json: bool,
) -> int:
    """Say whether this machine is fit for a search; each failing line comes with its remedy.

    With --cluster every node is asked the same: has it this Python, these libraries, this tool and
    plugins, the data; does it see its GPUs; does it share the folder of studies?
    """
    from search.beforehand import doctor as checks
    from search.execution import nodes

    if not cluster and (address or space or plugins):
        raise click.UsageError("--address, --space and --plugin are of --cluster; add it")
    looked = checks.findings(out, tracking_uri)
    if cluster:
        question = nodes.question(out, space, plugins)
        looked = chain(looked, nodes.findings(address, question))
    found = []
    for finding in looked:
        found.append(finding)
        part = finding.node and finding.state == "ok" and finding.name != nodes.WHOLE
        if not (as_json or part):
            color = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.state]
            click.echo(f"{click.style(f'{finding.state:4}', fg=color)}  {finding}")
            if finding.remedy:
                click.echo(f"      {finding.remedy}")
    fit = all(finding.state != "fail" for finding in found)
    if as_json:
        emit(fit=fit, checks=[asdict(finding) for finding in found])
    return 0 if fit else 3


@command(example="eca-search schema > schema.json")
def schema() -> None:
    """Print the JSON Schema of space files, for editors that complete and check them."""
    from spaces.schema import text

    click.echo(text(), nl=False)
