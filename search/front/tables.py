"""The front of a study as a table: rows, CSV, Markdown; and its trials in counts."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from search.front import pareto
from search.trial import Replicate, Trial
from spaces.latency import LATENCIES, Latency

if TYPE_CHECKING:
    from spaces.settings import Objective


def front_rows(
    trials: Iterable[Trial],
    objectives: Mapping[str, Objective],
    sure: Mapping[int, float] | None = None,
) -> list[dict[str, Any]]:
    """One row a network of the front, cheapest first; numbers as they are, None where unknown.

    `sure` is what `membership` gives: with it, the probability of being there stands last.
    """
    front = pareto.front(trials, objectives)
    names = shown(front, objectives)
    return [
        {
            "trial": trial.number,
            "label": trial.label,
            **{name: pareto.measured(trial).get(name) for name in names},
            **{
                f"{name}_{end}": getattr(trial.latency.get(name), end, None)
                for name in names
                if name in LATENCIES
                for end in ("low", "high")
            },
            **{f"{name}_sd": trial.spread.get(name) for name in objectives if trained(name, trial)},
            "n": trial.n,
            "kernels": kernels(trial.kernels),
            "placement": trial.placement,
            "identity": trial.identity,
            **({} if sure is None else {"on_front": sure[trial.number]}),
        }
        for trial in front
    ]


def shown(trials: Iterable[Trial], objectives: Iterable[str]) -> list[str]:
    """The objectives, and latencies that were measured besides."""
    measured = {name for trial in trials for name in trial.latency}
    return list(dict.fromkeys([*objectives, *(name for name in LATENCIES if name in measured)]))


def front_csv(
    trials: Iterable[Trial],
    objectives: Mapping[str, Objective],
    sure: Mapping[int, float] | None = None,
) -> str:
    """The front as CSV, in full precision; only a heading where no trial has finished."""
    rows = front_rows(trials, objectives, sure)
    text = io.StringIO()
    heading = list(rows[0]) if rows else ["trial", *objectives]
    writer = csv.DictWriter(text, fieldnames=heading, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def curves_csv(replicates: Iterable[Replicate]) -> str:
    """Every epoch of every replicate as CSV, in full precision; replicates count from 1."""
    rows = [
        {"replicate": known.number + 1, "seed": known.seed, **metrics}
        for known in replicates
        for metrics in known.curve
    ]
    text = io.StringIO()
    heading = dict.fromkeys(["replicate", "seed", "epoch", *(name for row in rows for name in row)])
    writer = csv.DictWriter(text, fieldnames=list(heading), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def front_markdown(
    trials: Iterable[Trial],
    objectives: Mapping[str, Objective],
    *,
    links: Mapping[int, str] | None = None,
    most: int | None = None,
) -> str:
    """The front as a Markdown table of at most `most` rows; `links` leads from trial numbers on."""
    front = pareto.front(trials, objectives)
    if not front:
        return "No trial has finished yet."
    names = shown(front, objectives)
    lines = [
        f"| trial | network | {' | '.join(names)} | n | kernels |",
        "|---|---|" + "---:|" * len(names) + "---:|---|",
    ]
    for trial in front[:most]:
        number = f"#{trial.number:03d}"
        if links and trial.number in links:
            number = f"[{number}]({links[trial.number]})"
        values = [cell(name, trial) for name in names]
        cells = [number, escape(trial.label), *values, str(trial.n), kernels(trial.kernels)]
        lines.append(f"| {' | '.join(cells)} |")
    if most is not None and len(front) > most:
        lines.append(f"\n{len(front) - most} more in `front.md`.")
    return "\n".join(lines)


def cell(name: str, trial: Trial) -> str:
    """One value of a trial for a person: `0.9312 ± 0.0016`, `40,813,184`, `1.31 (1.29-1.34)`."""
    value = pareto.measured(trial).get(name)
    if value is None:
        return "-"
    if name in trial.latency:
        return milliseconds(trial.latency[name])
    if trained(name, trial):
        return share(value, trial.spread.get(name))
    return number(value)


def share(value: float, spread: float | None = None) -> str:
    """An accuracy or a loss for a person: `0.9312 ± 0.0016`; a very small one is `1.1e-05`."""
    written = ".1e" if 0 < abs(value) < 5e-4 else ".4f"
    return f"{value:{written}}" + ("" if spread is None else f" ± {spread:{written}}")


def milliseconds(found: Latency) -> str:
    """A latency with its interval: `1.31 (1.29-1.34)`."""
    return f"{number(found.median)} ({number(found.low)}-{number(found.high)})"


def number(value: float) -> str:
    """A cost for a person: `40,813,184`, `0.75`."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.4g}"


def kernels(sizes: Mapping[str, int]) -> str:
    """Kernel sizes of the active sites, by stage where a stage has but one: `stage1=3 stage2=5`."""
    stages: dict[str, dict[str, int]] = {}
    for site, size in sizes.items():
        stages.setdefault(site.split(".")[0], {})[site] = size
    words: list[str] = []
    for stage, sites in stages.items():
        sizes_here = set(sites.values())
        if len(sizes_here) == 1:
            words.append(f"{stage}={sizes_here.pop()}")
        else:
            words += [f"{site}={size}" for site, size in sites.items()]
    return " ".join(words) or "none"


def outcomes(trials: Iterable[Trial]) -> dict[str, int]:
    """How many trials have finished, were pruned, have failed."""
    counts = {"finished": 0, "pruned": 0, "failed": 0}
    for trial in trials:
        word = "failed" if trial.failed else trial.outcome
        if word in counts:
            counts[word] += 1
    return counts


def trained(name: str, trial: Trial) -> bool:
    """Whether an objective is measured by training, and no cost or latency of the network."""
    return name not in trial.untrained


def escape(text: str) -> str:
    """The text as Markdown that shows it as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|])", r"\\\1", " ".join(text.split()))
