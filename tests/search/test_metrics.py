"""Figures for Prometheus: what a scrape of a study that is driven tells."""

from __future__ import annotations

import re
import socket
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search.cli import main
from search.execution.cluster import refusal
from search.study.study import Study
from search.trial import Ending

pytest.importorskip("prometheus_client", reason="pip install 'eca-search[metrics]'")
from search.execution import metrics


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def scrape(port: int) -> dict[str, float]:
    """The study's samples, by name and outcome."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    found = re.findall(r'^eca_search_(\w+)\{(?:outcome="(\w+)",)?study="\w+"\} (\S+)$', text, re.M)
    return {":".join(filter(None, (name, outcome))): float(v) for name, outcome, v in found}


def test_what_a_study_is_at(synthetic: Callable[..., Study]) -> None:
    """Trials by outcome, epochs, GPUs that attempts hold, and what MLflow has yet to be told."""
    study = synthetic()
    study.begin(pid=1, host="here", executor="ray", gpu=0.5)
    study.behind = lambda: 7
    first, second, third = (study.next() for _ in range(3))
    for assignment in (first, second, third):
        assert assignment is not None
        study.start(assignment, "here:1")
        study.report(assignment.trial, 0, {"epoch": 1, "val_accuracy": 0.5})
    assert first is not None
    study.end(first.trial, 0, Ending("diverged", "loss is nan"))
    study.commit()
    port = free()
    with metrics.served(port) as figures:
        figures(study)
        told = scrape(port)
        elsewhere = refusal(f"127.0.0.2:{port}", timeout=2)  # 0.0.0.0 would answer there too
    assert (told["trials:failed"], told["trials:running"], told["trials:finished"]) == (1, 2, 0)
    assert (told["epochs"], told["trials_planned"]) == (3, 8)
    assert (told["gpus_busy"], told["mlflow_lag_trials"]) == (1.0, 7)
    assert elsewhere
    assert refusal(f"127.0.0.1:{port}", timeout=2)


def test_a_search_is_scraped_while_it_runs(
    write_space: Callable[..., Path], tmp_path: Path
) -> None:
    """Over a real search the figures come to what the study says at its end."""
    port = free()
    with metrics.served(port) as figures:
        study = search.run(write_space(trials=2), out=tmp_path / "runs", watch=figures)
        told = scrape(port)
    assert told["trials:finished"] == study.outcomes()["finished"] == 2
    assert told["epochs"] == 6
    assert told["gpus_busy"] == 0


def test_a_port_that_is_taken_is_said(
    write_space: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 3, another port is asked for, and nothing was created."""
    space, out = write_space(), tmp_path / "runs"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        code = main(["run", str(space), "--out", str(out), "--metrics-port", port])
    assert code == 3
    assert f"--metrics-port {port}: Address already in use" in capsys.readouterr().err
    assert not out.exists()
