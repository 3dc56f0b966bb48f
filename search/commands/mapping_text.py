"""What `mappings` says, as text and as data."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from search.text import columns
from spaces.algebra.agreement import Proof, Run
from spaces.algebra.grid import Grid, Pair
from spaces.algebra.inverse import PAPER, Region
from spaces.algebra.rules import Answer, Rule
from spaces.algebra.strips import GAMMA, B, Edge, Strip
from spaces.errors import counted
from spaces.published import Stage

ROWS = 24
"""Differences of two rules that are written out."""


def grid(found: Grid, stages: Sequence[Stage], where: str, pairs: int, *, costed: bool) -> str:
    """The networks of a grid, one a row, and how many they are; `costed` with what ECA adds."""
    params = ["params"] if costed else []
    heading = [*_kernel_heading(stages), *params, "(gamma, b)"]
    rows = [
        [*map(str, kernels), *([f"{_added(kernels, stages)}"] if costed else []), _pairs(members)]
        for kernels, members in found.networks.items()
    ]
    many = f"{counted(pairs, 'pair')}, {counted(len(found.networks), 'network')}"
    lines = [
        columns(heading, rows, left=["(gamma, b)"]),
        f"{many} on {where}",
    ]
    lines += [f"refused: {_pairs(those)}: {why}" for why, those in _by_reason(found).items()]
    return "\n".join(lines)


def grid_data(
    found: Grid, backbone: str | None, stages: Sequence[Stage], rounding: str, pairs: int
) -> dict[str, Any]:
    """The networks of a grid as data."""
    return {
        "backbone": backbone,
        "channels": [stage.channels for stage in stages],
        "rounding": rounding,
        "pairs": pairs,
        "networks": len(found.networks),
        "mappings": [
            {
                "kernels": list(kernels),
                "pairs": [{"gamma": gamma, "b": b} for gamma, b in members],
                **({"params": _added(kernels, stages)} if backbone else {}),
            }
            for kernels, members in found.networks.items()
        ],
        "refused": [{"gamma": g, "b": b, "reason": why} for (g, b), why in found.refused.items()],
    }


def stage_data(stages: Sequence[Stage], backbone: str | None) -> list[dict[str, int]]:
    """The stages of a backbone; none of channels alone."""
    return [
        {"stage": stage.number, "channels": stage.channels, "blocks": stage.blocks}
        for stage in (stages if backbone else ())
    ]


def rules(known: Sequence[Rule], stages: Sequence[Stage], backbone: str | None) -> str:
    """The kernel that each rule gives each stage."""
    rows = []
    for rule in known:
        answers = _answers(rule, stages)
        params = [_params(answers, stages)] if backbone else []
        rows.append([rule.name, *(str(k) if isinstance(k, int) else "-" for k in answers), *params])
    heading = ["rule", *_kernel_heading(stages), *(["params"] if backbone else [])]
    return columns(heading, rows, left=["rule"])


def rule_data(rule: Rule, stages: Sequence[Stage], backbone: str | None) -> dict[str, Any]:
    """A rule with its kernels; null where it has none for a stage."""
    answers = _answers(rule, stages)
    kernels = [answer for answer in answers if isinstance(answer, int)]
    whole = len(kernels) == len(answers)
    return {
        "rule": rule.name,
        "mapping": dict(rule.mapping),
        "kernels": [answer if isinstance(answer, int) else None for answer in answers],
        **({"params": _added(kernels, stages)} if backbone and whole else {}),
    }


def proof(found: Proof, where: str) -> str:
    """Whether two rules agree: everything they answer where they do, where they differ if not."""
    a, b = found.a.name, found.b.name
    staged = found.runs[0].stage is not None
    place = where if staged else f"every C from {found.runs[0].first} to {found.runs[-1].last}"
    if not found.differing:
        steps = ", ".join(f"{_where(run)}: {_kernel(run.a)}" for run in found.runs)
        return f"{a} and {b} agree on {place}: both are\n  {steps}"
    at = f"{len(found.differing)} of {counted(len(found.runs), 'stage')} of {where}"
    at = at if staged else place
    shown, more = found.differing[:ROWS], len(found.differing) - ROWS
    rows = [[_where(run), _kernel(run.a), _kernel(run.b)] for run in shown]
    head = f"{a} and {b} differ at {at}" if staged else f"{a} and {b} differ, of {place}, for"
    rest = f"\n... and {more} more (all of them: --json)" if more > 0 else ""
    return f"{head}\n{columns(['C', a, b], rows, left=['C'])}{rest}"


def proof_data(found: Proof) -> dict[str, Any]:
    """Whether two rules agree, as data: all runs, and those in which they differ."""
    return {
        "a": {"rule": found.a.name, "mapping": dict(found.a.mapping)},
        "b": {"rule": found.b.name, "mapping": dict(found.b.mapping)},
        "agree": not found.differing,
        "differences": [_run_data(run) for run in found.differing],
        "runs": [_run_data(run) for run in found.runs],
    }


def region(found: Region, grid: Grid, where: str) -> str:
    """Which (gamma, b) give a profile, or why none does."""
    profile = tuple(strip.kernel for strip in found.strips)
    name = f"{'-'.join(map(str, profile))} on {where}"
    paper = f"gamma={PAPER[0]}, b={PAPER[1]}"
    if not found.corners or found.inside is None:
        reasons = "".join(f"\n  {why}" for why in found.because)
        return f"{name}: no gamma and b give it, as these contradict each other{reasons}"
    least, most = (_number(end(gamma for gamma, _ in found.corners)) for end in (min, max))
    ends = any(gamma in GAMMA or b in B for gamma, b in found.corners)
    allowed = " as far as the mapping allows" if ends else ""
    same = grid.networks.get(profile)
    lines = [
        f"{name}: gamma from {least} to {most}{allowed}, and b where",
        *(f"  {_bounds(strip)}" for strip in found.strips),
        f"corners: {' '.join(f'({_number(gamma)}, {_number(b)})' for gamma, b in found.corners)}",
        f"inside:  gamma={_number(found.inside[0])}, b={_number(found.inside[1])}",
        f"{paper}: {'gives it too' if _gives(found) else 'does not give it'}",
        f"pairs of the grid: {_pairs(same) if same else 'none'}",
    ]
    return "\n".join(lines)


def region_data(found: Region, grid: Grid) -> dict[str, Any]:
    """The region of a profile as data; `because` says what contradicts where there is none."""
    profile = tuple(strip.kernel for strip in found.strips)
    return {
        "kernels": list(profile),
        "exists": bool(found.corners),
        "corners": [_point(*corner) for corner in found.corners],
        "inside": None if found.inside is None else _point(*found.inside),
        "paper": _gives(found),
        "pairs": [{"gamma": gamma, "b": b} for gamma, b in grid.networks.get(profile, ())],
        "bounds": [
            {
                "channels": strip.channels,
                "kernel": strip.kernel,
                "low": _edge_data(strip.low),
                "high": _edge_data(strip.high),
            }
            for strip in found.strips
        ],
        "because": list(found.because),
    }


def _kernel_heading(stages: Sequence[Stage]) -> list[str]:
    return [f"k({stage.channels})" for stage in stages]


def _answers(rule: Rule, stages: Sequence[Stage]) -> list[Answer]:
    return [rule(stage.channels, stage.number) for stage in stages]


def _params(answers: Sequence[Answer], stages: Sequence[Stage]) -> str:
    kernels = [answer for answer in answers if isinstance(answer, int)]
    return f"{_added(kernels, stages)}" if len(kernels) == len(answers) else "-"


def _added(kernels: Sequence[int], stages: Sequence[Stage]) -> int:
    """Parameters that ECA adds in every block: the sum of k."""
    return sum(k * stage.blocks for k, stage in zip(kernels, stages, strict=True))


def _pairs(pairs: Sequence[Pair]) -> str:
    return " ".join(f"({gamma:g},{b:g})" for gamma, b in pairs)


def _by_reason(found: Grid) -> dict[str, list[Pair]]:
    """Pairs by why they are refused, without the numbers of the single case."""
    reasons: dict[str, list[Pair]] = {}
    for pair, why in found.refused.items():
        reasons.setdefault(why.partition(" (")[0], []).append(pair)
    return reasons


def _where(run: Run) -> str:
    if run.stage is not None:
        return f"stage{run.stage.number} ({run.first})"
    return f"{run.first}" if run.first == run.last else f"{run.first}-{run.last}"


def _kernel(answer: Answer) -> str:
    return f"k={answer}" if isinstance(answer, int) else f"none: {answer}"


def _run_data(run: Run) -> dict[str, Any]:
    stage = {} if run.stage is None else {"stage": run.stage.number, "blocks": run.stage.blocks}
    return {"channels": [run.first, run.last], **stage, "a": run.a, "b": run.b}


def _gives(found: Region) -> bool:
    """Whether the paper's gamma and b lie in the region."""
    return all(strip.holds(PAPER) for strip in found.strips)


def _bounds(strip: Strip) -> str:
    low, high = ("<=" if edge.closed else "<" for edge in (strip.low, strip.high))
    said = f"{_line(strip.low)} {low} b {high} {_line(strip.high)}"
    return f"{strip.low.why}: {said}"


def _line(edge: Edge) -> str:
    """`4 gamma - 9`."""
    sign, offset = "-" if edge.offset < 0 else "+", _number(abs(edge.offset))
    if edge.slope == 0:
        return _number(edge.offset)
    slope = "gamma" if edge.slope == 1 else f"{edge.slope} gamma"
    return slope if edge.offset == 0 else f"{slope} {sign} {offset}"


def _edge_data(edge: Edge) -> dict[str, Any]:
    return {"slope": float(edge.slope), "offset": float(edge.offset), "closed": edge.closed}


def _point(gamma: Fraction, b: Fraction) -> dict[str, float]:
    return {"gamma": float(gamma), "b": float(b)}


def _number(number: Fraction) -> str:
    return f"{float(number):.6g}"
