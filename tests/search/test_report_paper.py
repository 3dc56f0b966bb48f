"""`report --paper`: tables, figures and a methods paragraph that say what the journal says."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest

import search
from search import report
from search.report import effects, latex, paper
from search.report.section import Table
from search.study import Study

SPACE = """\
name: rules
dataset: {name: digits, subset: 400, val: 0.25}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5], default: 0.5}}
attention: {name: eca}
training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
search: {replicates: 3, executor: inprocess, latency: {batch_sizes: [1], repeats: 6}}
arms:
  published: {attention.mapping: {name: log2}}
  k3: {attention.mapping: {name: constant, kernel_size: 3}}
  none: {attention: {name: none}}
blocks: [backbone.width]
"""
LAPTOP = Path(__file__).parents[2] / "benchmarks" / "results" / "cifar10-laptop"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """Three arms at two widths, three seeds each."""
    folder = tmp_path_factory.mktemp("paper")
    (folder / "rules.yaml").write_text(SPACE)
    return search.run(folder / "rules.yaml", out=folder / "runs", executor="inprocess")


@pytest.fixture(scope="module")
def files(study: Study) -> dict[str, bytes]:
    """What `--paper` writes."""
    return report.as_paper(study)


def test_tables_come_as_latex_and_csv_figures_as_svg_and_pdf(files: dict[str, bytes]) -> None:
    """Effects, comparison, mappings, front, budget; forest, heat map, plane, front."""
    tables = {"effects", "comparison", "mappings", "front", "budget"}
    assert {name for name in files if name.endswith(".tex")} == {
        *(f"{table}.tex" for table in tables),
        "methods.tex",
    }
    assert {name for name in files if name.endswith(".csv")} == {f"{name}.csv" for name in tables}
    figures = {"fig-front", "fig-forest", "fig-effects", "fig-mappings"}
    assert {name for name in files if name.endswith(".pdf")} == {f"{name}.pdf" for name in figures}
    assert all(files[f"{name}.pdf"].startswith(b"%PDF") for name in figures)
    assert all(b"<svg" in files[f"{name}.svg"] for name in figures)


def test_effects_are_against_the_plain_network_block_by_block(study: Study) -> None:
    """Each is the mean over seeds of the difference there; one network stands there once."""
    found = effects.effects(study)
    assert effects.plain(study) == "none"
    places = [(effect.arm, dict(effect.stratum)["backbone.width"]) for effect in found]
    # at width 0.5 the constant is the published rule: one network, one row
    assert sorted(places) == [("k3", 0.25), ("published", 0.25), ("published", 0.5)]
    by_label = {trial.label.split()[0] + trial.label.split()[1]: trial for trial in study.trials}
    for effect in found:
        width = dict(effect.stratum)["backbone.width"]
        there, plain = (by_label[f"{arm}:w{width}"] for arm in (effect.arm, "none"))
        differences = [
            one.curve[-1]["val_accuracy"] - other.curve[-1]["val_accuracy"]
            for one, other in zip(there.replicates, plain.replicates, strict=True)
        ]
        expected = sum(differences) / len(differences)
        assert effect.pair.difference == pytest.approx(expected)  # a mean of doubles
        assert effect.p_holm >= effect.pair.p


def test_effects_say_what_attention_costs_in_time(study: Study) -> None:
    """Latency over the plain network's at that block, in percent; nothing where devices differ."""
    table = effects.table(study, effects.effects(study))
    medians = {trial.label: trial.latency["latency_ms"].median for trial in study.trials}
    assert table.heading[-1] == "latency"
    for row in table.rows:
        width = row[0].removeprefix("backbone.width=")
        mine, plain = (
            next(ms for label, ms in medians.items() if label.startswith(f"{arm}: w{width} "))
            for arm in (row[1], "none")
        )
        assert row[-1] == f"{100 * (mine / plain - 1):+.0f} %"


def test_the_csv_says_what_the_latex_says(files: dict[str, bytes]) -> None:
    """Cell by cell, LaTeX's escapes taken away."""
    rows = list(csv.reader(io.StringIO(files["comparison.csv"].decode())))
    body = re.search(r"\\midrule\n(.*)\n\\bottomrule", files["comparison.tex"].decode(), re.DOTALL)
    assert body is not None
    lines = [line.removesuffix(r" \\").split(" & ") for line in body[1].splitlines()]
    plain = [[cell.replace("\\", "").replace("$pm$", "±") for cell in line] for line in lines]
    assert plain == rows[1:]
    assert len(rows) == 4


def test_the_methods_say_how_it_was_done(study: Study, files: dict[str, bytes]) -> None:
    """Data, recipe, seeds, tests, margin and versions, as they were."""
    said = files["methods.tex"].decode()
    for words in ("digits (400 images)", "0.25", "1 epochs", "3 seeds", "Holm", "0.2 points"):
        assert words in said
    assert study.history.study["versions"]["torch"] in said
    searched = paper.methods(search.load(LAPTOP), None)
    assert "32 networks were proposed by Optuna's TPESampler" in searched
    assert "17 finished, 15 were stopped, 0 failed" in searched


def test_latex_prints_what_was_meant() -> None:
    """Every character that LaTeX takes for a command is escaped."""
    table = Table(["a_b"], [["50 % & more ± 1"]], caption="C#1")
    written = latex.tabular(table, "t")
    assert r"a\_b" in written
    assert r"50 \% \& more $\pm$ 1 \\" in written
    assert r"\caption{C\#1}" in written
    assert (
        latex.escape("\\x{y}~^$") == r"\textbackslash{}x\{y\}\textasciitilde{}\textasciicircum{}\$"
    )


def test_a_search_has_no_effects(tmp_path: Path) -> None:
    """Without arms there is no control: no effects, no forest, but front, mappings and budget."""
    made = report.as_paper(search.load(LAPTOP))
    assert {name for name in made if name.endswith(".csv")} == {
        "front.csv",
        "mappings.csv",
        "budget.csv",
    }
