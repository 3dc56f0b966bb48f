"""Benchmarks that this machine cannot run in earnest still run: small, and with no figure kept."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
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
    monkeypatch.syspath_prepend(str(BENCHMARKS))
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
    monkeypatch: pytest.MonkeyPatch, curve: list[float], wanted: float, place: int | None
) -> None:
    """A front that falls behind again, by a network that had been lucky, has not reached."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    reached = importlib.import_module("front_worth").reached
    assert reached(curve, wanted) == place
