"""What a picture of the Pareto front shows, whatever draws it: dots, steps, axes and labels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from search.front import tables
from search.front.membership import Noise, noise
from search.front.pareto import measured
from search.trial import Trial
from spaces.objectives import spoken

if TYPE_CHECKING:
    from search.study.study import Study

# Okabe and Ito's colours, told apart by colour-blind readers too (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
PLAIN = "#555555"
LABELLED = 24
"""A front of more networks than this is labelled by trial numbers alone."""
AREA = (1090, 640)
"""Pixels between the axes of the PNG; the page is about as large."""
LETTER = (8.6, 17)
"""Pixels of a letter of a label."""
PLACES = {
    "top left": (-1, 1),
    "bottom right": (1, -1),
    "top right": (1, 1),
    "bottom left": (-1, -1),
}
"""Where a label may stand beside its dot, the preferred place first."""


@dataclass(frozen=True, slots=True)
class Dot:
    """One trial in the plot; its mean is known to `reach` on either side, 0 where that is unknown.

    That is a 95 % interval by Student's t, with the noise pooled over all that was trained with
    several seeds, so that a network of one seed has one too.
    """

    trial: Trial
    x: float
    y: float
    reach: float
    kind: str
    member: bool


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn: trials that finished, trials that were pruned, and the axes they lie on."""

    study: Study
    cost: str
    metric: str
    finished: list[Dot]
    pruned: list[Dot]

    @classmethod
    def of(cls, study: Study) -> Picture:
        """What is trained for against MACs (or the first cost there is); else another cost."""
        trials = study.trials
        costs = list(trials[0].costs) if trials else ["macs"]
        cost = "macs" if "macs" in costs else costs[0]
        others = [name for name in study.objectives if name != cost]
        metric = study.judged or (others or [cost])[0]
        front = {trial.number for trial in study.pareto()}
        known = noise(trials, metric) if metric == study.judged else None
        finished, pruned = [], []
        for trial in trials:
            x, kind = measured(trial)[cost], trial.config["attention"]["name"]
            if trial.outcome == "finished":
                y, reach = measured(trial)[metric], _reach(known, trial.n)
                finished.append(Dot(trial, x, y, reach, kind, trial.number in front))
            elif trial.outcome == "pruned" and trial.replicates[0].curve:
                y = {**measured(trial), **trial.replicates[0].curve[-1]}[metric]
                pruned.append(Dot(trial, x, y, 0.0, kind, False))
        return cls(study, cost, metric, finished, pruned)

    @property
    def kinds(self) -> dict[str, str]:
        """The colour of each kind of attention; none of it is plain."""
        kinds = sorted({dot.kind for dot in self.finished} - {"none"})
        colours = {kind: COLOURS[i % len(COLOURS)] for i, kind in enumerate(kinds)}
        return {
            **({"none": PLAIN} if any(d.kind == "none" for d in self.finished) else {}),
            **colours,
        }

    @property
    def front(self) -> list[Dot]:
        """The members of the front, cheapest first."""
        return sorted((dot for dot in self.finished if dot.member), key=lambda dot: (dot.x, dot.y))

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The best value to be had at each cost or less: members that only save another cost lie
        below this line.
        """
        sign = 1 if self.study.objectives[self.metric].goal == "max" else -1
        corners: list[tuple[float, float]] = []
        for dot in self.front:
            if not corners or sign * dot.y > sign * corners[-1][1]:
                corners.append((dot.x, dot.y))
        return corners

    @property
    def caption(self) -> str:
        """Counts, hypervolume and date, on one line."""
        counts = tables.outcomes(self.study.trials)
        said = ", ".join(f"{count} {word}" for word, count in counts.items())
        day = datetime.fromtimestamp(self.study.updated, UTC)
        bars = "bars: 95 % intervals · " if any(dot.reach for dot in self.finished) else ""
        worth = f"hypervolume {self.study.hypervolume():.4g}"
        return f"{said} · {worth} · {bars}{day:%Y-%m-%d %H:%M} UTC"

    @property
    def x_range(self) -> tuple[float, float]:
        """Ends of the cost axis, which is logarithmic."""
        values = [dot.x for dot in self.finished + self.pruned]
        low, high = min(values), max(values)
        margin = max((high / low) ** 0.08, 1.1)
        return low / margin, high * margin

    @property
    def y_range(self) -> tuple[float, float]:
        """Ends of the other axis: all that finished, and of the pruned what is not far off."""
        dots = self.finished or self.pruned
        low, high = min(dot.y for dot in dots), max(dot.y for dot in dots)
        height = (high - low) or max(dot.reach for dot in dots) or abs(high) or 1.0
        # Intervals of very few seeds are cut off rather than let them flatten everything else.
        low = min(dot.y - min(dot.reach, height) for dot in dots)
        high = max(dot.y + min(dot.reach, height) for dot in dots)
        near = [d.y for d in self.pruned if low - height / 3 < d.y < high + height / 3]
        return min([low, *near]) - 0.08 * height, max([high, *near]) + 0.12 * height

    @property
    def outside(self) -> int:
        """How many of the pruned trials lie outside of the axes."""
        low, high = self.y_range
        return sum(not low <= dot.y <= high for dot in self.pruned)

    @property
    def pruned_name(self) -> str:
        """What the legend says of pruned trials."""
        return f"pruned ({self.outside} not shown)" if self.outside else "pruned"

    def labels(self) -> list[tuple[Dot, str, str]]:
        """Members with their label and its place; without one where there is no room for it."""
        labelled: list[tuple[Dot, str, str]] = []
        taken = [_box(*self._pixel(dot), 14, 14, (0, 0)) for dot in self.front]
        corners = set(self.steps)
        for dot in sorted(self.front, key=lambda dot: (dot.x, dot.y) not in corners):
            text = self._label(dot)
            for place, direction in PLACES.items():
                box = _box(*self._pixel(dot), LETTER[0] * len(text), LETTER[1], direction)
                free = not any(_meet(box, other) for other in taken)
                if free and box[0] >= 0 and box[2] <= AREA[0]:
                    taken.append(box)
                    labelled.append((dot, text, place))
                    break
        return labelled

    def _label(self, dot: Dot) -> str:
        number, sizes = f"#{dot.trial.number}", kernels_short(dot.trial)
        return number if len(self.front) > LABELLED or not sizes else f"{number} {sizes}"

    def _pixel(self, dot: Dot) -> tuple[float, float]:
        (left, right), (bottom, top) = self.x_range, self.y_range
        across = math.log(dot.x / left) / math.log(right / left)
        return AREA[0] * across, AREA[1] * (dot.y - bottom) / (top - bottom)


def _reach(known: Noise | None, n: int) -> float:
    from scipy import stats

    if known is None:
        return 0.0
    return float(stats.t.ppf(0.975, known.df)) * known.sd / math.sqrt(n)


def kernels_short(trial: Trial) -> str:
    """Kernel sizes by stage as in a run's name: `3-5-5`, `3/5-5` where a stage has two."""
    stages: dict[str, dict[int, None]] = {}
    for site, size in trial.kernels.items():
        stages.setdefault(site.split(".")[0], {})[size] = None
    return "-".join("/".join(map(str, sizes)) for sizes in stages.values())


def axis_name(name: str) -> str:
    """What an axis says: `val_accuracy` becomes `validation accuracy`."""
    known = {
        "macs": "MACs (1 MAC = 2 FLOPs)",
        "params": "parameters",
        "latency_ms": "latency of one image, ms",
        "latency_batch_ms": "latency of a batch, ms",
    }
    images = {"val": "validation ", "test": "test ", "train": "training "}
    part = name.partition("_")[0]
    return known.get(name) or images.get(part, "") + spoken(name)


def ticks(low: float, high: float) -> list[float]:
    """Places for labels on a logarithmic axis: 1, 2, 5 times powers of ten, or finer if need be."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for parts in ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9)):
        places = [part * 10.0**power for power in powers for part in parts]
        inside = [place for place in places if low <= place <= high]
        if len(inside) >= 3:
            return inside
    ratio = (high / low) ** (1 / 4)
    return [float(f"{low * ratio**step:.3g}") for step in (1, 2, 3)]


def short(number: float) -> str:
    """A number for an axis: `850k`, `1.5M`."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.4g}{unit}"
    return f"{number:.4g}"


def _box(
    x: float, y: float, width: float, height: float, direction: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Left, bottom, right, top of a box beside a point, or around it for direction (0, 0)."""
    dx, dy = direction
    middle_x, middle_y = x + dx * (width / 2 + 8), y + dy * (height / 2 + 4)
    left, bottom = middle_x - width / 2, middle_y - height / 2
    return left, bottom, left + width, bottom + height


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
