"""What a study tells its readers: names, trials, counts, the front. Nothing here decides."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from search.front import pareto
from search.study.memory import Memory
from search.trial import Trial
from spaces import Space

if TYPE_CHECKING:
    import optuna


class Facts:
    """What is known of the study in a folder."""

    def __init__(self, folder: Path, space: Space, memory: Memory) -> None:
        self.folder = folder
        self.space = space
        self.objectives = space.search.objectives
        self.judged = memory.judged
        self.history = memory.history
        self._memory = memory

    @property
    def name(self) -> str:
        """The study's name."""
        return self.space.name

    @property
    def uuid(self) -> str:
        """The study's own identity: two studies of one name differ in it."""
        return str(self.history.study["uuid"])

    @property
    def trials(self) -> tuple[Trial, ...]:
        """Every trial, in the order they were proposed."""
        return tuple(self.history.trials[number] for number in sorted(self.history.trials))

    @property
    def reference(self) -> dict[str, float]:
        """The costs that hypervolume is measured from: the space's, never the results'."""
        return dict(self.history.study["reference"])

    @property
    def chance(self) -> float:
        """What guessing scores by the task's own metric: the accuracy, say."""
        return float(self.history.study["chance"])

    @property
    def origins(self) -> dict[str, float]:
        """What hypervolume is measured from: the reference, and chance for the task's metric."""
        return pareto.origins(self.space, self.chance, self.reference)

    def rising(self, metric: str | None = None) -> bool:
        """Whether an objective (what trials are judged by) goes up: then it is a share, 0..1.

        Differences of such are told in points, hundredths of it.
        """
        name = metric or self.judged
        return name is not None and self.objectives[name].goal == "max"

    @property
    def started(self) -> float:
        """When the study began, in unix seconds."""
        return float(self.history.study["time"])

    @property
    def updated(self) -> float:
        """When its journal last grew, in unix seconds."""
        return self.history.updated

    @property
    def tracking_uri(self) -> str | None:
        """The MLflow store its last driver used, without credentials."""
        return self.history.tracking_uri

    @property
    def checkpoints(self) -> str:
        """Where its training states are: a folder or an fsspec URI, this study's alone."""
        uri = self.space.search.checkpoints.uri
        if uri is None:
            return str(self.folder / "checkpoints")
        return f"{uri.rstrip('/')}/{self.name}-{self.uuid[:8]}"

    @property
    def stopping(self) -> Mapping[int, str]:
        """Trials that a person has stopped and that are not over yet, and what was said."""
        return self.history.stopping

    def touched(self) -> list[Trial]:
        """Trials that changed since this was last asked."""
        numbers = sorted(self.history.touched)
        self.history.touched.clear()
        return [self.history.trials[number] for number in numbers]

    def counts(self, *, driven: bool = True) -> dict[str, int]:
        """Trials running and waiting; proposals refused (infeasible) and answered (duplicate)."""
        return self.history.counts(driven=driven)

    @property
    def expected(self) -> int:
        """How many trials there are to be: of arms that are one network, one."""
        history = self.history
        apart = 0 if self.space.arms is None else history.duplicates
        return history.total - apart

    def outcomes(self) -> dict[str, int]:
        """Trials finished, pruned, failed."""
        return self.history.outcomes()

    def pareto(self) -> list[Trial]:
        """The front: finished networks that none matches at no more cost, cheapest first."""
        return pareto.front(self.trials, self.objectives)

    def hypervolume(self) -> float:
        """What the front is worth; see `search.front.pareto.study_hypervolume`."""
        return pareto.study_hypervolume(
            self.trials, self.objectives, chance=self.chance, reference=self.origins
        )

    def membership(self) -> dict[int, float] | None:
        """How surely each network is on the front; see `search.front.membership`."""
        from search.front.membership import membership

        return membership(self.trials, self.objectives, seed=self.space.search.seed)

    @property
    def spared(self) -> frozenset[int]:
        """Trials that the pruner would have stopped, had they not been of its control arm."""
        return frozenset(self._memory.pruning.spared)

    @property
    def optuna(self) -> optuna.Study:
        """The main Optuna study, as the sampler knows it."""
        return self._memory.sampling.main.optuna
