"""Confirmed answers: networks that a search has chosen, trained anew and judged by test images.

A confirmation is a study of its own, whose arms are the chosen trials. Its seeds are not the
search's, the validation images train too, and the test images, which no search reads, judge.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Any

import spaces
from search import text
from search.front import pareto, tables
from search.study import verdict
from search.trial import COSTS, Trial, digest_int
from spaces import Config, Space, SpaceError, arms, writer
from spaces.errors import Place, Problem, counted
from spaces.overrides import applied, put
from spaces.probe import validated
from spaces.reader import Node, located

if TYPE_CHECKING:
    from search.comparison.shrinkage import Shrinkage
    from search.study.study import Study
    from spaces.settings import Confirms

SCHEDULE = "training.epochs="
RANKED = 4
"""Networks from which a rank correlation says something: of three, one order in six is the same."""
KEPT = (
    "resources",
    "executor",
    "max_concurrent",
    "failures",
    "oom",
    "timeouts",
    "checkpoints",
    "tracking",
)
"""What of a search's settings its confirmation goes by too."""
RECIPE = "training"
"""The one section of a config that a confirmation may say anew: longer training, a larger batch."""
OTHERS = {
    **dict.fromkeys(("task", "backbone", "attention"), "that is another network than was found"),
    "dataset": "those are other data than it was found on",
    "search": "a confirmation goes by the search's settings, and its seeds are fresh ones",
    "name": "a confirmation is named by --name",
}
"""What is wrong with an override of any other section."""
ADDED = "seeds were added after their first results were seen"
MOST = 100
"""Seeds that a study may have."""

LONGEST = 192
"""So much of an experiment's name is kept before `-confirm`: 200 characters are allowed."""


@dataclass(frozen=True, slots=True)
class Confirmed:
    """One network: what the search said of it, and what its confirmation did.

    `mean` is over `n` seeds, `sd` their sample standard deviation (None below two); both None and 0
    before one has finished. `schedule` is the search's epochs (None where it was not written down)
    and the confirmation's.
    """

    arm: str
    trial: Trial
    searched: float
    schedule: tuple[int | None, int]
    mean: float | None
    sd: float | None
    n: int

    @property
    def original(self) -> int:
        """The trial's number in the study that is confirmed."""
        return _original(self.arm)


@dataclass(frozen=True, slots=True)
class Confirmation:
    """What a confirmation came to.

    `shrinkage` is what the search had promised too much, `spearman` and `kendall` how far the order
    of the networks held; None where too few are confirmed to say. `changed` is what was trained
    another way than the search had done, its epochs apart.
    """

    study: str
    searched: str
    judged: str
    networks: tuple[Confirmed, ...]
    shrinkage: Shrinkage | None
    spearman: float | None
    kendall: float | None
    added: bool
    changed: tuple[str, ...]


def space(
    study: Study,
    trials: Sequence[Trial],
    *,
    replicates: int,
    overrides: Sequence[str] = (),
    name: str | None = None,
) -> Space:
    """The space that confirms these trials of a study, `overrides` said of each one's training.

    The seed is the study's own function, so that who confirms again sees no luckier seeds. Raises
    SpaceError for a trial without a result, for an override of more than the training, and for what
    `spaces.load` refuses.
    """
    _refuse_others(overrides)
    metric = study.judged
    if metric is None or not trials:
        said = "no trial with a result" if metric else "no objective that is trained for"
        raise SpaceError([Problem(None, "trials", f"nothing to confirm: {said}")])
    for trial in trials:
        if trial.objectives is None:
            state = f"it ended as {trial.outcome}" if trial.outcome else "it has not ended"
            state += "; allowed: finished trials"
            said = f"#{trial.number:03d} has no result to confirm ({state})"
            raise SpaceError([Problem(None, "trials", said)])
    name = name or f"{study.name}-confirm"
    configs = {_arm(trial): _config(trial, overrides, name) for trial in trials}
    base = next(iter(configs.values()))
    settings = study.space.search.model_dump(mode="json", include=set(KEPT))
    if shared := settings["tracking"]["experiment"]:  # what it shows is not what a search shows
        settings["tracking"]["experiment"] = f"{shared[:LONGEST]}-confirm"
    costs = {
        cost: objective.model_dump()
        for cost, objective in study.objectives.items()
        if cost in COSTS
    }
    judged = metric.replace("val_", "test_").replace("train_", "test_")
    text = writer.dump(
        {
            **base,
            "arms": {arm: _differing(config, base) for arm, config in configs.items()},
            "search": {
                **settings,
                "seed": _fresh(study),
                "replicates": replicates,
                "objectives": {judged: study.objectives[metric].model_dump(), **costs},
                "confirms": {
                    "study": study.name,
                    "uuid": study.uuid,
                    "metric": metric,
                    "values": {_arm(t): pareto.measured(t)[metric] for t in trials},
                    "epochs": {_arm(t): t.config["training"]["epochs"] for t in trials},
                    "overrides": list(overrides),
                },
            },
        }
    )
    return spaces.load(study.folder / "confirm.yaml", text=text)


def confirmation(study: Study) -> Confirmation:
    """What a study that confirms another has said so far. Raises SpaceError for another kind."""
    confirms = study.space.search.confirms
    if confirms is None or study.judged is None:
        said = "it confirms no other (allowed: what `eca-search confirm` has made)"
        raise SpaceError([Problem(None, study.name, said)])
    found = [
        _confirmed(arm, trial, confirms, study.judged)
        for trial in study.trials
        for arm in _arms(trial)
    ]
    known = [one for one in found if one.mean is not None]
    searched = [one.searched for one in known]
    means = [one.mean for one in known if one.mean is not None]
    from search.comparison.shrinkage import rank_correlation, shrinkage

    rising = study.rising()  # a loss has no points to lose
    correlation = rank_correlation(searched, means)
    return Confirmation(
        study=confirms.study,
        searched=confirms.metric,
        judged=study.judged,
        networks=tuple(sorted(found, key=lambda one: one.arm)),
        shrinkage=shrinkage(searched, means) if means and rising else None,
        spearman=correlation.spearman,
        kendall=correlation.kendall,
        added=any("search.replicates" in changes for changes in study.history.edits),
        changed=tuple(o for o in confirms.overrides if not o.startswith(SCHEDULE)),
    )


def searched(study: Study, trial: Trial) -> dict[int, float]:
    """What a search had said of a confirmation's trial, by the search's own trial number.

    Empty in a study that confirms no other. More than one where `overrides` made them one run.
    """
    confirms = study.space.search.confirms
    if confirms is None:
        return {}
    return {_original(arm): confirms.values[arm] for arm in _arms(trial)}


def told(study: Study) -> Iterator[str]:
    """What a study that confirms another has come to, as plain text."""
    found = confirmation(study)
    yield f"{study.name}: {text.tally(study)}"
    heading, *below = rows(found)
    yield text.columns(heading, below, left=["network"])
    yield from lines(found)


def rows(found: Confirmation) -> Iterator[list[str]]:
    """The heading, then a row a network."""
    search, confirmed = f"search: {found.searched}", f"confirmed: {found.judged}"
    yield ["searched as", search, "confirmed as", confirmed, "n", "network"]
    for one in found.networks:
        yield [
            f"#{one.original:03d}",
            tables.share(one.searched),
            f"#{one.trial.number:03d}",
            "-" if one.mean is None else tables.share(one.mean, one.sd),
            str(one.n),
            text.clean(one.trial.label.partition(": ")[2]),
        ]


def lines(found: Confirmation) -> Iterator[str]:
    """How much the search had promised too much, and whether the order of networks held."""
    if (shrunk := found.shrinkage) is not None:
        ends = ""
        if shrunk.n > 2:  # of two, Student's interval is all there is
            ends = f" ({100 * shrunk.low:+.2f} to {100 * shrunk.high:+.2f}, 95 %)"
        yield (
            f"shrinkage (search minus confirmed): {100 * shrunk.mean:+.2f} points{ends}, "
            f"mean over {counted(shrunk.n, 'network')}"
        )
    for before, epochs in dict.fromkeys(one.schedule for one in found.networks):
        if before is not None and before != epochs:
            yield (
                f"trained for {counted(epochs, 'epoch')}, by the search for {before}: what that "
                "changes is in the difference"
            )
    if found.changed:
        yield (
            f"trained with {', '.join(map(text.clean, found.changed))}, as the search had not: "
            "what that changes is in the difference, too"
        )
    if found.added:
        yield ADDED
    if found.spearman is not None and found.kendall is not None:
        ranked = sum(one.mean is not None for one in found.networks)
        few = f"; of {counted(ranked, 'network')} that is chance" if ranked < RANKED else ""
        yield (
            f"order in search and in confirmation: Spearman {found.spearman:.2f}, "
            f"Kendall {found.kendall:.2f} (1: the same, -1: reversed){few}"
        )


def _confirmed(arm: str, trial: Trial, confirms: Confirms, metric: str) -> Confirmed:
    means, spread = verdict.worth(trial, [metric])
    mean = None if means is None else means[metric]
    schedule = (confirms.epochs.get(arm), int(trial.config["training"]["epochs"]))
    searched = confirms.values[arm]
    return Confirmed(arm, trial, searched, schedule, mean, spread.get(metric), trial.n)


def _arm(trial: Trial) -> str:
    return f"t{trial.number:03d}"


def _refuse_others(overrides: Sequence[str]) -> None:
    """Raise SpaceError for overrides that would confirm something else than what was found."""
    problems = []
    for number, override in enumerate(overrides, 1):
        key = override.partition("=")[0].strip()
        section = key.partition(".")[0]
        if section in OTHERS:
            said = f"{OTHERS[section]} (allowed: {RECIPE}.*; all else is for `eca-search run`)"
            problems.append(Problem(Place(f"override {number}"), key, said))
    if problems:
        raise SpaceError(problems)


def _fresh(study: Study) -> int:
    """A seed for the study's confirmations, none of whose replicates has a seed of the study's."""
    from search.study.study import seed_of

    ours = study.space.search.seed
    used = {seed_of(ours, index) for index in range(MOST)}
    used |= {replicate.seed for trial in study.trials for replicate in trial.replicates}
    drawn = (digest_int(ours, "confirm", *again) for again in chain([()], zip(count(2))))
    return next(s for s in drawn if used.isdisjoint(seed_of(s, index) for index in range(MOST)))


def _original(arm: str) -> int:
    return int(arm.removeprefix("t"))


def _arms(trial: Trial) -> list[str]:
    """The arms whose results are this trial's: its own, and those that it answered for."""
    asked = (trial.values, *(alias["values"] for alias in trial.aliases))
    return [arm for arm in map(arms.of, asked) if arm is not None]


def _config(trial: Trial, overrides: Sequence[str], name: str) -> dict[str, Any]:
    """The trial's config with the overrides in it, as plain values, under another name."""
    written = Config.model_validate(trial.config).plain()
    tree = applied(located(written, Place(f"#{trial.number:03d}")), overrides)
    tree = put(tree, "name", Node(name, Place("--name")))
    _, wrong = validated(Config, tree)
    if wrong:
        raise SpaceError(wrong)
    plain: dict[str, Any] = tree.plain()
    return plain


def _differing(config: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    return {
        section: part
        for section, part in config.items()
        if section != "name" and part != base.get(section)
    }
