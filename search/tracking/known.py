"""What is known of a run in an MLflow store, and what it lacks. Imports no MLflow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from search.tracking.points import Point
from search.tracking.projection import Run


@dataclass(slots=True)
class Known:
    """A run as the store has it; times in unix milliseconds.

    `digest` and `filed` are those of the `Run` it was made equal to, empty where it was not; it
    has `metrics` of these names, and `points` is None where nobody has looked at them yet.
    """

    id: str
    artifacts: str
    digest: str = ""
    filed: str = ""
    status: tuple[str, int | None] = ("RUNNING", None)
    tags: dict[str, str] = field(default_factory=dict)
    params: set[str] = field(default_factory=set)
    metrics: set[str] = field(default_factory=set)
    points: dict[tuple[str, int], tuple[float, int]] | None = None

    def continues(self, run: Run) -> bool:
        """Whether what it has may stay: another recipe begins at its first epoch again."""
        return self.tags.get("eca.accumulate") == run.tags.get("eca.accumulate")

    def saw(self, points: Iterable[Point]) -> None:
        """Take note of all points it has; of several for one step the newest is what counts."""
        self.points = {}
        for point in sorted(points, key=lambda point: point.time):
            self.points[point.key, point.step] = (point.value, point.time)

    def lacks(self, points: Iterable[Point]) -> list[Point]:
        """Which points are to be written: those it has not, or has with another value.

        What replaces a value is moved behind it in time, as MLflow shows the newest.
        """
        assert self.points is not None, "nobody has looked at them yet"
        missing = []
        for point in points:
            value, time = self.points.get((point.key, point.step), (None, -1))
            if value != point.value:
                moved = Point(point.key, point.value, max(point.time, time + 1), point.step)
                self.points[point.key, point.step] = (moved.value, moved.time)
                missing.append(moved)
        return missing
