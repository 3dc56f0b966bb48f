"""The paper's tables beside our counts. `eca-search complexity --paper --json >
tests/golden/complexity.json` writes the file anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from search.cli import main
from search.commands import paper, paper_coco
from search.commands.networks import published
from trainers.datasets import Description
from trainers.thop import operations

GOLDEN = Path(__file__).parent / "complexity.json"


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    return paper.table()


def test_the_table_is_the_golden_one(found):
    """Every backbone with every attention: params, MACs, the printed cells, what they are in."""
    golden = json.loads(GOLDEN.read_text())

    assert {"version": 1, **found} == golden


def test_which_cells_are_not_reconciled(found):
    """All others have a convention that gives their very digits; these few have none, and it is
    said what is ours there.
    """
    papers = {(m["name"], m["attention"]): m["paper"] for m in found["models"] if "paper" in m}

    assert papers.keys() == paper.PRINTED.keys()
    missing = {
        (*key, cell)
        for key, told in papers.items()
        for cell in ("params", "flops")
        if not told[f"{cell}_by"]
    }
    assert missing == paper.UNRECONCILED.keys()
    for (name, label, cell), said in paper.UNRECONCILED.items():
        assert papers[name, label]["unreconciled"][cell] == said
    assert all(told["params_by"] in ([], ["2^20"]) for told in papers.values())


@pytest.mark.parametrize(
    ("name", "label", "count", "unit", "said"),
    [
        ("mobilenetv2", "SE", "0.0.22", 2**20, "320.0 by"),
        ("resnet101", "CBAM", "0.0.22", 2**30, "7.36 by"),
        ("resnet50", "GC", "params", 10**6, "28.11 in"),
        ("resnet50", "GC", "macs", 10**9, "4.10 in"),
    ],
)
def test_what_is_said_of_them_is_so(found, name, label, count, unit, said):
    """The figures in those sentences are the counts beside them."""
    model = next(m for m in found["models"] if (m["name"], m["attention"]) == (name, label))
    value = {**model, **model["thop"]}[count] / unit

    figure = said.partition(" ")[0]
    assert f"{value:.{len(figure.partition('.')[2])}f}" == figure
    assert any(text.startswith(said) for text in model["paper"]["unreconciled"].values())


def test_every_detector_of_the_authors_is_reconciled(found):
    """Table 5: trained parameters in 10^6 and MMDetection's operations in 10^9 give its very digits
    in each of 36 cells; the row that is copied from GCNet has no convention here, which is said.
    """
    told = {(m["name"], m["attention"]): m["paper"] for m in found["detectors"]}

    assert len(told) == 19
    copied = told.pop(("mask_rcnn_resnet50", "GC"))
    assert {(*paper["params_by"], *paper["flops_by"]) for paper in told.values()} == {
        ("trained / 10^6", "MMDetection / 10^9")
    }
    assert copied["unreconciled"] == {
        cell: said for (_, _, cell), said in paper_coco.UNRECONCILED.items()
    }
    ours = next(m for m in found["detectors"] if m["attention"] == "GC")
    assert f"{ours['params'] / 1e6:.2f}" == copied["unreconciled"]["params"][:5]
    assert f"{ours['mmdetection']['flops'] / 1e9:.2f}" == copied["unreconciled"]["flops"][:6]


def test_a_detector_has_a_name(capsys):
    """`faster_rcnn_resnet50` is the table's network, and so is that of another attention."""
    assert main(["complexity", "faster_rcnn_resnet50", "--attention", "se", "--json"]) == 0

    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["params"], model["macs"]) == (44_272_100, 206_336_963_584)
    assert model["image_size"] == 800
    assert model["input"] == [3, 800, 1280]


def test_it_is_printed(found, monkeypatch, capsys):
    """For people a line a network, with what is printed and in which convention it is."""
    monkeypatch.setattr(paper, "table", lambda: found)

    assert main(["complexity", "--paper"]) == 0

    said = capsys.readouterr().out
    lines = {tuple(line.split()[:2]): line for line in said.splitlines() if "released" in line}
    line = lines["resnet50", "ECA"]
    assert "25,557,112" in line
    assert "24.37M" in line
    assert "thop 0.0.22 / 2^30" in line
    line = lines["retinanet_resnet50", "ECA"]
    assert "37.74M" in line
    assert "MMDetection / 10^9" in line
    assert "not reconciled" in said
    assert "1 MAC = 2 FLOPs" in said


@pytest.mark.parametrize(
    "words", [["complexity"], ["complexity", "resnet20", "--paper"], ["complexity", "--paper", "x"]]
)
def test_paper_takes_no_name_and_nothing_else_goes_without(words, capsys):
    """Exit 2 for either, in a few lines."""
    assert main(words) == 2
    said = capsys.readouterr()
    assert (said.out, len(said.err.splitlines()) <= 6) == ("", True)
    assert "--paper" in said.err


@pytest.mark.parametrize(
    ("name", "version", "plain", "added"),
    [
        ("resnet18", "0.0.22", 1_826_702_336, 766_976),
        ("resnet18", "0.0.30", 1_824_544_768, 766_976),
        ("resnet34", "0.0.22", 3_682_035_200, 1_404_160),
        ("resnet34", "0.0.30", 3_679_250_432, 1_404_160),
        ("resnet50", "0.0.22", 4_142_713_856, 5_620_736),
        ("resnet101", "0.0.22", 7_878_818_816, 9_133_056),
        ("resnet152", "0.0.22", 11_620_543_488, 13_435_904),
        ("mobilenetv2", "0.0.22", 334_871_520, 577_504),
    ],
)
def test_thop_is_remembered(name, version, plain, added):
    """What thop of 2019 said of the authors' networks, plain and with the released ECA."""
    kernels = {"name": "per_stage", "kernel_sizes": paper.RELEASED[name]}
    counts = []
    for attention in ({"name": "none"}, {"name": "eca", "mapping": kernels}):
        config, size, classes = published(name, attention)
        data = Description(classes, 3, size)
        counts.append(operations(config.backbone, config.attention, data, version))

    # thop added up in float32, of 24 bits: 1,024 apart above 2^33
    assert counts[0] == pytest.approx(plain, abs=512)
    assert counts[1] - counts[0] == pytest.approx(added, abs=1024)
