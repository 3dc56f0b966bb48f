"""`stop` and `logs`: what a person does about a study that is running, or a trial that failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from search.commands import as_json, command, emit, study_dir, warn
from search.commands.read import trial_of

if TYPE_CHECKING:
    from search.study.drivers import Holder
    from search.study.study import Study
    from search.trial import Attempt, Replicate, Trial

POLL = 0.3
"""Seconds between two looks at whether a driver has obeyed."""


@command(
    example="eca-search stop runs/digits\neca-search stop runs/digits 7\n"
    "eca-search stop runs/digits --max-concurrent 4"
)
@study_dir
@click.argument("trial", required=False)
@click.option(
    "--wait",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait until it has stopped; 75 is the exit code where it has not.",
)
@click.option(
    "--max-concurrent",
    "at_most",
    type=click.IntRange(min=1, max=100_000),
    metavar="N",
    help="Stop none for good, but run at most N at a time from now on; also more than before.",
)
def stop(study_dir: Path, trial: str | None, wait: float, at_most: int | None) -> int:
    """Stop the study in STUDY_DIR, or one TRIAL of it, from another terminal or machine.

    A study pauses as after Ctrl-C and can be resumed. A trial ends as pruned, and the search goes
    on; one that the pruner has stopped gets no second chance (`search.pruner.promote`). On Ray it
    takes a second or two; with the executor `inprocess` it comes between two epochs.
    With --max-concurrent the search goes on with so many trials at a time, until its driver ends:
    those above it stop after their epoch and go on when there is a place.
    """
    from search import text
    from search.execution import launch
    from search.study import control

    study = launch.load(study_dir)
    if at_most is not None:
        if trial is not None:
            raise click.UsageError("--max-concurrent is for the whole study (leave TRIAL out)")
        return _narrow(study, at_most, wait)
    if trial is not None:
        return _stop_trial(study, trial, wait)
    driver = control.ask(study.folder)
    if driver is None:
        click.echo(f"nobody drives {study.name}: nothing to stop")
        return 0
    warn(f"asked {_called(driver)}")
    if not _within(wait, lambda: _let_go(study.folder, driver)):
        click.echo(f"not stopped yet: {_called(driver)} was asked, and stops {_when(study)}")
        return 75
    control.withdraw(study.folder, driver)
    if (ended := launch.load(study_dir)).history.ended:
        click.echo(f"{study.name} had come to its end: {ended.history.ended}")
    else:
        click.echo(f"stopped; go on with: {text.typed('resume', study.folder, None)}")
    return 0


def _narrow(study: Study, at_most: int, wait: float) -> int:
    from search import text
    from search.study import control

    if study.history.executor == "inprocess":
        raise click.UsageError(f"{study.name} runs in its driver's process, one trial at a time")
    wish = control.Wish("at-most", at_most)
    driver = control.ask(study.folder, wish)
    if driver is None:
        again = text.typed("resume", study.folder, None)
        raise click.UsageError(
            f"nobody drives {study.name}; `{again} --max-concurrent {at_most}` begins with so many"
        )
    warn(f"asked {_called(driver)}")
    if not _within(wait, lambda: not control.waits(study.folder, driver, wish)):
        click.echo(f"not heard yet: {_called(driver)} was asked")
        return 75
    click.echo(f"{study.name}: at most {at_most} trials at a time from now on")
    return 0


def _stop_trial(study: Study, asked: str, wait: float) -> int:
    from search import text
    from search.execution import launch
    from search.study import control

    trial = trial_of(study, asked, running=True)
    name = text.clean(trial.name)
    if not study.unfinished(trial.number):
        click.echo(f"{name} has ended already: {trial.outcome}")
        return 0
    wish = control.Wish("stop", trial.number)
    driver = control.ask(study.folder, wish)
    stopped = trial.outcome == "pruned"
    if driver is None:
        would = "may give a second chance to" if stopped else "would go on with"
        raise click.UsageError(
            f"nobody drives {study.name}, so no trial runs; "
            f"`{text.typed('resume', study.folder, None)}` {would} {name}"
        )
    warn(f"asked {_called(driver)}")
    now = study

    def over() -> bool:
        nonlocal now
        gone = _let_go(study.folder, driver)  # before the last look at what it wrote
        now = launch.load(study.folder)
        return gone or not now.unfinished(trial.number)

    _within(wait, over)
    if now.unfinished(trial.number):
        click.echo(f"{name} has not ended yet: {_called(driver)} was asked, ends it {_when(study)}")
        return 75
    control.withdraw(study.folder, driver, wish)
    trial = now.history.trials[trial.number]
    ended = f" ({text.clean(trial.reason)})" if trial.reason else ""
    refused = stopped and trial.outcome == "pruned" and trial.number in now.history.dismissed
    click.echo(f"{name}: {trial.outcome}{ended}{', without a second chance' * refused}")
    return 0


def _within(seconds: float, over: Callable[[], bool]) -> bool:
    """Wait until it is over, for so long at most; whether it is."""
    until = time.monotonic() + seconds
    while not over():
        if time.monotonic() >= until:
            return False
        time.sleep(POLL)
    return True


def _let_go(folder: Path, driver: Holder) -> bool:
    """Whether that driver has let go of the study, be it that another drives it by now."""
    from search.study import drivers

    now = drivers.driver(folder)
    return now is None or now.fence != driver.fence


def _called(driver: Holder) -> str:
    return f"its driver (pid {driver.pid} on {driver.host})"


def _when(study: Study) -> str:
    here = study.history.executor == "inprocess"
    return "when the running epoch has ended" if here else "as soon as it looks"


@command(example="eca-search logs runs/digits 7\neca-search logs runs/digits 7 --attempt 1")
@study_dir
@click.argument("trial")
@click.option("--attempt", type=click.IntRange(min=1), metavar="N", help="Else the newest.")
@click.option(
    "--replicate", type=click.IntRange(min=0), metavar="R", help="Else that of the newest attempt."
)
@as_json
def logs(
    study_dir: Path, trial: str, attempt: int | None, replicate: int | None, as_json: bool
) -> None:
    """Show what an attempt of TRIAL (its number) has printed, with the traceback it ended in.

    The newest attempt, if no other is named; the others are listed. Of a long log the beginning and
    the end are kept. What would steer a terminal is shown in its escaped form.
    """
    from search.execution import launch

    study = launch.load(study_dir)
    found = trial_of(study, trial)
    goes = [
        Go(r.number, a, _path(study, found, r, a)) for r in found.replicates for a in r.attempts
    ]
    chosen = _chosen(study, found, goes, replicate, attempt)
    log = "" if chosen is None else _log(study, found, chosen)
    if as_json:
        emit(
            study=study.name,
            trial=found.number,
            outcome=found.outcome,
            replicate=chosen and chosen.replicate,
            attempt=chosen and chosen.attempt.number,
            log=chosen and chosen.path,
            text=log,
            attempts=[_data(go) for go in goes],
        )
        return
    for line in _shown(found, goes, chosen, log):
        click.echo(line)


class Go(NamedTuple):
    """An attempt, the number of its replicate, and where its log is (None: none was kept)."""

    replicate: int
    attempt: Attempt
    path: str | None


def _path(study: Study, trial: Trial, replicate: Replicate, attempt: Attempt) -> str | None:
    """The attempt's log, or where it is if its node did not see the study's folder."""
    from search.study import logs as kept

    who = (trial.number, replicate.number, attempt.number)
    path = kept.path(study.folder, *who)
    if path.is_file():
        return str(path)
    uri = study.space.search.checkpoints.uri or ""
    return kept.beside(uri, replicate.key, *who) if "://" in uri else None


def _chosen(
    study: Study, trial: Trial, goes: list[Go], replicate: int | None, attempt: int | None
) -> Go | None:
    """The attempt that is meant; None for a trial that was not begun. A usage error else."""
    fits = [
        go
        for go in goes
        if replicate in (None, go.replicate) and attempt in (None, go.attempt.number)
    ]
    if not fits and (goes or attempt is not None or replicate is not None):
        named = {"replicate": replicate, "attempt": attempt}
        what = " ".join(f"{name} {value}" for name, value in named.items() if value is not None)
        have = ", ".join(
            f"replicate {go.replicate} attempt {go.attempt.number}" for go in goes[-8:]
        )
        raise click.UsageError(
            f"no {what} of trial #{trial.number:03d} in {study.name} (there are: {have or 'none'})"
        )
    return max(fits, key=lambda go: (go.attempt.started, go.attempt.number), default=None)


def _log(study: Study, trial: Trial, go: Go) -> str:
    from search.study import logs as kept

    if go.path is not None and "://" in go.path:
        return kept.read_beside(go.path)
    return kept.read(study.folder, trial.number, go.replicate, go.attempt.number)


def _data(go: Go) -> dict[str, Any]:
    about = asdict(go.attempt)
    number = about.pop("number")
    return {"replicate": go.replicate, "attempt": number, **about, "log": go.path}


def _shown(trial: Trial, goes: list[Go], chosen: Go | None, log: str) -> Iterator[str]:
    from search import text
    from search.redaction import redacted
    from search.study.history import is_open

    running = any(map(is_open, trial.replicates))
    yield f"{text.clean(trial.name)}: {trial.outcome or ('running' if running else 'waiting')}"
    if chosen is None:
        yield "  no attempt of it was begun yet"
        return
    for go in goes:
        attempt = go.attempt
        ended = ": ".join(filter(None, [attempt.outcome or "open", text.clean(attempt.reason)]))
        yield (
            f"{'>' if go == chosen else ' '} replicate {go.replicate} attempt {attempt.number} "
            f"on {text.clean(attempt.worker)}, "
            f"{text.clock(attempt.started)} to {text.clock(attempt.ended)}: {ended}"
        )
    if log:
        path = chosen.path or ""
        yield f"{redacted(path) if '://' in path else text.shown(Path(path))}:"
        yield from text.escaped(log)
    else:
        yield "no log was kept: its worker could not write one, or was killed on another machine"
    detail = chosen.attempt.detail
    if detail and detail.strip().splitlines()[-1] not in log:
        yield "what the journal keeps of its end:"
        yield from text.escaped(detail)
