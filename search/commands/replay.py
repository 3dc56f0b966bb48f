"""`replay`: what a pruner would have saved and lost, from recorded curves, in virtual time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import as_json, command, emit, warn, whole

if TYPE_CHECKING:
    from search.execution.recorded import Recorded
    from search.execution.replay import Score
    from search.front.canvas import Format

NONE = "none"
PICTURES: dict[str, Format] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}
LOST = 5
"""Members of the front that are named, those that were lost most often."""


class Variant(click.ParamType[dict[str, Any]]):
    """A sampler or pruner: its class name, or `{name: ..., argument: value}` as in a space file."""

    name = "variant"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, Any]:
        """The mapping; a usage error for what is none."""
        if isinstance(value, dict):
            return value
        from spaces import SpaceError
        from spaces.reader import parse

        try:
            given = parse(value, "it").plain()
        except SpaceError as error:
            self.fail(str(error).splitlines()[0], param, ctx)
        if isinstance(given, str):
            given = {"name": given}
        if not isinstance(given, dict) or not isinstance(given.get("name"), str):
            said = f"a name, or {{name: ..., argument: value}} (got {value[:60]!r})"
            self.fail(said, param, ctx)
        return {**given, "said": value}


@command(
    example="eca-search replay runs/digits --pruner ParetoPruner --pruner none\n"
    "eca-search replay t.csv --curve 'e{epoch}Accuracy' --costs NumMACs,NumParams --budget 20\n"
    "eca-search replay runs/digits --pruner '{name: MedianPruner, n_warmup_steps: 2}' "
    "--plot saved.svg"
)
@click.argument("source", type=click.Path(path_type=Path), metavar="STUDY_DIR|TABLE")
@click.option("--curve", metavar="COLUMNS", help="Of a table: e.g. 'e{epoch}Accuracy'.")
@click.option("--costs", metavar="COLUMN,...", help="Of a table: one or two, known beforehand.")
@click.option("--chance", type=float, help="Of a table: where accuracy is worth nothing.")
@click.option(
    "--pruner",
    "pruners",
    type=Variant(),
    multiple=True,
    metavar="NAME|YAML",
    help="Repeatable; `none` trains all to the end. Else ParetoPruner and none.",
)
@click.option(
    "--sampler",
    type=Variant(),
    default="RandomSampler",
    show_default=True,
    metavar="NAME|YAML",
    help="It chooses rows by their size.",
)
@click.option("--workers", type=click.IntRange(1, 4096), default=8, show_default=True)
@click.option("--repeats", type=click.IntRange(1, 10_000), default=20, show_default=True)
@click.option(
    "--budget",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Stop after the epochs of N full trainings; else when every row was tried.",
)
@click.option("--seed", type=click.IntRange(0, 2**31), default=0, show_default=True)
@click.option(
    "--plot",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Hypervolume over the epochs trained: .png, .svg or .pdf.",
)
@as_json
def replay(
    source: Path,
    curve: str | None,
    costs: str | None,
    chance: float | None,
    pruners: tuple[dict[str, Any], ...],
    sampler: dict[str, Any],
    workers: int,
    repeats: int,
    budget: float | None,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Say what a pruner would have saved, and which members of the front it would have lost.

    The real study, sampler and pruner search trainings that are over, in virtual time: those of a
    finished study, or a CSV or Parquet table with a network in each row. Nothing is trained,
    and nothing is written but the plot. An epoch takes every network one tick. What has not
    finished when the budget is spent counts for nothing.
    """
    from search.execution import recorded, replay
    from search.sampling.by_name import SpecError

    if plot is not None and plot.suffix.lower() not in PICTURES:
        raise click.UsageError(f"--plot: {plot.name!r} (allowed: {', '.join(PICTURES)})")
    named = _named(pruners)
    sampler = {key: value for key, value in sampler.items() if key != "said"}
    _buildable(named, sampler)
    if source.is_dir():
        if curve or costs or chance is not None:
            raise click.UsageError("--curve, --costs and --chance are for tables (got a folder)")
        from search.execution import launch

        found = recorded.of_study(launch.load(source))
    else:
        if not curve or not costs:
            raise click.UsageError("a table needs --curve 'e{epoch}Accuracy' and --costs COLUMN,..")
        columns = [column.strip() for column in costs.split(",")]
        found = recorded.of_table(source, curve=curve, costs=columns, chance=chance)
    for note in found.notes:
        warn(note)
    try:
        scores = list(
            replay.compared(
                found,
                named,
                sampler=sampler,
                workers=workers,
                repeats=repeats,
                budget=budget,
                seed=seed,
            )
        )
    except SpecError as error:
        raise click.UsageError(str(error)) from None
    if plot is not None:
        from search.execution.replay_plot import growth
        from search.front.canvas import image
        from spaces.durable import write_whole

        picture = growth(found, scores)
        write_whole(plot, image(picture, PICTURES[plot.suffix.lower()]))
        warn(f"written: {plot}")
    if as_json:
        emit(**_data(found, scores, budget, workers, repeats, sampler))
    else:
        click.echo("\n".join(_text(found, scores, budget, workers, repeats)))


def _named(pruners: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any] | None]:
    """What each is called (as it was typed), and its spec; None trains all to the end."""
    given = pruners or ({"name": "ParetoPruner", "said": "ParetoPruner"}, {"name": NONE})
    return {
        str(spec.get("said", NONE)): None
        if spec["name"] == NONE
        else {key: value for key, value in spec.items() if key != "said"}
        for spec in given
    }


def _buildable(pruners: Mapping[str, Mapping[str, Any] | None], sampler: Mapping[str, Any]) -> None:
    """Raise a usage error for a pruner or a sampler that there is not, before anything is read."""
    from pydantic import ValidationError

    from search import pruning
    from search.execution.replay import specified
    from search.sampling import samplers
    from search.sampling.by_name import SpecError, find

    for name, spec in pruners.items():
        try:
            if spec is not None:
                specified(spec)
                pruning.Pruning(spec, name="replay", costs={"macs": 0.01})
        except SpecError as error:
            raise click.UsageError(f"--pruner {name[:60]}: {error}") from None
        except ValidationError as error:
            said = error.errors()[0]["msg"]
            raise click.UsageError(f"--pruner {name[:60]}: {said}") from None
    try:
        find("sampler", samplers.SAMPLERS, sampler["name"])
    except SpecError as error:
        raise click.UsageError(f"--sampler {error}") from None


def _data(
    found: Recorded,
    scores: Sequence[Score],
    budget: float | None,
    workers: int,
    repeats: int,
    sampler: Mapping[str, Any],
) -> dict[str, Any]:
    reference = {found.columns[name]: cost for name, cost in found.reference.items()}
    return {
        "source": found.name,
        "networks": len(found.trials),
        "epochs": found.epochs,
        "budget": budget,
        "workers": workers,
        "repeats": repeats,
        "sampler": dict(sampler),
        "chance": found.chance,
        "reference": whole(reference),
        "notes": list(found.notes),
        "rows": [_row(found, score) for score in scores],
    }


def _row(found: Recorded, score: Score) -> dict[str, Any]:
    """One pruner's means over the repeats, each with its standard deviation."""
    from search.execution.replay import spread

    columns = {
        "hypervolume": score.volumes,
        "hypervolume_of_none": score.unstopped,
        "epochs_saved": score.saved,
        "front_killed": [len(lost) for lost in score.killed],
    }
    row: dict[str, Any] = {"pruner": score.pruner}
    for name, numbers in columns.items():
        row[name], row[f"{name}_sd"] = spread(numbers)
    row["hypervolume_of_all"] = found.hypervolume()
    row["front_size"] = len(found.front())
    row["lost"] = {label: count / len(score.killed) for label, count in _lost(found, score)}
    return row


def _lost(found: Recorded, score: Score) -> list[tuple[str, int]]:
    """Members of the front that were stopped, by name, with how often; the most often first."""
    times = Counter(row for lost in score.killed for row in lost)
    return [(found.trials[row].label, count) for row, count in times.most_common()]


def _text(
    found: Recorded, scores: Sequence[Score], budget: float | None, workers: int, repeats: int
) -> Iterator[str]:
    from search import text

    rows = [_row(found, score) for score in scores]
    of_all = found.hypervolume()
    until = "every row tried" if budget is None else f"a budget of {budget:g} full trainings"
    yield (
        f"{text.clean(found.name)}: {len(found.trials)} networks of {found.epochs} epochs, "
        f"{until}, {workers} workers, {repeats} orders"
    )
    heading = ["pruner", "hypervolume", "against none", "epochs saved", "of the front lost"]
    cells = [
        [
            text.clean(row["pruner"]),
            f"{row['hypervolume'] / of_all:.1%} ± {row['hypervolume_sd'] / of_all:.1%}",
            f"{(row['hypervolume'] - row['hypervolume_of_none']) / of_all:+.1%}",
            f"{row['epochs_saved']:.1%} ± {row['epochs_saved_sd']:.1%}",
            f"{row['front_killed']:.1f} of {row['front_size']} ± {row['front_killed_sd']:.1f}",
        ]
        for row in rows
    ]
    yield text.columns(heading, cells, left=["pruner"])
    start = ", ".join(f"{found.columns[n]} {cost:,.0f}" for n, cost in found.reference.items())
    yield (
        f"hypervolume: share of that of all ({of_all:.4f}; {found.called or found.metric} above "
        f"{found.chance:.4g},"
        f" ln of {start} over the cost); ±: sd over orders"
    )
    for score in scores:
        lost = _lost(found, score)[:LOST]
        if lost:
            names = ", ".join(
                f"{text.clean(label)} ({count / repeats:.0%})" for label, count in lost
            )
            yield f"{text.clean(score.pruner)} lost most often: {names}"
