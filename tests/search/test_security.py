"""Nothing that is kept or shown tells a secret, steers a terminal or a browser, or runs."""

from __future__ import annotations

import ast
import hashlib
import io
import os
import pickle
import re
import stat
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from sqlalchemy import make_url

import search
from search.cli import main
from search.commands import ui
from search.errors import Unfit
from search.execution import launch
from search.redaction import redacted
from search.store import file, public, refusal, stripped
from search.tracking import away
from spaces import SpaceError
from trainers import checkpoint

ROOT = Path(__file__).parents[2]
PACKAGES = ("spaces", "trainers", "search")
MODULES = sorted(
    path.relative_to(ROOT).as_posix() for room in PACKAGES for path in (ROOT / room).rglob("*.py")
)

PLUGIN = '''\
"""An attention that tells what it should not, in every way there is."""
import os
import warnings

from torch import nn


class Leaky(nn.Module):
    def __init__(self, word):
        super().__init__()
        self.word = word

    def forward(self, x):
        if x.device.type == "meta":
            return x
        token = os.environ["LAB_TOKEN"]
        print("printed", token, "password:", "canary-printed-1")
        warnings.warn(f"warned {token}")
        raise RuntimeError(
            f"no entry to http://bob:canary-raised-2@example.org/ with {token} "
            f"\\x1b[31m<script>alert(1)</script> ../../x {self.word}"
        )


def attention(channels, *, word: str = "a"):
    """Leaky."""
    if word == "unbuildable" and channels == 32:
        raise ValueError(f"no module for {os.environ['LAB_TOKEN']} \\x1b[31m<script>")
    return Leaky(word)
'''
SPACE = """\
# Question: does eca-search ui --tracking-uri http://me:canary-comment-3@127.0.0.1:9 work?
name: leaky
dataset: {name: digits, subset: 200, val: 0.2}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5]}}
attention:
  choice:
    - {name: none}
    - name: leaky_gate
      word: {choice: ["<script>alert(1)</script>\\e[31m", "../../../up", unbuildable]}
training: {epochs: 1, batch_size: 50, optimizer: {name: sgd, lr: 0.1}}
search:
  trials: 7
  executor: inprocess
  sampler: {name: RandomSampler}
  tracking: {uri: "http://me:canary-yaml-4@127.0.0.1:9/"}
"""


class Leaked(NamedTuple):
    """A study that could have told much, its MLflow store, and what the commands printed."""

    out: Path
    said: str

    @property
    def study(self) -> Path:
        return self.out / "leaky"


@pytest.fixture(scope="module")
def leaked(tmp_path_factory: pytest.TempPathFactory) -> Leaked:
    """Seven trials of which most fail, with secrets wherever a person might have put one.

    The space's MLflow server is away; what it would have been told goes to a file afterwards.
    """
    home = tmp_path_factory.mktemp("leaky")
    (home / "leaky.yaml").write_text(SPACE)
    (home / "leaky_gate.py").write_text(PLUGIN)
    out = home / "runs"
    words: list[str] = []
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spaces.catalogue._plugins", {})
        patch.setenv("LAB_TOKEN", "canary-token-5")
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        space, plugins = home / "leaky.yaml", [home / "leaky_gate.py"]
        launch.run(space, out=out, plugins=plugins, say=words.append)
        launch.sync(out / "leaky", tracking_uri=f"sqlite:///{out}/mlflow.db", say=words.append)
        for line in ("status", "pareto", "show 1", "show 1 --json", "logs 1", "logs 2"):
            command, *rest = line.split()
            with redirect_stdout(printed), redirect_stderr(printed):
                assert main([command, str(out / "leaky"), *rest]) == 0
    return Leaked(out, "\n".join([*words, printed.getvalue()]))


def test_the_study_failed_as_it_was_meant_to(leaked: Leaked) -> None:
    """Otherwise the tests below would prove nothing."""
    study = search.load(leaked.study)
    reasons = [trial.reason for trial in study.trials if trial.outcome == "crashed"]
    assert len(reasons) >= 3
    assert all("no entry to http://[redacted]@example.org/ with [redacted]" in r for r in reasons)
    assert study.counts()["invalid"] >= 1
    assert "printed [redacted] password: [redacted]" in leaked.said


def test_no_secret_is_in_any_file_or_line(leaked: Leaked) -> None:
    """Study folder, logs, MLflow's database and artifacts, and all that commands print."""
    files = [path for path in leaked.out.rglob("*") if path.is_file()]
    assert {"journal.jsonl", "space.yaml", "mlflow.db", "pareto.html"} <= {f.name for f in files}
    telling = [path.name for path in files if b"canary" in path.read_bytes()]
    assert telling == []
    assert "canary" not in leaked.said
    assert "http://[redacted]@127.0.0.1:9" in (leaked.study / "space.yaml").read_text()
    assert search.load(leaked.study).space.search.tracking.uri == "http://127.0.0.1:9/"


def test_no_line_steers_the_terminal(leaked: Leaked) -> None:
    """Escape sequences of names, reasons and logs are spelt out or left out."""
    assert "[31m" in leaked.said
    assert "\x1b" not in leaked.said
    assert all(c.isprintable() or c in "\n\t" for c in leaked.said)


def test_no_name_is_a_path(leaked: Leaked) -> None:
    """`../` in a value, a label or a message makes no folder; files have plain names."""
    assert sorted(path.name for path in leaked.out.parent.iterdir()) == [
        "leaky.yaml",
        "leaky_gate.py",
        "runs",
    ]
    for path in leaked.out.rglob("*"):
        assert re.fullmatch(r"[A-Za-z0-9._-]+", path.name)


def test_no_markup_reaches_a_browser(leaked: Leaked) -> None:
    """HTML and Markdown among the artifacts show what looks like markup as it is."""
    pages = [*leaked.out.rglob("*.html"), *leaked.out.rglob("*.md")]
    assert pages
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert "<script>alert" not in text
        assert "</script>alert" not in text


def test_the_plugin_is_not_run_to_read_a_study(
    leaked: Leaked, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`status`, `show` and `pareto` on a colleague's folder import none of the code it names."""
    evil = f"open({str(tmp_path / 'ran')!r}, 'w')\n{PLUGIN}"
    (tmp_path / "leaky_gate.py").write_text(evil)
    study = search.load(leaked.study)
    monkeypatch.setattr("spaces.catalogue._plugins", {})
    from spaces import catalogue

    catalogue.plug(tmp_path / "leaky_gate.py")
    assert catalogue.doc("attention", "leaky_gate") == "Leaky."
    assert study.trials
    assert not (tmp_path / "ran").exists()


# ---- modes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("umask", "folder", "file"), [(0o022, 0o700, 0o600), (0o277, 0o500, 0o400)]
)
def test_what_is_created_is_its_users_alone(
    tmp_path: Path, umask: int, folder: int, file: int
) -> None:
    """Folders 0700, files 0600; the umask can only take more away."""
    from spaces.durable import make_folder, write_whole

    before = os.umask(umask)
    try:
        if os.geteuid() == 0 or folder & 0o200:
            make_folder(tmp_path / "study")
            write_whole(tmp_path / "study" / "space.yaml", b"x", mode=0o600)
            assert stat.S_IMODE((tmp_path / "study").stat().st_mode) == folder
            assert stat.S_IMODE((tmp_path / "study" / "space.yaml").stat().st_mode) == file
    finally:
        os.umask(before)
    (tmp_path / "shared").mkdir(mode=0o755)
    make_folder(tmp_path / "shared")
    assert stat.S_IMODE((tmp_path / "shared").stat().st_mode) == 0o755 & ~before


def test_a_study_is_its_users_alone(leaked: Leaked) -> None:
    """No file of a study, its logs and checkpoints among them, is anybody else's to read."""
    for path in (leaked.out, leaked.study, *leaked.study.rglob("*")):
        assert path.lstat().st_mode & 0o077 == 0, path


# ---- secrets in settings -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("uri", "bare"),
    [
        ("http://me:secret@host:5000/x", "http://host:5000/x"),
        ("postgresql://me@host/db", "postgresql://host/db"),
        ("postgresql://host/db?user=me&password=secret1", "postgresql://host/db"),
        ("http://me:secret@host?token=abcdefgh", "http://host"),
    ],
)
def test_credentials_are_told_from_a_uri(uri: str, bare: str) -> None:
    """Such a URI is not public; what is left of it says where and no more who."""
    assert public(uri) is None
    assert stripped(uri) == bare
    assert public(bare) == bare


@pytest.mark.parametrize("uri", ["sqlite:////home/a@b/x.db", "http://host:5000", "databricks"])
def test_other_uris_are_public(uri: str) -> None:
    """An @ in a path is no credential."""
    assert public(uri) == stripped(uri) == uri


def test_a_password_of_the_environments_url_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library may name the password alone, without the URL that it stood in."""
    monkeypatch.setenv("SOME_DATABASE", "postgresql://me:canary-6@host/db")
    assert redacted("FATAL: canary-6 is wrong") == "FATAL: [redacted] is wrong"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("s3://key:canary@bucket/x", "it holds credentials"),
        ("foo://x", "no file system of kind foo://"),
        ("simplecache::foo://x", "no file system of kind foo://"),
        ('""', "no place"),
    ],
)
def test_checkpoints_are_kept_where_that_is_known_to_work(
    uri: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_space
) -> None:
    """Refused before anything exists, without the password in the message."""
    space = write_space(search=f"checkpoints: {{uri: {uri}}}")
    with pytest.raises(SpaceError, match=said) as caught:
        launch.run(space, out=tmp_path / "runs")
    assert "small.yaml:11:22" in str(caught.value)
    assert "search.checkpoints.uri" in str(caught.value)
    assert "canary" not in str(caught.value)
    assert not (tmp_path / "runs").exists()


def test_a_library_that_is_missing_for_checkpoints_is_said(
    write_space, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Exit 3: the file is right, this machine is not fit for it."""

    def missing(protocol: str) -> None:
        raise ImportError(f"Install s3fs to access {protocol}")

    monkeypatch.setattr("fsspec.get_filesystem_class", missing)
    with pytest.raises(Unfit, match=r"search\.checkpoints\.uri: Install s3fs to access s3"):
        launch.run(write_space(search="checkpoints: {uri: 's3://b/x'}"), out=tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("sqlite://", "in memory"),
        ("sqlite:///", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("sqlite://runs/x.db", "sqlite:///runs/x.db"),
        ("sqlite:///FOLDER", "a folder and no file"),
        ("sqlite:////", "allowed: sqlite:////mlflow.db"),
        ("sqlite:///~/x.db", "~ is no home"),
        ("sqlite:///FOLDER/other", "is no SQLite database"),
        ("http://", "no server is named"),
        ("https://me:pw@", "no server is named"),
        ("http://[", "no server is named"),
        ("http://h:99999", "no server is named"),
        ("http://a host:5000", "no server is named"),
        ("http://h/\x1b[31m", "plain text (got 'http://h/\\x1b[31m')"),
        ("foo://x", "no store of kind foo://"),
        ("./mlruns", "in folders no more"),
        ("", "in folders no more"),
    ],
)
def test_where_no_store_can_be(uri: str, said: str, tmp_path: Path) -> None:
    """Groups 54 and 55: told from the URI and the file's first bytes, before MLflow is asked."""
    (tmp_path / "other").write_text("name: of another program")
    assert said in (refusal(uri.replace("FOLDER", str(tmp_path))) or "")


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///FOLDER/new.db", "sqlite:///FOLDER/empty", "http://[::1]:5000", "https://u:p@h/x"],
)
def test_where_a_store_can_be(uri: str, tmp_path: Path) -> None:
    """A file that is not there yet, an empty one, a server by its address."""
    (tmp_path / "empty").touch()
    assert refusal(uri.replace("FOLDER", str(tmp_path))) is None


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("sqlite:///runs/x.db", "runs/x.db"),
        ("sqlite:////data/x.db?timeout=60", "/data/x.db"),
        ("sqlite+pysqlite:///x.db", "x.db"),
        ("sqlite:///a%20b/100%.db", "a b/100%.db"),
        ("postgresql://h/x", None),
    ],
)
def test_the_file_of_a_store_is_the_one_that_mlflow_opens(uri: str, path: str | None) -> None:
    """Its draft and its artifacts stand beside it, whatever the URI adds to its name."""
    found = file(uri)
    assert found == (None if path is None else Path(path))
    assert path is None or make_url(uri).database == path


@pytest.mark.parametrize("folder", ["what?", "a%41b"])
def test_a_folder_that_no_uri_names_is_refused(
    folder: str, tmp_path: Path, write_space, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's store would come to be in another folder: nothing is created in either."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    source = write_space(trials=1, epochs=1)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(SpaceError, match="a path without"):
        launch.run(source, out=tmp_path / folder)
    assert set(tmp_path.rglob("*")) == before


def test_what_a_server_says_steers_no_terminal() -> None:
    """Its answer may be anybody's page, on one printable line here."""
    answer = ValueError("not a valid JSON format. Response body: '<html>\x1b[2J\x07 login'")
    assert str(away.TrackingError("http://h:5000", answer)).isprintable()


def test_a_missing_driver_of_a_database_is_told_with_its_remedy() -> None:
    """SQLAlchemy names a module; what helps is to install it."""
    error = away.TrackingError("mysql+pymysql://h/x", ImportError("No module named 'pymysql'"))
    assert "install it here" in str(error)


# ---- nothing runs ------------------------------------------------------------------------------

FORBIDDEN_USES = {
    "eval", "exec", "compile", "__import__", "pickle.Unpickler", "subprocess.getoutput",
    "os.system", "os.popen", "pickle.load", "pickle.loads", "marshal.load", "marshal.loads",
    "shelve.open", "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "runpy.run_path", "runpy.run_module", "joblib.load", "Tuner.restore", "tune.Tuner.restore",
}  # fmt: skip
FORBIDDEN_IMPORTS = {"cloudpickle", "dill", "marshal", "shelve", "runpy", "code"}
IMPORTERS = {
    "trainers/variants.py": {"import_module", "spec.loader.exec_module"},
    "trainers/__init__.py": {"importlib.import_module"},
    "search/cli.py": {"importlib.import_module"},
    "spaces/algebra/rules.py": {"import_module"},
}
"""Where code is imported by name: our own files, and a person's that `--plugin` named."""


def names_used(tree: ast.AST) -> Iterator[str]:
    """Everything that is looked up, by what it is spelt: `pickle.loads`, also where uncalled."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            yield ast.unparse(node)


def called(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, by what it is spelt."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("file", MODULES)
def test_no_module_runs_what_it_reads(file: str) -> None:
    """No pickle, eval or exec, no loader of YAML that makes objects, no shell."""
    tree = ast.parse((ROOT / file).read_text())
    assert not FORBIDDEN_USES & set(names_used(tree))
    for name, node in called(tree):
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert given.get("shell", "False") == "False"
        assert given.get("allow_pickle", "False") == "False"
        if name == "torch.load":
            assert given.get("weights_only") == "True"
        if name.endswith(("import_module", "exec_module")):
            assert name in IMPORTERS.get(file, set())
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    } | {
        (node.module or "").partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
    }
    assert not imported & FORBIDDEN_IMPORTS


class Evil:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


def test_a_checkpoint_that_would_run_something_is_refused(tmp_path: Path) -> None:
    """Its name and checksum are right, its content is a pickle: nothing is run."""
    for number, dump in enumerate((lambda e, f: torch.save(e, f), pickle.dump)):
        folder = tmp_path / str(number)
        checkpoint.put(folder, "epoch-00001", {"epoch": 1})
        (path,) = folder.glob("*.pt")
        buffer = io.BytesIO()
        dump({"epoch": Evil(tmp_path / "ran")}, buffer)
        path.unlink()
        name = f"epoch-00001.{hashlib.sha256(buffer.getvalue()).hexdigest()}.pt"
        (folder / name).write_bytes(buffer.getvalue())
        with pytest.raises(checkpoint.CheckpointError):
            checkpoint.get(folder, "epoch-00001")
    assert not (tmp_path / "ran").exists()


# ---- sizes and addresses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["mappings", "--channels", "16", "--gamma", "1e-9"], "1e-09 is out of range"),
        (["mappings", "--channels", "16", "--gamma", "nan"], "'nan' (allowed: numbers with commas"),
        (["mappings", "--channels", "16", "--gamma", "99,1e308"], "1e+308 is out of range"),
        (["mappings", "--channels", "16", "--b", "1e308"], "1e+308 is out of range"),
        (["mappings", "--channels", str(10**30)], "is out of range (allowed: 1 to 1,000,000)"),
        (["mappings", "--channels", "9" * 5000], "whole numbers"),
        (["mappings", "--gamma", ",".join(map(str, range(1, 900)))], "899 numbers (allowed: 500)"),
        (["complexity", "resnet8", "--image-size", "1000000"], "4<=x<=4096"),
        (["complexity", "digits", "--image-size", "3"], "4<=x<=4096"),
        (["validate", "digits", "backbone.width=1e9"], "allowed: 0.01 to 64"),
        (["validate", "digits", "dataset.image_size=100000"], "at most 4096"),
        (["validate", "digits", "training.batch_size=1000000"], "at most 65536"),
        (["validate", "digits", "attention.eca.mapping.gamma=1e-9"], "gamma: out of range"),
        (["validate", "digits", "training.epochs=1000000000"], "training.epochs"),
        (["validate", "digits", "search.trials=1000000000000"], "search.trials"),
        (["validate", "digits", "search.replicates=1000"], "search.replicates"),
    ],
)
def test_what_would_eat_the_machine_is_refused(
    arguments: list[str], said: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """gamma=1e-9 asks for a kernel of 10^9 taps: a usage error, before anything is allocated."""
    code = main(arguments)
    err = capsys.readouterr().err
    assert code == (0 if said is None else 2)
    assert (said or "") in err
    assert len(err.splitlines()) <= 6


def test_a_mapping_of_ones_own_is_held_to_the_sizes_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A kernel of 10^9 taps would cost 4 GB in every block."""
    text = "def mapping(channels, stage=None, *, taps: int = 10**9):\n    return taps\n"
    (tmp_path / "huge.py").write_text(text.replace("10**9", "1000000001"))
    attention = "attention={name: eca, mapping: {name: huge}}"
    plugged = ("search.baselines=[]", "--plugin", str(tmp_path / "huge.py"))
    code = main(["validate", "digits", attention, *plugged])
    assert code == 2
    assert (
        "attention.mapping: no network of this space can be built: a kernel size is 1 to 511"
        in (capsys.readouterr().err)
    )


def test_ui_listens_on_this_machine_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """MLflow is started on 127.0.0.1, and the store's URI is no argument others could read."""
    import sqlite3

    sqlite3.connect(tmp_path / "mlflow.db").execute("PRAGMA user_version = 1").close()
    (tmp_path / "mlflow.db").touch()
    started: list[list[str]] = []
    monkeypatch.setattr(ui.os, "execv", lambda program, arguments: started.append(arguments))
    monkeypatch.setattr(ui.os, "environ", dict(os.environ))
    assert main(["ui", str(tmp_path)]) == 0
    (arguments,) = started
    assert arguments[arguments.index("--host") + 1] == "127.0.0.1"
    assert not any("mlflow.db" in argument for argument in arguments)
    for host in ("0.0.0.0", "::", "192.168.1.1", ""):
        assert main(["ui", str(tmp_path), "--host", host]) == 2
        assert "--expose" in capsys.readouterr().err
    assert len(started) == 1
