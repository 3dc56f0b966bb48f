"""`export`: a finished trial as files that need no eca-search."""

from __future__ import annotations

from pathlib import Path

import click

from search.commands import as_json, command, emit, study_dir, warn
from search.commands.read import trial_of


@command(example="eca-search export runs/digits 7 --out digits-best")
@study_dir
@click.argument("trial")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The folder to write; else exports/TRIAL-rN in the study's.",
)
@click.option(
    "--replicate",
    type=click.IntRange(min=0),
    metavar="N",
    help="Which of the trial's replicates; else the first that finished.",
)
@click.option("--force", is_flag=True, help="Write over an earlier export in DIR.")
@as_json
def export(
    study_dir: Path,
    trial: str,
    out: Path | None,
    replicate: int | None,
    force: bool,
    as_json: bool,
) -> None:
    """Write the trained network of TRIAL of the study in STUDY_DIR to a folder of its own.

    It holds weights.safetensors; model.pt2, a program that `torch.export.load` of torch alone
    runs; config.yaml, a space file that means this one network; and README.md, its model card.
    The weights are the last epoch's, averaged ones where the recipe keeps an average.
    """
    from search import text
    from search.execution import launch
    from search.report import export as exporting

    study = launch.load(study_dir)
    found = trial_of(study, trial)
    done = exporting.export(study, found, replicate=replicate, out=out, force=force, say=warn)
    if as_json:
        emit(
            study=study.name,
            trial=found.number,
            replicate=done.replicate,
            epoch=done.epoch,
            folder=str(done.folder),
            files={name: {"bytes": s, "sha256": d} for name, (s, d) in done.files.items()},
        )
        return
    click.echo(f"{text.clean(found.name)}, replicate {done.replicate}, epoch {done.epoch}")
    for name, (size, digest) in done.files.items():
        click.echo(f"  {name:20} {text.size(size):>10}  sha256 {digest[:16]}...")
    click.echo(f"written to {text.shown(done.folder)}")
