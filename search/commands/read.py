"""`status`, `show` and `pareto`: what a study's journal tells, also while the study runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, study_dir, warn, whole

if TYPE_CHECKING:
    from search.study import Study
    from search.trial import Trial

ROWS = 12
"""Epochs of a curve that `show` prints; --json has all."""


@command(example="eca-search status runs/digits --json | jq .trials.finished")
@study_dir
@as_json
def status(study_dir: Path, as_json: bool) -> None:
    """Say how far the study in STUDY_DIR is: running, paused or finished.

    Reads the journal alone, so it works from another terminal while the study runs.
    """
    from search import launch, text

    study = launch.load(study_dir)
    state, best = _state(study), text.best(study)
    if as_json:
        emit(
            study=study.name,
            state=state,
            trials=study.outcomes(),
            counts=study.counts(),
            best=None if best is None else {"trial": best.number, "values": _values(study, best)},
            started=study.started,
            updated=study.updated,
            resumable=state == "paused",
            total=study.history.total,
            ended=study.history.ended,
            front=[trial.number for trial in study.pareto()],
            hypervolume=study.hypervolume(),
        )
        return
    click.echo(f"{study.name}: {_colored(state)}, {text.tally(study)}")
    for line in text.over(study):
        click.echo(f"  over     {line}")
    if best is not None:
        click.echo(f"  best     {text.clean(best.name)}  {text.values(study, best)}")
        click.echo(f"  front    {text.worth(study)}")
    for line in _open(study) if state == "running" else ():
        click.echo(f"  running  {line}")
    for line in text.losses(study):
        click.echo(f"  lost     {line}")
    click.echo(f"  started  {text.clock(study.started)}   updated {text.clock(study.updated)}")
    if state == "paused":
        click.echo(f"  go on    eca-search resume {text.shown(study.folder)}")


@command(example="eca-search show runs/digits 7")
@study_dir
@click.argument("trial")
@as_json
def show(study_dir: Path, trial: str, as_json: bool) -> None:
    """Show TRIAL (its number, such as 7 or '#007') of the study in STUDY_DIR.

    Its config with all defaults, the kernel of every site, the curve, every attempt with its
    worker, and why it ended.
    """
    from search import journal, launch

    study = launch.load(study_dir)
    found = _trial(study, trial)
    details = {
        (record["replicate"], record["attempt"]): record["detail"]
        for record in journal.read(study.folder)
        if record["kind"] == "end" and record["trial"] == found.number and record.get("detail")
    }
    if as_json:
        emit(**_about(study, found, details))
        return
    for line in _told(study, found, details):
        click.echo(line)


@command(example="eca-search pareto runs/digits --csv front.csv")
@study_dir
@as_json
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the front to a CSV file too (- for stdout instead of the table).",
)
def pareto(study_dir: Path, as_json: bool, csv_file: Path | None) -> None:
    """Print the Pareto front of the study in STUDY_DIR, cheapest network first.

    Costs within an objective's tolerance count as equal. Values are means over a trial's finished
    replicates (n), with their sample standard deviation.
    """
    from search import launch, tables, text

    study = launch.load(study_dir)
    if csv_file is not None:
        rows = tables.front_csv(study.trials, study.objectives)
        if str(csv_file) == "-":
            click.echo(rows, nl=False)
            return
        csv_file.write_text(rows, encoding="utf-8", newline="")
        warn(f"written: {csv_file}")
    if as_json:
        emit(**_front(study))
        return
    click.echo(f"{study.name}: {text.tally(study)}")
    if study.pareto():
        click.echo(f"Pareto front: {text.worth(study)}")
    click.echo(text.front(study))
    if study.pareto():
        click.echo(text.MACS)


def _front(study: Study) -> dict[str, Any]:
    return {
        "study": study.name,
        "objectives": {name: objective.goal for name, objective in study.objectives.items()},
        "hypervolume": study.hypervolume(),
        "reference": whole(study.reference),
        "trials": study.outcomes(),
        "counts": study.counts(),
        "front": [
            {
                "trial": trial.number,
                "values": _values(study, trial),
                "n": trial.n,
                "sd": trial.spread.get(study.judged or ""),
                "kernels": trial.kernels,
                "identity": trial.identity,
                "config": trial.config,
                "label": trial.label,
            }
            for trial in study.pareto()
        ],
    }


def _values(study: Study, trial: Trial) -> dict[str, float]:
    from search.pareto import measured

    known = {**measured(trial), **whole(trial.costs)}
    return {name: known[name] for name in study.objectives}


def _state(study: Study) -> str:
    from search import journal

    if journal.busy(study.folder):
        return "running"
    return "finished" if study.history.ended else "paused"


def _colored(state: str) -> str:
    return click.style(state, fg={"running": "cyan", "finished": "green"}.get(state, "yellow"))


def _open(study: Study) -> Iterator[str]:
    """One line a running attempt: how far it is, and where."""
    from search import text
    from search.history import is_open

    judged = study.judged
    for trial in study.trials:
        for replicate in filter(is_open, trial.replicates):
            words = [text.clean(trial.name)]
            if replicate.number:
                words.append(f"replicate {replicate.number}")
            words.append(f"epoch {len(replicate.curve)}/{trial.config['training']['epochs']}")
            if replicate.curve and judged in replicate.curve[-1]:
                words.append(f"{judged} {replicate.curve[-1][judged]:.4f}")
            yield "  ".join([*words, f"on {text.clean(replicate.attempts[-1].worker)}"])


def _trial(study: Study, asked: str) -> Trial:
    digits = asked.removeprefix("#")
    if digits.isdecimal() and int(digits) in study.history.trials:
        return study.history.trials[int(digits)]
    numbers = [trial.number for trial in study.trials]
    there = f"#{numbers[0]:03d} to #{numbers[-1]:03d}" if numbers else "none yet"
    raise click.UsageError(f"no trial {asked!r} in {study.name} (there are: {there})")


Details = dict[tuple[int, int], str]


def _about(study: Study, trial: Trial, details: Details) -> dict[str, Any]:
    replicates = []
    for replicate in trial.replicates:
        about = asdict(replicate)
        for attempt in about["attempts"]:
            attempt["detail"] = details.get((replicate.number, attempt["number"]), "")
        replicates.append(about)
    return {
        "study": study.name,
        "trial": trial.number,
        "front": any(member.number == trial.number for member in study.pareto()),
        "mlflow_run": trial.name,
        "n": trial.n,
        **{k: v for k, v in asdict(trial).items() if k not in ("number", "replicates")},
        "replicates": replicates,
    }


def _told(study: Study, trial: Trial, details: Details) -> Iterator[str]:
    from search import text
    from spaces import writer

    state = trial.outcome or ("running" if trial.replicates else "waiting")
    yield f"{text.clean(trial.name)}: {state}"
    if trial.reason:
        yield f"  why        {text.clean(trial.reason)}"
    costs = "  ".join(f"{name} {value:,.0f}" for name, value in trial.costs.items())
    if trial.objectives is not None:
        on = any(member.number == trial.number for member in study.pareto())
        yield f"  values     {text.values(study, trial)}  (n={trial.n})"
        yield f"  front      {'yes' if on else 'no: another network is as good at no more cost'}"
    yield f"  costs      {costs}  (1 MAC = 2 FLOPs)"
    yield f"  attention  {trial.placement}"
    if trial.kernels:
        yield "  kernels    " + "  ".join(f"{site} {size}" for site, size in trial.kernels.items())
    for name, value in trial.values.items():
        yield f"  value      {name} = {value}"
    yield f"  network    {trial.identity}   run key {trial.key}"
    if trial.aliases:
        yield f"  answered   {len(trial.aliases)} more proposals that build and train the same"
    yield f"  MLflow     run {text.clean(trial.name)!r} of study {study.uuid}"
    for replicate in trial.replicates:
        yield f"replicate {replicate.number}, seed {replicate.seed}: {replicate.outcome or 'open'}"
        for attempt in replicate.attempts:
            times = f"{text.clock(attempt.started)} to {text.clock(attempt.ended)}"
            where = f"attempt {attempt.number} on {text.clean(attempt.worker)}"
            ended = ": ".join(filter(None, [attempt.outcome or "open", text.clean(attempt.reason)]))
            yield f"  {where}, {times}: {ended}"
            for line in details.get((replicate.number, attempt.number), "").splitlines():
                yield f"    {text.clean(line) if line.strip() else ''}"
        if replicate.curve:
            yield from (f"  {line}" for line in _curve(replicate.curve).splitlines())
    yield "config, all defaults written out:"
    yield from (f"  {line}" for line in writer.dump(trial.config).splitlines())


def _curve(curve: tuple[dict[str, float], ...]) -> str:
    """The curve as a table; of a long one, epochs evenly apart, the last among them."""
    from search import text

    names = [name for name in curve[-1] if name != "epoch"]
    step = -(-len(curve) // ROWS)
    kept = sorted({*range(len(curve) - 1, -1, -step), 0})
    rows = [
        [str(index + 1), *(f"{curve[index][n]:.4g}" if n in curve[index] else "-" for n in names)]
        for index in kept
    ]
    return text.columns(["epoch", *names], rows)
