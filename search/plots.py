"""The Pareto front as a picture: PNG for pages, and one HTML file to explore without a network."""

from __future__ import annotations

import html as markup
import io
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from search import tables
from search.pareto import measured
from search.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from search.study import Study

# Okabe and Ito's colours, told apart by colour-blind readers too (jfly.uni-koeln.de/color).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00")
PLAIN = "#555555"
FAINT = "#b0b0b0"
LINE = "#222222"
GRID = "#e6e6e6"
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
    """One trial in the plot."""

    trial: Trial
    x: float
    y: float
    sd: float
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
        """The first objective against MACs (or the first cost there is)."""
        trials = study.trials
        costs = list(trials[0].costs) if trials else ["macs"]
        cost = "macs" if "macs" in costs else costs[0]
        metric = next(iter(study.objectives))
        front = {trial.number for trial in study.pareto()}
        finished, pruned = [], []
        for trial in trials:
            x, kind = measured(trial)[cost], trial.config["attention"]["name"]
            if trial.outcome == "finished":
                y, sd = measured(trial)[metric], trial.spread.get(metric, 0.0)
                finished.append(Dot(trial, x, y, sd, kind, trial.number in front))
            elif trial.outcome == "pruned" and trial.replicates[0].curve:
                y = trial.replicates[0].curve[-1][metric]
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
        return f"{said} · hypervolume {self.study.hypervolume():.4g} · {day:%Y-%m-%d %H:%M} UTC"

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
        low, high = min(dot.y - dot.sd for dot in dots), max(dot.y + dot.sd for dot in dots)
        height = (high - low) or abs(high) or 1.0
        for dot in self.pruned:
            low = min(low, dot.y) if dot.y > low - height / 3 else low
            high = max(high, dot.y) if dot.y < high + height / 3 else high
        return low - 0.08 * height, high + 0.12 * height

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
                if (
                    0 <= box[0]
                    and box[2] <= AREA[0]
                    and not any(_meet(box, other) for other in taken)
                ):
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


def png(study: Study) -> bytes:
    """The front as a PNG of 1200 x 750 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    picture = Picture.of(study)
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(study.name, loc="left", fontsize=12, fontweight="bold", parse_math=False)
    axes.set_xlabel(axis_name(picture.cost))
    axes.set_ylabel(axis_name(picture.metric))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    figure.text(0.995, 0.955, picture.caption, ha="right", fontsize=7.5, color=PLAIN)
    if picture.finished or picture.pruned:
        _draw(axes, picture)
    else:
        axes.text(0.5, 0.5, "No trial has finished yet.", ha="center", transform=axes.transAxes)
    target = io.BytesIO()
    figure.savefig(target, format="png", metadata={"Software": "eca-search"})
    return target.getvalue()


def html(study: Study) -> str:
    """The front as one HTML page with all it needs inside: about 5 MB, nearly all of it plotly.js."""
    from plotly import io as plotly

    picture = Picture.of(study)
    figure = {"data": _traces(picture), "layout": _layout(picture)}
    body = plotly.to_html(
        figure,
        include_plotlyjs=True,
        full_html=False,
        validate=False,
        default_height="88vh",
        config={"displaylogo": False, "responsive": True},
    )
    title = markup.escape(study.name)
    return (
        f'<!doctype html>\n<html lang="en">\n<head><meta charset="utf-8"><title>{title}</title>'
        "<style>body{margin:1.5vh 2vw;font-family:system-ui,sans-serif;color:#222}"
        "h1{font-size:1.2rem;margin:0}p{margin:.2rem 0;color:#555;font-size:.85rem}</style></head>\n"
        f"<body><h1>{title}</h1><p>{markup.escape(picture.caption)}</p>\n{body}\n</body>\n</html>\n"
    )


def kernels_short(trial: Trial) -> str:
    """Kernel sizes by stage as in a run's name: `3-5-5`, `3/5-5` where a stage has two."""
    stages: dict[str, dict[int, None]] = {}
    for site, size in trial.kernels.items():
        stages.setdefault(site.split(".")[0], {})[size] = None
    return "-".join("/".join(map(str, sizes)) for sizes in stages.values())


def axis_name(name: str) -> str:
    """What an axis says: `val_accuracy` becomes `validation accuracy`."""
    known = {"macs": "MACs (1 MAC = 2 FLOPs)", "params": "parameters", "latency_ms": "latency, ms"}
    return known.get(name, name.replace("val_", "validation ").replace("_", " "))


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
    middle_x, middle_y = x + dx * (width / 2 + 6), y + dy * (height / 2 + 5)
    left, bottom = middle_x - width / 2, middle_y - height / 2
    return left, bottom, left + width, bottom + height


def _meet(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _draw(axes: Axes, picture: Picture) -> None:
    axes.set_xscale("log")
    axes.set_xlim(picture.x_range)
    axes.set_ylim(picture.y_range)
    places = ticks(*picture.x_range)
    axes.set_xticks(places, [short(place) for place in places])
    axes.set_xticks([], minor=True)
    corners = picture.steps
    if corners:
        places = [x for x, _ in corners] + [picture.x_range[1]]
        heights = [y for _, y in corners] + [corners[-1][1]]
        axes.step(places, heights, where="post", color=LINE, linewidth=1.3, zorder=2, label="front")
    for kind, colour in picture.kinds.items():
        dots = [dot for dot in picture.finished if dot.kind == kind]
        marker = "D" if kind == "none" else "o"
        for member in (False, True):
            here = [dot for dot in dots if dot.member == member]
            named = kind if member or not any(dot.member for dot in dots) else None
            axes.scatter(
                [dot.x for dot in here],
                [dot.y for dot in here],
                s=46 if member else 24,
                marker=marker,
                color=colour if kind != "none" else "white",
                edgecolor=LINE if member else colour,
                linewidth=1.1 if member or kind == "none" else 0.4,
                alpha=1.0 if member else 0.45,
                zorder=4 if member else 3,
                label="no attention" if named == "none" else named,
            )
        spread = [dot for dot in dots if dot.trial.n > 1]
        axes.errorbar(
            [dot.x for dot in spread],
            [dot.y for dot in spread],
            yerr=[dot.sd for dot in spread],
            fmt="none",
            ecolor=colour,
            elinewidth=1,
            capsize=2.5,
            alpha=0.7,
            zorder=2.5,
        )
    if picture.pruned:
        axes.scatter(
            [dot.x for dot in picture.pruned],
            [dot.y for dot in picture.pruned],
            s=18,
            marker="x",
            color=FAINT,
            linewidth=0.9,
            zorder=1,
            label=picture.pruned_name,
        )
    for dot, text, place in picture.labels():
        dx, dy = PLACES[place]
        axes.annotate(
            text,
            (dot.x, dot.y),
            xytext=(4 * dx, 3 * dy),
            textcoords="offset points",
            ha="right" if dx < 0 else "left",
            va="bottom" if dy > 0 else "top",
            fontsize=7.5,
            parse_math=False,
            zorder=5,
        )
    axes.legend(loc="lower right", frameon=False, fontsize=8.5)


def _traces(picture: Picture) -> list[dict[str, Any]]:
    traces: list[dict[str, Any]] = []
    if picture.pruned:
        traces.append(
            _scatter(picture, picture.pruned, picture.pruned_name, FAINT)
            | {"marker": {"symbol": "x-thin", "size": 7, "line": {"color": FAINT, "width": 1.3}}}
        )
    corners = picture.steps
    if corners:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": "front",
                "x": [x for x, _ in corners] + [picture.x_range[1]],
                "y": [y for _, y in corners] + [corners[-1][1]],
                "line": {"shape": "hv", "color": LINE, "width": 1.8},
                "hoverinfo": "skip",
            }
        )
    for kind, colour in picture.kinds.items():
        for member in (False, True):
            dots = [d for d in picture.finished if d.kind == kind and d.member == member]
            if dots:
                traces.append(_marked(picture, dots, colour, member=member))
    return traces


def _marked(picture: Picture, dots: list[Dot], colour: str, *, member: bool) -> dict[str, Any]:
    plain = dots[0].kind == "none"
    name = "no attention" if plain else markup.escape(dots[0].kind)
    labels = {dot.trial.number: (text, place) for dot, text, place in picture.labels()}
    beside = [labels.get(dot.trial.number, ("", "top left")) for dot in dots]
    return _scatter(picture, dots, f"{name}, front" if member else name, colour) | {
        "mode": "markers+text" if member else "markers",
        "text": [markup.escape(text) for text, _ in beside] if member else None,
        "textposition": [place for _, place in beside],
        "textfont": {"size": 11},
        "marker": {
            "symbol": "diamond" if plain else "circle",
            "size": 11 if member else 8,
            "color": "white" if plain else colour,
            "opacity": 1.0 if member else 0.45,
            "line": {"color": LINE if member else colour, "width": 1.4 if member or plain else 0.5},
        },
        "error_y": {
            "array": [dot.sd for dot in dots],
            "visible": any(dot.trial.n > 1 for dot in dots),
            "color": colour,
            "thickness": 1,
            "width": 3,
        },
    }


def _scatter(picture: Picture, dots: list[Dot], name: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": name,
        "x": [dot.x for dot in dots],
        "y": [dot.y for dot in dots],
        "hovertext": [_hover(picture, dot) for dot in dots],
        "hoverinfo": "text",
        "hoverlabel": {"bordercolor": colour, "bgcolor": "white", "align": "left"},
    }


def _hover(picture: Picture, dot: Dot) -> str:
    trial = dot.trial
    value = f"{dot.y:.4f}" + (f" ± {dot.sd:.4f}" if trial.n > 1 else "")
    lines = [
        f"<b>{markup.escape(trial.name)}</b>",
        f"{axis_name(picture.metric)} {value}, n = {trial.n}"
        if trial.outcome == "finished"
        else f"pruned at {axis_name(picture.metric)} {value}",
        *(f"{axis_name(name)} {cost:,.0f}" for name, cost in trial.costs.items()),
        f"kernels {markup.escape(tables.kernels(trial.kernels))}",
        f"placement {markup.escape(trial.placement or 'none')}",
        f"identity {markup.escape(trial.identity)}",
    ]
    return "<br>".join(lines)


def _layout(picture: Picture) -> dict[str, Any]:
    dots = picture.finished + picture.pruned
    across: dict[str, Any] = {"title": {"text": axis_name(picture.cost)}, "gridcolor": GRID}
    upwards: dict[str, Any] = {"title": {"text": axis_name(picture.metric)}, "gridcolor": GRID}
    if dots:
        places = ticks(*picture.x_range)
        across |= {
            "type": "log",
            "range": [math.log10(end) for end in picture.x_range],
            "tickvals": places,
            "ticktext": [short(place) for place in places],
        }
        upwards["range"] = list(picture.y_range)
    empty = {"text": "No trial has finished yet.", "showarrow": False, "xref": "paper"}
    return {
        "font": {"family": "system-ui, sans-serif", "color": LINE},
        "hovermode": "closest",
        "margin": {"l": 70, "r": 20, "t": 20, "b": 60},
        "legend": {"x": 0.99, "xanchor": "right", "y": 0.02, "yanchor": "bottom"},
        "xaxis": across,
        "yaxis": upwards,
        "annotations": [] if dots else [empty | {"yref": "paper", "x": 0.5, "y": 0.5}],
    }
