"""The recipe for Slurm, executed: real Ray nodes, with what Slurm does played on this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import search
from search.errors import JournalError
from search.study.study import Study

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "cluster" / "slurm.sbatch"
WriteSpace = Callable[..., Path]

SRUN = """\
#!/bin/bash
# The command once on each node: with its own network, processes, host name and /tmp/ray.
while [[ $1 == --* ]]; do shift; done
started=()
for node in $NAMESPACES; do
    ip netns exec "$node" unshare --uts --pid --fork --kill-child --mount-proc bash -c \\
        'hostname "$0"; mkdir -p /tmp/ray; mount -t tmpfs none /tmp/ray; "$@"; exit $?' \\
        "$node" "$@" &
    started+=($!)
done
code=0
for each in "${started[@]}"; do
    ended=0; wait "$each" || ended=$?
    if ((ended > code)); then code=$ended; fi
done
exit $code
"""
SCONTROL = """\
#!/bin/bash
if [[ $1 == show ]]; then printf '%s\\n' ${3//,/ }; else echo "$@" >>"$REQUEUED"; fi
"""


@pytest.fixture
def slurm(tmp_path: Path, two_nodes: ModuleType) -> Iterator[dict[str, str]]:
    """The environment of a job on two nodes, `srun` and `scontrol` in its PATH."""
    programs = {
        "srun": SRUN,
        "scontrol": SCONTROL,
        "ray": f'#!/bin/sh\nexec {sys.executable} -m ray.scripts.scripts "$@"\n',
        "eca-search": f'#!/bin/sh\nexec {sys.executable} -m search "$@"\n',
    }
    (tmp_path / "bin").mkdir()
    for name, text in programs.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    kept = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    with two_nodes.network():
        yield {
            **kept,
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
            "OMP_NUM_THREADS": "1",
            "NAMESPACES": " ".join(map(two_nodes.inside, two_nodes.HOSTS)),
            "REQUEUED": str(tmp_path / "requeued"),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": ",".join(two_nodes.HOSTS.values()),
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "1",
        }


def load(folder: Path) -> Study | None:
    try:
        return search.load(folder)
    except JournalError:
        return None


def under_way(study: Study | None) -> bool:
    """Whether two trials have trained two epochs or more."""
    return study is not None and sum(trial.epochs >= 2 for trial in study.trials) >= 2


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(290)
def test_a_job_that_is_out_of_time_is_requeued_and_goes_on(
    slurm: dict[str, str], write_space: WriteSpace, tmp_path: Path
) -> None:
    """SIGUSR1 to the script: 75, requeued. The same script again: the study ends, nothing lost."""
    space = write_space(trials=4, epochs=60, search="sampler: {name: RandomSampler}")
    command = ["bash", str(RECIPE), str(space), "search.executor=ray"]
    folder = tmp_path / "runs" / "small"
    log = tmp_path / "job.log"
    with (
        log.open("w") as out,
        subprocess.Popen(
            command, cwd=tmp_path, env=slurm, stdout=out, stderr=subprocess.STDOUT
        ) as job,
    ):
        while not under_way(load(folder)):
            assert job.poll() is None, log.read_text()
            time.sleep(0.2)
        job.send_signal(signal.SIGUSR1)
    paused = search.load(folder)
    assert job.returncode == 75, log.read_text()
    requeued = (tmp_path / "requeued").read_text()
    assert not list((tmp_path / "runs").glob(".*"))
    again = subprocess.run(command, cwd=tmp_path, env=slurm, capture_output=True, text=True)
    study = search.load(folder)

    assert "2 nodes, 2 CPUs" in log.read_text()
    assert requeued == "requeue 4711\n"
    assert paused.history.ended is None
    assert not paused.counts()["running"]
    assert again.returncode == 0, again.stdout + again.stderr
    assert (tmp_path / "requeued").read_text() == requeued
    assert study.outcomes() == {"finished": 4, "pruned": 0, "failed": 0}
    attempts = [a for t in study.trials for r in t.replicates for a in r.attempts]
    assert {a.outcome for a in attempts} == {"interrupted", "finished"}
    assert len({a.worker.partition(":")[0] for a in attempts}) == 2
    for trial in study.trials:
        assert [epoch["epoch"] for epoch in trial.replicates[0].curve] == list(range(1, 61))


def test_a_space_that_is_not_valid_takes_no_node(tmp_path: Path) -> None:
    """The script ends with `validate`'s exit code before Ray is started anywhere."""
    (tmp_path / "eca-search").write_text(f'#!/bin/sh\nexec {sys.executable} -m search "$@"\n')
    (tmp_path / "eca-search").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", str(RECIPE), "digit"],
        env={**environment, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "did you mean" in done.stderr
