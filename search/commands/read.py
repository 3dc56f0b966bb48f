"""`show` and `pareto`: what a study's journal tells of trials, also while the study runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, study_dir, warn, whole

if TYPE_CHECKING:
    from search.study.study import Study
    from search.trial import Trial

ROWS = 12
"""Epochs of a curve that `show` prints; --json has all."""


@command(example="eca-search show runs/digits 7")
@study_dir
@click.argument("trial")
@as_json
def show(study_dir: Path, trial: str, as_json: bool) -> None:
    """Show TRIAL (its number, such as 7 or '#007') of the study in STUDY_DIR.

    Its config with all defaults, the kernel of every site, the curve, every attempt with its
    worker, and why it ended.
    """
    from search.execution import launch

    study = launch.load(study_dir)
    found = trial_of(study, trial)
    if as_json:
        emit(**_about(study, found))
        return
    for line in _told(study, found):
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
    replicates (n), with their sample standard deviation. Where seeds were repeated, `on front` is
    the probability that a network belongs there.
    """
    from search import text
    from search.execution import launch
    from search.front import tables

    study = launch.load(study_dir)
    if csv_file is not None:
        rows = tables.front_csv(study.trials, study.objectives, study.membership())
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
    for line in text.footnotes(study) if study.pareto() else ():
        click.echo(line)


def _front(study: Study) -> dict[str, Any]:
    from search import text
    from search.front.membership import noise

    sure = study.membership()
    known = noise(study.trials, study.judged) if study.judged else None
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
                "values": values_of(study, trial),
                "n": trial.n,
                "sd": trial.spread.get(study.judged or ""),
                "kernels": trial.kernels,
                "identity": trial.identity,
                "config": trial.config,
                "label": trial.label,
                "membership": None if sure is None else sure[trial.number],
                "latencies": [asdict(latency) for latency in trial.latencies],
            }
            for trial in study.pareto()
        ],
        "noise": None if known is None else asdict(known),
        "devices": text.devices(study),
    }


def values_of(study: Study, trial: Trial) -> dict[str, float]:
    """What a finished trial is worth under each objective, costs without a decimal point."""
    from search.front.pareto import measured

    known = {**measured(trial), **whole(trial.costs)}
    return {name: known[name] for name in study.objectives}


def trial_of(study: Study, asked: str, *, running: bool = False) -> Trial:
    """The trial of that number (7, 007 or #007); a usage error that says which there are.

    With `running` it names those that run.
    """
    from search.study.history import is_open

    digits = asked.removeprefix("#")
    if re.fullmatch(r"[0-9]{1,9}", digits) and int(digits) in study.history.trials:
        return study.history.trials[int(digits)]
    numbers = [trial.number for trial in study.trials]
    there = f"#{numbers[0]:03d} to #{numbers[-1]:03d}" if numbers else "none yet"
    if running:
        run = [
            f"#{trial.number:03d}" for trial in study.trials if any(map(is_open, trial.replicates))
        ]
        more = f" and {len(run) - 8} more" if len(run) > 8 else ""
        there += f"; running: {', '.join(run[:8]) or 'none'}{more}"
    shown = asked if len(asked) <= 40 else f"{asked[:40]}..."
    raise click.UsageError(f"no trial {shown!r} in {study.name} (there are: {there})")


def _about(study: Study, trial: Trial) -> dict[str, Any]:
    return {
        "study": study.name,
        "trial": trial.number,
        "front": any(member.number == trial.number for member in study.pareto()),
        "mlflow_run": trial.name,
        "n": trial.n,
        **{name: value for name, value in asdict(trial).items() if name != "number"},
    }


def _told(study: Study, trial: Trial) -> Iterator[str]:
    from search import text
    from search.front import tables
    from search.study.history import is_open
    from spaces import writer
    from spaces.errors import counted

    running = any(map(is_open, trial.replicates))
    state = trial.outcome or ("running" if running else "waiting")
    yield f"{text.clean(trial.name)}: {state}"
    if trial.reason:
        yield f"  why        {text.clean(trial.reason)}"
    if trial.promoted is not None:
        yield f"  promoted   {text.promoted(trial).partition(': ')[2]}"
    costs = "  ".join(f"{name} {value:,.0f}" for name, value in trial.costs.items())
    if trial.objectives is not None:
        on = any(member.number == trial.number for member in study.pareto())
        yield f"  values     {text.values(study, trial)}  (n={trial.n})"
        yield f"  front      {'yes' if on else 'no: another network is as good at no more cost'}"
    yield f"  costs      {costs}  (1 MAC = 2 FLOPs)"
    for latency in trial.latencies:
        size, told = latency.batch_size, tables.milliseconds(latency)
        how = f"median of {latency.repeats}, {latency.precision}, {text.clean(latency.device)}"
        yield f"  latency    of {counted(size, 'image')}: {told} ms, {how}"
    yield f"  attention  {trial.placement}"
    if trial.kernels:
        yield "  kernels    " + "  ".join(f"{site} {size}" for site, size in trial.kernels.items())
    for name, value in trial.values.items():
        yield f"  value      {name} = {text.clean(str(value))}"
    yield f"  network    {trial.identity}   run key {trial.key}"
    if trial.aliases:
        more = counted(len(trial.aliases), "more proposal")
        yield f"  answered   {more} of the same network and recipe"
    yield f"  MLflow     run {text.clean(trial.name)!r} of study {study.uuid}"
    for replicate in trial.replicates:
        yield f"replicate {replicate.number}, seed {replicate.seed}: {replicate.outcome or 'open'}"
        for attempt in replicate.attempts:
            times = f"{text.clock(attempt.started)} to {text.clock(attempt.ended)}"
            place = ", ".join(filter(None, map(text.clean, (attempt.worker, attempt.device))))
            where = f"attempt {attempt.number} on {place}"
            ended = ": ".join(filter(None, [attempt.outcome or "open", text.clean(attempt.reason)]))
            yield f"  {where}, {times}: {ended}"
            if attempt.detail:
                yield from (f"    {line}" for line in text.escaped(attempt.detail))
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
