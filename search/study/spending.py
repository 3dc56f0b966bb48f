"""What a study has spent of its budget, and whether that pays for one more training.

Folded from the journal as everything is, in running sums: with a thousand attempts at work a look
costs what it costs with one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from spaces.settings import Budget

HOUR = 3600.0
SLACK = 1 + 1e-9
"""Sums of times are not exact; a budget is not missed by that."""


@dataclass(frozen=True, slots=True)
class Spent:
    """Epochs trained, of every seed and every retry; GPUs times the hours attempts held them; hours
    in which a driver was at work.
    """

    epochs: int
    gpu_hours: float
    hours: float


class _Open(NamedTuple):
    """An attempt that runs: since when (unix seconds), on how many GPUs, epochs still to come."""

    started: float
    gpu: float
    owed: int


class Spending:
    """The sums. `shortest` is the fewest epochs that a training of the study takes, once known."""

    def __init__(self) -> None:
        self.shortest: int | None = None
        self._epochs = 0
        self._worked = 0.0  # seconds of attempts that are over, and the same times their GPUs
        self._gpu_worked = 0.0
        self._open: dict[tuple[int, int], _Open] = {}
        self._owed = 0
        self._since = 0.0  # the sum over open attempts of when they started, of that times GPUs,
        self._gpu_since = 0.0
        self._gpus = 0.0  # and of their GPUs
        self._fence: int | None = None
        self._driven = 0.0  # seconds of drivers that are gone
        self._began = 0.0
        self._heard = 0.0

    # ---- what happens ----------------------------------------------------------------------

    def heard(self, fence: int, moment: float) -> None:
        """The driver of that number wrote something."""
        if fence != self._fence:
            self._driven += self._heard - self._began
            self._fence, self._began = fence, moment
        self._heard = moment

    def outlived(self, seconds: float) -> None:
        """The driver before was alive for so long after the last thing it wrote."""
        self._driven += seconds

    def proposed(self, epochs: int) -> None:
        """There is a trial that takes so many epochs."""
        self.shortest = min(epochs, self.shortest or epochs)

    def started(self, place: tuple[int, int], moment: float, gpu: float, owed: int) -> None:
        """An attempt of a (trial, replicate) began, with so many epochs still to come."""
        self._open[place] = _Open(moment, gpu, owed)
        self._owed += owed
        self._since += moment
        self._gpu_since += gpu * moment
        self._gpus += gpu

    def trained(self, place: tuple[int, int]) -> None:
        """One epoch of it is in the journal."""
        attempt = self._open[place]
        self._open[place] = attempt._replace(owed=attempt.owed - 1)
        self._owed -= 1
        self._epochs += 1

    def repeated(self, epochs: int) -> None:
        """So many epochs were trained again that the journal had already."""
        self._epochs += epochs

    def ended(self, place: tuple[int, int], moment: float) -> None:
        """It is over."""
        attempt = self._open.pop(place)
        self._owed -= attempt.owed
        self._since -= attempt.started
        self._gpu_since -= attempt.gpu * attempt.started
        self._gpus -= attempt.gpu
        self._worked += moment - attempt.started
        self._gpu_worked += attempt.gpu * (moment - attempt.started)

    def forgiven(self) -> None:
        """All of it so far was taken over from another study, which has paid for it."""
        self._epochs = 0
        self._worked = self._gpu_worked = 0.0

    # ---- what it comes to ------------------------------------------------------------------

    def spent(self, now: float | None = None) -> Spent:
        """What has been spent by `now` (unix seconds); None: by the last thing that was written."""
        moment = self._heard if now is None else max(now, self._heard)
        return Spent(
            self._epochs,
            self._gpu_seconds(moment) / HOUR,
            (self._driven + moment - self._began) / HOUR,
        )

    def over(self, budget: Budget | None, now: float) -> str:
        """Which limit is reached, in words; empty where none is."""
        if budget is None:
            return ""
        spent = self.spent(now)
        for key, limit in limits(budget):
            have = getattr(spent, key)
            if have * SLACK >= limit:
                return f"budget.{key}: {_told(have)} of {_told(limit)} spent"
        return ""

    def unpaid(self, budget: Budget | None, epochs: int, now: float, *, begins: int = 0) -> str:
        """Which limit leaves too little for a training of so many epochs beside what runs and what
        `begins` (epochs of attempts whose workers are under way), in words; empty where it is paid
        for.

        How long an epoch takes is foreseen from the mean of those so far, nothing before the first.
        """
        if budget is None or budget == Budget():
            return ""
        spent = self.spent(now)
        known = max(self._epochs, 1)
        worked = self._worked + len(self._open) * now - self._since
        gpu_hours = self._gpu_seconds(now) / HOUR / known if self._epochs else 0.0
        hours = worked / HOUR / known if self._epochs else 0.0
        beside = self._owed + begins
        needs = {
            "epochs": (float(epochs), float(beside)),
            "gpu_hours": (epochs * gpu_hours, beside * gpu_hours),
            "hours": (epochs * hours, 0.0),  # what runs, runs beside it
        }
        for key, limit in limits(budget):
            have, (need, owed) = getattr(spent, key), needs[key]
            if have + owed + need > limit * SLACK or have * SLACK >= limit:
                about = "" if key == "epochs" else "about "
                running = f", what runs takes {about}{_told(owed)}" if owed else ""
                return (
                    f"budget.{key}: {_told(have)} of {_told(limit)} spent{running}, "
                    f"the next training takes {about}{_told(need)}"
                )
        return ""

    def _gpu_seconds(self, now: float) -> float:
        return self._gpu_worked + self._gpus * now - self._gpu_since


def limits(budget: Budget | None) -> Iterator[tuple[str, float]]:
    """The limits that are set, by key."""
    for key in Budget.model_fields if budget is not None else ():
        limit = getattr(budget, key)
        if limit is not None:
            yield key, limit


def _told(amount: float) -> str:
    """A number of epochs as it is, hours with three digits."""
    return f"{amount:,.0f}" if amount == int(amount) else f"{amount:,.3g}"
