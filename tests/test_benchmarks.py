"""Benchmarks that this machine cannot run in earnest still run: small, and with no figure kept."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
