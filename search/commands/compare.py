"""`compare`: arms trained with the same seeds, and what their differences are worth."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from search.commands import address, as_json, command, emit, overrides, plugin, tracking_uri, warn
from search.commands.numbers import Between
from search.commands.run import again, drive, executor, force, max_concurrent, out

if TYPE_CHECKING:
    from search.comparison.comparing import Plan, Same, Told
    from search.study.study import Study
    from spaces import Space

    Watch = Callable[[Study], None]
    Say = Callable[[str], None]


@command(
    example="eca-search compare cifar10_rules --plan\n"
    "eca-search compare digits --replicates 8 --arm eca=attention=eca --arm none=attention=none\n"
    "eca-search compare runs/digits-compare --json"
)
@click.argument("space")
@overrides
@click.option(
    "--arm",
    "arms",
    multiple=True,
    metavar="NAME='KEY=VALUE; ...'",
    help="An arm: the keys that it replaces, values as in YAML; NAME= for none (repeatable).",
)
@click.option(
    "--block",
    "blocks",
    multiple=True,
    metavar="KEY[=VALUES]",
    help="A hole that stays open: every arm is trained at each of its values (repeatable).",
)
@click.option("--replicates", type=click.IntRange(1, 100), metavar="N", help="Seeds for each arm.")
@click.option("--against", metavar="NAME", help="Compare every arm with this one, not all pairs.")
@click.option(
    "--margin",
    type=Between(0, 1, min_open=True),
    metavar="X",
    help="The largest difference that counts as none: 0.002 is 0.2 points (the default).",
)
@click.option(
    "--alpha",
    type=Between(0, 0.5, min_open=True, max_open=True),
    metavar="P",
    help="The probability of a false alarm over all pairs together (0.05).",
)
@click.option("--plan", "planned", is_flag=True, help="Say what it would train and tell; no more.")
@click.option("--anyway", is_flag=True, help="Train also where so few seeds can prove nothing.")
@out
@executor
@address
@max_concurrent
@plugin
@again
@force
@tracking_uri
@as_json
def compare(
    space: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    blocks: tuple[str, ...],
    replicates: int | None,
    against: str | None,
    margin: float | None,
    alpha: float | None,
    planned: bool,
    anyway: bool,
    out: Path,
    executor: str | None,
    address: str | None,
    max_concurrent: int | None,
    plugins: tuple[Path, ...],
    again: bool,
    force: bool,
    tracking_uri: str | None,
    as_json: bool,
) -> int:
    """Train arms of SPACE with the same seeds and say which differ, by how much and how surely.

    An arm is SPACE with some keys replaced; holes that it leaves open take their default. So
    `attention=eca` is SPACE's own option of that name, a gamma left open at the default of its
    hole; `attention={name: eca}` is a component of the arm's own, whose gamma is the paper's 2.
    Nothing is pruned. Before anything trains it is said which arms are the same network, how many
    seeds an effect needs, and what it costs. With a study's folder for SPACE: what that study has
    told.
    """
    from search import text
    from search.beforehand import preflight
    from search.beforehand.examine import examiner
    from search.comparison import comparing, comparison_text
    from search.execution import launch
    from search.study import journal, precedents
    from spaces import catalogue
    from spaces.errors import counted

    if journal.exists(Path(space)):
        if arms or blocks or overrides or replicates or planned:
            raise click.UsageError(f"{space} is a study: what it compares stands in its journal")
        _told(launch.load(Path(space)), against, margin, alpha, as_json)
        return 0
    _check_source(space)
    for file in plugins:
        catalogue.plug(file)
    loaded = _loaded(space, overrides, arms, blocks, replicates, against, margin, alpha)
    preflight.check(loaded)
    examine = examiner(loaded)
    dataset = examine(loaded.baselines()[0]).config["dataset"]
    plan = comparing.plan(loaded, examine, precedents.precedents(out, dataset))
    if planned and as_json:
        emit(name=loaded.name, plan=_plan(plan))
        return 0
    for line in comparison_text.plan(loaded.name, plan):
        (click.echo if planned else warn)(line)
    if planned:
        if journal.exists(out / loaded.name):
            warn(f"note: {out / loaded.name} is a study already: give this one another name=NAME")
        return 0
    if plan.smallest is None and not anyway:
        raise click.UsageError(f"{comparison_text.significance(plan)} (or --anyway)")
    if plan.smallest is not None and plan.replicates < plan.smallest and not anyway:
        raise click.UsageError(
            f"so few seeds ({plan.replicates}) cannot tell {counted(len(plan.pairs), 'pair')} "
            f"apart, whatever they show (allowed: --replicates {plan.smallest} or more, or "
            "--anyway)"
        )

    def start(watch: Watch, say: Say, found: Callable[[Path], None]) -> Study:
        found(out.absolute() / loaded.name)
        return launch.run(
            loaded,
            out=out,
            executor=executor,
            address=address,
            max_concurrent=max_concurrent,
            plugins=plugins,
            resume=again,
            force=force,
            tracking_uri=tracking_uri,
            watch=watch,
            say=say,
        )

    def tell(study: Study) -> None:
        _told(study, against, margin, alpha, as_json)
        for line in () if as_json else ("", *text.ways_on(study)):
            click.echo(line)

    return drive(start, tell)


def _check_source(text: str) -> None:
    """A usage error for a folder in which no study is: it was meant for one."""
    from search.study import journal
    from spaces.errors import clipped, listed
    from spaces.paths import ready

    path = Path(text)
    written = path.suffix in (".yaml", ".yml") or path.is_file()
    if written or text in ready() or not (path.is_dir() or len(path.parts) > 1):
        return
    within = path if path.is_dir() else path.parent
    there = sorted(found.parent.name for found in within.glob(f"*/{journal.FILE}"))
    known = f"; studies in {within}: {listed(there)}" if there else ""
    raise click.UsageError(
        f"{clipped(text, 80)}: no study here, nor a space file (allowed: a space file, the name of "
        f"a ready space, or a study's folder{known})"
    )


def _loaded(
    source: str,
    overrides: tuple[str, ...],
    arms: tuple[str, ...],
    blocks: tuple[str, ...],
    replicates: int | None,
    against: str | None,
    margin: float | None,
    alpha: float | None,
) -> Space:
    """The space as a comparison; it is called NAME-compare unless it has arms of its own."""
    import spaces

    asked = {
        "search.replicates": replicates,
        "search.compare.margin": margin,
        "search.compare.alpha": alpha,
        "search.compare.against": against,
    }
    taken = [text.partition("=")[0].strip() for text in overrides]
    for key, value in asked.items():
        if value is not None and key in taken:
            raise click.UsageError(f"--{key.rpartition('.')[2]} or {key}=..., not both")
    given = [f"{key}={json.dumps(value)}" for key, value in asked.items() if value is not None]
    if against is not None:  # which arms there are is known once it is read
        loaded = spaces.load(source, overrides=overrides, compared=arms, blocks=blocks)
        _check_arm(against, () if loaded.arms is None else loaded.arms.replaced)
    every = [*overrides, *given]
    loaded = spaces.load(source, overrides=every, compared=arms, blocks=blocks)
    if arms and "name" not in taken:
        every.append(f"name={loaded.name}-compare")
        loaded = spaces.load(source, overrides=every, compared=arms, blocks=blocks)
    return loaded


def _check_arm(name: str, known: Collection[str]) -> None:
    """A usage error for an arm to compare with that there is not."""
    from spaces.errors import clipped, listed, nearest

    if name not in known:
        said = f"no arm named {clipped(repr(name), 60)}{nearest(name, list(known))}"
        raise click.UsageError(f"--against: {said} (there are: {listed(known)})")


def _told(
    study: Study,
    against: str | None,
    margin: float | None,
    alpha: float | None,
    as_json: bool,
) -> None:
    from search.comparison import comparing, comparison_text

    if against is not None and study.space.arms is not None:
        _check_arm(against, study.space.arms.replaced)
    found = comparing.told(study, margin=margin, alpha=alpha, against=against)
    if as_json:
        emit(**_data(study, found))
        return
    lines = (
        comparison_text.so_far(study) if found is None else comparison_text.told(study.name, found)
    )
    for line in lines:
        click.echo(line)


def _data(study: Study, found: Told | None) -> dict[str, Any]:
    from search.comparison import comparing, statistics

    if found is None:
        return {"study": study.name, "arms": [], "pairs": [], "aliases": [], "dropped": []}
    comparison = found.comparison
    return {
        "study": study.name,
        "metric": found.metric,
        "arms": [asdict(arm) for arm in comparison.arms],
        "pairs": [
            {
                **asdict(pair),
                **({} if pair.n > pair.strata else {"low": None, "high": None}),
                "sentence": statistics.sentence(pair, comparison.margin),
            }
            for pair in comparison.pairs
        ],
        "aliases": _aliases(found.same),
        "margin": comparison.margin,
        "alpha": comparison.alpha,
        "noise": {"sd": comparison.noise, "df": comparison.noise_df},
        "dropped": [{"block": dict(stratum), "seed": seed} for stratum, seed in comparison.dropped],
        "caveats": list(found.caveats),
        "results": [
            {"arm": arm, "block": dict(stratum), "seed": seed, found.metric: value}
            for arm, values in comparing.results(study).items()
            for (stratum, seed), value in sorted(values.items(), key=repr)
        ],
    }


def _plan(plan: Plan) -> dict[str, Any]:
    about = asdict(plan)
    about["seeds"] = {f"{effect:g}": n for effect, n in (plan.seeds or {}).items()} or None
    return {
        **about,
        "trainings": plan.trainings,
        "strata": [dict(stratum) for stratum in plan.strata],
        "same": _aliases(plan.same),
    }


def _aliases(same: Sequence[Same]) -> list[dict[str, Any]]:
    return [
        {
            "arm": one.arm,
            "of": one.of,
            "everywhere": one.everywhere,
            "blocks": [dict(stratum) for stratum in one.strata],
        }
        for one in same
    ]
