"""What studies made before tell of a training to come: how noisy it is, and how long it takes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from search.errors import JournalError
from search.study import journal
from search.study.history import History
from search.trial import Trial

LOOKED = 20
"""So many of the newest studies are looked at."""
LARGEST = 64 * 2**20
"""Journals of more bytes are passed over: reading them would take seconds."""


@dataclass(frozen=True, slots=True)
class Noise:
    """The standard deviation of one training from its seed alone, in the metric's own unit.

    Pooled over `df` degrees of freedom; `source` names the studies.
    """

    sd: float
    df: int
    source: str


@dataclass(frozen=True, slots=True)
class Pace:
    """How long an epoch takes on one worker, by the multiply-adds of the network.

    `known` holds (MACs, seconds) of networks that were trained, the median of each, by MACs;
    `source` names the studies.
    """

    known: tuple[tuple[float, float], ...]
    source: str

    def seconds(self, macs: float) -> float:
        """Seconds of an epoch: between two networks on a line, above all in proportion.

        Below all it is as long as the smallest's: most of a tiny network's time is no arithmetic.
        """
        counts, times = zip(*self.known, strict=True)
        beyond: float = max(1.0, macs / counts[-1])
        return float(np.interp(macs, counts, times)) * beyond


@dataclass(frozen=True, slots=True)
class Precedents:
    """Trials with the same images, by the study that they are of."""

    trials: tuple[tuple[str, Trial], ...]

    def noise(self, metric: str, epochs: int) -> Noise | None:
        """From networks trained with several seeds for as many epochs; None without any."""
        pooled, df, names = 0.0, 0, set()
        for name, trial in self.trials:
            finals = [
                replicate.curve[-1][metric]
                for replicate in trial.replicates
                if replicate.outcome == "finished" and metric in replicate.curve[-1]
            ]
            if len(finals) > 1 and trial.config["training"]["epochs"] == epochs:
                pooled += statistics.variance(finals) * (len(finals) - 1)
                df += len(finals) - 1
                names.add(name)
        if not df:
            return None
        return Noise(math.sqrt(pooled / df), df, ", ".join(sorted(names)))

    def pace(self) -> Pace | None:
        """From every training that has an epoch; None without any."""
        taken: dict[float, list[float]] = {}
        names = set()
        for name, trial in self.trials:
            seconds = [m["seconds"] for r in trial.replicates for m in r.curve if "seconds" in m]
            if seconds and trial.costs["macs"] > 0:
                taken.setdefault(trial.costs["macs"], []).extend(seconds)
                names.add(name)
        if not taken:
            return None
        known = tuple((macs, statistics.median(taken[macs])) for macs in sorted(taken))
        return Pace(known, ", ".join(sorted(names)))


def precedents(out: Path, dataset: dict[str, Any]) -> Precedents:
    """The trials of the studies in a folder that saw the same images, newest studies first."""
    return Precedents(
        tuple(
            (name, trial)
            for name, history in _histories(out)
            for trial in history.trials.values()
            if _images(trial.config.get("dataset", {})) == _images(dataset)
        )
    )


def _images(dataset: dict[str, Any]) -> dict[str, Any]:
    """What of a dataset says which images there are, and how many of them train."""
    return {key: value for key, value in dataset.items() if key not in ("root", "split_seed")}


def _histories(out: Path) -> Iterator[tuple[str, History]]:
    """Every study that can be read; a damaged one tells nothing here."""
    for path in _newest(out):
        try:
            if path.stat().st_size <= LARGEST:
                yield path.parent.name, History(journal.read(path.parent))
        except (OSError, JournalError, KeyError, ValueError):
            continue


def _newest(out: Path) -> Sequence[Path]:
    try:
        found = sorted(out.glob(f"*/{journal.FILE}"), key=lambda p: p.stat().st_mtime, reverse=True)
    except OSError:
        return []
    return found[:LOOKED]
