"""`status`: how far a study is, what runs where, and who drives it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, study_dir
from search.commands.read import values_of

if TYPE_CHECKING:
    from search.study.drivers import Holder
    from search.study.study import Study


@command(example="eca-search status runs/digits --json | jq .trials.finished")
@study_dir
@as_json
def status(study_dir: Path, as_json: bool) -> None:
    """Say how far the study in STUDY_DIR is: running, paused or finished.

    Reads the journal, and how large its checkpoints are, so it works from another terminal while
    the study runs.
    """
    from search import text
    from search.execution import launch
    from search.redaction import redacted
    from search.study import drivers, garbage

    study = launch.load(study_dir)
    driver = drivers.driver(study.folder)
    state, best = _state(study, driver), text.best(study)
    now = None if driver is None else time.time()
    held = garbage.held(study)
    if as_json:
        emit(
            study=study.name,
            state=state,
            trials=study.outcomes(),
            counts=study.counts(driven=driver is not None),
            best=None if best is None else {"trial": best.number, "values": values_of(study, best)},
            started=study.started,
            updated=study.updated,
            resumable=state == "paused",
            total=study.expected,
            ended=study.history.ended,
            halted=study.history.halted,
            front=[trial.number for trial in study.pareto()],
            hypervolume=study.hypervolume(),
            outcomes=dict(Counter(trial.outcome for trial in study.trials if trial.outcome)),
            running=list(_running(study)) if driver else [],
            stopping=sorted(study.stopping),
            devices=text.devices(study),
            budget=_budget(study, now),
            checkpoints={"place": redacted(study.checkpoints), "bytes": held},
            driver=None if driver is None else {**asdict(driver), "executor": _executor(study)},
        )
        return
    tally = text.tally(study, driven=driver is not None)
    click.echo(f"{study.name}: {_colored(state)}, {tally}")
    for line in text.over(study):
        click.echo(f"  over     {line}")
    if spent := text.budget(study, now=now):
        click.echo(f"  budget   {spent}")
    if held:
        click.echo(f"  kept     {text.size(held)} of checkpoints")
    for line in _result(study):
        click.echo(line)
    where = text.devices(study)
    if len(where) > 1:
        said = "; ".join(map(text.clean, where))
        click.echo(f"  latency  measured on {said}: not comparable")
    for line in _lines(study) if driver else ():
        click.echo(f"  running  {line}")
    for line in text.losses(study):
        click.echo(f"  lost     {line}")
    if driver is not None:
        since = f"since {text.clock(driver.since)}, last heard {driver.age:.0f} s ago"
        on = f"pid {driver.pid} on {text.clean(driver.host)}"
        click.echo(f"  driver   {on} ({_executor(study)}), {since}")
    click.echo(f"  started  {text.clock(study.started)}   updated {text.clock(study.updated)}")
    if state == "paused":
        click.echo(f"  go on    {text.typed('resume', study.folder, None)}")


def _result(study: Study) -> Iterator[str]:
    """The best trial and the front, or what a comparison or a confirmation has told."""
    from search import text

    best = text.best(study)
    if study.space.search.confirms is not None:
        from search.comparison import confirming

        yield from (
            f"  result   {line}" for line in confirming.lines(confirming.confirmation(study))
        )
    elif study.space.arms is not None:
        from search.comparison import comparing, statistics

        told = comparing.told(study)
        if told is None:
            yield "  result   nothing to compare yet: no block has a value of every arm"
            return
        for pair in told.comparison.pairs:
            yield f"  result   {statistics.sentence(pair, told.comparison.margin)}"
        yield from (f"  mind     {caveat}" for caveat in told.caveats)
    elif best is not None:
        yield f"  best     {text.clean(best.name)}  {text.values(study, best)}"
        yield f"  front    {text.worth(study)}"


def _state(study: Study, driver: Holder | None) -> str:
    if driver is not None:
        return "running"
    return "finished" if study.history.ended else "paused"


def _budget(study: Study, now: float | None) -> dict[str, dict[str, float | None]]:
    """What is spent in each of a budget's units, and its limit where there is one."""
    from search.study.spending import limits

    most = dict(limits(study.space.search.budget))
    spent = asdict(study.history.spending.spent(now))
    return {key: {"spent": have, "limit": most.get(key)} for key, have in spent.items()}


def _executor(study: Study) -> str:
    return study.history.executor or "not begun yet"


def _colored(state: str) -> str:
    return click.style(state, fg={"running": "cyan", "finished": "green"}.get(state, "yellow"))


def _running(study: Study) -> Iterator[dict[str, Any]]:
    """Every attempt that runs: how far it is, where, and since when (unix seconds)."""
    from search.study.history import is_open

    for trial in study.trials:
        for replicate in filter(is_open, trial.replicates):
            attempt = replicate.attempts[-1]
            known = replicate.curve[-1] if replicate.curve else {}
            yield {
                "trial": trial.number,
                "replicate": replicate.number,
                "attempt": attempt.number,
                "epoch": len(replicate.curve),
                "epochs": trial.config["training"]["epochs"],
                "value": known.get(study.judged or ""),
                "worker": attempt.worker,
                "since": attempt.started,
            }


def _lines(study: Study) -> Iterator[str]:
    """The running attempts in words, one a line."""
    from search import text
    from search.front import tables

    for run in _running(study):
        words = [text.clean(study.history.trials[run["trial"]].name)]
        if run["replicate"]:
            words.append(f"replicate {run['replicate']}")
        if run["attempt"] > 1:
            words.append(f"attempt {run['attempt']}")
        words.append(f"epoch {run['epoch']}/{run['epochs']}")
        if run["value"] is not None:
            words.append(f"{study.judged} {tables.share(run['value'])}")
        words.append(f"on {text.clean(run['worker'])} since {text.clock(run['since'])}")
        if run["trial"] in study.stopping:
            words.append("(asked to stop)")
        yield "  ".join(words)
