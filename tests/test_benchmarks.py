"""Benchmarks that this machine cannot run in earnest still run: small, and with no figure kept."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

import spaces

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_gpu_protocol_adds_to_its_record_and_goes_on(tmp_path: Path) -> None:
    """Step by step into one JSON; what it has measured is not measured again."""
    record = tmp_path / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--smoke", "--record", str(record)]
    subprocess.run([*command, "floor", "loops"], check=True, capture_output=True, cwd=tmp_path)
    first = json.loads(record.read_text(encoding="utf-8"))
    assert first["floor"]["device"]["FLOP/s"] > 0
    assert {"ours, images/s", "usual, images/s", "bare, images/s"} <= first["loops"]["0.25"].keys()

    again = subprocess.run(
        [*command, "loops", "packing"], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    second = json.loads(record.read_text(encoding="utf-8"))
    assert second["loops"] == first["loops"]
    assert second["floor"] == first["floor"]
    # two trials at a time, and one after the other: each search trains all that it was asked for
    assert {size: found["trials"] for size, found in second["packing"].items()} == {"1": 4, "2": 6}
    assert "loops 0.25" not in again.stdout


def test_the_gpu_protocol_refuses_to_measure_a_cpu() -> None:
    """Figures of a GPU come from one: without CUDA it says what would run here."""
    told = subprocess.run(
        [sys.executable, str(BENCHMARKS / "gpu.py"), "floor"],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
    )
    assert told.returncode != 0
    assert "no CUDA device here: --smoke" in told.stderr


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(900)
def test_the_time_to_the_front_adds_to_its_record_and_goes_on(tmp_path: Path) -> None:
    """Ours and Optuna's search, their fronts trained anew: once, however often it is called."""
    record = tmp_path / "front.json"
    command = [sys.executable, str(BENCHMARKS / "time_to_front.py"), "--smoke"]
    command += ["--record", str(record)]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    first = json.loads(record.read_text(encoding="utf-8"))
    for contender in ("ours 0", "optuna 0"):
        rows = first["searches"][contender]["rows"]
        assert len(rows) == 3
        assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
        assert rows[0]["at"] > 0
    assert all(0 < score["accuracy"]["0"] < 1 for score in first["scores"].values())
    volumes = first["summary"]["hypervolume by time"]
    assert all(volumes[name][-1] > 0 for name in ("ours 0", "optuna 0"))

    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    again = json.loads(record.read_text(encoding="utf-8"))
    assert again["searches"] == first["searches"]
    assert again["scores"] == first["scores"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_trainings_anew_go_on_where_there_was_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was at work when time ran out is kept, the rest is for the next call."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(BENCHMARKS), *sys.path]))
    benchmark = importlib.import_module("time_to_front")
    space = spaces.load(
        BENCHMARKS / "front" / "digits.yaml", overrides=["training.epochs=1", "backbone.depth=8"]
    )
    trials = [benchmark.Scales(space).trial(space.sample(seed=seed), 0.5) for seed in range(12)]
    wanted = {trial.key: trial for trial in trials}
    scores: dict[str, Any] = {}
    rest = (space, [], 1, wanted, scores, lambda: None)
    assert not benchmark.anew(*rest, lambda seconds: False)
    assert 0 < len(scores) < len(wanted)
    known = {key: score["accuracy"]["0"] for key, score in scores.items()}
    assert benchmark.anew(*rest, lambda seconds: True)
    assert scores.keys() == wanted.keys()
    assert {key: scores[key]["accuracy"]["0"] for key in known} == known


@pytest.mark.parametrize(
    ("curve", "wanted", "place"),
    [
        ([0.0, 1.0, 2.0, 2.0], 1.0, 2),
        ([0.0, 2.0, 1.0, 2.0], 2.0, 4),  # it had fallen behind again
        ([2.0, 2.0, 2.0, 2.0], 2.0, 1),
        ([0.0, 1.0, 1.0, 1.9], 2.0, None),
    ],
)
def test_a_hypervolume_is_reached_when_it_is_kept(
    curve: list[float], wanted: float, place: int | None
) -> None:
    """A front that falls behind again, by a network that had been lucky, has not reached."""
    reached = importlib.import_module("front_worth").reached
    assert reached(curve, wanted) == place


@pytest.mark.slow
def test_the_samplers_are_compared_run_by_run(tmp_path: Path, data: Path) -> None:
    """A run is a line of the record; what that holds is not run again; nothing is asked twice."""
    record = tmp_path / "runs.jsonl"
    command = [
        sys.executable, str(BENCHMARKS / "sampling.py"), "--data", str(data), "--seeds", "1",
        "--trials", "25", "--tables", "MACs", "--record", str(record), "--out", str(tmp_path),
        "--only", "ParetoSampler",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    subprocess.run([*command, "Random"], check=True, capture_output=True)

    runs = [json.loads(line) for line in record.read_text().splitlines()]
    assert [run["sampler"] for run in runs] == ["ParetoSampler", "Random"]
    assert runs[0]["duplicates"] == 0
    kept = json.loads(next(tmp_path.glob("sampling-*.json")).read_text())
    (one,) = kept["tables"].values()
    assert one["rows"]["ParetoSampler"]["mean"][-1] < one["rows"]["Random"]["mean"][-1]


FACTS = {"date", "command", "machine", "versions"}
LIBRARIES = {"python", "platform", "eca-search", "torch", "torchvision", "optuna", "ray", "mlflow"}


def measured(name: str, *arguments: str, out: Path | None = None) -> dict[str, Any]:
    """Run `benchmarks/NAME.py` as a person does; its one result, once what it says of itself holds.

    The result is the file that it left in `out`, or its stdout where it writes none.
    """
    head = ["git", "-C", str(BENCHMARKS), "rev-parse", "HEAD"]
    commit = subprocess.run(head, capture_output=True, text=True).stdout  # none outside a checkout
    started = datetime.now(UTC).replace(microsecond=0)
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), *arguments]
    where = ["--out", str(out)] if out else []
    done = subprocess.run([*command, *where], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (path,) = out.glob("*.json") if out else (None,)
    result: dict[str, Any] = json.loads(path.read_text("utf-8") if path else done.stdout)
    assert result.keys() >= FACTS
    assert not commit or commit.startswith(result["commit"].removesuffix("-dirty"))
    assert started <= datetime.fromisoformat(result["date"]) <= datetime.now(UTC)
    assert path is None or path.stem.endswith(f"-{result['date'][:10]}")
    assert result["command"].startswith(f"python benchmarks/{name}.py")
    assert f"{os.cpu_count()} cores, load " in result["machine"]
    assert result["versions"].keys() >= LIBRARIES
    assert result["versions"]["eca-search"] == version("eca-search")
    return result


def curves(path: Path, columns: str, costs: dict[str, float], networks: int, epochs: int) -> None:
    """A table whose networks are worth more the larger they are, but for every third: it is worth
    half of that from the first epoch on. `costs` are those of the smallest.
    """
    heading = [*costs, *(columns.format(epoch=epoch) for epoch in range(1, epochs + 1))]
    rows = [",".join(heading)]
    for n in range(networks):
        worth = (0.5 + 0.02 * n) / (2 if n % 3 == 2 else 1)
        rise = (worth * epoch / (epoch + 1) for epoch in range(1, epochs + 1))
        rows.append(",".join(f"{x:.6f}" for x in (*((n + 1) * c for c in costs.values()), *rise)))
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")


@pytest.fixture
def nasbench(tmp_path: Path) -> Path:
    """A folder as `benchmarks/stopping.py` wants one: 24 networks of 12 epochs in either file."""
    folder = tmp_path / "data" / "nasbench"
    folder.mkdir(parents=True)
    small = {"NumMACs": 1000.0, "NumParams": 50.0}
    curves(folder / "naap440.csv", "e{epoch}Accuracy", small, networks=24, epochs=12)
    curves(folder / "metaqnn_cifar10.csv", "acc_{epoch}", {"num_params": 70.0}, 24, 12)
    return folder.parent


@pytest.mark.timeout(120)
def test_stopping_is_measured_on_recorded_curves(nasbench: Path, tmp_path: Path) -> None:
    """The whole command on three small tables: what they hold, what stopping gains and saves."""
    given = ("--data", str(nasbench), "--seeds", "2", "--orders", "1", "--only", "ParetoPruner")
    result = measured("stopping", *given, out=tmp_path)
    assert (result["seeds"], result["orders"], result["workers"]) == (2, 1, 8)
    ours = {"ParetoPruner", "ParetoPruner, promote 0.3"}
    assert result["tables"].keys() == {
        "naap440, MACs", "naap440, MACs and params", "metaqnn_cifar10, params"
    }  # fmt: skip
    for table in result["tables"].values():
        # every third network is behind a smaller one; the others are all on the front
        assert (table["networks"], table["epochs"], table["front"]) == (24, 12, 16)
        assert table["chance"] == pytest.approx((0.5 + 0.02 * 2) / 2 * 12 / 13, abs=1e-6)
        assert table["rows"].keys() == ours
        for row in table["rows"].values():
            few, all_of_them, whole = (row[k] for k in ("budget 20", "budget 50", "whole table"))
            assert 0 < few["none"] <= 1
            assert -few["none"] <= few["gain"] <= 1 - few["none"]
            assert few["better"] in (0, 1, 2)
            # 24 networks are done within 50 trainings: there is nothing left to gain
            assert all_of_them["none"] == pytest.approx(1)
            assert all_of_them["gain"] <= 1e-9
            assert 0 < whole["epochs_saved"] < 8 / 24 * 11 / 12 + 16 / 24
            assert whole["factor"] == pytest.approx(1 / (1 - whole["epochs_saved"]))
            assert 0 <= whole["hypervolume_lost"] < 1
            assert 0 <= whole["front_killed"] <= table["front"]
    assert result["tables"]["naap440, MACs"]["reference"] == {"macs": 24_000}
    assert result["tables"]["naap440, MACs and params"]["reference"] == {
        "macs": 24_000, "params": 1200
    }  # fmt: skip
    for name, told in result["summary"].items():
        rows = [table["rows"][name] for table in result["tables"].values()]
        gains = [row[f"budget {size}"]["gain"] for row in rows for size in (20, 50)]
        assert told["worst"] == min(gains)
        assert told["mean"] == pytest.approx(sum(gains) / 6)
        assert told["factors"] == [round(row["whole table"]["factor"], 2) for row in rows]


def test_a_search_that_stops_nobody_saves_and_loses_nothing(nasbench: Path) -> None:
    """The scale of the stopping benchmark has its zero where it should be."""
    table = importlib.import_module("stopping").table
    told = table("naap440, MACs", nasbench, {"never": None}, seeds=0, orders=2, syne_tune=None)
    assert told["rows"]["never"]["whole table"] == {
        "factor": 1.0,
        "epochs_saved": 0.0,
        "hypervolume_lost": 0.0,
        "hypervolume_lost_sd": 0.0,
        "front_killed": 0.0,
        "front_killed_sd": 0.0,
    }


def test_bands_shorten_a_front_of_noise(tmp_path: Path) -> None:
    """Simulated searches: six settings, in each of which bands leave the three widths and few more,
    and exact costs more than that.
    """
    result = measured("bands", "--repeats", "5", out=tmp_path)
    assert (result["repeats"], result["trials"]) == (5, 96)
    settings = [(row["gain"], row["noise"]) for row in result["rows"]]
    assert settings == [(gain, sd) for gain in (0.0, 0.004) for sd in (0.0005, 0.002, 0.005)]
    for row in result["rows"]:
        assert 2 <= row["members_bands"] < row["members_exact"] < 96
        assert row["lucky_bands"] > 0  # the best of 96 has had luck


def test_a_driver_s_scale_is_told_by_its_journal() -> None:
    """A dozen virtual trials: every result in the journal, none of them a failure."""
    given = ("--trials", "12", "--reports", "4", "--at-once", "4", "--mlflow", "0")
    (run,) = measured("driver_scale", *given, "--pruner", "none")["runs"]
    assert (run["trials"], run["at_once"]) == (12, 4)
    assert run["outcomes"] == {"finished": 12, "pruned": 0, "failed": 0}
    assert run["results"] == run["report"]["calls"] == 4 * 12
    assert run["cpu_per_result_ms"] > 0
    size = run["journal_mib"] * 2**20  # to a hundredth of a MiB
    assert run["journal_bytes_per_result"] * run["results"] == pytest.approx(size, abs=6e3)
    assert "mlflow" not in run


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_loops_are_timed_by_turns(tmp_path: Path) -> None:
    """Ours, the usual one and a bare one, twice each: images/s and ratios from the turns."""
    given = ("--depth", "8", "--width", "0.25", "--images", "256", "--repeats", "2")
    result = measured("throughput", *given, out=tmp_path)
    assert result["network"] == {"depth": 8, "width": 0.25}
    assert result["threads"] == 1
    assert len(result["turns"]) == 2
    for name in ("ours", "usual", "bare"):
        speeds = [256 / turn[name]["seconds"] for turn in result["turns"]]
        told = result["summary"][name]
        assert (told["low"], told["high"]) == pytest.approx((min(speeds), max(speeds)))
    first = [turn["usual"]["cpu"] / turn["ours"]["cpu"] for turn in result["turns"]]
    ratio = result["summary"]["ours / usual, CPU time"]
    assert ratio["median"] == pytest.approx(sum(first) / 2)


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_overhead_is_measured_of_every_system(tmp_path: Path) -> None:
    """Two empty trials of each: reports and milliseconds from one clock, ratios to bare Ray."""
    given = ("--trials", "2", "--sleeping", "0", "--slow", "1", "--rounds", "1")
    result = measured("overhead", *given, out=tmp_path)
    rows = {row["system"]: row for row in result["rounds"]}
    assert rows.keys() == {
        "ours-ray", "ours-inprocess", "ray-bare", "ray-reuse", "ray-default", "optuna-sqlite"
    }  # fmt: skip
    for row in rows.values():  # 12 reports a trial, in the same seconds
        assert row["reports_per_s"] * row["ms_per_trial"] == pytest.approx(12_000)
    assert rows["ours-ray"]["ms_per_trial_mlflow_level"] > rows["ours-ray"]["ms_per_trial"]
    (bare,) = (line for line in result["summary"] if line["system"] == "ray-bare")
    assert bare["x_ray_bare"] == 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_recording_is_measured_of_every_system(tmp_path: Path) -> None:
    """Two trials of ours and of plain calls, and the front of a study of four, found both ways."""
    given = ("--trials", "2", "--slow", "1", "--rounds", "1", "--front", "4")
    result = measured("recording", *given, "--only", "ours-inprocess", "batched", out=tmp_path)
    assert [row["system"] for row in result["rounds"]] == ["ours-inprocess", "batched"]
    for line in result["summary"]:
        assert 0 < line["process_ms"] <= line["total_ms"] + 0.01
        assert line["once_ms"] > 0
    front = result["front"]
    assert front["trials"] == 4
    assert 1 <= front["members"] <= 4
    assert min(front["front_journal_s"], front["front_mlflow_s"]) > 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_search_that_is_killed_once_ends_all_the_same(tmp_path: Path) -> None:
    """One kill of a search in this process: its curves are those of one without, run by run."""
    given = ("--executor", "inprocess", "--only", "ours", "--kills", "1", "--trials", "2")
    result = measured("soak", *given, "--epochs", "2", "--span", "0.5", out=tmp_path)
    (ours,) = result["systems"]
    assert ours["kills"] == 1
    assert ours["exits"] == [0]
    assert ours["finished"] == ours["child_runs"] == ours["curves_equal"] == ours["trials"] == 2
    assert ours["running"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_costs_are_the_same_by_every_counter(tmp_path: Path) -> None:
    """Ours, torch's and ptflops' count of two networks, and what timm publishes of one."""
    result = measured("complexity", "--repeats", "1", out=tmp_path)
    assert result["versions"].keys() >= {"ptflops", "timm"}
    for network in result["milliseconds"].values():
        ours = network["ours"]
        for other in network.values():
            assert other["params"] == ours["params"]
            assert other["macs"] == pytest.approx(ours["macs"], rel=1e-6)
            assert 0 < other["cold"] == other["cold max"]


@pytest.mark.slow
@pytest.mark.ray
@pytest.mark.timeout(300)
def test_a_message_is_measured_in_the_driver(tmp_path: Path) -> None:
    """Two trials over a real Ray, their epochs told one by one and gathered for 0.1 s: CPU time of
    all epochs but those that came first.
    """
    given = ("--epochs", "300", "--gathered", "0", "0.1", "--rounds", "1")
    result = measured("messages", *given, out=tmp_path)
    assert [row["gathered_s"] for row in result["rounds"]] == [0, 0.1]
    for row, line in zip(result["rounds"], result["summary"], strict=True):
        assert 0 < row["epochs"] < 600
        assert line["gathered_s"] == row["gathered_s"]
        assert 0 < row["cpu_per_epoch_ms"] == line["cpu_per_epoch_ms"]["median"]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_processes_share_mapped_images(tmp_path: Path, data: Path) -> None:
    """Two processes with CIFAR-10: mapped, each adds half a copy; without a cache, a whole one."""
    result = measured("sharing", "--data", str(data), "--processes", "2", out=tmp_path)
    assert result["processes"] == 2
    mapped, private = (result["MiB and CPU seconds"][name] for name in ("mapped", "private"))
    copy = 50_000 * 32 * 32 * 3 / 2**20
    for row in (mapped, private):
        assert 49_900 <= row["images"] <= 50_000  # a last batch that is not full does not train
        assert row["opened"] > 0
    assert copy / 2 <= mapped["share"] < copy
    assert mapped["own"] < copy / 2
    assert private["own"] >= copy


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_compiling_is_timed_beside_eager(tmp_path: Path) -> None:
    """One small network, two epochs of each kind: what is timed learns the same either way."""
    given = ("--depth", "8", "--widths", "0.25", "--epochs", "2")
    result = measured("compiling", *given, out=tmp_path)
    assert (result["depth"], result["epochs"], result["threads"]) == (8, 2, 1)
    (trial,) = result["trials"]
    assert trial["width"] == 0.25
    assert min(trial["epoch, seconds"].values()) > 0
    assert 0 < trial["ratio"]["low"] <= trial["ratio"]["median"] <= trial["ratio"]["high"]
    eager, compiled = trial["last train_loss"]
    assert compiled == pytest.approx(eager, rel=0.01)  # the order of sums differs, no more
