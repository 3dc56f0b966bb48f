"""The command line on a real study: three digits networks, trained once for all tests here."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import search
from search import text
from search.cli import main
from search.study.journal import FILE, Journal

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugins" / "faulty.py"
SPACE = """\
name: tiny
task: {name: classification}
dataset: {name: digits, subset: 200, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention: {choice: [{name: none}, {name: eca}]}
training: {epochs: 2, batch_size: 50, optimizer: {name: sgd, lr: 0.1}}
search:
  trials: 3
  executor: inprocess
  replicates: 2
  sampler: {name: RandomSampler}
"""


class Said(NamedTuple):
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its stdout as data."""
        return json.loads(self.out)


Eca = Callable[..., Said]


@pytest.fixture
def eca(capsys: pytest.CaptureFixture[str]) -> Eca:
    """Run `eca-search ARGUMENTS` here."""

    def call(*arguments: object) -> Said:
        code = main([str(argument) for argument in arguments])
        return Said(code, *capsys.readouterr())

    return call


def shell(
    *arguments: object, python: tuple[str, ...] = (), **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m search ARGUMENTS` in a process of its own; None takes a variable away."""
    variables = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(
        [sys.executable, *python, "-m", "search", *map(str, arguments)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env={name: value for name, value in variables.items() if value is not None},
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder of a study that was run from a shell, and what that printed."""
    where = tmp_path_factory.mktemp("study")
    (where / "tiny.yaml").write_text(SPACE)
    said = shell("run", where / "tiny.yaml", "training.epochs=1", "--out", where / "runs")
    return where / "runs" / "tiny", said


@pytest.fixture
def study(done: tuple[Path, object], tmp_path: Path) -> Path:
    """A copy of that study and of its MLflow store, which a test may change."""
    shutil.copy(done[0].parent / "mlflow.db", tmp_path)
    return Path(shutil.copytree(done[0], tmp_path / "tiny"))


def test_run_ends_with_the_front(done: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    """Exit 0; a line an event on stderr; the front, the folder and the UI command on stdout."""
    folder, said = done
    assert said.returncode == 0, said.stderr
    for number in range(3):
        assert f"#{number:03d} " in said.stderr
    assert "(3 of 3)" in said.stderr
    assert "finished val_accuracy 0." in said.stderr
    assert "\033" not in said.stdout + said.stderr
    assert "Pareto front: " in said.stdout
    assert said.stdout.endswith(
        f"study    {folder}\nlook     eca-search ui {folder}\nreport   eca-search report {folder}\n"
        f"confirm  eca-search confirm {folder}   (the front, with fresh seeds)\n"
    )
    assert {path.name for path in folder.iterdir()} >= {"space.yaml", FILE, "checkpoints"}
    assert (folder.parent / "mlflow.db").is_file()


def test_run_on_a_study_names_resume(eca: Eca, done: tuple[Path, object], tmp_path: Path) -> None:
    """A second `run` is exit 2 and says how to go on; with --resume it goes on, here at its end."""
    (tmp_path / "tiny.yaml").write_text(SPACE)
    again = ("run", tmp_path / "tiny.yaml", "training.epochs=1", "--out", done[0].parent)
    before = (done[0] / FILE).read_bytes()
    said = eca(*again)
    assert said.code == 2
    assert f"eca-search resume {done[0]}" in said.err
    assert (done[0] / FILE).read_bytes() == before


def test_status(eca: Eca, study: Path) -> None:
    """`status --json` says what the journal says."""
    told = eca("status", study, "--json").json
    loaded = search.load(study)
    assert told["version"] == 1
    assert told["study"] == "tiny"
    assert told["state"] == "finished"
    assert told["resumable"] is False
    assert told["trials"] == {"finished": 3, "pruned": 0, "failed": 0}
    free = {"infeasible", "invalid", "duplicate", "preempted"}
    assert set(told["counts"]) == {"running", "waiting", *free}
    assert told["started"] <= told["updated"]
    best = max(loaded.trials, key=lambda trial: (trial.objectives or {})["val_accuracy"])
    assert told["best"]["values"]["val_accuracy"] == (best.objectives or {})["val_accuracy"]
    stored = [file for file in (study / "checkpoints").rglob("*") if file.is_file()]
    held = sum(file.stat().st_size for file in stored)
    assert told["checkpoints"] == {"place": str(study / "checkpoints"), "bytes": held}
    front = {r.key for trial in loaded.pareto() for r in trial.replicates}
    assert {file.parent.name for file in stored} == front
    said = eca("status", study)
    assert "tiny: finished, 3 of 3 trials: 3 finished" in said.out
    assert f"  kept     {text.size(held)} of checkpoints\n" in said.out


def test_status_while_a_driver_holds_the_study(eca: Eca, study: Path) -> None:
    """The lock says that it runs; `run` and `resume` then leave it alone with exit 2."""
    journal = Journal(study)
    try:
        assert eca("status", study, "--json").json["state"] == "running"
        said = eca("resume", study, "--trials", "4", "--executor", "inprocess")
        assert said.code == 2
        assert "is running this study" in said.err
    finally:
        journal.close()


def test_pareto(eca: Eca, study: Path) -> None:
    """`pareto --json` has exactly the promised shape, and the numbers of the Python surface."""
    told = eca("pareto", study, "--json").json
    loaded = search.load(study)
    assert list(told) == [
        "version",
        "study",
        "objectives",
        "hypervolume",
        "reference",
        "trials",
        "counts",
        "front",
        "noise",
        "devices",
    ]
    assert told["objectives"] == {"val_accuracy": "max", "params": "min", "macs": "min"}
    assert told["hypervolume"] == loaded.hypervolume()
    assert told["reference"] == loaded.reference
    assert [member["trial"] for member in told["front"]] == [t.number for t in loaded.pareto()]
    for member, trial in zip(told["front"], loaded.pareto(), strict=True):
        assert set(member) >= {"trial", "values", "n", "sd", "kernels", "identity", "config"}
        assert member["values"] == {"val_accuracy": 0.0, **(trial.objectives or {})}
        assert (member["n"], member["sd"]) == (2, trial.spread["val_accuracy"])
        assert member["kernels"] == trial.kernels
        assert member["identity"] == trial.identity
        assert member["config"] == trial.config


def test_pareto_for_people_and_as_csv(eca: Eca, study: Path, tmp_path: Path) -> None:
    """The table has a row a network; --csv writes the same networks in full precision."""
    loaded = search.load(study)
    said = eca("pareto", study, "--csv", tmp_path / "front.csv")
    assert all(f"#{trial.number:03d}" in said.out for trial in loaded.pareto())
    assert "1 MAC = 2 FLOPs" in said.out
    rows = list(csv.DictReader(io.StringIO((tmp_path / "front.csv").read_text())))
    assert [float(row["val_accuracy"]) for row in rows] == [
        (trial.objectives or {})["val_accuracy"] for trial in loaded.pareto()
    ]
    assert eca("pareto", study, "--csv", "-").out == (tmp_path / "front.csv").read_text()


def test_pareto_says_how_sure_it_is(eca: Eca, study: Path) -> None:
    """With two seeds a network: the same probabilities as JSON, CSV and column; and the noise."""
    sure = search.load(study).membership()
    assert sure is not None
    told = eca("pareto", study, "--json").json
    assert {m["trial"]: m["membership"] for m in told["front"]}.items() <= sure.items()
    assert told["noise"]["df"] == len(sure)  # one degree of freedom for each pair of seeds
    rows = csv.DictReader(io.StringIO(eca("pareto", study, "--csv", "-").out))
    assert [float(row["on_front"]) for row in rows] == [m["membership"] for m in told["front"]]
    said = eca("pareto", study).out
    assert "on front" in said.splitlines()[2]
    assert f"{told['noise']['sd']:.2g} (sd, {told['noise']['df']} df)" in said


@pytest.mark.parametrize("number", ["0", "#000", "002"])
def test_show(eca: Eca, study: Path, number: str) -> None:
    """`show` tells config, kernels, curve and attempts, by number in any usual form."""
    trial = search.load(study).trials[int(number.strip("#"))]
    told = eca("show", study, number, "--json").json
    assert told["trial"] == trial.number
    assert told["config"] == trial.config
    assert told["kernels"] == trial.kernels
    assert told["mlflow_run"] == trial.name
    assert [len(replicate["curve"]) for replicate in told["replicates"]] == [1, 1]
    assert all(r["attempts"][0]["worker"] for r in told["replicates"])
    said = eca("show", study, number)
    assert said.out.startswith(f"{trial.name}: finished\n")
    assert trial.identity in said.out
    assert "epochs: 1" in said.out


@pytest.mark.parametrize("number", ["3", "-1", "x", "0x1", "#", "1e3"])
def test_show_of_no_trial(eca: Eca, study: Path, number: str) -> None:
    """A trial that there is not is exit 2, with the range that there is."""
    said = eca("show", study, "--", number)
    assert said.code == 2
    assert "#000 to #002" in said.err


def test_sync_of_a_level_store_adds_nothing(eca: Eca, done: tuple[Path, object]) -> None:
    """The run has written every trial; `sync` finds nothing to do and changes nothing."""
    store = done[0].parent / "mlflow.db"
    before = _dump(store)
    assert all(trial.name in before for trial in search.load(done[0]).trials)
    said = eca("sync", done[0])
    assert (said.code, said.err) == (0, "")
    assert _dump(store) == before


def _dump(store: Path) -> str:
    import sqlite3

    connection = sqlite3.connect(store)
    try:
        return "\n".join(connection.iterdump())
    finally:
        connection.close()


def test_resume_extends_a_finished_study(eca: Eca, study: Path) -> None:
    """`resume --trials` sets a new total: four of four networks, then nothing is left to do."""
    said = eca("resume", study, "--trials", "4", "--executor", "inprocess")
    assert said.code == 0, said.err
    told = eca("status", study, "--json").json
    assert told["trials"]["finished"] == 4
    assert told["state"] == "finished"


def test_a_damaged_journal_is_refused(eca: Eca, study: Path) -> None:
    """A flipped digit is exit 2 for every command, with file and line, and nothing is changed."""
    journal = study / FILE
    damaged = journal.read_bytes().replace(b'"kind":"ask"', b'"kind":"asc"', 1)
    journal.write_bytes(damaged)
    for arguments in (["status"], ["pareto"], ["show", 0], ["sync"], ["resume"]):
        said = eca(arguments[0], study, *arguments[1:])
        assert said.code == 2
        assert f"{FILE}:" in said.err
        assert len(said.err.splitlines()) <= 6
    assert journal.read_bytes() == damaged


def test_reading_commands_import_neither_torch_nor_ray(study: Path) -> None:
    """What reads a journal is quick: no torch, ray or mlflow in the process."""
    code = (
        "import sys; from search.cli import main\n"
        "for command in (['status'], ['pareto'], ['show', '0'], ['logs', '0'], ['stop'],\n"
        "                ['gc', '--dry-run']):\n"
        "    main([command[0], sys.argv[1], *command[1:]])\n"
        "loaded = [m for m in ('torch', 'ray', 'mlflow', 'rich') if m in sys.modules]\n"
        "sys.exit(' '.join(loaded) or 0)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code, str(study)], env=environment, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "environment",
    [
        {"COLUMNS": "20"},
        {"TERM": "dumb"},
        {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"HOME": None},
        {"TMPDIR": "/nowhere"},
    ],
    ids=lambda variables: " ".join(f"{name}={value}" for name, value in variables.items()),
)
def test_poor_surroundings(study: Path, environment: dict[str, str | None]) -> None:
    """A narrow or dumb terminal, an ASCII locale, no home: the front is printed all the same."""
    said = shell("pareto", study, **environment)
    assert (said.returncode, said.stderr) == (0, "")
    assert "Pareto front" in said.stdout


@pytest.mark.parametrize("flags", [("-O",), ("-W", "error")])
def test_python_flags(study: Path, flags: tuple[str, ...]) -> None:
    """Without assertions, and with warnings as errors, reading works as ever."""
    assert shell("status", study, python=flags).returncode == 0


def test_colours_are_for_terminals(eca: Eca, study: Path) -> None:
    """Nothing that goes to a file or a pipe has an escape sequence in it."""
    for arguments in (["status", study], ["pareto", study], ["show", study, 0]):
        assert "\033" not in eca(*arguments).out


@pytest.mark.parametrize(
    ("attention", "trials", "code"),
    [
        # every trial crashes, again on its second attempt: none finished
        ("{name: faulty, fault: raise, after: 0}", 1, 1),
        # one of two fails: above search.failures.max, a fifth
        ("{choice: [{name: none}, {name: faulty, fault: nan, after: 0}]}", 2, 4),
    ],
)
def test_exit_codes_of_failing_trials(
    eca: Eca, tmp_path: Path, attention: str, trials: int, code: int
) -> None:
    """No trial finished is 1, too many failures 4; outcomes and reasons are printed."""
    space = SPACE.replace("{choice: [{name: none}, {name: eca}]}", attention)
    space = space.replace("{choice: [0.25, 0.5]}", "0.25").replace("replicates: 2", "replicates: 1")
    (tmp_path / "tiny.yaml").write_text(space)
    out = tmp_path / "runs"
    said = eca(
        "run",
        tmp_path / "tiny.yaml",
        f"search.trials={trials}",
        "training.epochs=1",
        *("--out", out, "--plugin", PLUGIN),
    )
    assert said.code == code, said.err
    failed = "crashed" if code == 1 else "diverged"
    assert f"  {failed} 1: #00" in said.out
    assert "Traceback" not in said.err
    number = next(t.number for t in search.load(out / "tiny").trials if t.outcome == failed)
    told = eca("show", out / "tiny", number)
    assert f": {failed}" in told.out
    assert ("a fault on purpose" in told.out) == (code == 1)


@pytest.mark.slow
def test_ui_serves_the_store_on_this_machine(done: tuple[Path, object]) -> None:
    """The printed address answers, with the study among its experiments, until it is ended."""
    server = subprocess.Popen(
        [sys.executable, "-m", "search", "ui", str(done[0])],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = line.split()[2]
        assert address.startswith("http://127.0.0.1:")
        question = f"{address}/ajax-api/2.0/mlflow/experiments/get-by-name?experiment_name=tiny"
        for _ in range(600):
            try:
                with urllib.request.urlopen(question, timeout=5) as answer:
                    told = json.load(answer)
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.2)
        assert told["experiment"]["name"] == "tiny"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait()
