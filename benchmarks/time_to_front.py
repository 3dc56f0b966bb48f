"""Time to the front: the same space on real images, by the same clock, ours against its peers.

    python benchmarks/time_to_front.py [KEY=VALUE ...] [--space FILE] [--minutes 3] [--seeds 3]
        [--only NAME ...] [--recipe KEY=VALUE ...] [--judges 3] [--record FILE] [--within SECONDS]
        [--smoke]

Each contender is a process of its own that has so many minutes from the moment it is asked for, its
start included:

ours       `eca-search run SPACE`, as a person types it: Ray, MLflow, the space's sampler and pruner
ray        Ray Tune + OptunaSearch(NSGA-II) + ASHA on the accuracy + MLflowLoggerCallback
ray-reuse  the same with `reuse_actors=True`
optuna     `optuna.optimize(n_jobs=2)`, its default sampler, MLflow in the objective

(`front_peers.py` has the peers.) All call the same `trainers.train` on points of the same space, so
that what is compared is the search around it. Of each one its own front is taken at 24 times: the
networks that *it* then believed in, by the accuracies that it had seen (a peer's trial that was
stopped early counts with its last one, as `study.best_trials` has it). These networks are trained
anew by one recipe (the space's, changed by --recipe), with three fresh seeds (--judges), judged by
the test images: the mean accuracies and the exact costs give each front's hypervolume, in the
space's cost bands, from one reference point. A network is trained anew once, whoever found it.

"ours reached its end" is the share of the clock after which our hypervolume was, for good, no less
than the peer's at the end of its clock (null: not within it); below 1/2 is the aim on two cores,
1/5 on a GPU. The share of the epochs says the same of what both had trained by then, which other
work on the machine does not change. Contenders alternate, seed by seed, with the load average kept
beside each.

Everything is a step that adds to one JSON: called again it does what the record lacks, and with
`--within 540` begins nothing that would not end by then. On a GPU, protocols P1 and P7 are

    python benchmarks/gpu.py
    python benchmarks/time_to_front.py --space benchmarks/front/gpu.yaml --minutes 6 --within 540

each called again until it says that nothing is left. `--smoke` is three trials of an epoch each: it
shows that all of this runs.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from front_worth import CONTENDERS, Row, Scales, fronts, retrained, summary
from kept import RESULTS, circumstances

import search
import spaces
from search.study import journal
from search.trial import Trial
from spaces import Space

GRACE = 60.0
"""Seconds that a contender has to go when its clock has run out; what ends then is not counted."""
LEVEL = {"RAY_ADDRESS": "", "RAY_worker_niceness": "0"}
"""Ray's workers are nice by 15: on a machine that does other things too they would starve, where
Optuna's threads do not. On a quiet one it makes no difference."""
HERE = Path(__file__).parent


def searched(contender: str, space: Space, seconds: float, seed: int) -> Row:
    """A contender's trials in the order they ended, `at` seconds after it was asked for."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="front-", ignore_cleanup_errors=True) as scratch:
        folder = Path(scratch)
        file = folder / "space.yaml"
        file.write_text(space.to_yaml(), encoding="utf-8")
        began = time.time()
        if contender == "ours":
            command = ["-m", "search", "run", str(file), "--out", str(folder / "runs")]
            command.append(f"search.seed={seed}")
        else:
            command = [str(HERE / "front_peers.py"), contender, str(file), str(folder)]
            command += ["--seed", str(seed), "--began", str(began), "--seconds", str(seconds)]
        told = folder / "said"
        with told.open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **LEVEL, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )
            _until(process, began + seconds)
        rows = _ours(folder / "runs" / space.name, began) if contender == "ours" else _peers(folder)
        rows = [row for row in rows if row["at"] <= seconds]
        if not rows:
            print(told.read_text(encoding="utf-8")[-2000:], file=sys.stderr)
    finished = [row for row in rows if row["accuracy"] is not None]
    return {
        "load": [round(load, 1), round(os.getloadavg()[0], 1)],
        "first": round(finished[0]["at"], 1) if finished else None,
        "finished": len(finished),
        "trials": len(rows),
        "epochs": sum(row["epochs"] for row in rows),
        "rows": rows,
    }


def _until(process: subprocess.Popen[bytes], end: float) -> None:
    """Wait for a process until its clock has run out, then have it go."""
    for signals, patience in ((None, end - time.time()), (signal.SIGINT, GRACE)):
        if signals is not None:
            process.send_signal(signals)
        try:
            process.wait(timeout=max(patience, 0.0))
            return
        except subprocess.TimeoutExpired:
            continue
    os.killpg(process.pid, signal.SIGKILL)  # the session that was begun for it
    process.wait()


def _ours(folder: Path, began: float) -> list[Row]:
    """What our journal tells; trials that did not finish have no accuracy."""
    if not journal.exists(folder):
        return []
    study = search.load(folder)
    ended = [trial for trial in study.trials if trial.ended is not None]
    return [
        {
            "at": (trial.ended or 0.0) - began,
            "values": trial.values,
            "accuracy": (trial.objectives or {}).get("val_accuracy"),
            "epochs": trial.epochs,
        }
        for trial in sorted(ended, key=lambda trial: trial.ended or 0.0)
    ]


def _peers(folder: Path) -> list[Row]:
    path = folder / "trials.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines]


def anew(
    space: Space,
    recipe: list[str],
    judges: int,
    wanted: dict[str, Trial],
    scores: dict[str, Row],
    keep: Callable[[], None],
    room: Callable[[float], bool],
) -> bool:
    """Train anew what lacks a score, each kept as it comes; False where some is left."""
    left = [
        (key, index)
        for index in range(judges)
        for key in wanted
        if str(index) not in scores.get(key, {}).get("accuracy", {})
    ]
    print(f"{len(wanted)} networks on fronts, {len(left)} trainings anew", flush=True)

    def note(place: tuple[str, int], accuracy: float) -> None:
        key, index = place
        network = {"network": wanted[key].label, **wanted[key].costs, "accuracy": {}}
        scores.setdefault(key, network)["accuracy"][str(index)] = accuracy
        left.remove(place)
        keep()

    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "space.yaml"
        file.write_text(space.to_yaml(), encoding="utf-8")
        at_once = 1 if "cpu" not in _device() else os.cpu_count() or 1
        with ProcessPoolExecutor(at_once, get_context("spawn")) as pool:
            jobs = {}
            for place in left:
                values = wanted[place[0]].values
                jobs[pool.submit(retrained, str(file), recipe, values, place[1])] = place
            for job in as_completed(jobs):
                note(jobs[job], job.result())
                if not room(GRACE):
                    break
            for job in jobs:  # one that is cancelled is never completed: nobody waits for it
                job.cancel()
        for job, place in jobs.items():  # what was at work when there was no more room
            if place in left and not job.cancelled():
                note(place, job.result())
    return not left


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE")
    parser.add_argument("--space", default=str(HERE / "front" / "digits.yaml"))
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--seeds", type=int, default=3, help="searches of each contender")
    parser.add_argument("--only", nargs="*", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--recipe", nargs="*", default=[], metavar="KEY=VALUE")
    parser.add_argument("--judges", type=int, default=3, help="seeds of each training anew")
    parser.add_argument("--record", type=Path)
    parser.add_argument("--within", type=float, default=float("inf"), metavar="SECONDS")
    parser.add_argument("--smoke", action="store_true")
    given = parser.parse_args()
    called = time.monotonic()
    if given.smoke:
        given.minutes, given.seeds, given.only = 4.0, 1, ["ours", "optuna"]
        given.judges = 1
        given.overrides += ["training.epochs=1", "backbone.depth=8", "search.trials=3"]
    space = spaces.load(given.space, overrides=given.overrides)
    about = circumstances(device=_device())
    path = given.record or RESULTS / f"time-to-{space.name}-{about['date'][:10]}.json"
    path = path.absolute()
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    record = {"searches": {}, "scores": {}, **record}
    record["judges"] = given.judges
    told = {"space": space.to_yaml(), "minutes": given.minutes, "recipe": given.recipe}
    for key, value in told.items():
        if record.setdefault(key, value) != value:
            parser.error(f"{path} was measured with another {key}; give another --record")
    record |= about

    def room(seconds: float) -> bool:
        return bool(time.monotonic() - called + seconds <= given.within)

    def keep() -> None:
        path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    seconds = given.minutes * 60
    steps = [f"{name} {seed}" for seed in range(given.seeds) for name in given.only]
    steps = [step for step in steps if step not in record["searches"]]
    for number, step in enumerate(steps):
        if not room(seconds + GRACE):
            print(f"{len(steps) - number} searches are left; call again for the rest")
            return
        contender, seed = step.split()
        record["searches"][step] = searched(contender, space, seconds, int(seed))
        keep()
        one = {key: value for key, value in record["searches"][step].items() if key != "rows"}
        print(f"{step}: {json.dumps(one)}", flush=True)

    scales = Scales(space)
    wanted: dict[str, Trial] = {}
    for one in record["searches"].values():
        for _, members in fronts(scales, one, seconds):
            wanted |= {member.key: member for member in members}
    if not anew(space, given.recipe, given.judges, wanted, record["scores"], keep, room):
        print("trainings anew are left; call again for the rest")
        return
    record["summary"] = summary(scales, record)
    keep()
    print(json.dumps(record["summary"]["contenders"], indent=1))
    print(path)


def _device() -> str:
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"


if __name__ == "__main__":
    main()
