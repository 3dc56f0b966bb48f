"""A study's figures for Prometheus, served on this machine while it is driven."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from search.errors import Unfit
from search.execution.cluster import LOOPBACK

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from search.study.study import Study

PAUSE = 1.0
"""Seconds between two looks at the study."""


@contextmanager
def served(port: int) -> Iterator[Metrics]:
    """Figures at `http://127.0.0.1:port/metrics`, for as long as they are wanted.

    Raises `Unfit` where the library for it is not installed or somebody listens there already.
    """
    try:
        from prometheus_client import CollectorRegistry, start_http_server
    except ImportError:
        raise Unfit(
            "--metrics-port: prometheus_client is not installed\n"
            "  pip install 'eca-search[metrics]'"
        ) from None
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    try:
        server, thread = start_http_server(port, addr=LOOPBACK, registry=registry)
    except OSError as error:
        raise Unfit(f"--metrics-port {port}: {error.strerror}\n  name another port") from None
    try:
        yield metrics
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Metrics:
    """Gauges of one study, by its name; called after commits, as progress is.

    Trials by outcome (`running`, `waiting` and refused proposals among them), epochs trained, GPUs
    that attempts hold, and the trials that MLflow has yet to be told of.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        from prometheus_client import Gauge

        def gauge(name: str, said: str, *labels: str) -> Gauge:
            return Gauge(f"eca_search_{name}", said, ("study", *labels), registry=registry)

        self._trials = gauge("trials", "Trials and proposals by outcome", "outcome")
        self._epochs = gauge("epochs", "Epochs trained, of all trials and seeds")
        self._total = gauge("trials_planned", "Trials that the study is to have in all")
        self._gpus = gauge("gpus_busy", "GPUs held by attempts that run")
        self._lag = gauge("mlflow_lag_trials", "Trials whose newest state MLflow has not")
        self._looked = 0.0

    def __call__(self, study: Study) -> None:
        """Look, if it is time to."""
        now = time.monotonic()
        if now - self._looked < PAUSE and study.history.ended is None:
            return
        self._looked = now
        counts = study.counts()
        for outcome, count in {**study.outcomes(), **counts}.items():
            self._trials.labels(study.name, outcome).set(count)
        self._total.labels(study.name).set(study.expected)
        self._epochs.labels(study.name).set(
            sum(len(replicate.curve) for trial in study.trials for replicate in trial.replicates)
        )
        self._gpus.labels(study.name).set(counts["running"] * study.history.gpu)
        self._lag.labels(study.name).set(study.behind())
