"""A study run on the Ray cluster that this process is connected to."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

import ray
from ray import tune
from ray.tune import CheckpointConfig, FailureConfig, RunConfig, TuneConfig, Tuner

from search.execution import notice
from search.execution.cluster import HeadGone, Pulse, environment
from search.execution.ray_tune.actors import Actors
from search.execution.ray_tune.connection import alive, remembered
from search.execution.ray_tune.hooks import StudyCallback, StudyScheduler, StudySearcher
from search.execution.ray_tune.mended import tune_as_wanted
from search.execution.ray_tune.trainable import Attempt
from search.execution.worker import Workplace

if TYPE_CHECKING:  # a worker needs no study
    from search.execution.desk import Watch
    from search.study.study import Study

MESSAGES = 200.0
"""So many a second are sent to the driver, where trials have more to tell: each costs it 1 ms of a
CPU (docs/scale.md)."""
LONGEST = 0.5
"""Seconds that epochs wait for one another at most, where over a hundred trials run at a time."""


def drive(
    study: Study,
    workplace: Workplace,
    *,
    cpu: float,
    gpu: float,
    slots: Callable[[], int],
    watch: Watch = lambda study: None,
    trainable: type[Attempt] = Attempt,
) -> None:
    """Run the study on the Ray cluster this process is connected to, until it is done.

    `cpu` and `gpu` are what one trial is given, `slots` says how many may run now.
    `watch` is called in the loop, after commits. Exceptions of the driver (Ctrl-C among them) pass
    through; attempts then die with their actors and are taken up again at `resume`. Where this
    process is told to leave (`search.execution.notice`), workers store their states first.

    Raises `ConnectionError` when the cluster's head answers no more, `Unfit` when the cluster has
    become too small for one trial.
    """
    from search.execution.desk import Desk

    pace = min(LONGEST, slots() / MESSAGES)
    desk = Desk(study, replace(workplace, pace=pace), slots, remembered(alive, seconds=1), watch)
    farewell = f"paused; go on with: eca-search resume {study.folder}"
    with ExitStack() as stack:
        scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="eca-search-"))
        stack.enter_context(environment({"TUNE_MAX_PENDING_TRIALS_PG": str(slots())}))
        actors = Actors(desk)
        pulse = Pulse(ray.get_runtime_context().gcs_address, farewell)
        tuner = Tuner(
            tune.with_resources(trainable, _bundles(cpu, gpu, workplace.processes)),
            tune_config=TuneConfig(
                search_alg=StudySearcher(desk, actors),
                scheduler=StudyScheduler(desk, actors),
                num_samples=-1,
                reuse_actors=workplace.processes == 1,
                trial_name_creator=lambda trial: f"attempt_{trial.trial_id}",
                trial_dirname_creator=lambda trial: trial.trial_id,
            ),
            run_config=RunConfig(
                name=study.name,
                storage_path=scratch,
                verbose=0,
                callbacks=[StudyCallback(desk, actors, pulse)],
                failure_config=FailureConfig(max_failures=0),
                checkpoint_config=CheckpointConfig(checkpoint_at_end=False),
                log_to_file=False,
            ),
        )
        stack.enter_context(pulse)
        stack.enter_context(tune_as_wanted())
        try:
            with notice.heeded():
                tuner.fit()
        except HeadGone as error:
            raise ConnectionError(str(error)) from None
        except Exception:
            if desk.error is None:
                raise
        if desk.error is not None:
            raise desk.error
        if notice.given():
            raise KeyboardInterrupt
    study.commit()
    watch(study)


def _bundles(cpu: float, gpu: float, processes: int) -> tune.PlacementGroupFactory:
    """What a trial is given, evenly for each of its processes; near one another where they fit."""
    each = {"CPU": cpu / processes, **({"GPU": gpu / processes} if gpu else {})}
    return tune.PlacementGroupFactory([each] * processes, strategy="PACK")
