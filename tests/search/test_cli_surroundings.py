"""The command line in poor surroundings and on strange input, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import search
from search.cli import main
from spaces.paths import READY

ROOT = Path(__file__).parents[2]
SPACE = """\
name: tiny
task: {name: classification}
dataset: {name: digits, subset: 100, val: 0.2}
backbone: {name: resnet, depth: 8, width: 0.25}
training: {epochs: 1, batch_size: 50, optimizer: {name: sgd, lr: 0.1}}
search: {trials: 1, executor: inprocess}
"""
POOR = {
    "HOME": None,
    "LANG": "C",
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    "COLUMNS": "20",
    "TERM": "dumb",
}


def shell(
    *arguments: str, cwd: Path, python: tuple[str, ...] = (), streams: str = "", **variables: object
) -> subprocess.CompletedProcess[str]:
    """Run `python -m search ARGUMENTS` with its streams redirected as a shell does."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {streams}', "sh", sys.executable, *python, "-msearch", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={name: str(value) for name, value in environment.items() if value is not None},
    )


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A folder that holds a small space and nothing else."""
    (tmp_path / "tiny.yaml").write_text(SPACE)
    return tmp_path


def test_planning_needs_nothing(tiny: Path) -> None:
    """Group 62: no home, an ASCII locale, 20 columns, no temporary folder, -W error."""
    said = shell(
        "validate",
        "tiny.yaml",
        cwd=tiny,
        python=("-W", "error"),
        **POOR,
        TMPDIR=str(tiny / "missing"),
    )
    assert (said.returncode, said.stderr) == (0, "")
    assert "tiny: valid" in said.stdout


@pytest.mark.slow
def test_a_search_needs_no_stream(tiny: Path) -> None:
    """With stdin, stdout and stderr closed, and nothing else there either, the study is made."""
    closed = "<&- >&- 2>&-"
    said = shell("run", "tiny.yaml", cwd=tiny, streams=closed, **POOR)
    assert said.returncode == 0
    assert [trial.outcome for trial in search.load(tiny / "runs" / "tiny").trials] == ["finished"]


def test_a_closed_descriptor_is_no_files(tiny: Path) -> None:
    """What C code prints to a stderr that was closed never goes to a file of the study."""
    program = "import search.cli, os; search.cli.main(['schema']); print(open('new', 'w').fileno())"
    said = subprocess.run(
        ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tiny,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert int(said.stdout.splitlines()[-1]) > 2


def test_a_full_disk_behind_stdout_is_said(tiny: Path) -> None:
    """`> /dev/full`: exit 3 and a line, no traceback."""
    said = shell("validate", "tiny.yaml", cwd=tiny, streams="> /dev/full")
    assert said.returncode == 3
    assert said.stderr.splitlines() == ["No space left on device"]


SLIPS = {
    "a key": ("backbone:", "bakcbone:"),
    "a bracket": ("{name: classification}", "{name: classification"),
    "a value": ("trials: 14", "trials: .nan"),
    "a tag": ("name: digits", "name: !!python/object/apply:os.system [ls]"),
}


@pytest.mark.parametrize(("old", "new"), SLIPS.values(), ids=SLIPS)
@pytest.mark.parametrize("command", ["validate", "run"])
def test_a_slip_of_the_finger(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    old: str,
    new: str,
) -> None:
    """What the fuzz of `tests/properties` looks at in process, through the command line."""
    monkeypatch.chdir(tmp_path)
    text = (READY / "digits.yaml").read_text()
    assert old in text
    Path("slip.yaml").write_text(text.replace(old, new, 1))
    assert main([command, "slip.yaml"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert 1 <= len(said.err.splitlines()) <= 6
    assert all(line.startswith(("slip.yaml:", "... and ")) for line in said.err.splitlines())
    assert os.listdir() == ["slip.yaml"]


def test_a_slip_of_the_finger_in_a_process_of_its_own(tmp_path: Path) -> None:
    """No traceback, no library's warning, exit 2."""
    (tmp_path / "slip.yaml").write_text(SPACE.replace("lr: 0.1", "lr: 0.1}"))
    said = shell("run", "slip.yaml", cwd=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith("slip.yaml:5:")
    assert len(said.stderr.splitlines()) == 1
    assert os.listdir(tmp_path) == ["slip.yaml"]


@pytest.mark.parametrize("command", ["status", "show", "pareto", "resume", "sync"])
@pytest.mark.parametrize(
    ("folder", "said"),
    [
        ("missing", "no study here"),
        ("file", "no study here"),
        ("empty", "no study here"),
        ("begun", "the journal holds no record yet"),
        ("others", "this record is damaged"),
        ("nested", "no study here"),
    ],
)
def test_what_is_no_study_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, folder: str, said: str
) -> None:
    """Groups 59 and 60: a file, an empty folder, another tool's journal; nothing is changed."""
    (tmp_path / "file").write_text("no folder")
    for name, content in (("begun", ""), ("others", '{"event": "start"}\n')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "journal.jsonl").write_text(content)
    (tmp_path / "empty").mkdir()
    (tmp_path / "nested" / "journal.jsonl").mkdir(parents=True)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert main([command, str(tmp_path / folder), *["0"] * (command == "show")]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert 1 <= len(err.splitlines()) <= 6
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["training.epochs=1", "training.epochs=2"], "override 2: training.epochs: given twice"),
        (["training.optimizer.lr=-1"], "override 1: training.optimizer.lr: out of range"),
        (["training.optimizer.lr"], "not an override"),
        (["training.optimizer.lr="], "override 1: training.optimizer.lr: not allowed here"),
        (["=1"], "not an override"),
        (["training..lr=1"], "not an override"),
        (["training.optimizer.lr=["], "override 1: training.optimizer.lr: not YAML"),
        (["training.optimizer.lr=\x1b[31m"], "override 1: training.optimizer.lr: "),
        (["training.optimizr.lr=1"], "did you mean 'optimizer'"),
        (["dataset.name=!!python/name:os.system"], "a tag"),
        (["name=../../x"], "override 1: name: not allowed here"),
        (["x" * 5000], "not an override"),
    ],
)
def test_bad_overrides_are_said(
    tiny: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    overrides: list[str],
    said: str,
) -> None:
    """Group 58, before anything is created."""
    monkeypatch.chdir(tiny)
    assert main(["run", "tiny.yaml", "--", *overrides]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "\x1b" not in err
    assert 1 <= len(err.splitlines()) <= 6
    assert os.listdir() == ["tiny.yaml"]


def test_an_option_that_leads_nowhere_is_refused_by_run(
    tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """log2(C) + b < 0 in an arm: `run` says where, as `validate` does, and creates nothing."""
    monkeypatch.chdir(tiny)
    eca = "{name: eca, mapping: {name: log2, gamma: 2, b: -8}}"
    text = SPACE.replace("training:", f"attention: {{choice: [{{name: none}}, {eca}]}}\ntraining:")
    Path("tiny.yaml").write_text(text)
    for command in ("validate", "run"):
        assert main([command, "tiny.yaml"]) == 2
        assert (
            "tiny.yaml:5:83: attention.mapping.b: no setting with attention=eca can be built"
            in (capsys.readouterr().err)
        )
    assert os.listdir() == ["tiny.yaml"]
