"""`report`: a study as one document."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from search.commands import command, study_dir, warn

if TYPE_CHECKING:
    from search.study.study import Study


@command(
    example="eca-search report runs/digits\neca-search report runs/digits --markdown --out docs/run"
)
@study_dir
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where to write; else STUDY_DIR/report.",
)
@click.option("--markdown", is_flag=True, help="Markdown and SVG files too.")
@click.option("--paper", is_flag=True, help="LaTeX and CSV tables, SVG and PDF figures too.")
def report(study_dir: Path, out: Path | None, markdown: bool, paper: bool) -> None:
    """Write what the study in STUDY_DIR has found as one HTML file that needs no network.

    The front, the curves and what was stopped and why, kernels by site, the plane of gamma and b,
    the budget, and the space and versions that it came from; of a comparison every pair, and every
    confirmation that lies beside the study. `--paper` adds tables and figures to be set in an
    article, in DIR/paper, with a methods paragraph.
    """
    from search import text
    from search.execution import launch
    from search.report import document as reports
    from spaces.durable import make_folder, write_whole
    from spaces.errors import counted

    study = launch.load(study_dir)
    folder = study.folder / "report" if out is None else out
    confirmations = _confirmations(study)
    files = {"report.html": reports.as_html(study, confirmations).encode()}
    if markdown:
        files |= reports.as_markdown(study, confirmations)
    if paper:
        found = reports.as_paper(study, confirmations)
        files |= {f"paper/{name}": made for name, made in found.items()}
        make_folder(folder / "paper")
    make_folder(folder)
    for name, content in files.items():
        write_whole(folder / name, content)
        if name.endswith((".html", ".md")):
            click.echo(f"written: {text.shown(folder / name)} ({text.size(len(content))})")
    if paper:
        count = sum(name.startswith("paper/") for name in files)
        click.echo(f"written: {text.shown(folder / 'paper')} ({counted(count, 'file')})")


def _confirmations(study: Study) -> tuple[Study, ...]:
    """Every study beside this one that confirms it, in the order in which they were begun."""
    from search.errors import JournalError
    from search.execution import launch
    from spaces import SpaceError

    found: list[Study] = []
    for path in study.folder.parent.glob("*/space.yaml"):
        if study.uuid not in path.read_text(encoding="utf-8", errors="replace"):
            continue
        try:
            other = launch.load(path.parent)
        except (JournalError, SpaceError, OSError) as error:
            warn(f"passed over: {error}")
            continue
        confirms = other.space.search.confirms
        if confirms is not None and confirms.uuid == study.uuid and other.trials:
            found.append(other)
    return tuple(sorted(found, key=lambda other: other.started))
