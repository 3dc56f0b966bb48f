"""What an attempt prints is kept in its log: as it comes, within a limit, without secrets."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

import spaces
from search.execution import worker
from search.execution.worker import DETAIL, SENTENCE, Workplace
from search.redaction import redacted, redaction
from search.study import logs
from search.study.output import HEAD, LIMIT, Output
from search.text import escaped
from search.trial import Assignment, Ending
from spaces import catalogue

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "tests" / "plugins" / "loud.py"
WriteSpace = Callable[..., Path]


@pytest.fixture
def assignment(write_space: WriteSpace) -> Callable[[str], Assignment]:
    """An attempt of one short epoch whose attention prints, and ends as it is told."""

    def make(end: str) -> Assignment:
        catalogue.plug(PLUGIN)
        path = write_space(width="0.25", epochs=1, attention=f"{{name: loud, end: {end}}}")
        config = spaces.load(path).at({}).model_dump(mode="json")
        return Assignment(17, 0, 2, seed=1, key="abc-r0", config=config, known=0)

    return make


def place(tmp_path: Path, **more: object) -> Workplace:
    study = tmp_path / "study"
    return Workplace(
        **{"checkpoints": str(study / "checkpoints"), "logs": str(study / "logs"), **more}  # type: ignore[arg-type]
    )


# ---- one log ---------------------------------------------------------------------------------


def test_a_long_log_keeps_its_beginning_and_its_end(tmp_path: Path) -> None:
    """It stays under the limit; what is missing is counted, to the byte."""
    lines = [f"line {number}\n" for number in range(100_000)]
    with Output(tmp_path / "a.log") as log:
        for line in lines:
            log.write(line)
    text = (tmp_path / "a.log").read_text()
    assert len(text) <= LIMIT
    assert text.startswith("".join(lines[:1000]))
    assert text.endswith("".join(lines[-1000:]))
    (gap,) = re.finditer(r"\n\[\.\.\. ([\d,]+) bytes left out \.\.\.\]\n", text)
    assert int(gap[1].replace(",", "")) + len(text) - len(gap[0]) == sum(map(len, lines))


def test_one_huge_write_costs_no_more_than_the_limit(tmp_path: Path) -> None:
    """Ten megabytes in one piece are cut before they reach the disk."""
    with Output(tmp_path / "a.log") as log:
        log.write("begin" + "x" * 10_000_000 + "end")
        assert (tmp_path / "a.log").stat().st_size <= LIMIT
    text = (tmp_path / "a.log").read_text()
    assert text.startswith("begin")
    assert text.endswith("end\n")


def test_a_log_that_was_kept_is_added_to(tmp_path: Path) -> None:
    """What the driver learns of a dead worker comes after what the worker said."""
    path = logs.path(tmp_path, 17, 0, 2)
    with Output(path) as log:
        log.write("the worker's words")
    logs.append(tmp_path, 17, 0, 2, "The actor died.")
    assert path.name == "0017-r0-a2.log"
    assert logs.read(tmp_path, 17, 0, 2) == "the worker's words\nThe actor died.\n"


def test_tail_of_no_log() -> None:
    """It is empty: an attempt on a node that died has left nothing."""
    assert logs.tail(Path("/nowhere"), 1, 0, 1) == ""


def test_tail_of_a_long_log(tmp_path: Path) -> None:
    """At most so many characters, beginning with a line."""
    with Output(logs.path(tmp_path, 1, 0, 1)) as log:
        log.write("\n".join(f"line {number}" for number in range(1000)))
    assert logs.tail(tmp_path, 1, 0, 1, size=20) == "line 998\nline 999\n"


def test_a_full_disk_costs_the_log_alone() -> None:
    """Printing goes on without an error where nothing can be written."""
    with Output(Path("/dev/full")) as log, log.caught():
        print("hello")
        sys.stderr.write("hello")
        sys.stdout.flush()


def test_without_a_log_printing_stays_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder that cannot be made takes nothing away from the terminal."""
    (tmp_path / "logs").write_text("a file")
    with Output(tmp_path / "logs" / "a.log") as log, log.caught():
        print("hello")
        log.write("dropped")
    assert capsys.readouterr().out == "hello\n"


def test_a_link_is_not_written_through(tmp_path: Path) -> None:
    """A log that somebody made a link of leaves the other file alone."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a.log").symlink_to(tmp_path / "precious")
    with Output(tmp_path / "a.log") as log:
        log.write("hello")
    assert (tmp_path / "precious").read_text() == "precious"


@pytest.mark.parametrize("end", ["os._exit(3)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_process_that_dies_leaves_its_last_words(tmp_path: Path, end: str) -> None:
    """Python, C, a shell and a flood of C output: written as it came, and limited as it came."""
    script = (
        "import ctypes, os, signal, sys, time\n"
        "from pathlib import Path\n"
        "from search.study.output import LIMIT, Output\n"
        "log = Output(Path('a.log'), alone=True)\n"
        "with log.caught():\n"
        "    print('Python speaks')\n"
        "    ctypes.CDLL(None).puts(b'C speaks')\n"
        "print('outside')\n"
        "with log.caught():\n"
        "    os.system('yes 2>/dev/null | head -c 3000000')\n"
        "    while os.path.getsize('a.log') > LIMIT: time.sleep(0.01)\n"
        "    print('last words')\n"
        f"    {end}\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode in (3, -signal.SIGKILL)
    assert (done.stdout, done.stderr) == ("outside\n", "")
    text = (tmp_path / "a.log").read_text()
    assert text.startswith("Python speaks\nC speaks\ny\n")
    assert text.endswith("y\nlast words\n")


# ---- secrets and terminals -------------------------------------------------------------------


def test_secrets_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the environment holds under a telling name, nor what looks like a secret."""
    monkeypatch.setenv("HUB_TOKEN", "canary-1")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "canary-2")
    with Output(tmp_path / "a.log") as log, log.caught():
        print("the token is canary-1, the password canary-2")
        print("store http://me:canary-3@host:5000/path")
        print("headers {'Authorization': 'Bearer canary-4', 'Accept': 'text/html'}")
        print("api_key=canary-5 password: canary-6, X-Api-Key: canary-7")
        print("https://me:pass@canary-8@host/ refused 'Bearer canary-9.10'")
    text = (tmp_path / "a.log").read_text()
    assert "canary" not in text
    assert "host:5000/path" in text
    assert "'Accept': 'text/html'" in text


@pytest.mark.parametrize(
    "secret",
    [
        "ghp_" + "a1" * 18,
        "hf_" + "Ab" * 17,
        "AKIA" + "IOSFODNN7EXAMPLE",
        "dapi" + "0f" * 16,
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.c2lnbmF0dXJl",
        "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY-----",
    ],
)
def test_a_token_is_known_by_its_shape(secret: str) -> None:
    """An exception may quote it without a word that says what it is."""
    said = redacted(f"got {secret}, not allowed")
    assert secret not in said
    assert "MIIE" not in said
    assert said.startswith("got ")
    assert said.endswith(", not allowed")


def test_what_is_no_secret_stays() -> None:
    """Short values and ordinary words are left alone; the longest secret goes first."""
    redact = redaction({"A_KEY": "1", "B_KEY": "secret1", "C_KEY": "secret12", "PWD": "/home/me"})
    assert redact("1 epoch in /home/me") == "1 epoch in /home/me"
    assert redact("secret12") == "[redacted]"
    plain = "tokens: 128, key: value, //comment@home, bearer of bad news, task-specific-settings"
    assert redacted(plain) == plain


def test_redaction_takes_linear_time() -> None:
    """A megabyte of what nearly looks like a secret is no trap."""
    parts = ("a", "token ", "://a", "password=", " ", "authorization:", "bearer ", "hf_")
    for part in (*parts, "-eyJ", "eyJaaaaaaaaaa.", "-----PRIVATE KEY-----"):
        text = part * (1_000_000 // len(part))
        assert len(redacted(text)) > 0


def test_a_terminal_is_not_steered() -> None:
    """Escapes, bells, carriage returns and right-to-left marks are shown, not sent."""
    text = "a\x1b[2J\x07\tb\rprogress 10%\r\nßλ\u202eend\x9b\n"
    assert list(escaped(text)) == ["a\\x1b[2J\\x07\tb", "progress 10%", "ßλ\\u202eend\\x9b"]


# ---- an attempt ------------------------------------------------------------------------------


def test_an_attempt_s_output_goes_to_its_log(
    tmp_path: Path, assignment: Callable[[str], Assignment], capsys: pytest.CaptureFixture[str]
) -> None:
    """A copy of it, without the driver's; the first line says whose it is, the last the end."""
    messages = worker.attempt(assignment("none"), place(tmp_path))
    for _ in messages:
        print("the driver speaks")
    seen = capsys.readouterr()
    assert seen.out.count("the driver speaks\n") == 2
    assert "Python speaks\n" in seen.out
    assert "an error stream speaks\n" in seen.err
    text = logs.read(tmp_path / "study", 17, 0, 2)
    assert "driver" not in text
    first, *_, last = text.splitlines()
    assert first.startswith(f"trial 17, replicate 0, attempt 2, on {worker.here()}, 20")
    assert last == "finished"
    for who in ("Python", "an error stream"):
        assert f"{who} speaks" in text


def test_a_traceback_of_ten_megabytes(
    tmp_path: Path, assignment: Callable[[str], Assignment]
) -> None:
    """The journal gets a sentence and a few kilobytes, the log its beginning and its end."""
    *_, ending = worker.attempt(assignment("raise"), place(tmp_path))
    assert isinstance(ending, Ending)
    assert ending.outcome == "crashed"
    assert len(ending.reason) <= SENTENCE
    assert ending.detail.startswith("Traceback (most recent call last):\n")
    assert len(ending.detail) < DETAIL + 100
    text = logs.read(tmp_path / "study", 17, 0, 2)
    assert len(text) <= LIMIT
    assert "loud.py" in text[:HEAD]
    assert "crashed: RuntimeError: a fault on purpose" in text[-2 * SENTENCE :]


def test_a_worker_that_is_killed(tmp_path: Path, assignment: Callable[[str], Assignment]) -> None:
    """All that it has printed is in its log, down to C's."""
    given = json.dumps([asdict(assignment("kill")), asdict(place(tmp_path, alone=True))])
    script = (
        "import json, sys\n"
        "from search.execution import worker\n"
        "from search.trial import Assignment\n"
        "assignment, workplace = json.loads(sys.argv[1])\n"
        f"workplace['plugins'] = [{str(PLUGIN)!r}]\n"
        "list(worker.attempt(Assignment(**assignment), worker.Workplace(**workplace)))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script, given], env=environment)
    assert done.returncode == -signal.SIGKILL
    text = logs.read(tmp_path / "study", 17, 0, 2)
    for who in ("Python", "an error stream", "a warning", "C", "a shell"):
        assert f"{who} speaks" in text


def test_a_node_without_the_study_s_folder(
    tmp_path: Path, assignment: Callable[[str], Assignment]
) -> None:
    """Its log goes beside the checkpoints when the attempt ends, and nowhere else."""
    uri = f"memory://{tmp_path.name}"
    for _ in worker.attempt(assignment("none"), place(tmp_path, checkpoints=uri)):
        pass
    assert not (tmp_path / "study").exists()
    text = logs.read_beside(logs.beside(uri, "abc-r0", 17, 0, 2))
    assert text.startswith("trial 17, replicate 0, attempt 2")
    assert text.endswith("finished\n")
    assert logs.read_beside(logs.beside(uri, "abc-r0", 17, 0, 3)) == ""
