"""What the records of a study have left behind: facts, and what Optuna knows of them.

Folded from the journal record by record, the same in a live study and in a rebuilt one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.front import pareto
from search.study.history import History
from search.study.journal import Record
from spaces import Space

if TYPE_CHECKING:
    from search.pruning import Pruning
    from search.study.proposing import Examine, Proposing


class Memory:
    """The history of a study, its main study and its curve study.

    `judged` is the metric that a pruner looks at, `stop` why it would end the first replicate whose
    epoch was folded last. A study that is only `read` has no need of Optuna until somebody asks.
    """

    def __init__(
        self,
        space: Space,
        records: Sequence[Record],
        *,
        examine: Examine | None = None,
        read: bool = False,
    ) -> None:
        self.history = History()
        self.judged = pareto.judged(space.search.objectives)
        self.stop: str | None = None
        self._space = space
        self._examine = examine
        self._records = records if read else ()
        self._proposing: Proposing | None = None
        self._pruning: Pruning | None = None
        if read:
            for record in records:
                self.history.apply(record)
        else:
            self._begin()
            for record in records:
                self.fold(record)
            self.history.touched.clear()

    @property
    def sampling(self) -> Proposing:
        """What proposes; of a study that is read, as it was when the last record was written."""
        self._recall()
        assert self._proposing is not None
        return self._proposing

    @property
    def pruning(self) -> Pruning:
        """What judges curves."""
        self._recall()
        assert self._pruning is not None
        return self._pruning

    @property
    def exhausted(self) -> str:
        """Why nothing more will be proposed; empty where that is not known."""
        return self._proposing.exhausted if self._proposing else ""

    def fold(self, record: Record) -> None:
        """Let one record have its effect."""
        kind = record["kind"]
        self.history.apply(record)
        self.sampling.fold(record, self.history)
        if kind == "ask":
            epochs = record["config"]["training"]["epochs"]
            self.pruning.begin(record["trial"], record["costs"], epochs=epochs)
        elif kind == "promote":
            self.pruning.promote(record["trial"])
        elif kind in {"epoch", "end"} and record["replicate"] == 0:
            self._fold_first_replicate(record)

    def _fold_first_replicate(self, record: Record) -> None:
        """The pruner sees the first replicate alone."""
        if record["kind"] == "end":
            if record["final"]:
                self.pruning.end(record["trial"], record["outcome"])
            elif "accumulate" in record:
                self.pruning.anew(record["trial"])
        elif self.judged is not None:
            metrics = record["metrics"]
            self.pruning.report(record["trial"], int(metrics["epoch"]), metrics[self.judged])
            self.stop = self.pruning.stop(record["trial"])

    def _recall(self) -> None:
        """Let Optuna know what a study that is only read has come to."""
        if self._proposing is None:
            again = Memory(self._space, self._records, examine=self._examine)
            self._proposing, self._pruning = again._proposing, again._pruning

    def _begin(self) -> None:
        # Optuna takes 0.4 s to import: readers of facts never do
        from search.pruning import Pruning
        from search.study.proposing import Proposing

        objectives = self._space.search.objectives
        self._proposing = Proposing(self._space, self._examine)
        self._pruning = Pruning(
            pruner_spec(self._space) if self.judged else None,
            name=self._space.name,
            goal=objectives[self.judged].goal if self.judged else "max",
            costs=pareto.foreseen(objectives),
        )


def pruner_spec(space: Space) -> dict[str, Any] | None:
    """The pruner as the space names it, without what it leaves open."""
    pruner = space.search.pruner
    return None if pruner is None else pruner.model_dump(exclude_defaults=True)
