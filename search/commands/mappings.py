"""`mappings`: kernels of networks, before any space is written and without building one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from search.commands import as_json, command, emit
from search.commands.numbers import WIDEST, Numbers, Range

if TYPE_CHECKING:
    from search.front.canvas import Format
    from spaces.algebra.agreement import Proof
    from spaces.algebra.grid import Grid
    from spaces.algebra.inverse import Region
    from spaces.algebra.rules import Rule
    from spaces.algebra.strips import Rounding
    from spaces.published import Stage

GAMMAS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
SHIFTS = (-2.0, -1.0, 0.0, 1.0, 2.0, 3.0, 4.0)
PICTURES: dict[str, Format] = {".png": "png", ".svg": "svg", ".pdf": "pdf"}


@command(
    example="eca-search mappings --backbone resnet18\n"
    "eca-search mappings --channels 16,32,64 --gamma 1,2,4 --b 0,1\n"
    "eca-search mappings --same published floor_odd --range 1-4096\n"
    "eca-search mappings --backbone resnet50 --profile 3-5-5-7\n"
    "eca-search mappings --backbone resnet50 --diagram plane.svg"
)
@click.option(
    "--backbone",
    metavar="NAME",
    help="Its channel counts: resnet50, mobilenetv2, ..., or a space's: digits, FILE.yaml.",
)
@click.option(
    "--channels",
    type=Numbers(int, 1, WIDEST),
    metavar="C,C,...",
    help="Channel counts instead.",
)
@click.option(
    "--gamma",
    "gammas",
    type=Numbers(float, 0.1, 100),
    default=GAMMAS,
    metavar="N,N,...",
    help="Values of gamma.",
)
@click.option(
    "--b",
    "shifts",
    type=Numbers(float, -64, 64),
    default=SHIFTS,
    metavar="N,N,...",
    help="Values of b.",
)
@click.option(
    "--rounding",
    type=click.Choice(["nearest", "nearest_down", "floor", "ceil"]),
    default="nearest",
    show_default=True,
    help="To an odd number; nearest takes ties up, as in the paper's figure 3.",
)
@click.option(
    "--same",
    nargs=2,
    metavar="A B",
    help="Whether two rules agree: names, or YAML such as '{name: constant, kernel_size: 3}'.",
)
@click.option(
    "--range", "within", type=Range(), metavar="LOW-HIGH", help="With --same: at all these C."
)
@click.option(
    "--profile",
    type=Numbers(int, 1, WIDEST, once=False, hyphens=True),
    metavar="K,K,...",
    help="Which (gamma, b) give these kernels, one a stage: 3,5,5,7 or 3-5-5-7.",
)
@click.option(
    "--diagram",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the (gamma, b) plane, each colour a network: .png, .svg or .pdf.",
)
@as_json
def mappings(
    backbone: str | None,
    channels: tuple[int, ...] | None,
    gammas: tuple[float, ...],
    shifts: tuple[float, ...],
    rounding: Rounding,
    same: tuple[str, str] | None,
    within: tuple[int, int] | None,
    profile: tuple[int, ...] | None,
    diagram: Path | None,
    as_json: bool,
) -> None:
    """Show the kernel that each rule, and each (gamma, b) of the log2 mapping, give each stage.

    Pairs that give the same kernels everywhere are the same network, and stand in one row. Without
    --channels they are those where attention stands in a backbone (resnet50 unless named), or in
    the network of a space, its holes at their defaults, else at their first values. --same and
    --profile answer that question alone.
    """
    from search.commands import mapping_text as text
    from spaces.algebra import grid, rules
    from spaces.errors import counted

    if backbone and channels:
        raise click.UsageError("--backbone or --channels, not both")
    if within and not same:
        raise click.UsageError("--range goes with --same")
    if diagram is not None:
        _check_picture(diagram)
    backbone, stages, where = _asked(backbone, channels)
    counts = [stage.channels for stage in stages]
    found = grid.grid(counts, rounding, gammas, shifts)
    if not found.networks:
        raise click.UsageError(_refusal(next(iter(found.refused.values())), gammas, shifts))
    known = rules.every(backbone)
    proof = _proof(same, within, backbone, stages) if same else None
    region = _region(profile, stages, rounding) if profile else None
    drawn = _draw(diagram, backbone, stages, rounding, found) if diagram else None
    if as_json:
        emit(
            **text.grid_data(found, backbone, stages, rounding, len(gammas) * len(shifts)),
            stages=text.stage_data(stages, backbone),
            rules=[text.rule_data(rule, stages, backbone) for rule in known],
            **({"same": text.proof_data(proof)} if proof else {}),
            **({"inverse": text.region_data(region, found)} if region else {}),
            **({"diagram": drawn} if drawn else {}),
        )
        return
    if proof:
        click.echo(text.proof(proof, where))
    if region:
        click.echo(text.region(region, found, where))
    if not proof and not region:
        click.echo(text.rules(known, stages, backbone))
        click.echo()
        click.echo(
            text.grid(found, stages, where, len(gammas) * len(shifts), costed=bool(backbone))
        )
    if drawn:
        click.echo(f"drawn: {drawn['file']} ({counted(drawn['networks'], 'network')})")


class Asked(NamedTuple):
    """Whose kernels are asked for: `backbone` is its published name, None of channels alone."""

    backbone: str | None
    stages: tuple[Stage, ...]
    called: str


def _asked(name: str | None, channels: tuple[int, ...] | None) -> Asked:
    """The stages of a backbone or of a space's network, or one for each channel count."""
    from search.commands.networks import point
    from spaces import published

    if channels:
        alone = tuple(published.Stage(n, count, 1) for n, count in enumerate(channels, 1))
        return Asked(None, alone, "these channels")
    name = name or "resnet50"
    if name in published.names():
        return Asked(name, published.stages(name), name)
    from spaces.errors import shown
    from trainers.build import stages

    config = point(name)
    params = config.backbone.params
    wide = "" if "width" not in params else f", width {shown(params['width'])}"
    backbone = f"{config.backbone.name}{params.get('depth', '')}"
    return Asked(backbone, stages(config), f"{name} ({backbone}{wide})")


def _proof(
    same: tuple[str, str],
    within: tuple[int, int] | None,
    backbone: str | None,
    stages: Sequence[Stage],
) -> Proof:
    from spaces.algebra import agreement

    a, b = (_rule(written, backbone) for written in same)
    for rule in (a, b):
        if rule.staged and (within or backbone is None):
            said = f"--same: {rule.name} has a kernel for each stage, none for channels alone"
            raise click.UsageError(f"{said} (allowed: with --backbone, without --range)")
    return agreement.over(a, b, *within) if within else agreement.at(a, b, stages)


def _rule(written: str, backbone: str | None) -> Rule:
    from spaces.algebra import rules
    from spaces.errors import VariantError

    try:
        return rules.read(written, backbone)
    except VariantError as error:
        key = "" if error.key == "rule" else f"{error.key}: "
        raise click.UsageError(f"--same: {key}{error.message}") from None


def _region(profile: Sequence[int], stages: Sequence[Stage], rounding: Rounding) -> Region:
    from spaces.algebra import inverse
    from spaces.errors import counted

    if len(profile) != len(stages):
        said = f"got {len(profile)}; allowed: {counted(len(stages), 'kernel')}, one a stage"
        raise click.UsageError(f"--profile: wrong number of kernels ({said})")
    wanted = [(stage.channels, kernel) for stage, kernel in zip(stages, profile, strict=True)]
    try:
        return inverse.region(wanted, rounding)
    except ValueError as error:
        raise click.UsageError(f"--profile: {error}") from None


def _draw(
    file: Path,
    backbone: str | None,
    stages: Sequence[Stage],
    rounding: Rounding,
    found: Grid,
) -> dict[str, Any]:
    """Write the equivalence diagram; returns what was drawn."""
    from search.beforehand import diagram

    try:
        shown = diagram.plane(backbone, stages, rounding, found)
    except ValueError as error:
        raise click.UsageError(f"--diagram: {error}") from None
    file.write_bytes(diagram.image(shown, PICTURES[file.suffix]))
    return {
        "file": str(file),
        "networks": len(shown.cells),
        "gamma": [float(end) for end in shown.gamma],
        "b": [float(end) for end in shown.b],
    }


def _check_picture(file: Path) -> None:
    """Refuse a file that cannot be drawn, before anything is computed."""
    if file.suffix not in PICTURES:
        said = f"got {str(file)[-60:]!r}; allowed: a name that ends with {', '.join(PICTURES)}"
        raise click.UsageError(f"--diagram: no kind of picture ({said})")
    if not file.parent.is_dir():
        raise click.UsageError(f"--diagram: no folder {str(file.parent)!r}")


def _refusal(why: str, gammas: Sequence[float], shifts: Sequence[float]) -> str:
    """What is said of options of which no pair gives a kernel."""
    said = f"--gamma {','.join(f'{g:g}' for g in gammas)} --b {','.join(f'{b:g}' for b in shifts)}"
    return f"no pair of {said} gives a kernel: {why}"
