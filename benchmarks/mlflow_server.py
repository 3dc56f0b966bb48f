"""Two hundred children that run at once, of eight drivers, in MLflow on PostgreSQL and on SQLite.

    sudo python benchmarks/mlflow_server.py [--drivers 8] [--children 25] [--only STORE ...]

Eight studies are written at the same time, each by a driver's own `Tracking`, with 25 trials under
way; when all 200 runs are there as RUNNING, every trial ends and the drivers close. Nobody trains:
the trials report made-up curves of fifteen epochs. What is counted: the seconds until all run,
until all have ended, and the runs (of 200) that are whole then: FINISHED, with their last value,
all points of their curve and their files.

server on postgresql   `mlflow server` with its store in a PostgreSQL made for this, reached by a
                       socket in a folder of its own; artifacts go through the server
server on sqlite       the same server on a SQLite file
postgresql             the drivers write to PostgreSQL themselves
sqlite                 the drivers write to the SQLite file themselves: what `run` does by default

PostgreSQL refuses to run as root, and is run as Debian's user `postgres` then. Results go to
benchmarks/results/mlflow-server-<date>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kept import RESULTS, circumstances, keep

STORES = ("server on postgresql", "server on sqlite", "postgresql", "sqlite")
EPOCHS = 15
SPACE = """\
name: NAME
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 2.0]}}
training: {epochs: 15, batch_size: 32, optimizer: {name: sgd, lr: {float: [0.01, 1.0], log: true}}}
search: {trials: TRIALS, sampler: {name: RandomSampler}}
"""


# ---- stores ----------------------------------------------------------------------------------


def programs() -> Path | None:
    """Where PostgreSQL's programs are: Debian keeps them out of the PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda p: float(p.parent.name))
    return found[-1] if found else None


@contextmanager
def postgresql() -> Iterator[str]:
    """A PostgreSQL with an empty database, on a socket that no network reaches; yields its URI."""
    where = programs()
    if where is None:
        raise SystemExit("PostgreSQL is not installed (apt-get install postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="eca-pg-"))
    who = "postgres" if os.geteuid() == 0 else None
    if who is not None:
        shutil.chown(folder, who)

    def call(program: str, *arguments: str) -> None:
        subprocess.run(
            [str(where / program), *arguments],
            user=who,
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    data = str(folder / "data")
    try:
        call("initdb", "-D", data, "-U", "mlflow", "--auth=trust", "--encoding=UTF8")
        options = f"-c listen_addresses= -c unix_socket_directories={folder} -c max_connections=200"
        call("pg_ctl", "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            call("createdb", "-h", str(folder), "-U", "mlflow", "mlflow")
            yield f"postgresql://mlflow@/mlflow?host={folder}"
        finally:
            call("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def server(store: str, artifacts: Path) -> Iterator[str]:
    """`mlflow server` on a store, its clients' files going through it; yields its address."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": store,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    where = ["--host", "127.0.0.1", "--port", str(port), "--workers", "2"]
    log = artifacts.with_suffix(".log")
    with (
        log.open("w") as out,
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "mlflow",
                "server",
                *where,
                "--artifacts-destination",
                artifacts,
            ],
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        address = f"http://127.0.0.1:{port}"
        try:
            wait(lambda: healthy(address) or process.poll() is not None, "the server", 120)
            if process.poll() is not None:
                raise SystemExit("\n".join(log.read_text().splitlines()[-10:]))
            yield address
        finally:
            process.terminate()


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5):
            return True
    except OSError:
        return False


def wait(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.2)


@contextmanager
def store(name: str, scratch: Path) -> Iterator[str]:
    """The URI that drivers write to."""
    with chdir(scratch), ExitStack() as stack:  # MLflow keeps files of a database in ./mlruns
        file = f"sqlite:///{scratch}/mlflow.db"
        uri = stack.enter_context(postgresql()) if "postgresql" in name else file
        if name.startswith("server"):
            uri = stack.enter_context(server(uri, scratch / "proxied"))
        yield uri


# ---- studies ---------------------------------------------------------------------------------


def started(scratch: Path, name: str, children: int) -> tuple[Any, list[Any]]:
    """A study with so many trials under way, one epoch into each."""
    import spaces
    from search.study.study import Study
    from search.trial import Candidate

    path = scratch / f"{name}.yaml"
    path.write_text(SPACE.replace("NAME", name).replace("TRIALS", str(children)))
    space = spaces.load(path)

    def examine(values: dict[str, Any]) -> Candidate:
        size = values["backbone.width"] ** 2 * 1e5
        costs = {"params": size, "macs": size * 100}
        key = secrets.token_hex(8)
        config = space.at(values).model_dump(mode="json")
        return Candidate(config, key, key, costs, {}, "none", f"w{values['backbone.width']:.3f}")

    reference = {"params": 1e7, "macs": 1e9}
    study = Study.create(
        scratch / "runs" / name, space, examine, reference=reference, chance=0.1, versions={}
    )
    assignments = [study.next() for _ in range(children)]
    for assignment in assignments:
        study.start(assignment, "here:1")
        study.report(assignment.trial, 0, epoch(assignment.trial, 1))
    study.commit()
    return study, assignments


def epoch(trial: int, number: int) -> dict[str, float]:
    accuracy = (0.5 + trial / 1000) * (1 - 0.8**number)
    return {"epoch": number, "val_accuracy": accuracy, "train_loss": 1 - accuracy}


def ended(study: Any, assignments: list[Any]) -> None:
    """Every trial of the study trains to its end."""
    from search.trial import Ending

    for assignment in assignments:
        for number in range(2, EPOCHS + 1):
            study.report(assignment.trial, 0, epoch(assignment.trial, number))
        study.end(assignment.trial, 0, Ending("finished", ""))
    study.commit()
    study.close()


def children(client: Any, status: str) -> list[Any]:
    """The trials' runs of that status, of all studies."""
    every = [each.experiment_id for each in client.search_experiments()]
    query = f"attributes.status = '{status}' and tags.`eca.trial` != ''"
    return list(client.search_runs(every, query, max_results=1000))


def measure(name: str, drivers: int, each: int, scratch: Path) -> dict[str, Any]:
    """Write all studies at once; the seconds it took and what is there then."""
    from mlflow import MlflowClient

    from search.tracking.following import Tracking

    said: list[str] = []
    with store(name, scratch) as uri:
        client = MlflowClient(uri)
        client.search_experiments()  # its tables are made by one: MLflow's migration knows no other
        studies = [started(scratch, f"study-{n}", each) for n in range(drivers)]
        trackings = [Tracking(uri, study.name, study, say=said.append) for study, _ in studies]
        began = time.monotonic()
        for tracking in trackings:
            tracking.start()
        wait(lambda: len(children(client, "RUNNING")) >= drivers * each, f"{name}: all running")
        running = time.monotonic() - began
        for study, assignments in studies:
            ended(study, assignments)
        began = time.monotonic()
        with ThreadPoolExecutor(drivers) as pool:
            level = list(pool.map(lambda tracking: tracking.close(600), trackings))
        closing = time.monotonic() - began
        runs = children(client, "FINISHED")
        whole = [run for run in runs if is_whole(client, run)]
        return {
            "store": name,
            "children": drivers * each,
            "seconds_to_all_running": round(running, 1),
            "seconds_to_all_ended": round(closing, 1),
            "drivers_level": sum(level),
            "whole": len(whole),
            "trials_told_once": len(
                {(r.info.experiment_id, r.data.tags["eca.trial"]) for r in runs}
            ),
            "artifacts": sorted({urlsplit(r.info.artifact_uri).scheme or "a folder" for r in runs}),
            "said": said,
        }


def is_whole(client: Any, run: Any) -> bool:
    """Whether a run has its last value, all its points and its files."""
    last = epoch(int(run.data.tags["eca.trial"]), EPOCHS)["val_accuracy"]
    points = client.get_metric_history(run.info.run_id, "val_accuracy")
    files = client.list_artifacts(run.info.run_id)
    return (
        run.data.metrics.get("final_val_accuracy") == last
        and sorted(point.step for point in points) == list(range(1, EPOCHS + 1))
        and bool(files)
    )


def main() -> None:
    """Measure each store, print, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--drivers", type=int, default=8)
    parser.add_argument("--children", type=int, default=25, help="of each driver")
    parser.add_argument("--only", nargs="*", choices=STORES)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    about = circumstances("psycopg2-binary")
    rows = []
    for name in arguments.only or STORES:
        with tempfile.TemporaryDirectory(prefix="eca-mlflow-") as scratch:
            rows.append(measure(name, arguments.drivers, arguments.children, Path(scratch)))
        print(json.dumps(rows[-1]), flush=True)
    result = {
        **about,
        "stores": rows,
    }
    out = keep("mlflow-server", result, arguments.out)
    print(f"written to {out}")


if __name__ == "__main__":
    main()
