"""A trial on several processes of a Ray cluster: to what one process would make of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import search
from search.study.study import Study
from spaces import SpaceError

PLUGIN = Path(__file__).parent.parent / "plugins" / "faulty.py"
WriteSpace = Callable[..., Path]
TIMES = {"seconds", "images_per_second"}
TEAM = "resources: {cpu: 2, processes: 2}"

pytestmark = [pytest.mark.ray, pytest.mark.timeout(400)]


def near(study: Study, other: Study) -> None:
    """The same curves but for the order of float32 sums; of 60 images two may be seen otherwise."""
    (one,), (two,) = study.trials, other.trials
    assert one.key == two.key
    assert len(one.replicates[0].curve) == len(two.replicates[0].curve)
    for some, others in zip(one.replicates[0].curve, two.replicates[0].curve, strict=True):
        for name in some.keys() - TIMES:
            absolute = 2 / 60 + 1e-9 if "accuracy" in name else 5e-3
            assert some[name] == pytest.approx(others[name], rel=5e-3, abs=absolute), name


def test_two_processes_make_one_trial(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """One run key and, but for the order of sums, one curve; a second trial has its own two."""
    space = {"trials": 1, "width": "0.25", "attention": "{name: eca}", "epochs": 2}
    both = search.run(write_space(**space, search=TEAM), out=tmp_path / "both", executor="ray")
    alone = search.run(write_space(**space), out=tmp_path / "alone", executor="inprocess")

    assert both.outcomes() == {"finished": 1, "pruned": 0, "failed": 0}
    near(both, alone)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "word"), [("kill", "crashed"), ("leave", "preempted")])
def test_a_trial_that_loses_a_process_goes_on(
    write_space: WriteSpace, tmp_path: Path, cluster: None, fault: str, word: str
) -> None:
    """One killed ends the attempt; told to leave, all of them store and leave. Then it goes on."""
    once = tmp_path / "happened"
    faulty = f"{{name: faulty, fault: {fault}, after: 12, once: {once}}}"
    path = write_space(trials=1, width="0.25", attention=faulty, search=TEAM)
    study = search.run(path, out=tmp_path / "runs", executor="ray", plugins=[PLUGIN])
    alone = search.run(path, out=tmp_path / "alone", executor="ray", plugins=[PLUGIN])

    attempts = study.trials[0].replicates[0].attempts
    assert [attempt.outcome for attempt in attempts] == [word, "finished"]
    assert len(alone.trials[0].replicates[0].attempts) == 1
    near(study, alone)


@pytest.mark.slow
def test_a_pruned_trial_lets_all_its_processes_go(
    write_space: WriteSpace, tmp_path: Path, cluster: None
) -> None:
    """The others wait for a gradient that never comes: they are ended, and the next has room."""
    path = write_space(
        trials=2,
        epochs=30,
        attention="{name: eca}",
        search=f"{TEAM}\npruner: {{name: ThresholdPruner, lower: 0.999}}",
    )
    study = search.run(path, out=tmp_path / "runs", executor="ray")

    assert study.outcomes() == {"finished": 0, "pruned": 2, "failed": 0}
    assert all(trial.epochs < 30 for trial in study.trials)


def test_several_processes_are_rays(write_space: WriteSpace, tmp_path: Path) -> None:
    """In this process there is one: refused by name, and nothing is created."""
    with pytest.raises(SpaceError, match=r"search\.resources\.processes: .*got 2; allowed: 1"):
        search.run(write_space(search=TEAM), out=tmp_path / "runs", executor="inprocess")
    assert not (tmp_path / "runs").exists()
