"""A small search that dies on purpose, and the process that makes many of them die cheaply.

As a script it imports what is slow once, then forks a child for every line of JSON on stdin and
answers with the child's wait status. A child drives a real study with real checkpoints whose
epochs are arithmetic, or one of digits networks, under a failpoint; it writes down outside
of the study what was acknowledged (`acked`) and which epochs were trained (`trained`).
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import signal
import stat
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import spaces
from search.execution import inprocess
from search.execution.worker import Workplace
from search.study import journal
from search.study.journal import FILE
from search.study.study import Study
from search.trial import Assignment, Candidate, Ending
from spaces import Space, durable

PAUSED = 75
EPOCHS = 3
SPACE = f"""\
name: victim
task: {{name: classification}}
dataset: {{name: digits}}
backbone: {{name: resnet, depth: 8, width: {{float: [0.25, 1.5], step: 0.25}}}}
attention:
  choice:
    - {{name: none}}
    - {{name: eca, mapping: {{name: constant, kernel_size: {{choice: [1, 3, 5, 7]}}}}}}
training: {{epochs: {EPOCHS}, batch_size: 32, optimizer: {{name: sgd, lr: 0.1}}}}
search:
  trials: 4
  seed: 5
  limits: {{params: 1300}}
  sampler: {{name: TPESampler, n_startup_trials: 2}}
"""
HALF = 57_344
"""Bytes of an MLflow store that has some of its tables."""
DIGITS = """\
name: digits-victim
task: {name: classification}
dataset: {name: digits, subset: 200, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention: {choice: [{name: none}, {name: eca}]}
training: {epochs: 2, batch_size: 50, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 2, seed: 0, executor: inprocess}
"""


# ---- the study -------------------------------------------------------------------------------


def examiner(space: Space) -> Callable[[dict[str, Any]], Candidate]:
    """A network as large as its width; kernels below 4 are one network, so there are duplicates."""

    def examine(values: dict[str, Any]) -> Candidate:
        config = space.at(values).model_dump(mode="json")
        kernel = max(3, values.get("attention.eca.mapping.kernel_size", 0))
        parts = (values["backbone.width"], values["attention"], kernel)
        key = hashlib.sha256(repr(parts).encode()).hexdigest()[:16]
        size = values["backbone.width"] * 1000
        costs = {"params": size, "macs": size * 10 + kernel}
        return Candidate(config, key, key, costs, {}, "", f"w{parts[0]} k{kernel}")

    return examine


def create(folder: Path, space: Space, **options: Any) -> Study:
    """A new study of the space, without looking at any network."""
    reference = {"params": 1500.0, "macs": 15010.0}
    return Study.create(folder, space, examiner(space), reference=reference, chance=0.1, **options)


def learnt(assignment: Assignment, before: list[dict[str, float]]) -> dict[str, float]:
    """The next epoch: a function of network, seed and the epoch before, as training is."""
    last = before[-1]["val_accuracy"] if before else 0.0
    text = f"{assignment.key}:{assignment.seed}:{len(before)}:{last!r}"
    noise = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") / 2**32
    return {"epoch": float(len(before) + 1), "val_accuracy": 0.9 * last + 0.1 * noise}


def training(base: Path) -> inprocess.Attempt:
    """As `worker.attempt` goes on from its newest checkpoint, but the training is a sum."""

    def attempt(
        assignment: Assignment, workplace: Workplace
    ) -> Iterator[dict[str, float] | Ending]:
        from trainers import checkpoint

        place = f"{workplace.checkpoints}/{assignment.key}"
        state = checkpoint.newest(place)
        history = list(state["history"]) if state else []
        yield from history[assignment.known :]
        while len(history) < EPOCHS:
            history.append(learnt(assignment, history))
            tell(base / "trained", f"{assignment.key} {len(history)}")
            try:
                checkpoint.put(place, f"epoch-{len(history):05d}", {"history": history})
                checkpoint.keep(place, 2)
            except OSError:
                pass  # as `trainers.train` does: the epoch counts, and the next one is stored again
            yield history[-1]
        yield Ending("finished", "")

    return attempt


def go(folder: Path, watch: Callable[[Study], None]) -> None:
    """Start the study, or go on with it, as `search.execution.launch` does; to its end."""
    space = spaces.load(Path("victim.yaml"), text=SPACE)
    if journal.exists(folder):
        study = Study.drive(folder, space, examiner(space))
    else:
        study = create(folder, space)
    try:
        if not (folder / "space.yaml").is_file():
            durable.write_whole(folder / "space.yaml", SPACE.encode(), kind="space")
        study.begin(pid=os.getpid(), host="here", executor="inprocess")
        workplace = Workplace(checkpoints=str(folder / "checkpoints"))
        inprocess.drive(study, workplace, watch=watch, attempt=training(folder.parents[1]))
    finally:
        study.close()
    watch(study)


def go_digits(folder: Path, watch: Callable[[Study], None]) -> None:
    """The same with the real thing: `eca-search run --resume` without its command line."""
    import search

    path = folder.parents[1] / "digits-victim.yaml"
    path.write_text(DIGITS)
    search.run(path, out=folder.parent, resume=True, watch=watch)


def go_making(folder: Path, watch: Callable[[Study], None]) -> None:
    """The same, killed while MLflow makes its tables."""

    def kill() -> None:
        made = False
        while not made:
            time.sleep(0.001)
            for store in folder.parent.glob("*mlflow.db*"):
                with suppress(FileNotFoundError):  # SQLite's own file beside it comes and goes
                    made = made or store.stat().st_size > HALF
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    go_digits(folder, watch)


def go_run(folder: Path, watch: Callable[[Study], None]) -> int:
    """`eca-search run`, of digits."""
    from search.cli import main

    path = folder.parents[1] / "digits-victim.yaml"
    path.write_text(DIGITS)
    return main(["run", str(path), "--out", str(folder.parent)])


def go_resume(folder: Path, watch: Callable[[Study], None]) -> int:
    """`eca-search resume`."""
    from search.cli import main

    return main(["resume", str(folder)])


# ---- what is written down beside it ------------------------------------------------------------


def tell(path: Path, line: str) -> None:
    """Append a line in one call: a kill leaves all of it or nothing."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{line}\n".encode())
    os.close(descriptor)


def acknowledged(folder: Path) -> Callable[[Study], None]:
    """A watch that writes down which part of the journal was said to be on the disk."""

    def watch(study: Study) -> None:
        data = (folder / FILE).read_bytes()
        tell(folder.parents[1] / "acked", f"{len(data)} {hashlib.sha256(data).hexdigest()}")

    return watch


class Disk:
    """What a power cut would leave below `root`: only what `os.fsync` was called for.

    A file has the bytes it had at its last fsync, a folder the entries of its own last one.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: dict[int, bytes] = {}
        self.folders: dict[int, dict[str, int]] = {}
        self._held: list[int] = []  # an inode that is open is not given to another file
        self._fsync = os.fsync
        os.fsync = self.fsync

    def fsync(self, descriptor: int) -> None:
        """Remember the file or folder as it is now."""
        self._fsync(descriptor)
        state = os.fstat(descriptor)
        self._held.append(os.dup(descriptor))
        if stat.S_ISDIR(state.st_mode):
            with os.scandir(descriptor) as entries:
                self.folders[state.st_ino] = {entry.name: entry.inode() for entry in entries}
        else:
            # by its path: the descriptor may be one for writing alone
            self.files[state.st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def cut(self, target: Path) -> None:
        """Write down what is left."""
        self._leave(self.root.stat().st_ino, target)

    def _leave(self, inode: int, target: Path) -> None:
        target.mkdir()
        for name, number in self.folders.get(inode, {}).items():
            if number in self.folders:
                self._leave(number, target / name)
            else:
                (target / name).write_bytes(self.files.get(number, b""))


def go_power(folder: Path, watch: Callable[[Study], None]) -> None:
    """The study, and after every acknowledgement what a power cut would leave in `cuts/N`."""
    cuts = folder.parents[1] / "cuts"
    cuts.mkdir()
    disk = Disk(folder.parents[1])

    def cut(study: Study) -> None:
        watch(study)
        disk.cut(cuts / str(len(list(cuts.iterdir()))))

    go(folder, cut)


# ---- the process that forks --------------------------------------------------------------------

PRELOADED = (
    "mlflow.store.tracking.sqlalchemy_store",
    "search.commands.run",
    "search.front.picture",
    "search.front.plots",
    "search.beforehand.survey",
    "search.tracking.in_mlflow",
    "sklearn.datasets",
)
KINDS: dict[str, Callable[[Path, Callable[[Study], None]], int | None]] = {
    "study": go,
    "power": go_power,
    "digits": go_digits,
    "making": go_making,
    "run": go_run,
    "resume": go_resume,
}


def child(kind: str, folder: Path, failpoint: str | None) -> int:
    """Drive the study in this process, which the failpoint may end; returns the exit code."""
    try:
        durable.arm(failpoint)
        code = KINDS[kind](folder, acknowledged(folder)) or 0
        if durable._armed is not None:
            tell(folder.parents[1] / "reached", json.dumps(durable._armed.counts))
    except OSError:
        traceback.print_exc()
        return PAUSED
    except BaseException:
        traceback.print_exc()
        return 1
    return code


@cache
def preload() -> None:
    """Import what only digits need; nothing is trained here, for threads do not live in a fork."""
    import torch

    torch.optim.SGD([torch.zeros(1)], lr=0.1)
    for module in PRELOADED:
        importlib.import_module(module)


def serve() -> None:
    """Fork a child for every request; answer with its wait status."""
    import trainers

    assert trainers.train  # imported now, with torch
    with tempfile.TemporaryDirectory() as scratch:
        go(Path(scratch) / "runs" / "victim", lambda study: None)
    for line in sys.stdin:
        asked = json.loads(line)
        if asked["kind"] not in ("study", "power"):
            preload()
        pid = os.fork()
        if pid == 0:
            folder = Path(asked["folder"])
            said = os.open(folder.parents[1] / "said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(said, 1)
            os.dup2(said, 2)
            for name, most in asked["limits"].items():
                resource.setrlimit(getattr(resource, name), (most, most))
            os._exit(child(asked["kind"], folder, asked["failpoint"]))
        print(os.waitpid(pid, 0)[1], flush=True)
    os._exit(0)  # torch takes seconds to leave


if __name__ == "__main__":
    serve()
