"""What to try next: proposals that train, and those that cost nothing.

A proposal is a record the study writes: `ask` (it trains), `refuse` (over a limit, or no network)
or `alias` (a network seen before). The main study is asked, every answer is folded back into it.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from search.front import pareto
from search.sampling.pareto_sampler import Choosing, ParetoSampler
from search.study.history import History, is_open, planned
from search.study.journal import Record
from search.study.main_study import MainStudy
from search.trial import RETRIED, Candidate, Trial, digest_int
from spaces import Space
from spaces.errors import counted

Values = dict[str, Any]
Examine = Callable[[Values], Candidate]
USELESS = 100
"""Proposals in a row that train nothing before an unseen point is taken instead of asking on."""
LISTED = 20_000
"""A space with at most so many settings is listed when an unseen point is wanted."""
DRAWS = 500
"""In a larger space, so many random points are looked at."""
CRASHED = 2
"""Trials of one network that may crash before it is taken for broken and not proposed again."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """A record to be written, and folded back before the next one is asked for."""

    kind: str
    fields: dict[str, Any]


class Proposing:
    """The sampler's side of a study, rebuilt by folding its records again.

    `exhausted` says why nothing more will be proposed, once that is known.
    """

    def __init__(self, space: Space, examine: Examine | None) -> None:
        self.main = MainStudy(space)
        self.exhausted = ""
        self._space = space
        self._search = space.search
        self._examine = examine
        self._seen: dict[str, int] = {}  # run key -> the trial that has answered, or will
        self._tried: Counter[str] = Counter()  # run key -> trials of it
        self._known: dict[str, Candidate | None] = {}  # values -> what they are; None: no network
        self._choosing: Choosing | None = None
        if space.search.sampler.name == ParetoSampler.__name__ and space.arms is None:
            self._choosing = Choosing(space, self._feasible, **space.search.sampler.params)

    def proposals(self, history: History, *, begins: bool) -> Iterator[Proposal]:
        """One after another, until as many trials were asked as the study has, or it is exhausted.

        `history` must have each one folded in before the next is taken. `begins`: something was
        handed to a worker that has yet to begin.
        """
        baselines = self._space.baselines()
        while len(history.trials) < history.total and not self.exhausted:
            wanted = None
            turn = history.asks - history.carried
            if turn < len(baselines):
                wanted = baselines[turn]
            elif self._space.arms is not None:
                self.exhausted = f"every arm is asked: {counted(len(history.trials), 'network')}"
                return
            elif self._choosing is not None:
                wanted = self._choosing.choose(history, self._seen) or self._again(history)
                if wanted is None and (begins or self._may_gain(history)):
                    return
                wanted = wanted or self._unseen(history)
                if wanted is None:
                    return
            elif history.useless and history.useless % USELESS == 0:
                wanted = self._unseen(history)
                if wanted is None:
                    return
            yield self.ask(history, wanted)

    def ask(self, history: History, wanted: Values | None = None) -> Proposal:
        """One proposal: the sampler's, or the `wanted` one."""
        values = self.main.ask(history.asks, wanted=wanted)
        try:
            candidate = self._examined(values)
        except ValueError as error:
            return self._proposal("refuse", values, outcome="invalid", reason=str(error))
        limits = self._search.limits
        self.main.constrain(
            {cost: candidate.costs[cost] / limit - 1 for cost, limit in limits.items()}
        )
        if over := self._over(candidate):
            return self._proposal("refuse", values, outcome="infeasible", reason=over)
        known = self._seen.get(candidate.key)
        if known is not None:
            replicate = self._gained(history, history.trials[known])
            return self._proposal("alias", values, of=known, replicate=replicate)
        return self._proposal("ask", values, trial=len(history.trials), **asdict(candidate))

    def fold(self, record: Record, history: History) -> None:
        """Let a record that the history knows already have its effect here."""
        kind = record["kind"]
        if kind in {"ask", "refuse", "alias"}:
            self.main.propose(record)
        if kind == "ask":
            self._seen[record["key"]] = record["trial"]
            self._tried[record["key"]] += 1
        elif kind == "alias":
            trial = history.trials[record["of"]]
            if record["replicate"] is None and trial.outcome is not None:
                self.main.tell(trial)
        elif kind == "promote":
            self.main.promote(record["trial"])
        elif kind == "trial":
            trial = history.trials[record["trial"]]
            self.main.tell(trial)
            if trial.outcome in RETRIED and self._tried[trial.key] < CRASHED:  # chance, perhaps
                self._seen.pop(trial.key, None)

    def _proposal(self, kind: str, values: Values, **fields: Any) -> Proposal:
        return Proposal(kind, {"values": values, **fields, **self.main.asked()})

    def _over(self, candidate: Candidate) -> str:
        """Which limits the candidate breaks, in words; empty when it breaks none."""
        return "; ".join(
            f"{cost} {candidate.costs[cost]:,.0f} over {limit:,.0f}"
            for cost, limit in self._search.limits.items()
            if candidate.costs[cost] > limit
        )

    def _gained(self, history: History, trial: Trial) -> int | None:
        """The replicate that a network proposed again gains; None: its outcome is the answer.

        With `duplicates: replicate` one that finished, or may yet, gains one at a time, as long as
        there were fewer duplicates than trials, so that a small space is not replicated for ever.
        """
        gains = (
            self._search.duplicates == "replicate"
            and trial.outcome in (None, "finished")
            and planned(trial) <= max(1, len(trial.replicates))
            and history.duplicates < history.total
        )
        return max(self._search.replicates, planned(trial)) if gains else None

    def _again(self, history: History) -> Values | None:
        """With `duplicates: replicate` the network of the front with the fewest seeds."""
        gaining = [
            trial
            for trial in pareto.front(history.trials.values(), self._search.objectives)
            if self._gained(history, trial) is not None
        ]
        fewest = min(gaining, key=lambda trial: (planned(trial), trial.number), default=None)
        return None if fewest is None else fewest.values

    def _may_gain(self, history: History) -> bool:
        """Whether a network may be asked for again once what runs has ended."""
        return self._search.duplicates == "replicate" and any(
            trial.outcome is None or any(map(is_open, trial.replicates))
            for trial in history.trials.values()
        )

    def _unseen(self, history: History) -> Values | None:
        """A feasible point nobody has trained, or None, which ends the proposing."""
        size = self._space.size()
        order = random.Random(digest_int(self._search.seed, "unseen", history.asks))
        if size is not None and size <= LISTED:
            listed = list(self._space.settings())
            order.shuffle(listed)
            points: Iterable[Values] = listed
        else:
            points = (self._space.sample(seed=order.getrandbits(63)) for _ in range(DRAWS))
        tried = {trial.key for trial in history.trials.values()}
        for values in points:
            candidate = self._remembered(values)
            if candidate is not None and candidate.key not in tried and not self._over(candidate):
                return values
        seen = {trial.identity for trial in history.trials.values()}
        if size is not None and size <= LISTED:
            every = seen | {known.identity for known in self._known.values() if known}
            beyond = ": the others are over a limit" if len(every) > len(seen) else ""
            self.exhausted = f"{len(seen)} of {counted(len(every), 'network')} seen{beyond}"
        else:
            said = f"no unseen network within limits among {DRAWS:,} random points"
            self.exhausted = f"{said}; {len(seen)} seen"
        return None

    def _feasible(self, values: Values) -> Candidate | None:
        """What the values are; None where they are no network within the limits."""
        candidate = self._remembered(values)
        return None if candidate is None or self._over(candidate) else candidate

    def _remembered(self, values: Values) -> Candidate | None:
        """What the values are; None where they are no network."""
        name = json.dumps(values)
        if name not in self._known:
            try:
                self._known[name] = self._examined(values)
            except ValueError:
                self._known[name] = None
        return self._known[name]

    def _examined(self, values: Values) -> Candidate:
        assert self._examine is not None, "a study that is only read proposes nothing"
        return self._examine(values)
