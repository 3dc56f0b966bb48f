"""Where attention pays: at every block, each attention against the plain network there.

In a comparison an attention is an arm. In a search it is what a trial has, and a block is what the
trial's other holes say, so that a plain network with the same of everything else is its control.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from search.beforehand.examine import placement
from search.comparison import comparing, power, statistics
from search.comparison.comparing import Stratum
from search.comparison.paired import holm
from search.comparison.statistics import Block, PairResult, signed
from search.front.canvas import blank, image
from search.front.picture import kernels_short
from search.report.differences import by_seed
from search.report.section import Figure, Section, Table
from search.trial import Trial
from spaces import arms
from spaces.errors import counted
from spaces.latency import Latency
from spaces.objectives import spoken

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

    from search.study.study import Study

PLAIN = "none"
"""What the control of a search is called: the network without attention."""
ABSENT = "#e4e4e4"
"""The colour of what was not trained; no difference is white."""
DARK = 0.6
"""Share of the scale from which a cell is too dark for black letters."""


@dataclass(frozen=True, slots=True)
class Effect:
    """One attention at one block against the plain network there.

    `p_holm` is corrected over all effects; `significant` as in
    `search.comparison.statistics.PairResult`, but by that p; `slower` is the share by which one
    image takes longer than on the plain network (latency on the same device), None where it was
    not measured.
    """

    stratum: Stratum
    arm: str
    pair: PairResult
    p_holm: float
    significant: bool
    slower: float | None

    @property
    def noisy(self) -> bool:
        """Whether there are the two seeds that tell noise from effect."""
        return self.pair.n > self.pair.strata


def section(study: Study) -> Section | None:
    """None where nothing stands beside the same network without attention."""
    found = effects(study)
    if not found:
        return None
    said = f"Difference to {plain(study)} in points of {spoken(study.judged or '')}, "
    said += "by attention and block."
    figure = Figure("effects", image(heat(study, found), "svg"), said)
    return Section("Where attention pays", (figure, table(study, found)))


def plain(study: Study) -> str | None:
    """What effects are against: in a comparison the first arm without attention at any block.

    None where no network is plain.
    """
    if study.space.arms is None:
        return PLAIN if any(trial.placement == PLAIN for trial in study.trials) else None
    attentive = {
        arms.of(values)
        for values in study.space.settings()
        if placement(study.space.at(values)) != "none"
    }
    names = dict.fromkeys(str(arms.of(values)) for values in study.space.settings())
    return next((name for name in names if name not in attentive), None)


def effects(study: Study) -> tuple[Effect, ...]:
    """Every attention at every block against the plain network; none where no network is plain.

    Of arms that are one network at a block, the first.
    """
    metric = study.judged or ""
    if study.space.search.confirms is not None or not study.rising():
        return ()
    control = plain(study)
    if control is None:
        return ()
    found = _searched(study, metric) if study.space.arms is None else comparing.results(study)
    if not comparing.shares(found):
        return ()
    twice = set() if study.space.arms is None else _twice(study, control)
    settings = study.space.search.compare
    alpha = settings.alpha
    step = comparing.resolution(study)
    strata = dict.fromkeys(stratum for values in found.values() for stratum, _ in values)
    known = [
        (stratum, name, pair)
        for stratum in strata
        for name in found
        if name != control and (name, stratum) not in twice
        for pair in _pair(found, name, control, stratum, settings.margin, alpha, step)
    ]
    corrected = holm([pair.p for _, _, pair in known]) if known else np.empty(0)
    times = _times(study)
    return tuple(
        Effect(
            stratum,
            name,
            pair,
            float(p),
            bool(p <= alpha and pair.significant),
            _slower(times, name, control, stratum),
        )
        for (stratum, name, pair), p in zip(known, corrected, strict=True)
    )


def table(study: Study, found: tuple[Effect, ...]) -> Table:
    """Difference to the plain network, interval, n, Holm's p, equivalence; latency where measured.

    That is by how much one image takes longer than on the plain network, on the same device.
    """
    slower = ["latency"] if any(effect.slower is not None for effect in found) else []
    return Table(
        ["block", "attention", "difference", "interval", "n", "p (Holm)", "equivalent", *slower],
        [
            [
                comparing.shown(effect.stratum) or "-",
                effect.arm,
                signed(effect.pair.difference),
                f"{signed(effect.pair.low)} to {signed(effect.pair.high)}"
                if effect.noisy
                else "unknown",
                str(effect.pair.n),
                f"{effect.p_holm:.4f}",
                "yes" if effect.pair.equivalent else "no",
                *(
                    "-" if effect.slower is None else f"{100 * effect.slower:+.0f} %"
                    for _ in slower
                ),
            ]
            for effect in found
        ],
        left=["block", "attention"],
        caption=_caption(study, found),
    )


def records(found: tuple[Effect, ...]) -> list[dict[str, Any]]:
    """The same as data: a number a cell; results in 0..1, `slower` a share of the latency."""
    return [
        {
            **dict(effect.stratum),
            "attention": effect.arm,
            **{
                key: None if key in ("low", "high") and not effect.noisy else value
                for key, value in asdict(effect.pair).items()
                if key in ("difference", "low", "high", "n", "p", "equivalent")
            },
            "p_holm": effect.p_holm,
            "significant": effect.significant,
            "slower": effect.slower,
        }
        for effect in found
    ]


def hopeless(study: Study, found: tuple[Effect, ...]) -> str:
    """Why none of the rows could be significant whatever was measured; empty where one could."""
    needed = power.smallest_n(len(found), study.space.search.compare.alpha)
    most = max(effect.pair.n for effect in found)
    if needed is not None and most >= needed:
        return ""
    takes = "no number of seeds would do" if needed is None else f"that takes {needed} seeds"
    return (
        f"no row can be significant, however large its effect: over "
        f"{counted(len(found), 'row')} {takes}, and there are {most}"
    )


def heat(study: Study, found: tuple[Effect, ...]) -> Drawing:
    """Attention against blocks, each cell the difference to the plain network in points."""
    strata = list(dict.fromkeys(effect.stratum for effect in found))
    names = list(dict.fromkeys(effect.arm for effect in found))
    cells = np.full((len(names), len(strata)), np.nan)
    for effect in found:
        place = names.index(effect.arm), strata.index(effect.stratum)
        cells[place] = 100 * effect.pair.difference
    wide = 1.8 + 0.075 * max(map(len, names)) + 1.4 * len(strata)
    figure, axes = blank(wide, max(2.6, 1.2 + 0.3 * len(names)))
    axes.grid(visible=False)
    axes.set_facecolor(ABSENT)
    most = max(0.1, float(np.nanmax(np.abs(cells))))
    across, down = np.arange(len(strata)), np.arange(len(names))
    drawn = axes.pcolormesh(
        across, down, cells, cmap="RdBu", vmin=-most, vmax=most, shading="nearest"
    )
    for effect in found:
        row, column = names.index(effect.arm), strata.index(effect.stratum)
        value = 100 * effect.pair.difference
        axes.text(
            column,
            row,
            f"{value:+.2f}{'*' * effect.significant}",
            ha="center",
            va="center",
            fontsize=8,
            color="white" if abs(value) > DARK * most else "black",
        )
    axes.set_xticks(across, list(map(_tick, strata)), fontsize=7.5)
    axes.set_yticks(down, names, fontsize=8)
    axes.invert_yaxis()
    sure = "no row can be significant" if hopeless(study, found) else "* significant"
    bar = figure.colorbar(drawn, ax=axes, label=f"points over {plain(study)} ({sure})")
    assert bar.solids is not None
    bar.solids.set_rasterized(False)  # shapes, where matplotlib would embed pixels
    return figure


def _tick(stratum: Stratum) -> str:
    """A block below a column: the last part of each hole's name, a line each."""
    return "\n".join(f"{name.rpartition('.')[2]}={value}" for name, value in stratum) or "all"


def _searched(study: Study, metric: str) -> dict[str, dict[Block, float]]:
    """The finished trials' results by attention, then by block and seed; small networks first."""
    found: dict[str, dict[Block, float]] = {PLAIN: {}}
    finished = [trial for trial in study.trials if trial.objectives is not None]
    called = _called(finished)
    for trial in sorted(finished, key=lambda trial: trial.costs["macs"]):
        stratum = _elsewhere(trial)
        results = found.setdefault(called[trial.number], {})
        for number, value in by_seed(trial, metric).items():
            results.setdefault((stratum, number), value)
    return found


def _called(trials: Iterable[Trial]) -> dict[int, str]:
    """A name for the attention of every trial, by its number; of two networks at a block two names.

    That is its words; where they say too little, with all that the config says of it.
    """
    networks: dict[tuple[str, Stratum], set[str]] = {}
    trials = list(trials)
    for trial in trials:
        networks.setdefault((_attention(trial), _elsewhere(trial)), set()).add(trial.identity)
    vague = {words for (words, _), found in networks.items() if len(found) > 1}
    return {
        trial.number: words if words not in vague else _whole(trial)
        for trial in trials
        for words in [_attention(trial)]
    }


def _whole(trial: Trial) -> str:
    """A searched trial's attention with every parameter of it."""
    attention: dict[str, Any] = trial.config["attention"]
    shown = ("name", "placement", "position", "mapping")
    own = (f"{key}={value}" for key, value in attention.items() if key not in shown)
    return " ".join([_attention(trial), *own])


def _elsewhere(trial: Trial) -> Stratum:
    """What a searched trial's holes outside of the attention say."""
    values: Mapping[str, Any] = trial.values
    kept = (name for name in values if name.partition(".")[0] != "attention")
    return tuple(sorted((name, values[name]) for name in kept))


def _attention(trial: Trial) -> str:
    """A searched trial's attention in words: `eca stages 2,3 k3-5`."""
    if trial.placement == PLAIN:
        return PLAIN
    attention = trial.config["attention"]
    position = attention.get("position")
    words = [attention["name"], _singular(trial.placement)]
    words += [f"k{kernels_short(trial)}"] * bool(trial.kernels)
    words += [position] * (position not in (None, "final"))
    return " ".join(words)


def _singular(placement: str) -> str:
    """`stage 3` for `stages 3`."""
    kind, _, chosen = placement.partition(" ")
    one = chosen and "," not in chosen and kind.endswith("s")
    return f"{kind[:-1]} {chosen}" if one else placement


def _twice(study: Study, control: str) -> set[tuple[str, Stratum]]:
    """Arms at blocks where they are another arm's network."""
    return {
        (one.arm if one.arm != control else one.of, stratum)
        for one in comparing.sames(study)
        for stratum in one.strata
    }


def _pair(
    found: dict[str, dict[tuple[Stratum, int], float]],
    name: str,
    control: str,
    stratum: Stratum,
    margin: float,
    alpha: float,
    resolution: float,
) -> Iterator[PairResult]:
    """The two arms at one block; nothing where no seed has both."""
    here = {
        arm: {block: value for block, value in found[arm].items() if block[0] == stratum}
        for arm in (name, control)
    }
    if here[name].keys() & here[control].keys():
        told = statistics.compare(here, margin=margin, alpha=alpha, resolution=resolution)
        yield told.pairs[0]


def _caption(study: Study, found: tuple[Effect, ...]) -> str:
    level = f"{100 * (1 - study.space.search.compare.alpha):g} %"
    said = (
        f"Where attention pays: difference to {plain(study)} in points of "
        f"{spoken(study.judged or '')}, {level} "
        "t intervals, sign-flip test with Holm's correction over all rows."
    )
    if study.space.arms is None:
        said += " The rows are what a search chose to train, which no correction knows."
    margin = f"{100 * study.space.search.compare.margin:g}"
    said += f" Equivalent: two one-sided t tests exclude a difference of {margin} points."
    if any(effect.slower is not None for effect in found):
        said += " Latency: median of one image over that of the network without, no interval."
    if why := hopeless(study, found):
        said += f" {why[0].upper()}{why[1:]}."
    return said


def _times(study: Study) -> dict[tuple[str, Stratum], Latency]:
    """The latency of one image for every attention at every block, as far as it was measured."""
    measured = [trial for trial in study.trials if "latency_ms" in trial.latency]
    if study.space.arms is None:
        called = _called([t for t in study.trials if t.objectives is not None])
        return {
            (called[t.number], _elsewhere(t)): t.latency["latency_ms"]
            for t in measured
            if t.number in called
        }
    return {
        (str(arms.of(values)), arms.block(values)): trial.latency["latency_ms"]
        for trial in measured
        for values in (trial.values, *(alias["values"] for alias in trial.aliases))
    }


def _slower(
    times: Mapping[tuple[str, Stratum], Latency], name: str, control: str, stratum: Stratum
) -> float | None:
    mine, theirs = times.get((name, stratum)), times.get((control, stratum))
    if mine is None or theirs is None or mine.place != theirs.place:
        return None
    return mine.median / theirs.median - 1
