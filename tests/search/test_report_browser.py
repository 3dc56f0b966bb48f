"""The report in a real browser, from disk, with no network: it shows, and its console is silent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search.report import document

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
Browse = Callable[[str], tuple[str, list[str]]]
STUDY = Path(__file__).parents[2] / "benchmarks" / "results" / "cifar10-laptop"
BROKEN = "<!doctype html><title>x</title><img src='https://example.invalid/x.png'><p>shown</p>"


def test_it_opens_from_disk_without_a_word(browse: Browse, tmp_path: Path) -> None:
    """Every section, every picture and every table is in the document; the console is empty."""
    study = search.load(STUDY)
    page = tmp_path / "report.html"
    page.write_text(document.as_html(study))
    shown, console = browse(page.as_uri())
    assert console == []
    sections = document.sections(study)
    assert shown.count("<section ") == len(sections)
    assert shown.count("<figure ") == shown.count("</svg>") >= 3
    for trial in study.pareto():
        assert f"<td>#{trial.number:03d}</td>" in shown


def test_the_console_is_heard(browse: Browse, tmp_path: Path) -> None:
    """A page that its policy holds back does complain: an empty console says something."""
    page = tmp_path / "broken.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    page.write_text(BROKEN.replace("<title>", f"{policy}<title>"))
    document, console = browse(page.as_uri())
    assert "shown" in document
    assert console
