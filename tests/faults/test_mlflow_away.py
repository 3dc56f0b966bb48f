"""MLflow away in every way: training goes on, and what MLflow shows is whole in the end.

The study is a real one, with its journal, driven by hand; the server is MLflow's own application
over a real SQLite store, behind a door that can be shut.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.errors import JournalError
from search.execution import driving, launch
from search.execution.executors import Executor
from search.store import default_uri
from search.study.study import Study
from search.tracking import following, in_mlflow
from search.tracking.away import TrackingError
from search.tracking.following import Tracking
from search.trial import Candidate, Ending
from spaces import Space, durable

EPOCHS = 4
SPACE = """\
name: away
task: {name: classification}
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {float: [0.25, 8.0], step: 0.25}}
attention: {name: eca}
training: {epochs: 4, batch_size: 32, optimizer: {name: sgd, lr: 0.1}}
search: {trials: TRIALS, seed: 3, sampler: {name: RandomSampler}}
"""


def space(folder: Path, trials: int) -> Space:
    path = folder / "away.yaml"
    path.write_text(SPACE.replace("TRIALS", str(trials)))
    return spaces.load(path)


def examiner(space: Space) -> Callable[[dict[str, Any]], Candidate]:
    """Networks as wide as they say, measured without building one."""

    def examine(values: dict[str, Any]) -> Candidate:
        config = space.at(values).model_dump(mode="json")
        width = values["backbone.width"]
        costs = {"params": 1e4 * width, "macs": 1e6 * width}
        return Candidate(config, f"net{width}", f"key{width}", costs, {}, "", f"w{width}")

    return examine


def created(folder: Path, trials: int) -> Study:
    whole = space(folder, trials)
    reference = {"params": 1e5, "macs": 1e7}
    return Study.create(
        folder / "away", whole, examiner(whole), reference=reference, chance=0.1, versions={}
    )


def epochs(study: Study, number: int) -> Iterable[dict[str, float]]:
    """A curve that is a function of the trial alone."""
    width = study.history.trials[number].values["backbone.width"]
    for epoch in range(1, EPOCHS + 1):
        accuracy = width / (width + 1 / epoch)
        yield {"epoch": float(epoch), "val_accuracy": accuracy, "train_loss": 1 - accuracy}


def drive(study: Study, tracking: Tracking, trials: int = 10**9) -> int:
    """Train so many trials, handing each change over as a driver does; how many there were."""
    for done in range(trials):
        assignment = study.next()
        if assignment is None:
            return done
        study.start(assignment, "here:1")
        for metrics in list(epochs(study, assignment.trial))[assignment.known :]:
            study.report(assignment.trial, assignment.replicate, metrics)
            study.commit()
            for trial in study.touched():
                tracking.submit(trial)
        study.end(assignment.trial, assignment.replicate, Ending("finished", ""))
        study.commit()
        for trial in study.touched():
            tracking.submit(trial)
    return trials


def until(ask: Callable[[], Any]) -> Any:
    pause = threading.Event()
    for _ in range(1200):
        if answer := ask():
            return answer
        pause.wait(0.05)
    raise AssertionError("it never happened")


def runs(uri: str) -> list[Any]:
    """All runs of active experiments."""
    client = in_mlflow._client(uri)
    found = []
    for experiment in client.search_experiments():
        found += client.search_runs([experiment.experiment_id])
    return found


def level(uri: str, study: Study) -> bool:
    """Whether there is nothing more to write of what the study knows by now."""
    shown = {run.data.tags.get("eca.trial"): run.data.tags for run in runs(uri)}
    front = {str(trial.number) for trial in study.pareto()}
    return (
        len(shown) == 1 + len(study.trials)
        and all("eca.digest" in tags for tags in shown.values())
        and {number for number, tags in shown.items() if "eca.front" in tags} == front
    )


def assert_whole(uri: str, study: Study) -> None:
    """One run a trial and one for the study, every point once, nothing left open, the true front.

    Every run has its digest, which is written last, and its files.
    """
    client = in_mlflow._client(uri)
    parents = [run for run in runs(uri) if "eca.trial" not in run.data.tags]
    children = {run.data.tags.get("eca.trial"): run for run in runs(uri)}
    children.pop(None)
    assert len(parents) == 1
    assert len(runs(uri)) == 1 + len(study.trials)
    assert sorted(map(int, children)) == [trial.number for trial in study.trials]
    front = {str(trial.number) for trial in study.pareto()}
    assert {number for number, run in children.items() if "eca.front" in run.data.tags} == front
    for trial in study.trials:
        run = children[str(trial.number)]
        curve = trial.replicates[0].curve
        for name in ("val_accuracy", "train_loss"):
            points = client.get_metric_history(run.info.run_id, name)
            shown = sorted((point.step, point.value) for point in points)
            assert shown == [(int(metrics["epoch"]), metrics[name]) for metrics in curve]
        assert run.info.status == "FINISHED"
        assert run.data.tags["eca.outcome"] == trial.outcome == "finished"
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.params == {"backbone.width": str(trial.values["backbone.width"])}
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["config.yaml"]
    assert all("eca.digest" in run.data.tags for run in runs(uri))


@pytest.fixture(scope="module")
def migrated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store with its schema: making one takes seconds, copying it nothing."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    in_mlflow._client(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(migrated: Path, tmp_path: Path) -> str:
    """The URI of an empty SQLite store of the test's own."""
    shutil.copy(migrated, tmp_path / "mlflow.db")
    return default_uri(tmp_path)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is left to a driver that has nothing to do, and no request is sent twice: a fault is
    noticed, and made good, that much sooner.
    """
    monkeypatch.setattr(following, "SHARE", 1.0)
    for name in in_mlflow._ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "100")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


class Door:
    """MLflow's own application on a port of this machine; `fault` is how it fails, if it does.

    `held` counts requests that hang just now, `turned` those that were answered with a fault.
    """

    def __init__(self, app: Any) -> None:
        self.app = app
        self.fault = ""
        self.held = self.turned = 0
        self.release = threading.Event()
        self.port = 0
        self._server: Any = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def open(self) -> None:
        from werkzeug.serving import make_server

        self.fault = ""
        self.release.set()
        if self._server is None:
            self._server = make_server("127.0.0.1", self.port, self, threaded=True)
            self.port = self._server.server_port
            threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def shut(self, fault: str) -> None:
        self.release.clear()
        self.fault = fault
        if fault == "refused" and self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        fault = self.fault
        if not fault:
            answer: Iterable[bytes] = self.app(environ, start)
            return answer
        self.turned += 1
        if fault == "hangs":
            self.held += 1
            self.release.wait(120)
            self.held -= 1
            fault = "500"
        start(f"{fault} No", [("Content-Type", "text/plain")])
        return [b"You are not authenticated. token=s3cr3t-canary"]


@pytest.fixture
def door(store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """A server over `store`, open."""
    from mlflow.server import app, handlers
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    real = SqlAlchemyStore(store, (tmp_path / "served").as_uri())
    monkeypatch.setattr(handlers, "_tracking_store", real)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    made = Door(app)
    made.open()
    yield made
    made.shut("refused")
    made.release.set()


@pytest.mark.parametrize(
    ("fault", "remedy"),
    [
        ("refused", "nobody listens there: start it|it hangs up"),  # as it goes down
        ("500", "it fails by itself"),
        ("hangs", "it does not answer"),
        ("401", "set MLFLOW_TRACKING_USERNAME"),
        ("403", "ask for the right to"),
    ],
)
def test_a_server_that_is_away_is_caught_up_with(
    door: Door,
    store: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    remedy: str,
) -> None:
    """All trials train while it is away; it is said once, with the remedy; then nothing is missing.

    Half of the trials end before it goes away, and the others while it is: nobody asks it to catch
    up, and it has before the study is closed.
    """
    study = created(tmp_path, 4)
    said: list[str] = []
    follows = Tracking(door.uri, "away", study, say=said.append)
    follows.start()
    drive(study, follows, 2)
    until(lambda: level(store, study))
    if fault == "hangs":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    door.shut(fault)
    assert drive(study, follows) == 2
    until(lambda: said and (door.turned or fault == "refused"))
    assert study.done
    assert len(runs(store)) == 3  # it was away for the driver alone
    door.open()
    until(lambda: level(store, study))
    study.close()
    assert follows.close()
    assert_whole(store, study)
    (line,) = said
    assert re.search(remedy, line)
    assert line.startswith(f"MLflow at {door.uri}: ")
    assert line.endswith(
        f"the search goes on, and `eca-search sync {study.folder} --tracking-uri {door.uri}` "
        "catches up"
    )
    assert "canary" not in line


def test_nothing_of_a_driver_waits_for_a_server_that_hangs(
    door: Door, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole study is trained, and its driver closed, within one and the same hanging request."""
    monkeypatch.setattr(following, "HURRY", 0.1)
    door.shut("hangs")
    study = created(tmp_path, 8)
    said: list[str] = []
    follows = Tracking(door.uri, "away", study, say=said.append)
    follows.start()
    drive(study, follows, 1)
    until(lambda: door.held)
    assert drive(study, follows) == 7
    study.close()
    assert not follows.close(following.HURRY)
    assert (door.held, door.turned) == (1, 1)  # the first request is still the only one
    again = f"eca-search sync {study.folder} --tracking-uri {door.uri}"
    assert said == [f"MLflow is behind: {again}"]
    door.open()
    follows = Tracking(door.uri, "away", study, say=pytest.fail)
    follows.project(launch.load(study.folder))
    assert_whole(store, study)


def test_a_process_ends_though_mlflow_hangs(door: Door, store: str, tmp_path: Path) -> None:
    """The thread that waits for the store is left behind; the exit code is the search's."""
    door.shut("hangs")
    command = [sys.executable, __file__, "hurry", str(tmp_path), door.uri]
    pipe = subprocess.PIPE
    driver = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    until(lambda: door.held)
    output, errors = driver.communicate("it hangs by now\n", timeout=100)
    assert (driver.returncode, door.held) == (0, 1)
    assert output == "6 trained\n"
    assert errors.startswith("MLflow is behind: eca-search sync")
    assert len(errors.splitlines()) == 1
    door.open()
    study = launch.load(tmp_path / "away")
    Tracking(door.uri, "away", study, say=pytest.fail).project(study)
    assert_whole(store, study)


def test_a_database_that_is_locked(store: str, tmp_path: Path) -> None:
    """Another program holds it while trials end: they are written when it lets go."""
    study = created(tmp_path, 5)
    follows = Tracking(store, "away", study, say=pytest.fail)
    follows.start()
    drive(study, follows, 2)
    until(lambda: level(store, study))
    other = sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None, timeout=30)
    other.execute("BEGIN EXCLUSIVE")
    assert drive(study, follows) == 3
    study.close()
    other.execute("COMMIT")
    other.close()
    assert follows.close()
    assert_whole(store, study)


def test_a_database_that_is_full(store: str, tmp_path: Path) -> None:
    """It is said once; when there is room again all is written, and nothing twice."""
    import sqlalchemy

    full = threading.Event()

    def limit(connection: Any, *_: Any) -> None:
        pages = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {pages if full.is_set() else 2**30}")

    study = created(tmp_path, 8)
    said: list[str] = []
    follows = Tracking(store, "away", study, say=said.append)
    sqlalchemy.event.listen(sqlalchemy.pool.Pool, "checkout", limit)
    try:
        follows.start()
        drive(study, follows, 2)
        until(lambda: level(store, study))
        full.set()
        assert drive(study, follows) == 6
        until(lambda: said)
        full.clear()
        until(lambda: level(store, study))
        study.close()
        assert follows.close()
    finally:
        sqlalchemy.event.remove(sqlalchemy.pool.Pool, "checkout", limit)
    (line,) = said
    assert "its disk is full: make room there; the search goes on" in line
    assert_whole(store, study)


@pytest.mark.parametrize("gone", ["a trial's run", "the study's run", "the experiment"])
def test_what_a_person_deletes_meanwhile_is_made_again(
    store: str, tmp_path: Path, gone: str
) -> None:
    """A run or the whole experiment deleted in the UI while the study goes on: that is all said."""
    study = created(tmp_path, 5)
    said: list[str] = []
    follows = Tracking(store, "away", study, say=said.append)
    follows.start()
    drive(study, follows, 3)
    until(lambda: level(store, study))
    client = in_mlflow._client(store)
    if gone == "the experiment":
        client.delete_experiment("1")
        expected = "MLflow: the experiment 'away' was deleted there; this is 'away (2)'"
    else:
        key = "1" if gone == "a trial's run" else None
        (run,) = [run for run in runs(store) if run.data.tags.get("eca.trial") == key]
        client.delete_run(run.info.run_id)
        expected = f"MLflow: the run {run.info.run_name!r} was deleted there; it is made again"
    drive(study, follows)
    study.close()
    assert follows.close()
    assert_whole(store, study)
    assert said == [expected]


def test_files_that_cannot_be_kept_hold_up_nothing_else(store: str, tmp_path: Path) -> None:
    """Artifacts have a place of their own, which may be away alone; its trouble is said once."""
    blocked = tmp_path / "mlartifacts"
    blocked.write_text("a file where the folder should be")
    study = created(tmp_path, 3)
    said: list[str] = []
    follows = Tracking(store, "away", study, say=said.append)
    follows.start()
    drive(study, follows)
    study.close()
    assert not follows.close()
    assert [len(run.data.metrics) for run in runs(store) if "eca.trial" in run.data.tags] == [7] * 3
    trouble, behind = said
    assert trouble.startswith(f"MLflow at {store}: its files: ")
    assert behind.startswith("MLflow is behind: eca-search sync")
    with pytest.raises(TrackingError, match="its files"):
        launch.sync(study.folder, tracking_uri=store, say=pytest.fail)
    blocked.unlink()
    launch.sync(study.folder, tracking_uri=store, say=pytest.fail)
    assert_whole(store, study)


def test_no_run_stays_running_after_a_killed_driver(store: str, tmp_path: Path) -> None:
    """SIGKILL in the middle of a trial leaves it RUNNING in MLflow; either command makes it right.

    `sync` ends it as interrupted; after `resume` it is finished, in the run it had before.
    """
    command = [sys.executable, __file__, "linger", str(tmp_path), store]
    driver = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "MLflow shows it\n"
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    before = {run.data.tags.get("eca.trial"): run.info.run_id for run in runs(store)}
    left = [run.data.tags.get("eca.outcome") for run in runs(store) if run.info.end_time is None]
    assert sorted(left, key=str) == [None, "running"]
    synced = tmp_path / "synced"
    shutil.copytree(tmp_path / "away", synced / "away")
    shutil.copy(tmp_path / "mlflow.db", synced)

    launch.sync(synced / "away", say=pytest.fail)
    words = {run.data.tags.get("eca.outcome"): run.info.status for run in runs(default_uri(synced))}
    assert words == {"finished": "FINISHED", "interrupted": "KILLED", None: "KILLED"}

    whole = space(tmp_path, 6)
    for place in (tmp_path, synced):  # resumed at once, and after it was synced
        study = Study.drive(place / "away", whole, examiner(whole))
        with Tracking(default_uri(place), "away", study, say=pytest.fail) as follows:
            drive(study, follows)
            study.close()
        assert_whole(default_uri(place), study)
        runs_now = {run.data.tags.get("eca.trial"): run.info.run_id for run in runs(follows.uri)}
        assert before.items() <= runs_now.items()


def test_a_paused_study_leaves_nothing_running(store: str, tmp_path: Path) -> None:
    """A driver that was asked to end closes the runs of what it leaves behind."""
    study = created(tmp_path, 4)
    with Tracking(store, "away", study, say=pytest.fail) as follows:
        drive(study, follows, 2)
        assignment = study.next()
        assert assignment is not None
        study.start(assignment, "here:1")
        follows.submit(study.trials[2])
        study.close()
    statuses = {run.data.tags.get("eca.trial"): run.info.status for run in runs(store)}
    assert statuses == {"0": "FINISHED", "1": "FINISHED", "2": "KILLED", None: "KILLED"}


def one_more(study: Study, watch: Callable[[Study], None]) -> Ending:
    """Train the next trial to its end, which is left to be said; `watch` is called meanwhile."""
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "here:1")
    for metrics in epochs(study, assignment.trial):
        study.report(assignment.trial, 0, metrics)
        study.commit()
        watch(study)
    return Ending("finished", "")


def test_what_the_journal_did_not_take_is_not_shown(store: str, tmp_path: Path) -> None:
    """The disk fails as the last trial ends: for MLflow, as for the journal, it has not ended."""
    study = created(tmp_path, 2)

    def until_the_disk_fails(study: Study, watch: Callable[[Study], None]) -> None:
        study.end(0, 0, one_more(study, watch))
        study.commit()
        watch(study)
        ending = one_more(study, watch)
        durable.arm("commit.begun:1+:eio")
        study.end(1, 0, ending)
        assert study.done
        study.commit()

    executor = Executor("inprocess", until_the_disk_fails, "cpu")
    try:
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            driving.drive(study, executor, store, lambda study: None, pytest.fail)
    finally:
        durable.arm(None)

    assert [trial.outcome for trial in launch.load(study.folder).trials] == ["finished", None]
    found = {run.data.tags.get("eca.trial"): run for run in runs(store)}
    statuses = {number: run.info.status for number, run in found.items()}
    assert statuses == {"0": "FINISHED", "1": "KILLED", None: "KILLED"}
    assert "final_val_accuracy" in found["0"].data.metrics
    assert "final_val_accuracy" not in found["1"].data.metrics


def test_a_study_taken_over_is_left_to_its_new_driver(store: str, tmp_path: Path) -> None:
    """A driver that finds another in its place writes no more: MLflow's runs are the other's."""
    study = created(tmp_path, 2)
    shown: list[Any] = []

    def facts() -> list[Any]:
        return sorted((str(run.data.tags), run.info.status) for run in runs(store))

    def until_taken_over(study: Study, watch: Callable[[Study], None]) -> None:
        study.end(0, 0, one_more(study, watch))
        study.commit()
        watch(study)
        until(lambda: len(runs(store)) == 2 and level(store, study))
        shown[:] = facts()
        (mine,) = study.folder.glob(".driver.0*")
        mine.rename(mine.with_name(".driver.000099"))
        one_more(study, watch)

    executor = Executor("inprocess", until_taken_over, "cpu")
    with pytest.raises(JournalError, match="taken over"):
        driving.drive(study, executor, store, lambda study: None, pytest.fail)

    assert any(status == "RUNNING" for _, status in shown)
    assert facts() == shown


def test_a_study_copied_elsewhere_is_shown_whole_there(
    store: str, migrated: Path, tmp_path: Path
) -> None:
    """Its folder alone is enough: the store beside the copy gets every run, the first keeps its."""
    study = created(tmp_path, 3)
    with Tracking(store, "away", study, say=pytest.fail) as follows:
        drive(study, follows)
        study.close()
    there = tmp_path / "elsewhere"
    shutil.copytree(study.folder, there / "away")
    shutil.copy(migrated, there / "mlflow.db")
    launch.sync(there / "away", say=pytest.fail)
    assert_whole(default_uri(there), study)
    assert_whole(store, study)


@pytest.mark.slow
def test_mlflows_own_server_killed_and_started_again(tmp_path: Path) -> None:
    """`mlflow server` dies in the middle of a study and comes back: the runs are whole."""
    import socket
    import urllib.request

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    uri, database = f"http://127.0.0.1:{port}", f"sqlite:///{tmp_path / 'server.db'}"
    command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", database, "--artifacts-destination", str(tmp_path / "art")]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}

    def serve() -> subprocess.Popen[bytes]:
        server = subprocess.Popen(
            command, env=environment, start_new_session=True, stderr=subprocess.DEVNULL
        )
        until(answers)
        return server

    def answers() -> bool:
        try:
            with urllib.request.urlopen(f"{uri}/health", timeout=5):
                return True
        except OSError:
            time.sleep(0.5)
            return False

    server = serve()
    try:
        study = created(tmp_path, 6)
        said: list[str] = []
        follows = Tracking(uri, "away", study, say=said.append)
        follows.start()
        drive(study, follows, 3)
        until(lambda: level(uri, study))
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()
        assert drive(study, follows) == 3
        until(lambda: said)
        server = serve()
        study.close()
        assert follows.close()
        assert_whole(uri, study)
        assert len(said) == 1
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def main(way: str, folder: Path, uri: str) -> None:
    """A driver in a process of its own: one that hurries away, or lingers in its third trial."""
    study = created(folder, 6)
    follows = Tracking(uri, "away", study)
    follows.start()
    if way == "hurry":
        trained = drive(study, follows, 6)
        sys.stdin.readline()
        study.close()
        follows.close(0.1)
        print(f"{trained} trained")
        return
    drive(study, follows, 2)
    assignment = study.next()
    assert assignment is not None
    study.start(assignment, "here:1")
    study.report(2, 0, next(iter(epochs(study, 2))))
    study.commit()
    follows.submit(study.trials[2])
    until(lambda: level(uri, study))
    print("MLflow shows it", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
