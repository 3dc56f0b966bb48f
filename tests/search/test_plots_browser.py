"""The interactive front in a real browser with no network: it draws, and it draws the front."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search import plots

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def chromium() -> str:
    """Debian's Chromium."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium is not installed (apt-get install chromium)")
    return found


def rendered(chromium: str, page: Path, profile: Path) -> str:
    """The page's document after its scripts have run."""
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-quic"]
    done = subprocess.run(
        [
            chromium,
            *switches,
            *quiet,
            f"--user-data-dir={profile}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def test_the_front_of_a_real_study_is_drawn(
    chromium: str, write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """Every member of the front is a point of the drawing, and nothing is asked of the network."""
    study = search.run(write_space(trials=4, epochs=2), out=tmp_path / "runs")
    page = tmp_path / "pareto.html"
    page.write_text(plots.html(study))
    document = rendered(chromium, page, tmp_path / "profile")

    assert "main-svg" in document  # what plotly draws into
    assert 'src="http' not in document
    for trial in study.pareto():
        assert f"#{trial.number:03d}" in document or f"#{trial.number}" in document
    drawn = document.count('class="point"')
    assert drawn >= len(study.pareto()), json.dumps({"points": drawn})
