"""The report: one file that needs nothing, and says what the journal says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

import search
from search import cli
from search.report import curves, document
from search.report.section import Figure, Section, Table
from search.study.study import Study

STUDY = Path(__file__).parents[2] / "benchmarks" / "results" / "cifar10-laptop"


@pytest.fixture(scope="module")
def study() -> Study:
    """A search of 32 trials on CIFAR-10, 15 of them stopped."""
    return search.load(STUDY)


class Loads(HTMLParser):
    """What a page would fetch, run or link to outside of itself."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []
        self.refers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "link", "object", "embed"):
            self.found.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "xlink:href", "data"):
                (self.refers if (value or "").startswith("#") else self.found).append(value or "")
            self.refers += [f"#{target}" for target in re.findall(r"url\(#([^)]+)\)", value or "")]


def test_it_is_one_file_that_loads_nothing(study: Study) -> None:
    """No script, no link outside, and a policy that forbids both; what it refers to is there."""
    page = document.as_html(study)
    loads = Loads()
    loads.feed(page)
    assert loads.found == []
    assert "default-src 'none'" in page
    assert len(loads.ids) == len(set(loads.ids))
    assert loads.refers
    assert {target.removeprefix("#") for target in loads.refers} <= set(loads.ids)


def test_the_front_is_the_study_s(study: Study) -> None:
    """Its table has the front's trials in their order, with what the journal says of them."""
    front = next(s for s in document.sections(study) if s.title == "Pareto front")
    table = next(part for part in front.parts if isinstance(part, Table))
    members = study.pareto()
    assert [row[0] for row in table.rows] == [f"#{trial.number:03d}" for trial in members]
    accuracy = list(table.heading).index("val_accuracy")
    for row, trial in zip(table.rows, members, strict=True):
        assert trial.objectives is not None
        assert row[accuracy] == f"{trial.objectives['val_accuracy']:.4f}"


def test_every_stopped_trial_stands_there_with_its_reason(study: Study) -> None:
    """Fifteen were pruned; each row says when and why."""
    curves = next(s for s in document.sections(study) if s.title.startswith("Curves"))
    table = next(part for part in curves.parts if isinstance(part, Table))
    stopped = [trial for trial in study.trials if trial.outcome == "pruned"]
    assert len(table.rows) == len(stopped) == 15
    for row, trial in zip(table.rows, stopped, strict=True):
        assert row[0] == f"#{trial.number:03d}"
        assert row[3] == str(trial.epochs)
        assert row[-1].startswith("ParetoPruner: place")


def test_the_budget_adds_up(study: Study) -> None:
    """Epochs by outcome are those of the journal, and their sum is the last row."""
    budget = next(s for s in document.sections(study) if s.title == "Budget")
    table = next(part for part in budget.parts if isinstance(part, Table))
    *rows, total = table.rows
    assert sum(int(row[1]) for row in rows) == int(total[1]) == len(study.trials)
    assert sum(int(row[2]) for row in rows) == int(total[2]) == sum(t.epochs for t in study.trials)


def test_the_same_study_gives_the_same_bytes(study: Study) -> None:
    """Nothing of a clock or of chance is in it, so MLflow's copy is written once."""
    assert document.as_html(study) == document.as_html(search.load(STUDY))
    assert document.as_markdown(study) == document.as_markdown(search.load(STUDY))


def test_markdown_links_to_the_files_beside_it(study: Study) -> None:
    """Every picture that it names is among the files, and is an SVG."""
    files = document.as_markdown(study)
    text = files["report.md"].decode()
    linked = re.findall(r"\]\(([\w-]+\.svg)\)", text)
    assert linked
    assert set(linked) == files.keys() - {"report.md"}
    assert all(b"<svg" in files[name] for name in linked)


def test_what_somebody_wrote_is_shown_and_not_run(
    tmp_path: Path, write_space: Callable[..., Path]
) -> None:
    """Markup in a space file, a name or a reason is text in the report."""
    path = write_space(trials=1, epochs=1, width="0.25", attention="{name: eca}")
    path.write_text(
        "# Question: <script>alert(1)</script> <img src=x onerror=alert(2)>?\n" + path.read_text()
    )
    study = search.run(path, out=tmp_path / "runs")
    page = document.as_html(study)
    assert "&lt;script&gt;alert(1)" in page
    assert "<script" not in page
    assert "<img" not in page


def test_a_study_without_a_result_has_a_report(
    tmp_path: Path, write_space: Callable[..., Path]
) -> None:
    """Trials that all diverge: no front, but what failed and why."""
    text = write_space(trials=2, epochs=1, width="0.25").read_text()
    path = tmp_path / "hot.yaml"
    path.write_text(text.replace("lr: 0.1", "lr: 100.0").replace("name: small", "name: hot"))
    study = search.run(path, out=tmp_path / "runs", overrides=["search.failures.max=1"])
    titles = [section.title for section in document.sections(study)]
    if not study.pareto():
        assert "Pareto front" not in titles
    assert titles[-2:] == ["Budget", "Where it comes from"]
    assert document.as_html(study)


def test_the_command_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`--out` says where; Markdown comes on request; the path is said."""
    assert cli.main(["report", str(STUDY), "--out", str(tmp_path / "here")]) == 0
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["report.html"]
    assert "report.html" in capsys.readouterr().out
    assert cli.main(["report", str(STUDY), "--out", str(tmp_path / "here"), "--markdown"]) == 0
    assert {path.name for path in (tmp_path / "here").iterdir()} >= {"report.md", "front.svg"}
    assert cli.main(["report", str(tmp_path / "nowhere")]) == 2


def test_ids_of_two_figures_never_meet(study: Study) -> None:
    """A picture inside the page keeps its own markers and clips."""
    figures = [
        part
        for section in document.sections(study)
        for part in section.parts
        if isinstance(part, Figure)
    ]
    assert len({figure.name for figure in figures}) == len(figures) >= 3
    assert all(isinstance(section, Section) for section in document.sections(study))


def test_curves_of_a_large_front_need_no_legend() -> None:
    """It would leave no room for the curves; a small front's members are named."""
    study = search.load(STUDY)
    best = study.pareto()[-1]
    assert best.objectives is not None
    more = len(study.trials)
    for place in range(40):  # each larger and better than the one before
        study.history.trials[more + place] = replace(
            best,
            number=more + place,
            identity=f"{place:016x}",
            costs={name: cost * 1.1 ** (place + 1) for name, cost in best.costs.items()},
            objectives={
                name: value * 1.1 ** (place + 1)
                if name in best.costs
                else value + (place + 1) / 1000
                for name, value in best.objectives.items()
            },
        )
        members = len(study.pareto())
        if place not in (0, 39):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            section = curves.section(study)
        assert section is not None
        drawn = section.parts[0]
        assert isinstance(drawn, Figure)
        assert (f"#{more:03d}" in drawn.svg.decode()) == (members <= curves.NAMED)
    assert members > 40
