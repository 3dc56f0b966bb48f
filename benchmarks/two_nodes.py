"""A digits search over two Ray nodes on two networks of their own; one is killed midway.

    sudo python benchmarks/two_nodes.py [--trials 6] [--epochs 30]

The nodes are real `ray start` in two network namespaces (`ip netns`, hence root) that a cable
joins, each with its own address, host name and one CPU, behind a token. The search runs on the
head's side with `--address`; when trials are under way on both, every process of the second node
gets SIGKILL. What is counted: attempts by node and by how they ended, and the trials whose curve
equals that of the same search in one process, undisturbed; fronts and hypervolumes are compared.
Results go to benchmarks/results/two-nodes-<date>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kept import RESULTS, circumstances, keep

import search
from search.errors import JournalError
from search.study.study import Study

ROOT = Path(__file__).parent.parent
HOSTS = {"eca-head": "10.213.77.1", "eca-second": "10.213.77.2"}
PORT = 6379
CLOCK = ("seconds", "images_per_second")
SPACE = """\
name: two-nodes
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5, 0.75]}}
attention: {choice: [{name: none}, {name: eca}]}
training: {epochs: EPOCHS, batch_size: 64, optimizer: {name: sgd, lr: 0.1}}
search: {trials: TRIALS, sampler: {name: RandomSampler}}
"""


@contextmanager
def network() -> Iterator[None]:
    """A namespace for each host, and a cable between the two."""
    ends = [f"eca{secrets.token_hex(3)}{side}" for side in "ab"]
    try:
        run("ip", "link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for (host, address), end in zip(HOSTS.items(), ends, strict=True):
            run("ip", "netns", "add", inside(host))
            run("ip", "link", "set", end, "netns", inside(host))
            run("ip", "-n", inside(host), "address", "add", f"{address}/24", "dev", end)
            run("ip", "-n", inside(host), "link", "set", end, "up")
            run("ip", "-n", inside(host), "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            kill(host)
            subprocess.run(["ip", "netns", "del", inside(host)], stderr=subprocess.DEVNULL)
        subprocess.run(["ip", "link", "del", ends[0]], stderr=subprocess.DEVNULL)


def inside(host: str) -> str:
    """A host's namespace: there may be others of that name."""
    return f"{host}-{os.getpid()}"


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def on(host: str, *command: str) -> list[str]:
    """A command line that runs on a host, under its name."""
    named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', host]
    return ["ip", "netns", "exec", inside(host), *named, *command]


def kill(host: str) -> int:
    """End every process of a host at once; how many there were."""
    told = subprocess.run(["ip", "netns", "pids", inside(host)], capture_output=True, text=True)
    pids = [int(pid) for pid in told.stdout.split()]
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it went with its parent
    return len(pids)


def start(host: str, scratch: Path, environment: dict[str, str]) -> None:
    """A Ray node of one CPU; returns when it has come up."""
    where = ["--head", f"--port={PORT}", "--include-dashboard=false"]
    if host != "eca-head":
        where = [f"--address={HOSTS['eca-head']}:{PORT}"]
    options = [
        "--num-cpus=1",
        "--object-store-memory=100000000",
        f"--node-ip-address={HOSTS[host]}",
    ]
    if host == "eca-head":
        options += [f"--temp-dir={scratch}"]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", *where, *options]
    subprocess.run(
        on(host, *ray), env=environment, check=True, capture_output=True, text=True, timeout=120
    )


def load(folder: Path) -> Study | None:
    """The study as far as it is, or nothing where it has not begun."""
    try:
        return search.load(folder)
    except (JournalError, FileNotFoundError):
        return None


def attempts(study: Study) -> list[Any]:
    return [a for trial in study.trials for r in trial.replicates for a in r.attempts]


def host_of(attempt: Any) -> str:
    return str(attempt.worker.rpartition(":")[0])


def on_both(study: Study | None) -> bool:
    """Whether trials are under way on both hosts, two epochs or more into each."""
    trials = [] if study is None else [t for t in study.trials if not t.outcome and t.epochs >= 2]
    return {host_of(t.replicates[-1].attempts[-1]) for t in trials} == set(HOSTS)


def curves(study: Study) -> list[Any]:
    return [
        [{k: v for k, v in epoch.items() if k not in CLOCK} for epoch in t.replicates[0].curve]
        for t in study.trials
    ]


def measure(trials: int, epochs: int, scratch: Path) -> dict[str, Any]:
    """Search over both, kill one, search alone, compare."""
    space = scratch / "two-nodes.yaml"
    space.write_text(SPACE.replace("EPOCHS", str(epochs)).replace("TRIALS", str(trials)))
    environment = {
        **{name: text for name, text in os.environ.items() if not name.startswith("RAY_")},
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    folder = scratch / "runs" / "two-nodes"
    address = f"{HOSTS['eca-head']}:{PORT}"
    command = [sys.executable, "-m", "search", "run", str(space), "--address", address]
    with network():
        for host in HOSTS:
            start(host, scratch, environment)
        began = time.monotonic()
        with subprocess.Popen(
            on("eca-head", *command, "--out", str(scratch / "runs")),
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as driver:
            while not on_both(load(folder)):
                if driver.poll() is not None:
                    raise SystemExit(f"the search ended too early:\n{driver.communicate()[0]}")
                time.sleep(0.2)
            killed, at = kill("eca-second"), time.monotonic() - began
            said, _ = driver.communicate()
        seconds = time.monotonic() - began
    study = search.load(folder)
    alone = search.run(space, out=scratch / "alone", executor="inprocess")
    ended = Counter(f"{host_of(a)} {a.outcome}" for a in attempts(study))
    equal = [a == b for a, b in zip(curves(study), curves(alone), strict=True)]
    return {
        "exit": driver.returncode,
        "said": [line for line in said.splitlines() if line.startswith("Ray at ")],
        "killed_processes": killed,
        "killed_after_seconds": round(at, 1),
        "seconds": round(seconds, 1),
        "trials": study.outcomes(),
        "attempts": dict(sorted(ended.items())),
        "curves_equal": f"{sum(equal)} of {trials}",
        "front": [trial.number for trial in study.pareto()],
        "front_alone": [trial.number for trial in alone.pareto()],
        "hypervolume_equal": study.hypervolume() == alone.hypervolume(),
    }


def main() -> None:
    """Start, kill, compare, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    about = circumstances()
    scratch = Path(tempfile.mkdtemp(prefix="eca-two-"))  # short: Ray's sockets allow 107 characters
    try:
        found = measure(arguments.trials, arguments.epochs, scratch)
    finally:
        shutil.rmtree(scratch)
    result = {
        **about,
        "nodes": HOSTS,
        **found,
    }
    keep("two-nodes", result, arguments.out)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
