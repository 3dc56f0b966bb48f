"""What the documents claim of the tests: each one that is named is there."""

from __future__ import annotations

import itertools
import json
import math
import re
import runpy
from pathlib import Path

import pytest

import search
from search.comparison import comparing, comparison_text

ROOT = Path(__file__).parent.parent
NAMED = sorted(
    {
        name
        for page in (ROOT / "docs").glob("*.md")
        for name in re.findall(r"`((?:tests|benchmarks)/[\w/]+\.py(?:::\w+)?)`", page.read_text())
    }
)


@pytest.mark.parametrize("name", NAMED)
def test_what_a_page_names_is_there(name: str) -> None:
    """A file, and a test in it."""
    path, _, test = name.partition("::")

    assert (ROOT / path).is_file()
    assert not test or re.search(rf"^def {test}\(", (ROOT / path).read_text(), re.MULTILINE)


def test_the_guarantees_name_their_tests() -> None:
    """All nine promises, each with at least one test behind it."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    promises = re.split(r"^\*\*\d\. ", page.partition("## One driver")[0], flags=re.MULTILINE)[1:]

    assert len(promises) == 9
    assert all("`tests/" in promise for promise in promises)


@pytest.mark.parametrize("name", ["rules"])
def test_the_findings_are_the_journals(name: str) -> None:
    """Every row of a finding's table is what the kept journal tells today."""
    page = (ROOT / "docs" / "findings.md").read_text()
    shown = re.search(rf"<!-- {name}:begin -->\n(.*?)\n<!-- {name}:end -->", page, re.DOTALL)
    assert shown
    study = search.load(ROOT / "benchmarks" / "results" / f"cifar10-{name}")
    told = comparing.told(study)
    assert told
    heading, *rows = comparison_text.pair_rows(told.comparison)
    lines = shown[1].splitlines()
    assert [lines[0], *lines[2:]] == [f"| {' | '.join(row)} |" for row in (heading, *rows)]
    assert told.caveats == ()


def test_the_scale_page_s_table_is_its_results() -> None:
    """Every figure of the table in docs/scale.md is the kept run's, as the benchmark writes it."""
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("driver-scale-*")).read_text())
    page = (ROOT / "docs" / "scale.md").read_text()
    shown = re.search(r"<!-- scale:begin -->\n(.*?)\n<!-- scale:end -->", page, re.DOTALL)
    assert shown
    table = runpy.run_path(str(ROOT / "benchmarks" / "driver_scale.py"))["table"]

    assert shown[1].splitlines() == table(kept["runs"])
    assert {"date", "machine", "versions", "command"} <= kept.keys()
    # n log n of the results; a factor for a machine that others shared, and what the page admits
    for pruner, most in (("none", 1.3), ("ParetoPruner", 1.6)):
        runs = [run for run in kept["runs"] if run["pruner"] == pruner]
        assert [run["trials"] for run in runs] == [100, 1000, 3000, 10_000]
        for few, many in itertools.pairwise(runs):
            size = [run["results"] * math.log(run["results"]) for run in (few, many)]
            for cost in ("cpu_s", "read_cpu_s", "take_up_cpu_s", "memory_kib", "journal_mib"):
                taken = [grown(run)[cost] for run in (few, many)]
                assert taken[1] / taken[0] < most * size[1] / size[0], (pruner, cost)


def test_the_scale_page_s_mlflow_is_its_results() -> None:
    """What a trial costs in MLflow, however many there are."""
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("mlflow-scale-*")).read_text())
    page = " ".join((ROOT / "docs" / "scale.md").read_text().split())
    cost = {run["trials"]: run["mlflow"]["cpu_per_trial_ms"] for run in kept["runs"]}
    assert list(cost) == [1000, 3000, 10_000]
    assert (
        f"takes {cost[1000]:.0f} ms among 1,000, {cost[3000]:.0f} among 3,000, "
        f"{cost[10_000]:.0f} among 10,000"
    ) in page
    assert max(cost.values()) < 1.4 * min(cost.values())  # n log n: 1.33 from 1,000 to 10,000


def test_the_scale_page_s_messages_are_their_results() -> None:
    """What a message costs a driver, and what is left of it by gathering, is the kept run's."""
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("messages-*")).read_text())
    page = " ".join((ROOT / "docs" / "scale.md").read_text().split())
    cost = {line["gathered_s"]: line["cpu_per_epoch_ms"] for line in kept["summary"]}
    assert f"A message of a worker costs the driver {cost[0.0]['median']:.2f} ms of a CPU" in page
    assert (
        f"Gathered for 10 ms the same epochs cost the driver {cost[0.01]['median']:.2f} ms each, "
        f"for 0.1 s {cost[0.1]['median']:.2f}, for half a second {cost[0.5]['median']:.2f}."
    ) in page
    most = re.search(r"at some (\d+) a driver would have no time left", page)
    assert most
    assert 800 < int(most[1]) < 1000 / cost[0.0]["median"]
    # longer waits cost less, beyond what the rounds differ by
    for more, less in itertools.pairwise(cost[gathered] for gathered in sorted(cost)):
        assert less["high"] < more["low"]


def test_the_scale_page_s_images_are_their_results() -> None:
    """Memory and start of four processes, with the cache that they map and without one."""
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("sharing-*")).read_text())
    page = " ".join((ROOT / "docs" / "scale.md").read_text().split())
    mapped, private = (kept["MiB and CPU seconds"][name] for name in ("mapped", "private"))
    assert kept["processes"] == 4
    assert (
        f"took {mapped['share']:.0f} MiB each of the node's memory (PSS; {mapped['own']:.0f} of "
        f"them its own) and {mapped['opened']:.2f} s of CPU to have them, digest compared; without "
        "a cache folder, where each decodes a copy of its own, "
        f"{private['share']:.0f} MiB and {private['opened']:.1f} s"
    ) in page


def grown(run: dict) -> dict[str, float]:
    """What a run of the scale benchmark took in all."""
    return {
        **run,
        "cpu_s": run["cpu_per_result_ms"] * run["results"] / 1000,
        "memory_kib": run["memory_per_trial_kib"] * run["trials"],
    }


def test_the_stopping_page_s_table_is_its_results() -> None:
    """Worst and mean gain of every pruner over the kept settings, and what whole tables save and
    lose, as the page shows them.
    """
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("stopping-*")).read_text())
    page = (ROOT / "docs" / "stopping.md").read_text()
    shown = re.findall(r"^\| ([^|]+) \| ([+-]?\.\d{3}) \| ([+-]?\.\d{3}) \|$", page, re.MULTILINE)
    tables = [table["rows"] for table in kept["tables"].values()]
    called = {"rule of OptunaHub's multi_metric_pruner": "multi_metric rule"}
    assert len(shown) == len(tables[0])
    for said, worst, mean in shown:
        name = called.get(said, said.replace("'s ", " "))
        gains = [table[name][f"budget {size}"]["gain"] for table in tables for size in (20, 50)]
        assert float(worst) == pytest.approx(min(gains), abs=5e-4), said  # three decimals are kept
        assert float(mean) == pytest.approx(sum(gains) / len(gains), abs=6e-4), said
        cells = []
        for table in tables:
            whole = table[name]["whole table"]
            lost, killed = whole["hypervolume_lost"], round(whole["front_killed"], 1)
            cells.append(f"{whole['factor']:.1f}, {lost:.1%}, {killed:g}")
        assert f"| {said} | {' | '.join(cells)} |\n" in page


def test_the_sampling_page_s_table_is_its_results() -> None:
    """The table is the kept result's, and what the page makes of it holds there."""
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("sampling-2*")).read_text())
    page = (ROOT / "docs" / "sampling.md").read_text()
    shown = re.search(r"<!-- sampling:begin -->\n(.*?)\n<!-- sampling:end -->", page, re.DOTALL)
    assert shown
    table = runpy.run_path(str(ROOT / "benchmarks" / "sampling.py"))["table"]
    assert shown[1].splitlines() == table(kept)
    for one in kept["tables"].values():
        ours, usual = one["rows"]["ParetoSampler"], one["rows"]["TPE multivariate"]
        assert ours["duplicates"] == 0
        for place, count in enumerate(kept["checkpoints"]):
            others = [row["mean"][place] for row in one["rows"].values() if row is not ours]
            assert ours["mean"][place] < min(others)
            if count >= 100:
                assert ours["mean"][place] < usual["mean"][place] / 2


def test_the_sampling_page_s_clock_is_its_results() -> None:
    """The shares of the clock are the kept run's, and the aim is met where the page says so."""
    results = ROOT / "benchmarks" / "results"
    kept = json.loads(max(results.glob("time-to-front-digits-*")).read_text())
    contenders = kept["summary"]["contenders"]
    page = (ROOT / "docs" / "sampling.md").read_text()
    ours = contenders["ours"]["hypervolume at 100 %"]["median"]
    for name, said in (("ray-reuse", "Ray Tune + OptunaSearch + ASHA"), ("optuna", "Optuna")):
        peer = contenders[name]
        share = peer["ours reached its end, share of the clock"]
        told = {seed: "never" if at is None else f"{at:.2f}" for seed, at in share.items()}
        seeds = ", ".join(told[f"seed {seed}"] for seed in range(3))
        final = peer["hypervolume at 100 %"]["median"]
        line = f"| {said} | {final:.3f} | {ours:.3f} | {told['median']} ({seeds}) |\n"
        assert line in page
        assert share["median"] < 0.5


def test_the_stopping_page_s_small_studies_are_their_results() -> None:
    """What each kept study lost and saved, without and with promotion, as the page shows it."""
    results = ROOT / "benchmarks" / "results"
    kept = json.loads(max(results.glob("small-studies-*")).read_text())
    page = (ROOT / "docs" / "stopping.md").read_text()
    for name, one in kept["studies"].items():
        assert (results / name / "journal.jsonl").is_file()
        cells = [
            cell
            for rule in (one["ParetoPruner"], one["ParetoPruner, promote 0.3"])
            for cell in (
                f"{rule['epochs_saved']:.0%}",
                f"{rule['hypervolume_lost']:.1%}",
                f"{rule['front_killed']:.1f} of {rule['front_size']}",
            )
        ]
        assert f"| {name} | {one['networks']} | {' | '.join(cells)} |\n" in page


def test_the_stopping_page_s_bands_are_their_results() -> None:
    """The table of simulated fronts is the kept run's."""
    kept = json.loads(max((ROOT / "benchmarks" / "results").glob("bands-*")).read_text())
    table = runpy.run_path(str(ROOT / "benchmarks" / "bands.py"))["table"]
    assert "\n".join(table(kept["rows"])) in (ROOT / "docs" / "stopping.md").read_text()
