"""What of a node's cores is whose: places, threads, and processes that decode images."""

from __future__ import annotations

import json
import multiprocessing
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.execution import ray_tune
from search.execution.cluster import places, share
from search.execution.executors import _threads
from search.execution.worker import Workplace, attempt
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending
from spaces.settings import Resources


@pytest.mark.parametrize(
    ("have", "each", "cores", "at_most", "own"),
    [
        ({"CPU": 16, "GPU": 8}, {"CPU": 1, "GPU": 1}, 16, None, 2),
        ({"CPU": 16, "GPU": 1}, {"CPU": 1, "GPU": 0.125}, 16, None, 2),
        ({"CPU": 16, "GPU": 1}, {"CPU": 1, "GPU": 0.125}, 16, 1, 16),  # one trial alone
        ({"CPU": 16}, {"CPU": 1}, 16, None, 1),
        ({"CPU": 16}, {"CPU": 5}, 16, None, 5),  # three of five, and one core over
        ({"CPU": 4}, {"CPU": 0.5}, 4, None, 1),
        ({"CPU": 4}, {"CPU": 1}, 64, 1, 4),  # Ray was given four of 64
        ({"CPU": 64}, {"CPU": 64}, 4, None, 4),  # and here we may run on four
        ({}, {"CPU": 1}, 8, None, 8),  # the node is not known
    ],
)
def test_cores_are_divided_among_what_a_node_holds(
    have: dict[str, float], each: dict[str, float], cores: int, at_most: int | None, own: int
) -> None:
    """Eight trials on 16 cores have two each, however little CPU they ask Ray for."""
    assert share(have, each, cores=cores, at_most=at_most) == own


def test_places_are_as_many_as_the_scarcer_resource_holds() -> None:
    """A third of a GPU fits three times, and what nobody asks for limits nothing."""
    assert places({"CPU": 16, "GPU": 1}, {"CPU": 1, "GPU": 1 / 3}) == 3
    assert places({"CPU": 16, "GPU": 0}, {"CPU": 3, "GPU": 0}) == 5
    assert places({"CPU": 16}, {"CPU": 1, "GPU": 1}) == 0


@pytest.mark.parametrize(
    ("cpu", "trials", "cores", "said"),
    [
        (1, 2, 2, "1 CPU thread for each trial: many trials of one are faster than few of more"),
        (1, 1, 2, "1 CPU of 2 will have nothing to do: search.resources.cpu=2 gives a trial 2"),
        (2, 3, 16, "10 CPUs of 16 will have nothing to do: search.resources.cpu=5 gives a trial 5"),
        (2, 1, 2, "2 CPU threads for each trial"),
    ],
)
def test_threads_and_why_are_said(cpu: float, trials: int, cores: int, said: str) -> None:
    """So many for each trial; where cores would be idle, what would use them."""
    assert _threads(Resources(cpu=cpu), trials, cores).endswith(said)


@pytest.mark.ray
@pytest.mark.timeout(240)
@pytest.mark.parametrize("cpu", [1, 2])
def test_a_worker_computes_with_the_threads_it_is_given(
    write_space: Callable[..., Path], tmp_path: Path, cluster: None, cpu: int
) -> None:
    """`resources.cpu` threads of its process have worked when an epoch is over, and it may decode
    with so many processes.
    """
    fixed = {"width": "1.0", "attention": "{name: none}", "epochs": 1, "trials": 1}
    space = spaces.load(write_space(**fixed))

    def examine(values: dict[str, object]) -> Candidate:
        config = space.at(values).model_dump(mode="json")
        return Candidate(config, "w", "w", {"params": 1000, "macs": 1e6}, {}, "", "w")

    def told(assignment: Assignment, workplace: Workplace) -> Iterator[dict[str, Any] | Ending]:
        for message in attempt(assignment, workplace):
            if isinstance(message, dict):  # after it the training is over
                spent = sorted(map(_ticks, Path("/proc/self/task").iterdir()), reverse=True)
                found = {"spent": spent[:3], "cores": workplace.cores}
                (tmp_path / "found.json").write_text(json.dumps(found))
            yield message

    class Looking(ray_tune.Attempt):
        """Says what its threads have done."""

        attempt = staticmethod(told)

    study = Study.create(
        tmp_path / "threads", space, examine, reference={"params": 1, "macs": 1}, chance=0.1
    )
    place = Workplace(str(tmp_path / "states"), threads=cpu)
    ray_tune.drive(study, place, cpu=cpu, gpu=0, slots=lambda: 2 // cpu, trainable=Looking)
    study.close()

    found = json.loads((tmp_path / "found.json").read_text())
    # a second thread of PyTorch's has half of every parallel loop, however busy the machine is; the
    # first has imports and Python besides: 741 and 116 hundredths of a second, and 636 and 0 alone
    assert (found["spent"][1] > found["spent"][0] / 20) == (cpu == 2)
    assert found["cores"] == cpu


def _ticks(task: Path) -> int:
    """CPU time that a thread has used, in hundredths of a second."""
    try:
        user, kernel = (task / "stat").read_text().rpartition(")")[2].split()[11:13]
    except (FileNotFoundError, ProcessLookupError):
        return 0  # it has ended meanwhile
    return int(user) + int(kernel)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_decoding_takes_no_more_processes_than_its_share(tmp_path: Path) -> None:
    """Eight `workers` are asked for, and the training has one core of its node."""
    import numpy as np
    from PIL import Image

    import trainers
    from trainers import cores
    from trainers.batches import open_batches

    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(8):
            noise = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(noise).save(tmp_path / "train" / name / f"{number}.png")
    config = spaces.Config.model_validate(
        {
            "name": "decoded",
            "task": {"name": "classification"},
            "dataset": {"name": "image_folder", "root": str(tmp_path), "image_size": 16}
            | {"workers": 8, "val": 0.5},
            "backbone": {"name": "resnet", "depth": 8, "width": 0.25},
            "training": {"epochs": 1, "batch_size": 2, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )

    def begun() -> int:
        training, _ = open_batches(config, trainers.check_device(config, "cpu"))
        return max(len(multiprocessing.active_children()) for _ in training.shuffled(0, 1))

    cores.allow(1)
    try:
        assert begun() == 1
    finally:
        cores.allow(None)
    assert begun() == min(8, cores.share())
