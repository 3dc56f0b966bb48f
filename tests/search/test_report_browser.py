"""The report in a real browser, from disk, with no network: it shows, and its console is silent."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

import search
from search import report

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
STUDY = Path(__file__).parents[2] / "benchmarks" / "results" / "cifar10-laptop"
BROKEN = "<!doctype html><title>x</title><img src='https://example.invalid/x.png'><p>shown</p>"


@pytest.fixture(scope="module")
def chromium() -> str:
    """Debian's Chromium."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    return found


def opened(chromium: str, page: Path, profile: Path) -> tuple[str, list[str]]:
    """The page's document as the browser has it, and what its console says."""
    done = subprocess.run(
        [
            chromium,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
            *("--disable-background-networking", "--disable-component-update", "--disable-quic"),
            "--host-resolver-rules=MAP * ~NOTFOUND",
            *("--enable-logging=stderr", "--v=0"),
            f"--user-data-dir={profile}",
            "--virtual-time-budget=5000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout, re.findall(r".*:CONSOLE[:(].*", done.stderr)


def test_it_opens_from_disk_without_a_word(chromium: str, tmp_path: Path) -> None:
    """Every section, every picture and every table is in the document; the console is empty."""
    study = search.load(STUDY)
    page = tmp_path / "report.html"
    page.write_text(report.as_html(study))
    document, console = opened(chromium, page, tmp_path / "profile")
    assert console == []
    sections = report.sections(study)
    assert document.count("<section ") == len(sections)
    assert document.count("<figure ") == document.count("</svg>") >= 3
    for trial in study.pareto():
        assert f"<td>#{trial.number:03d}</td>" in document


def test_the_console_is_heard(chromium: str, tmp_path: Path) -> None:
    """A page that its policy holds back does complain: an empty console says something."""
    page = tmp_path / "broken.html"
    policy = "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'\">"
    page.write_text(BROKEN.replace("<title>", f"{policy}<title>"))
    document, console = opened(chromium, page, tmp_path / "profile")
    assert "shown" in document
    assert console
