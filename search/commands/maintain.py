"""`sync`, `doctor` and `schema`."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from search.commands import as_json, command, emit, study_dir, tracking_uri, warn


@command(example="eca-search sync runs/digits")
@study_dir
@tracking_uri
def sync(study_dir: Path, tracking_uri: str | None) -> None:
    """Bring MLflow level with the journal of the study in STUDY_DIR.

    What is there already is left alone, so it may be called at any time and as often as wanted.
    """
    from search import launch, text
    from search.commands.ui import store

    asked = tracking_uri or launch.load(study_dir).tracking_uri
    launch.sync(study_dir, tracking_uri=asked, say=warn)
    uri = store(study_dir, tracking_uri)
    click.echo(f"level; look at it with: {text.typed('ui', study_dir.absolute(), uri)}")


@command(example="eca-search doctor --out /data/runs")
@click.option(
    "--out",
    default="runs",
    show_default=True,
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="The folder of studies whose disk and store are looked at.",
)
@tracking_uri
@as_json
def doctor(out: Path, tracking_uri: str | None, as_json: bool) -> int:
    """Say whether this machine is fit for a search; each failing line comes with its remedy."""
    from search import doctor as checks

    found = []
    for finding in checks.findings(out, tracking_uri):
        found.append(finding)
        if not as_json:
            color = {"ok": "green", "warn": "yellow", "fail": "red"}[finding.state]
            click.echo(f"{click.style(f'{finding.state:4}', fg=color)}  {finding}")
            if finding.remedy:
                click.echo(f"      {finding.remedy}")
    fit = all(finding.state != "fail" for finding in found)
    if as_json:
        emit(fit=fit, checks=[asdict(finding) for finding in found])
    return 0 if fit else 3


@command(example="eca-search schema > schema.json")
def schema() -> None:
    """Print the JSON Schema of space files, for editors that complete and check them."""
    from spaces.schema import schema as of_spaces

    click.echo(json.dumps(of_spaces(), indent=2))
