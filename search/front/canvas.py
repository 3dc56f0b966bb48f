"""A figure to draw on, in the style of all the project's pictures, and how it becomes a file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GRID = "#e6e6e6"
Format = Literal["svg", "png", "pdf"]


def blank(width: float = 8.0, height: float = 4.2) -> tuple[Figure, Axes]:
    """An empty figure of that many inches, with axes; nothing global is touched."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    return figure, axes


def image(figure: Figure, kind: Format) -> bytes:
    """The figure as a file; the same figure gives the same bytes, whenever it is drawn."""
    import matplotlib as mpl

    dated = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {"Software": None}}
    target = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "eca-search", "svg.fonttype": "none"}):
        figure.savefig(target, format=kind, metadata=dated[kind])
    return target.getvalue()
