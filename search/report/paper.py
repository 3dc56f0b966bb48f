"""What a paper needs of a study: tables as LaTeX and CSV, figures as SVG and PDF, the methods."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search import text
from search.beforehand import diagram
from search.comparison import comparing, confirming
from search.front import plots, tables
from search.front.canvas import image
from search.report import budget, comparison, confirmed, effects, front, mappings
from search.report.latex import comma_separated, escape, tabular
from search.report.section import Table
from search.tracking import projection
from spaces import arms
from spaces.objectives import judged_by, spoken, tasks

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from search.study.study import Study


FEW = 4
"""So many values of a setting are named in the methods; more are a search."""
OWN = "ParetoSampler"
"""The sampler that is this project's; all others are Optuna's."""
Records = Sequence[Mapping[str, Any]]


def files(study: Study, confirmations: Sequence[Study]) -> dict[str, bytes]:
    """Every file by its name; `confirmations` are the studies that confirm this one.

    A table is LaTeX for readers and CSV as data, a number a cell. What the study has nothing to say
    of is left out: effects need a plain network, a forest plot needs arms.
    """
    made: dict[str, bytes] = {}
    for name, table, records in _tables(study, confirmations):
        made[f"{name}.tex"] = tabular(table, name).encode()
        made[f"{name}.csv"] = comma_separated(records).encode()
    for name, figure in _figures(study):
        made[f"{name}.svg"] = image(figure, "svg")
        made[f"{name}.pdf"] = image(figure, "pdf")
    made["methods.tex"] = methods(study, confirmations).encode()
    return made


def _tables(study: Study, confirmations: Sequence[Study]) -> Iterator[tuple[str, Table, Records]]:
    if found := effects.effects(study):
        yield "effects", effects.table(study, found), effects.records(found)
    if (compared := _told(study)) is not None:
        yield "comparison", comparison.pairs(compared), comparison.records(compared)
    if profiles := mappings.mapped(study):
        metric = mappings.metric(study)
        yield "mappings", mappings.table(profiles, metric), mappings.records(profiles, metric)
    if study.pareto():
        rows = tables.front_rows(study.trials, study.objectives, study.membership())
        yield "front", front.table(study), rows
    if told := confirmed.told(study, confirmations):
        yield "confirmed", confirmed.table(told), confirmed.records(told)
    yield "budget", budget.table(study), budget.records(study)


def _figures(study: Study) -> Iterator[tuple[str, Figure]]:
    if study.pareto():
        yield "fig-front", plots.front(study)
    if (told := _told(study)) is not None and told.comparison.pairs:
        yield "fig-forest", comparison.forest(told)
    if found := effects.effects(study):
        yield "fig-effects", effects.heat(study, found)
    for place, (_, plane) in enumerate(mappings.planes(study), 1):
        yield "fig-mappings" if place == 1 else f"fig-mappings-{place}", diagram.figure(plane)


def _images(study: Study) -> str:
    """How many images trained and how many judged; nothing where trials differ in it."""
    trials = [trial for trial in study.trials if trial.images is not None] or study.trials
    counts = {comparing.images(trial) for trial in trials}
    if len(counts) != 1 or None in counts:
        return ""
    confirms = study.space.search.confirms is not None
    training, judging = next(count for count in counts if count is not None)
    if confirms and trials[0].images is not None:
        return f" ({training:,} images, none held out; judged by the {judging:,} test images)"
    if confirms:
        return f" ({training + judging:,} images, none held out; judged by the test images)"
    return f" ({training:,} images; {judging:,} more held out for validation with a fixed seed)"


def _guessed(study: Study) -> str:
    """What hypervolume is measured from besides costs: `an accuracy of 0.1`."""
    name = spoken(judged_by(tasks(study.space.tree)))
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name} of {study.chance:g}"


def _results(study: Study) -> str:
    """What trials came to, at the beginning of a sentence."""
    return "Accuracies" if (study.judged or "").endswith("accuracy") else "Results"


def _blocks(study: Study) -> str:
    """At how many blocks each arm was trained; nothing without any."""
    written = study.space.arms
    if written is None or not written.blocks:
        return ""
    settings = {arms.block(values) for values in study.space.settings()}
    return f" at each of {len(settings)} values of {', '.join(written.blocks)}"


def _arms(study: Study) -> str:
    """Every arm with what it says, and whose network it is where that is another's."""
    written = study.space.arms
    assert written is not None
    same = {one.arm: one.of for one in comparing.sames(study) if one.everywhere}
    said = []
    for name, arm in written.replaced.items():
        changes = ", ".join(f"{key}: {_plain(value)}" for key, value in arm.items()) or "as it is"
        alias = f"; the networks of {same[name]}, trained once" if name in same else ""
        said.append(f"{name} ({changes}{alias})")
    return "; ".join(said)


def _plain(value: Any) -> str:
    """A value as a person writes it in YAML, on one line."""
    return value if isinstance(value, str) else json.dumps(value).replace('"', "")


def _said(study: Study, *keys: str) -> str:
    """The value at a place of the trials' configs; where they differ, what they were."""
    found: dict[str, None] = {}
    for trial in study.trials:
        value: Any = trial.config
        for key in keys:
            value = value[key]
        found[f"{value:,}" if isinstance(value, int) else str(value)] = None
    if len(found) == 1:
        return next(iter(found))
    if len(found) <= FEW:
        return f"{' or '.join(found)} (by {'arm' if study.space.arms else 'trial'})"
    return "searched"


def _told(study: Study) -> comparing.Told | None:
    if study.space.arms is None or study.space.search.confirms is not None:
        return None
    return comparing.told(study)


def methods(study: Study, confirmations: Sequence[Study]) -> str:
    """A paragraph that says what was done; every number in it is the journal's."""
    search = study.space.search
    versions = projection.versions(study)
    epochs = _said(study, "training", "epochs")
    said = [
        f"Networks were trained on {_said(study, 'dataset', 'name')}{_images(study)}, for "
        f"{epochs} epoch{'s' * (epochs != '1')} (batch "
        f"{_said(study, 'training', 'batch_size')}, "
        f"{_said(study, 'training', 'optimizer', 'name')}, learning rate "
        f"{_said(study, 'training', 'optimizer', 'lr')}, "
        f"{_said(study, 'training', 'schedule', 'name')} schedule). {_results(study)} are those of "
        "the last epoch, never the best over epochs.",
        "Parameters and multiply-adds were counted before training (1 MAC = 2 FLOPs).",
    ]
    if devices := text.trained_on(study):
        said.append(f"Training ran on {'; '.join(devices)}.")
    if search.confirms is not None:
        count, seeds = len(search.confirms.values), search.replicates
        said.append(
            f"Of the study {search.confirms.study} these are {count} network{'s' * (count != 1)}, "
            f"trained anew with {seeds} seed{'s' * (seeds != 1)} that it had not used."
        )
    elif study.space.arms is not None:
        compare = search.compare
        said.append(f"The arms were {_arms(study)}.")
        said.append(
            f"Arms shared split, data order and, where shapes agree, initial weights; each was "
            f"trained with {search.replicates} seeds{_blocks(study)}. Differences over matched "
            "blocks and seeds, taken as independent, are given "
            f"with {100 * (1 - compare.alpha):g} % t intervals and two-sided sign-flip permutation "
            "tests, corrected over all pairs by Holm's procedure; equivalence within "
            f"{100 * compare.margin:g} points was tested by two one-sided t tests."
        )
        if "forked" not in study.history.study:
            said.append("Margin and level were fixed before training.")
        if (found := _told(study)) is not None and found.caveats:
            said.append(f"Note: {'; '.join(found.caveats)}.")
    else:
        pruner = search.pruner.name if search.pruner else "no pruner"
        counts = study.outcomes()
        said.append(
            f"{len(study.trials)} networks were proposed by {_sampler(study)} (seed "
            f"{search.seed}) with {pruner}: {counts['finished']} finished, {counts['pruned']} were "
            f"stopped, {counts['failed']} failed{_promoted(study)}; {search.replicates} seed"
            f"{'s' * (search.replicates != 1)} for each that finished. Hypervolume is from "
            + ", ".join(f"{name} {value:,.0f}" for name, value in study.reference.items())
            + f" and {_guessed(study)}."
        )
    if len(confirmations) > 1:
        said.append(f"There were {len(confirmations)} confirmations of it.")
    for confirmation in confirmed.told(study, confirmations):
        if confirmation is not study:
            which = f"In {confirmation.name}, " if len(confirmations) > 1 else ""
            said.append(which + confirmed.sentence(confirmation))
        if confirming.confirmation(confirmation).added:
            said.append(f"Note: {confirming.ADDED}.")
    used = ", ".join(
        f"{name} {versions[name]}"
        for name in ("eca-search", "torch", "optuna", "ray")
        if name in versions
    )
    return escape(" ".join(said) + f" Software: {used}.") + "\n"


def _promoted(study: Study) -> str:
    """How many of those that finished had been stopped before; empty where none had."""
    trials = [trial for trial in study.trials if trial.outcome == "finished"]
    again = [trial.promoted for trial in trials if trial.promoted is not None]
    if not again:
        return ""
    return (
        f" ({len(again)} of those that finished had been stopped and went on, being on the front "
        f"with a probability of {math.floor(100 * min(again)) / 100:g} or more)"
    )


def _sampler(study: Study) -> str:
    """Whose sampler proposed the networks, by its class name."""
    name: str = study.space.search.sampler.name
    return name if name == OWN else f"Optuna's {name}"
