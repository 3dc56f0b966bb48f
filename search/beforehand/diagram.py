"""The equivalence diagram: the (gamma, b) plane of a network, each colour one network.

`plane` says what is shown, `figure` draws it, `image` is the bytes of a picture.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from search.front import canvas
from search.front.canvas import Format
from spaces.algebra import rules
from spaces.algebra.grid import Grid
from spaces.algebra.inverse import PAPER
from spaces.algebra.plane import Cell, Plane, cells, mark, window
from spaces.algebra.strips import Polygon, Rounding
from spaces.errors import counted
from spaces.published import Stage

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = "cividis"
"""Even in lightness, for colour-blind readers too (Nunez, Anderton and Renslow, PLOS ONE 2018)."""
CONSTANTS = (3, 5, 7, 9)
MARKED = "#D55E00"
STAR: dict[str, Any] = {
    "color": MARKED,
    "marker": "*",
    "markersize": 15,
    "markeredgecolor": "black",
    "linestyle": "none",
}
DOTTED = {"edgecolor": "black", "linewidth": 1.4, "linestyle": "dotted"}
PALER = 0.25
"""How much of white every second network's colour has, so that neighbours can be told apart."""
LETTER, LINE = 0.0085, 0.02
"""A label's letter in widths of the plot, its line in heights."""


def plane(
    backbone: str | None,
    stages: Sequence[Stage],
    rounding: Rounding,
    grid: Grid,
) -> Plane:
    """What surrounds a grid of gamma and b, the backbone's released profiles and the constants.

    Raises ValueError where there are too many networks to be drawn.
    """
    channels = [stage.channels for stage in stages]
    released = rules.RELEASED.get(backbone or "", {})
    marks = [mark(name, channels, profile, rounding) for name, profile in released.items()]
    marks += [mark(f"constant {k}", channels, [k] * len(channels), rounding) for k in CONSTANTS]
    pairs = [pair for members in grid.networks.values() for pair in members]
    gamma, b = window(pairs, marks[: len(released)])
    where = f"{backbone}: " if backbone else ""
    title = f"{where}{', '.join(map(str, channels))} channels"
    found = cells(channels, rounding, gamma, b)
    return Plane(title, tuple(channels), rounding, gamma, b, tuple(found), tuple(marks))


def image(shown: Plane, kind: Format) -> bytes:
    """The diagram as a picture: png (1350 x 900 pixels), svg or pdf; equal for equal planes."""
    return canvas.image(figure(shown), kind)


def figure(shown: Plane) -> Figure:
    """The diagram as a matplotlib figure."""
    import matplotlib

    drawn, axes = canvas.blank(9, 6)
    axes.grid(visible=False)
    axes.set_xlim(*map(float, shown.gamma))
    axes.set_ylim(*map(float, shown.b))
    axes.set_xlabel("gamma")
    axes.set_ylabel("b")
    axes.set_title(shown.title, loc="left", fontsize=11, fontweight="bold", pad=30)
    said = f"{counted(len(shown.cells), 'network')}, each a colour, labelled with its k; "
    axes.annotate(
        f"{said}rounding: {shown.rounding}",
        (0, 1),
        xytext=(0, 18),
        xycoords="axes fraction",
        textcoords="offset points",
        fontsize=8,
    )
    colours = matplotlib.colormaps[COLOURS].resampled(max(2, len(shown.cells)))
    for rank, cell in enumerate(shown.cells):
        paler = PALER if rank % 2 else 0.0
        red, green, blue = (part + paler * (1 - part) for part in colours(rank)[:3])
        _outline(axes, cell, facecolor=(red, green, blue), edgecolor="white", linewidth=0.6)
        _name(axes, shown, cell, "white" if red + green + blue < 1.6 else "black")
    _mark(axes, shown)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, fontsize=8)
    return drawn


def _mark(axes: Axes, shown: Plane) -> None:
    """The paper's point, and an outline around each marked network that is in the window."""
    axes.plot(*map(float, PAPER), label=_paper(shown), zorder=5, **STAR)
    there = {cell.kernels: cell for cell in shown.cells}
    styles = itertools.cycle(["solid", "dashed"])
    constant = "constant k, named above"
    for each in shown.marks:
        cell = there.get(each.kernels)
        alike = len(set(each.kernels)) == 1
        if cell is not None and alike:
            _outline(axes, cell, fill=False, zorder=3, label=constant, **DOTTED)
            _head(axes, cell, f"k={each.kernels[0]}")
            constant = ""
        elif not alike:
            name = f"{each.label.replace('_', ' ')}: {'-'.join(map(str, each.kernels))}"
            if cell is not None:
                style = {"edgecolor": MARKED, "linewidth": 2.2, "linestyle": next(styles)}
                _outline(axes, cell, fill=False, zorder=4, label=name, **style)
            else:
                why = "no gamma, b" if each.point is None else "not in view"
                axes.plot([], [], color="none", label=f"{name} ({why})")


def _paper(shown: Plane) -> str:
    """The paper's point, with the kernels that it gives here."""
    from spaces.mappings.log2 import mapping

    gamma, b = map(float, PAPER)
    kernels = [mapping(c, gamma=gamma, b=b, rounding=shown.rounding) for c in shown.channels]
    return f"paper: gamma={gamma:g}, b={b:g}: {'-'.join(map(str, kernels))}"


def _outline(axes: Axes, cell: Cell, **style: Any) -> None:
    from matplotlib.patches import Polygon as Patch

    axes.add_patch(Patch(_floats(cell.corners), **style))


def _head(axes: Axes, cell: Cell, text: str) -> None:
    """A label above the plot, where the cell leaves it, or at the cell's top inside."""
    top = max(b for _, b in cell.corners)
    gammas = [float(gamma) for gamma, b in cell.corners if b == top]
    place = (sum(gammas) / len(gammas), float(top))
    axes.annotate(
        text,
        place,
        xytext=(0, 3),
        textcoords="offset points",
        annotation_clip=False,
        ha="center",
        va="bottom",
        fontsize=7.5,
    )


def _name(axes: Axes, shown: Plane, cell: Cell, colour: str) -> None:
    """The kernels of a cell, written in it where they have room."""
    text = "-".join(map(str, cell.kernels))
    corners = _floats(cell.corners)
    gamma, b = (sum(axis) / len(corners) for axis in zip(*corners, strict=True))
    wide = float(shown.gamma[1] - shown.gamma[0]) * LETTER * len(text)
    high = float(shown.b[1] - shown.b[0]) * LINE
    room = min(_across(corners, b - high / 2), _across(corners, b + high / 2))
    if room >= wide:
        axes.text(gamma, b, text, ha="center", va="center", fontsize=6.5, color=colour)


def _across(corners: Sequence[tuple[float, float]], height: float) -> float:
    """How wide a polygon is at a height."""
    crossings = [
        x + (height - y) / (v - y) * (u - x)
        for (x, y), (u, v) in zip(corners, [*corners[1:], corners[0]], strict=True)
        if min(y, v) <= height < max(y, v)
    ]
    return max(crossings) - min(crossings) if crossings else 0.0


def _floats(corners: Polygon) -> list[tuple[float, float]]:
    return [(float(gamma), float(b)) for gamma, b in corners]
