"""Further seeds, where they tell most: for the network whose place on the front is least certain.

`search.replicates` gives every network as many seeds. Most of a search are nowhere near its front,
and a few stand clear of all others: a seed more of them changes nothing. What `search.further`
allows is handed out one at a time, once all trials are over, by `search.front.membership`. Nothing
is remembered but the seeds themselves, so a study that is taken up again chooses as it would have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from search.front import pareto
from search.study.history import is_open, planned

if TYPE_CHECKING:
    from search.trial import Trial
    from spaces.settings import Objective, Search


def following(
    trials: Sequence[Trial], search: Search, members: Mapping[int, float] | None
) -> tuple[int, int] | None:
    """The (trial, replicate) to be trained next; None where nothing more is allowed or needed.

    Of the networks that may have another seed, have none at work and none that a person has stopped
    it is that whose probability of membership is nearest to a half; among equals the one with fewer
    seeds, then the lower number.
    Without `members` (no network was trained twice, so that nobody knows the noise) those on the
    front come first.
    """
    further = search.further
    if further is None or _spent(trials, search) >= further.seeds:
        return None
    known = _on_the_front(trials, search.objectives) if members is None else members
    open_ = [
        (abs(known[trial.number] - 0.5), _seeds(trial, search), trial.number)
        for trial in trials
        if known.get(trial.number, 1.0) < further.sure
        and known[trial.number] > 1 - further.sure
        and _seeds(trial, search) < further.most
        and not any(is_open(seed) or seed.outcome == "pruned" for seed in trial.replicates)
    ]
    if not open_:
        return None
    _, seeds, number = min(open_)
    return number, seeds


def _spent(trials: Sequence[Trial], search: Search) -> int:
    """How many further seeds were begun."""
    return sum(max(0, len(trial.replicates) - _planned(trial, search)) for trial in trials)


def _seeds(trial: Trial, search: Search) -> int:
    """How many seeds a trial has had, or was to have anyway."""
    return max(len(trial.replicates), _planned(trial, search))


def _planned(trial: Trial, search: Search) -> int:
    """How many it was to have anyway, if it trained at all."""
    return max(search.replicates, planned(trial)) if trial.replicates else 0


def _on_the_front(
    trials: Sequence[Trial], objectives: Mapping[str, Objective]
) -> Mapping[int, float]:
    """The members of the front as if each were as likely on it as not."""
    return {trial.number: 0.5 for trial in pareto.front(trials, objectives)}
