"""`report --paper`: tables, figures and a methods paragraph that say what the journal says."""

from __future__ import annotations

import csv
import io
import math
import re
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

import search
from search.report import document, effects, latex, mappings, paper
from search.report.differences import Difference
from search.report.section import Table
from search.study.study import Study
from spaces.mappings.log2 import mapping

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
    return document.as_paper(study)


def test_tables_come_as_latex_and_csv_figures_as_svg_and_pdf(files: dict[str, bytes]) -> None:
    """Effects, comparison, mappings, front, budget; forest, heat map, plane, front."""
    tables = {"effects", "comparison", "mappings", "front", "budget"}
    assert {name for name in files if name.endswith(".tex")} == {
        *(f"{table}.tex" for table in tables),
        "methods.tex",
    }
    assert {name for name in files if name.endswith(".csv")} == {f"{name}.csv" for name in tables}
    figures = {"fig-front", "fig-forest", "fig-effects", "fig-mappings", "fig-mappings-2"}
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


def test_the_csv_is_the_data_of_the_latex(files: dict[str, bytes]) -> None:
    """A number a cell: rounded to what LaTeX shows, they are the same pairs and rows."""
    rows = list(csv.DictReader(io.StringIO(files["comparison.csv"].decode())))
    shown = _latex(files["comparison.tex"])
    assert len(rows) == len(shown) == 3
    for row, cells in zip(rows, shown, strict=True):
        low, high = (f"{100 * float(row[end]):+.2f}" for end in ("low", "high"))
        said = f"{100 * float(row['difference']):+.2f}"
        assert cells[:4] == [f"{row['a']} - {row['b']}", row["n"], said, f"{low} to {high}"]
    for name in ("effects", "mappings", "front", "budget"):
        data = list(csv.DictReader(io.StringIO(files[f"{name}.csv"].decode())))
        assert len(data) == len(_latex(files[f"{name}.tex"]))
        assert not any("±" in cell or "%" in cell for row in data for cell in row.values())


def test_a_mapping_is_told_beside_the_ones_people_ask_about(study: Study) -> None:
    """Seed by seed, to the network with those kernels and the same width; `same` is itself."""
    found = {(one.profile, one.stages[0].channels): one for one in mappings.mapped(study)}
    # by hand: psi(4), psi(8), psi(16) = 1, 3, 3 and psi(8), psi(16), psi(32) = 3, 3, 3
    published, k3, wide = found[(1, 3, 3), 4], found[(3, 3, 3), 4], found[(3, 3, 3), 8]
    assert len(found) == 3
    assert list(wide.differences.values()) == ["same", "same"]
    assert published.differences["gamma=2, b=1"] == "same"
    assert k3.differences["k=3"] == "same"
    apart = [
        one.curve[-1]["val_accuracy"] - other.curve[-1]["val_accuracy"]
        for one, other in zip(k3.trial.replicates, published.trial.replicates, strict=True)
    ]
    minus = k3.differences["gamma=2, b=1"]
    assert isinstance(minus, Difference)
    assert (minus.n, minus.twin) == (3, published.trial.number)
    # scipy's one-sample t, as long as the noise is above that of counting 100 images
    reference = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
    sd = max(float(np.std(apart, ddof=1)), math.sqrt(0.01**2 / 6))
    reach = float(stats.t.ppf(0.975, 2)) * sd / math.sqrt(3)
    assert minus.mean == pytest.approx(sum(apart) / 3)
    assert minus.low == pytest.approx(minus.mean - reach)
    assert minus.low <= reference.low + 1e-12
    other = published.differences["k=3"]
    assert isinstance(other, Difference)
    assert other.mean == pytest.approx(-minus.mean)


def test_the_mapping_table_has_all_gamma_and_b(study: Study, files: dict[str, bytes]) -> None:
    """The corners are of a polygon in which the paper's mapping gives that profile."""
    rows = list(csv.DictReader(io.StringIO(files["mappings.csv"].decode())))
    for row in rows:
        corners = [tuple(map(float, pair.split())) for pair in row["region"].split(", ")]
        gamma, b = (sum(axis) / len(corners) for axis in zip(*corners, strict=True))
        told = [mapping(int(c), gamma=gamma, b=b) for c in row["channels"].split("-")]
        assert "-".join(map(str, told)) == row["kernels"]
        assert told == [
            mapping(int(c), gamma=float(row["inside_gamma"]), b=float(row["inside_b"]))
            for c in row["channels"].split("-")
        ]


def test_a_search_with_stages_left_out_has_its_mappings_too() -> None:
    """A stage without attention is 0 in the profile, and binds neither gamma nor b."""
    found = {one.trial.number: one for one in mappings.mapped(search.load(LAPTOP))}
    partial = found[29]  # w0.5 eca s1,2 k5-5 at 8 and 16 channels
    assert partial.profile == (5, 5, 0)
    gamma, b = map(float, partial.region.inside or ())
    assert [mapping(c, gamma=gamma, b=b) for c in (8, 16)] == [5, 5]
    assert partial.differences == {"gamma=2, b=1": None, "k=3": None}


def test_the_plane_is_drawn_for_every_width(study: Study, files: dict[str, bytes]) -> None:
    """Widths .25 and .5 have planes of their own."""
    seen = {plane.title for _, plane in mappings.planes(study)}
    assert seen == {"resnet8: 4, 8, 16 channels", "resnet8: 8, 16, 32 channels"}
    assert {"fig-mappings.svg", "fig-mappings-2.svg"} <= files.keys()


def test_effects_say_when_no_row_can_be_significant(study: Study) -> None:
    """Three seeds over three rows: the sign-flip test would need seven (2 / 2^7 x 3 = .047)."""
    found = effects.effects(study)
    said = effects.table(study, found).caption
    assert "No row can be significant" in said
    assert "over 3 rows that takes 7 seeds, and there are 3" in said
    assert not any(effect.significant for effect in found)


def test_a_search_has_effects_where_a_plain_network_stands_beside(tmp_path: Path) -> None:
    """Each is the difference to the plain network with the same depth and width; one seed, no
    interval.
    """
    laptop = search.load(LAPTOP)
    found = effects.effects(laptop)
    trials = {trial.number: trial for trial in laptop.trials}
    pair = next(e for e in found if e.arm == "eca stages 1,2,3 k3-3-3")
    assert dict(pair.stratum) == {"backbone.depth": 14, "backbone.width": 0.5}
    # the journal's own: #001 is that network, #000 the plain one
    assert trials[1].label == "w0.5 eca s1,2,3 k3-3-3 depth=14"
    assert trials[0].label == "w0.5 none depth=14"
    apart = [trials[number].replicates[0].curve[-1]["val_accuracy"] for number in (1, 0)]
    assert pair.pair.difference == pytest.approx(apart[0] - apart[1])
    table = effects.table(laptop, found)
    assert {row[3] for row in table.rows} == {"unknown"}
    assert all(row["low"] is None for row in effects.records(found))


def test_two_networks_are_two_rows_however_alike_their_words(tmp_path: Path) -> None:
    """A reduction that no hole names tells two SE blocks apart."""
    (tmp_path / "two.yaml").write_text(
        "name: two\n"
        "dataset: {name: digits, subset: 300, val: 0.2}\n"
        "backbone: {name: resnet, depth: 8, width: 0.5}\n"
        "attention: {choice: [{name: none}, {name: se, reduction: 4}, {name: se, reduction: 2}]}\n"
        "training: {epochs: 1, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}\n"
        "search: {trials: 3, executor: inprocess, sampler: {name: BruteForceSampler}}\n"
    )
    study = search.run(tmp_path / "two.yaml", out=tmp_path / "runs", executor="inprocess")
    assert len({trial.identity for trial in study.trials}) == 3
    found = effects.effects(study)
    assert len(found) == 2
    plain = next(trial for trial in study.trials if trial.placement == "none")
    for reduction in (2, 4):
        (mine,) = (e for e in found if f"reduction={reduction} " in f"{e.arm} ")
        trial = next(t for t in study.trials if t.config["attention"].get("reduction") == reduction)
        apart = (t.replicates[0].curve[-1]["val_accuracy"] for t in (trial, plain))
        assert mine.pair.difference == pytest.approx(next(apart) - next(apart))


def test_the_methods_say_how_it_was_done(study: Study, files: dict[str, bytes]) -> None:
    """Data, recipe, seeds, tests, margin and versions, as they were."""
    said = files["methods.tex"].decode()
    for words in ("digits (300 images; 100 more", "1 epoch (", "3 seeds", "Holm", "0.2 points"):
        assert words in said
    assert study.history.study["versions"]["torch"] in said
    device = study.trials[0].latencies[0].device
    assert f"Training ran on {latex.escape(device)}." in said
    searched = paper.methods(search.load(LAPTOP), ())
    assert "32 networks were proposed by Optuna's TPESampler" in searched
    assert "17 finished, 15 were stopped, 0 failed" in searched


def test_latex_prints_what_was_meant() -> None:
    """Every character that LaTeX takes for a command is escaped."""
    table = Table(["a_b"], [["50 % & more ± 1"]], caption="C#1")
    assert latex.escape("<0.0001 > 1") == "$<$0.0001 $>$ 1"
    assert latex.escape("-0.52 (-1 to +1); 3-5-5, 2026-11-25, 1e-5, a - b, -") == (
        "$-$0.52 ($-$1 to +1); 3-5-5, 2026-11-25, 1e-5, a - b, -"
    )
    written = latex.tabular(table, "t")
    assert r"a\_b" in written
    assert r"50 \% \& more $\pm$ 1 \\" in written
    assert r"\caption{C\#1}" in written
    assert (
        latex.escape("\\x{y}~^$") == r"\textbackslash{}x\{y\}\textasciitilde{}\textasciicircum{}\$"
    )


def test_a_search_has_no_forest() -> None:
    """Without arms no pairs are compared; front, effects, mappings and budget there are."""
    made = document.as_paper(search.load(LAPTOP))
    assert {name for name in made if name.endswith(".csv")} == {
        "effects.csv",
        "front.csv",
        "mappings.csv",
        "budget.csv",
    }
    assert "fig-forest.svg" not in made


def _latex(written: bytes) -> list[list[str]]:
    """The cells of a table's body, LaTeX's escapes taken away."""
    body = re.search(r"\\midrule\n(.*)\n\\bottomrule", written.decode(), re.DOTALL)
    assert body is not None
    lines = [line.removesuffix(r" \\").split(" & ") for line in body[1].splitlines()]
    signs = {"$pm$": "±", "$<$": "<", "$>$": ">", "$-$": "-"}
    plain = [[cell.replace("\\", "") for cell in line] for line in lines]
    for sign, meant in signs.items():
        plain = [[cell.replace(sign, meant) for cell in line] for line in plain]
    return plain
