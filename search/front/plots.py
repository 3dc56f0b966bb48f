"""The Pareto front as a picture: PNG for pages, and one HTML file to explore without a network."""

from __future__ import annotations

import html as markup
import math
from typing import TYPE_CHECKING, Any

from search.front import tables
from search.front.canvas import GRID, blank, image
from search.front.picture import PLACES, PLAIN, Dot, Picture, axis_name, short, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from search.study.study import Study

FAINT = "#b0b0b0"
LINE = "#222222"
STYLE = (
    "body{margin:1.5vh 2vw;font-family:system-ui,sans-serif;color:#222}"
    "h1{font-size:1.2rem;margin:0}p{margin:.2rem 0;color:#555;font-size:.85rem}"
)


def png(study: Study) -> bytes:
    """The front as a PNG of 1200 x 750 pixels."""
    return image(front(study), "png")


def front(study: Study) -> Figure:
    """The front over the cost, all other trials fainter behind it."""
    picture = Picture.of(study)
    figure, axes = blank(8, 5)
    axes.set_title(study.name, loc="left", fontsize=12, fontweight="bold", parse_math=False)
    axes.set_xlabel(axis_name(picture.cost))
    axes.set_ylabel(axis_name(picture.metric))
    figure.text(0.995, 0.955, picture.caption, ha="right", fontsize=7.5, color=PLAIN)
    if picture.finished or picture.pruned:
        _draw(axes, picture)
    else:
        axes.text(0.5, 0.5, "No trial has finished yet.", ha="center", transform=axes.transAxes)
    return figure


def html(study: Study) -> str:
    """The front as one HTML page with all it needs inside: about 5 MB, mostly plotly.js."""
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
        f"<style>{STYLE}</style></head>\n"
        f"<body><h1>{title}</h1><p>{markup.escape(picture.caption)}</p>\n{body}\n</body>\n</html>\n"
    )


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
            if not here:
                continue
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
        spread = [dot for dot in dots if dot.reach]
        axes.errorbar(
            [dot.x for dot in spread],
            [dot.y for dot in spread],
            yerr=[dot.reach for dot in spread],
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
            "array": [dot.reach for dot in dots],
            "visible": any(dot.reach for dot in dots),
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
    lines = [
        f"<b>{markup.escape(trial.name)}</b>",
        f"{axis_name(picture.metric)} {tables.cell(picture.metric, trial)}, n = {trial.n}"
        if trial.outcome == "finished"
        else f"pruned at {axis_name(picture.metric)} {dot.y:.4f}",
        *(f"{axis_name(name)} {cost:,.0f}" for name, cost in trial.costs.items()),
        *(f"{axis_name(name)} {tables.cell(name, trial)}" for name in trial.latency),
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
