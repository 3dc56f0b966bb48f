"""Checkpoints that no trial will ask for again, and what killed writers have left behind.

A trial that has ended needs its checkpoints no more, unless it is on the front: its weights are
what the search was for. What has ended stays so, and the journal only grows: what is dead in any
state of it, however old, is dead. That is why it may be looked for while a driver is at work.

Where a network off the front may yet come back to it, none that has finished is dead, nor one that
was stopped where there are second chances. That a study has ended changes nothing for a driver's
sweep, as it may go on with more trials or a larger budget (but what has crashed for good would
begin anew); who asks (`gc`) takes it for the end.
"""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.front import pareto
from search.study.history import planned
from search.study.study import Study
from search.trial import COSTS, RETRIED, Trial
from spaces.durable import STALE
from spaces.latency import LATENCIES

FRESH = 60.0
"""Seconds for which what has just ended is left alone: its worker may be writing yet, and what
another process reads of a driver's newest words may not be on the disk."""
_KEY = re.compile(r"[0-9a-z]+(?:-x\d+)?-r\d+")  # a name in a journal never becomes a path


@dataclass(frozen=True, slots=True)
class Waste:
    """Files of one dead replicate, or left by killed writers (`trial` is None); sizes in bytes."""

    trial: int | None
    where: str
    files: tuple[str, ...]
    size: int


def find(study: Study, *, driven: bool) -> Iterator[Waste]:
    """What a person may remove, trial by trial; `driven`: a driver is at work meanwhile."""
    over = study.history.ended is not None and not driven
    for key, number in dead(study, driven=driven, over=over).items():
        if (waste := of(study, key, number)) is not None:
            yield waste
    left = dict(_leftovers(study.folder, stale=STALE if driven else 0.0))
    if left:
        yield Waste(None, str(study.folder), tuple(left), sum(left.values()))


def dead(study: Study, *, driven: bool, over: bool) -> dict[str, int]:
    """The run keys that nobody will ask for again, each with its trial; no store is looked at.

    `over`: the study does not go on.
    """
    trials = study.trials
    front = _front(study, trials, driven, over)
    alive = [t for t in trials if t.number in front or _wanted(study, t, driven, over)]
    wanted = {key for trial in alive for key in _keys(study, trial)}
    found: dict[str, int] = {}
    for trial in trials:
        former = set() if driven and _lately(trial) else _former(trial)
        for key in {*former, *_keys(study, trial)} - wanted:
            if _KEY.fullmatch(key):  # a network that crashed twice has two trials of one key
                found.setdefault(key, trial.number)
    return found


def of(study: Study, key: str, number: int) -> Waste | None:
    """What lies under a dead run key of a trial; None: nothing does."""
    system, place = _place(study)
    found = _files(system, f"{place}/{key}")
    return Waste(number, f"{place}/{key}", tuple(found), sum(found.values())) if found else None


def folders(study: Study) -> set[str]:
    """The run keys that have a folder where the study's checkpoints go: one listing for all."""
    system, place = _place(study)
    system.invalidate_cache()
    try:
        listed = system.ls(place, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return set()
    return {name.rstrip("/").rsplit("/", 1)[-1] for name in listed}


def remove(study: Study, waste: Waste) -> int:
    """Remove what was found; bytes that this call has freed, not another one beside it."""
    from fsspec.implementations.local import LocalFileSystem

    system = LocalFileSystem() if waste.trial is None else _place(study)[0]
    freed = 0
    for file in waste.files:
        with suppress(FileNotFoundError):
            size = int(system.size(file))
            system.rm_file(file)
            freed += size
    if waste.trial is not None:
        with suppress(Exception):  # not empty, or no folders there
            system.rmdir(waste.where)
    return freed


def kept(study: Study, waste: Collection[Waste]) -> int:
    """Bytes of the study's checkpoints that stay."""
    system, place = _place(study)
    folders = {f"{place}/{key}" for trial in study.trials for key in _keys(study, trial)}
    folders -= {each.where for each in waste}
    return sum(sum(_files(system, folder).values()) for folder in folders)


def weightless(study: Study, there: Collection[str]) -> int:
    """How many finished networks have none of the `folders` that are there, of no seed."""
    finished = [trial for trial in study.trials if trial.outcome == "finished"]
    return sum(not any(r.key in there for r in trial.replicates) for trial in finished)


def bare(study: Study, there: Collection[str]) -> set[str]:
    """Run keys of trials that have, or may get, a second chance, but none of the `folders` that are
    there to go on from.
    """
    stopped = [
        trial
        for trial in study.trials
        if trial.outcome == "pruned" or (trial.promoted is not None and trial.outcome is None)
    ]
    return {t.key_of(0) for t in stopped if t.number not in study.history.dismissed}.difference(
        there
    )


def held(study: Study) -> int | None:
    """Bytes of all that lies where the study's checkpoints go; None where that cannot be told."""
    try:
        system, place = _place(study)
        found = system.find(place, detail=True)
    except Exception:  # every kind of store has its own way of being away
        return None
    return sum(int(about.get("size") or 0) for about in found.values())


def _front(study: Study, trials: Collection[Trial], driven: bool, over: bool) -> set[int]:
    """Who is on the front, or may come back to it.

    Beside a driver also who was on it before its newest words, which its disk may lack yet.
    """
    if _may_come_back(study, trials, over):
        return {trial.number for trial in trials if trial.outcome == "finished"}
    known = [[*trials], [trial for trial in trials if not _lately(trial)] if driven else []]
    return {t.number for each in known for t in pareto.front(each, study.objectives)}


def _may_come_back(study: Study, trials: Collection[Trial], over: bool) -> bool:
    """Whether a finished network off the front may be on it later, as others lose their places."""
    if over:
        return False
    search = study.space.search
    # the trial that stands for a network is the best in one metric: it may be worse in another, as
    # it is in latency on a slower device
    devices = {latency.device for trial in trials for latency in trial.latencies}
    told = COSTS if len(devices) > 1 else (*COSTS, *LATENCIES)
    return (
        search.duplicates == "replicate"  # another seed may bring any of them back
        or search.further is not None
        or sum(name not in told for name in study.objectives) > 1
        or any(t.outcome == "finished" and study.unfinished(t.number) for t in trials)
    )


def _lately(trial: Trial) -> bool:
    """Whether something of a trial has ended a moment ago, or has not."""
    ends = [trial.ended, *(known.attempts[-1].ended for known in trial.replicates)]
    return any(end is None or time.time() - end < FRESH for end in ends)


def _wanted(study: Study, trial: Trial, driven: bool, over: bool) -> bool:
    """Whether somebody may go on from a trial's checkpoints yet."""
    promote = study.space.search.promote
    stopped = trial.outcome == "pruned" and trial.number not in study.history.dismissed
    if stopped and promote is not None:
        return not over  # it may have a second chance
    if trial.outcome is None or any(known.outcome is None for known in trial.replicates):
        return True
    if trial.outcome in ("preempted", "interrupted"):
        return True
    if not driven:
        return False
    # the same network may be about to train once more, from these very checkpoints
    again = trial.outcome in RETRIED
    return again or trial.ended is None or time.time() - trial.ended < FRESH


def _keys(study: Study, trial: Trial) -> set[str]:
    """The run keys of a trial's replicates, of those to come too."""
    count = max(study.space.search.replicates, planned(trial), len(trial.replicates))
    return {trial.key_of(replicate) for replicate in range(count)}


def _former(trial: Trial) -> set[str]:
    """Those it had before its batches were cut into smaller parts."""
    former = []
    while trial.accumulate > 1:
        trial = replace(trial, accumulate=trial.accumulate // 2)
        former += [trial.key_of(known.number) for known in trial.replicates]
    return set(former)


def _place(study: Study) -> tuple[Any, str]:
    """The file system of the study's checkpoints, and their folder there."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if "://" in study.checkpoints:
        system, place = url_to_fs(study.checkpoints)
        return system, str(place).rstrip("/")
    return LocalFileSystem(), str(Path(study.checkpoints).absolute())


def _files(system: Any, folder: str) -> dict[str, int]:
    """Checkpoints and drafts of them directly in a folder, with their sizes; no links."""
    system.invalidate_cache()
    try:
        listed = system.ls(folder, detail=True)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {
        entry["name"]: int(entry["size"] or 0)
        for entry in listed
        if entry["type"] == "file"
        and not entry.get("islink")
        and entry["name"].endswith((".pt", ".tmp"))
    }


def _leftovers(folder: Path, *, stale: float) -> Iterator[tuple[str, int]]:
    """Temporary files of writers that were killed, in the study's folder."""
    now = time.time()
    for file in sorted(folder.rglob(".*.tmp")):
        with suppress(OSError):
            about = file.lstat()
            if file.is_file() and not file.is_symlink() and now - about.st_mtime >= stale:
                yield str(file), about.st_size
