"""The interactive front in a real browser with no network: it draws, and it draws the front."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search.front import plots

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def test_the_front_of_a_real_study_is_drawn(
    browse: Callable[[str], tuple[str, list[str]]],
    write_space: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """Every member of the front is a point of the drawing, and nothing is asked of the network."""
    study = search.run(write_space(trials=4, epochs=2), out=tmp_path / "runs")
    page = tmp_path / "pareto.html"
    page.write_text(plots.html(study))
    document, _ = browse(page.as_uri())

    assert "main-svg" in document  # what plotly draws into
    assert 'src="http' not in document
    for trial in study.pareto():
        assert f"#{trial.number:03d}" in document or f"#{trial.number}" in document
    drawn = document.count('class="point"')
    assert drawn >= len(study.pareto()), json.dumps({"points": drawn})
