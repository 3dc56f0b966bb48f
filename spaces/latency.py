"""How long a network takes: a fact of a network on one device, under the names it is known by."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

LATENCIES = ("latency_ms", "latency_batch_ms")
"""Metrics and objectives: the latency of one image, and of the largest batch that was measured."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds of one forward pass in inference: the median of `repeats` passes.

    ``low`` and ``high`` are the ends of the median's 95 % interval. ``device`` is the GPU's model,
    or the CPU's with the threads that computed. What was measured on another device, or in another
    ``precision``, is no rival.
    """

    device: str
    precision: str
    batch_size: int
    median: float
    low: float
    high: float
    repeats: int

    @property
    def place(self) -> tuple[str, str, int]:
        """What must be equal for one measurement of a network to answer for another."""
        return self.device, self.precision, self.batch_size


def named(latencies: Iterable[Latency]) -> dict[str, Latency]:
    """A network's latencies by the names of `LATENCIES`, as far as they were measured."""
    single, batch = LATENCIES
    by_size = {latency.batch_size: latency for latency in latencies}
    largest = max(by_size, default=1)
    return {
        **({single: by_size[1]} if 1 in by_size else {}),
        **({batch: by_size[largest]} if largest > 1 else {}),
    }
