"""The command line before any study: its commands and options, help, errors, planning commands."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest
from click.testing import CliRunner
from torch import nn

import spaces
import trainers
from search.cli import SECTIONS, cli, main
from search.commands import Command
from search.redaction import redacted

ROOT = Path(__file__).parents[2]
COMMON = {"--debug", "--no-color"}
EXECUTION = {"--executor", "--address", "--max-concurrent", "--tracking-uri"}
TOLD = {"--log-format", "--metrics-port"}
OPTIONS = {
    "init": {"--force"},
    "validate": {"--plugin", "--json"},
    "mappings": {
        *("--backbone", "--channels", "--gamma", "--b", "--rounding", "--json"),
        *("--same", "--range", "--profile", "--diagram"),
    },
    "complexity": {
        *("--attention", "--image-size", "--latency", "--batch-size", "--paper"),
        *("--plugin", "--json"),
    },
    "run": {"--out", "--plugin", "--resume", "--fork", "--force", *TOLD, *EXECUTION},
    "resume": {"--trials", "--out", "--fork", "--force", *TOLD, *EXECUTION},
    "status": {"--json"},
    "stop": {"--wait", "--max-concurrent"},
    "logs": {"--attempt", "--replicate", "--json"},
    "show": {"--json"},
    "pareto": {"--json", "--csv"},
    "ui": {"--tracking-uri", "--host", "--port", "--expose"},
    "sync": {"--tracking-uri", "--optuna-log"},
    "compare": {
        *("--arm", "--block", "--replicates", "--against", "--margin", "--alpha", "--plan"),
        *("--anyway", "--out", "--executor", "--address", "--max-concurrent", "--plugin"),
        *("--resume", "--force", "--tracking-uri", "--json"),
    },
    "confirm": {
        *("--front", "--trials", "--replicates", "--name", "--executor", "--address"),
        *("--max-concurrent", "--resume", "--force", "--tracking-uri", "--json"),
    },
    "report": {"--out", "--markdown", "--paper"},
    "export": {"--out", "--replicate", "--force", "--json"},
    "replay": {
        *("--curve", "--costs", "--chance", "--pruner", "--sampler", "--workers", "--repeats"),
        *("--budget", "--seed", "--plot", "--json"),
    },
    "gc": {"--dry-run", "--json"},
    "doctor": {
        *("--out", "--tracking-uri", "--json"),
        *("--cluster", "--address", "--space", "--plugin"),
    },
    "schema": set[str](),
}
"""What scripts are written against: a change here is a change to their world."""


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
def eca(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Eca:
    """Run `eca-search ARGUMENTS` here, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> Said:
        code = main(list(arguments))
        return Said(code, *capsys.readouterr())

    return call


def shell(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m search ARGUMENTS` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "search", *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def command(name: str) -> click.Command:
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    return found


def test_the_commands_are_these() -> None:
    """The set of commands, and where in the help they stand."""
    assert {section: list(commands) for section, commands in SECTIONS.items()} == {
        "Plan": ["init", "validate", "mappings", "complexity"],
        "Run": ["run", "resume", "status", "stop", "logs"],
        "Read": ["show", "pareto", "compare", "confirm", "report", "ui"],
        "Maintain": ["sync", "export", "replay", "gc", "doctor", "schema"],
    }


@pytest.mark.parametrize("name", OPTIONS)
def test_the_options_are_these(name: str) -> None:
    """The set of every command's options."""
    options = {
        option
        for parameter in command(name).params
        if isinstance(parameter, click.Option)
        for option in parameter.opts
    }
    assert options == OPTIONS[name] | COMMON


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help_with_an_example(name: str, flag: str) -> None:
    """`-h` and `--help` work everywhere, and end with a worked example."""
    told = CliRunner().invoke(cli, [name, flag])
    assert told.exit_code == 0
    assert f"Example:\n  eca-search {name}" in told.output


@pytest.mark.parametrize("name", OPTIONS)
def test_the_examples_parse(name: str) -> None:
    """What the help shows can be typed: its arguments and options exist."""
    shown = command(name)
    assert isinstance(shown, Command)
    for line in shown.example.splitlines():
        for part in line.replace("|", "&&").replace(">", "&&").split("&&"):
            program, *arguments = shlex.split(part)
            if program == "eca-search":
                chosen = command(arguments[0])
                assert chosen.make_context(arguments[0], arguments[1:]).params is not None


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    """`eca-search --help` imports click and no library that takes long, nor any command."""
    code = (
        "import sys; from search.cli import main; main(['--help'])\n"
        "heavy = 'torch ray optuna mlflow numpy pydantic yaml rich trainers spaces'.split()\n"
        "heavy += ['search.study.study', 'search.commands.run', 'search.commands.read']\n"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    told = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (told.returncode, told.stderr) == (0, "")
    assert all(name in told.stdout for name in OPTIONS)


def test_version(eca: Eca) -> None:
    """`--version` names the program and leaves with 0."""
    said = eca("--version")
    assert said.code == 0
    assert said.out.startswith("eca-search ")


def test_python_m_search_is_the_same_program(tmp_path: Path) -> None:
    """`python -m search` calls itself eca-search and hands its exit code on."""
    assert shell("--help", cwd=tmp_path).stdout.startswith("Usage: eca-search ")
    assert shell("validat", cwd=tmp_path).returncode == 2


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["valdate", "digits"], "did you mean 'validate'?"),
        (["run"], "Missing argument 'SPACE'"),
        (["run", "digits", "--exekutor", "ray"], "--executor"),
        (["run", "digits", "--executor", "dask"], "'inprocess'"),
        (["run", "digits", "--max-concurrent", "0"], "x>=1"),
        (["run", "digitz", "--executor", "inprocess"], "digitz"),
        (["run", "digits", "search.trials=none", "--executor", "inprocess"], "search.trials"),
        (["validate", "digits", "search.sampler.name=TPESample"], "search.sampler"),
        (["validate", "digits", "search.sampler={name: TPSampler}"], "TPESampler"),
        (["validate", "digits", "search.pruner={name: MediumPruner}"], "MedianPruner"),
        (["validate", "digits", "search.pruner={name: MedianPruner, n_warmup: 3}"], "n_warmup"),
        (["validate", "digits", "search.sampler={name: CmaEsSampler}"], "one objective"),
        (
            ["validate", "digits", "search.tracking.uri=foo://x"],
            "override 1: search.tracking.uri: no",
        ),
        (["run", "digits", "search.tracking.uri=./mlruns"], "override 1: search.tracking.uri: MLf"),
        (["validate", "digits", "training.batch_size=5000"], "larger than the training set"),
        (["validate", "digits", "dataset.subset=5000"], "dataset.subset: no such part (got 5000"),
        (["validate", "digits", "dataset.val=0.0001"], "0 validation images of 1442"),
        (["validate", "cifar10_laptop", "training.batch_size=5000"], "at most 3,200 images"),
        (
            ["validate", "digits", "training.batch_size={choice: [64, 2000], default: 64}"],
            "batch_size=2000",
        ),
        (["validate", "digits", "training.augmentation.crop=8"], "allowed 0..7"),
        (["complexity", "resnt50"], "did you mean 'resnet50'?"),
        (["complexity", "resnet51"], "did you mean 'resnet50'? (there are: mobilenetv2, resnet8,"),
        (["complexity", "resnet" + "9" * 5000], "did you mean 'resnet152'?"),
        (["complexity", "resnet50", "--attention", "ecaa"], "--attention: no attention named 'eca"),
        (["complexity", "resnet50", "--attention", "ecaa"], "--plugin FILE.py"),
        (["complexity", "resnet50", "--image-size", "x"], "--image-size"),
        (["mappings", "--channels", "16,x"], "whole numbers"),
        (
            ["mappings", "--channels", "0,16"],
            "'--channels': 0 is out of range (allowed: 1 to",
        ),
        (["mappings", "--backbone", "resnet18", "--channels", "16"], "not both"),
        (["status", "nowhere"], "no study here"),
        (["show", "nowhere", "1"], "no study here"),
        (["pareto", "nowhere"], "no study here"),
        (["resume", "nowhere"], "no study here"),
        (["sync", "nowhere"], "no study here"),
        (["replay", "nowhere"], "a table needs --curve"),
        (["replay", "nowhere.csv", "--curve", "e{epoch}", "--costs", "c"], "nowhere.csv"),
        (["ui", "nowhere"], "no MLflow store"),
        (["ui", "nowhere", "--host", "0.0.0.0"], "--expose"),
        (["sync", "nowhere", "--tracking-uri", "foo://x"], "no store of kind foo://"),
        (["run", "digits", "--tracking-uri", "./mlruns"], "sqlite:///./mlruns/mlflow.db"),
        (["run", "digits", "--tracking-uri", "file:///runs"], "sqlite:////runs/mlflow.db"),
        (["init", "No Name.yaml"], "a-z"),
        (["init", "nowhere/x.yaml"], "nowhere"),
        (["schema", "--json"], "--json"),
    ],
)
def test_errors_are_short_and_leave_nothing(
    eca: Eca, tmp_path: Path, arguments: list[str], hint: str
) -> None:
    """What a person can get wrong: exit 2, at most six lines on stderr, no file, no traceback."""
    said = eca(*arguments)
    assert said.code == 2
    assert hint in said.err
    assert len(said.err.strip().splitlines()) <= 6
    assert "Traceback" not in said.err
    assert said.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs",
        "=1",
        "training..epochs=1",
        "training.epochs=[",
        "training.epochs=many",
        "training.epochz=3",
        "search.trials=0",
        "backbone.width=-1",
        "",
        "-x=1",
    ],
)
def test_a_bad_override_is_named(eca: Eca, override: str) -> None:
    """An override that cannot be is refused by its own place, before anything is run."""
    said = eca("validate", "digits", "--", override)
    assert (said.code, said.out) == (2, "")
    assert 1 <= len(said.err.strip().splitlines()) <= 6


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["cifar10_where", "dataset.root=/nowhere"], "dataset.root: no cifar10 data"),
        (["digits", "--out", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_an_unfit_environment_is_exit_3(
    eca: Eca, tmp_path: Path, arguments: list[str], hint: str
) -> None:
    """Data that is missing, a folder that cannot be made: 3, in a few lines; nothing is left."""
    said = eca("run", *arguments, "--executor", "inprocess")
    assert (said.code, said.out) == (3, "")
    assert hint in said.err
    assert len(said.err.splitlines()) <= 6
    assert list(tmp_path.iterdir()) == []


def test_passwords_are_not_printed() -> None:
    """A store's URI is shown without what stands before the host."""
    assert redacted("postgresql://me:secret@host/db") == "postgresql://[redacted]@host/db"
    assert redacted("sqlite:////data/mlflow.db") == "sqlite:////data/mlflow.db"


def test_debug_shows_the_traceback(eca: Eca) -> None:
    """`--debug`, before or after the command's name, adds the traceback and keeps the code."""
    for arguments in (["--debug", "status", "nowhere"], ["status", "nowhere", "--debug"]):
        said = eca(*arguments)
        assert said.code == 2
        assert "Traceback" in said.err


def test_an_internal_error_says_so(eca: Eca, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug is exit 1 and one sentence that names --debug."""
    import search.execution.launch

    def broken(folder: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr(search.execution.launch, "load", broken)
    said = eca("status", "anywhere")
    assert said.code == 1
    assert said.err == "internal error: ZeroDivisionError: by zero\n(--debug shows where)\n"


def test_a_reader_that_leaves_early_is_no_error(tmp_path: Path) -> None:
    """`eca-search schema | head` ends without a traceback."""
    process = subprocess.Popen(
        [sys.executable, "-m", "search", "schema"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("options", "networks"),
    [
        # reference: the 42-pair grid on the channels of these networks, counted by hand in
        # tests/golden/test_mapping_golden.py's formula k = 2 floor((log2 C + b) / 2 gamma) + 1
        (["--backbone", "resnet50"], 21),
        (["--backbone", "resnet18"], 19),
        (["--channels", "16,32,64"], 12),
        (["--channels", "256,512,1024,2048"], 21),
    ],
)
def test_mappings_count_networks(eca: Eca, options: list[str], networks: int) -> None:
    """Of the 42 pairs of the default grid, few are different networks."""
    told = eca("mappings", *options, "--json").json
    assert (told["version"], told["pairs"], told["networks"]) == (1, 42, networks)
    assert len(told["mappings"]) == networks
    assert sum(len(row["pairs"]) for row in told["mappings"]) == 42


def test_mappings_of_channels_need_no_torch(tmp_path: Path) -> None:
    """With --channels the answer comes without importing torch."""
    code = (
        "import sys; from search.cli import main; main(['mappings', '--channels', '16'])\n"
        "sys.exit('torch' in sys.modules)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, text=True)
    assert done.returncode == 0


def test_mappings_say_what_is_refused(eca: Eca) -> None:
    """Pairs with log2(C) + b < 0 are in no network, and said to be refused."""
    said = eca("mappings", "--channels", "2,4", "--gamma", "1", "--b", "-2,0,1")
    assert "3 pairs, 2 networks" in said.out
    assert "refused: (1,-2): log2(C) + b must not be negative" in said.out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--gamma", "nan"], "'--gamma': 'nan' (allowed: numbers with commas between them)"),
        (["--gamma", "0"], "'--gamma': 0 is out of range (allowed: 0.1 to 100)"),
        (["--b=-500"], "'--b': -500 is out of range (allowed: -64 to 64)"),
        (["--gamma", "1", "--b", "-20"], "--b -20 gives a kernel: log2(C) + b must not be"),
    ],
)
def test_mappings_of_no_pair_are_a_usage_error(eca: Eca, options: list[str], said: str) -> None:
    """Where no pair gives a kernel, the options are what is wrong: exit 2, with or without JSON."""
    for flags in ([], ["--json"]):
        told = eca("mappings", "--channels", "16", *options, *flags)
        assert (told.code, told.out) == (2, "")
        assert said in told.err


@pytest.mark.parametrize(
    ("name", "attention", "size", "params", "macs"),
    [
        # torchvision's counts and eca.md's conv + fc MACs at 224; ECA adds sum(k), sum(k C)
        ("resnet18", "none", 224, 11_689_512, 1_814_073_344),
        ("resnet50", "none", 224, 25_557_032, 4_089_184_256),
        ("resnet50", "eca", 224, 25_557_118, 4_089_184_256 + 87_808),
        ("mobilenetv2", "none", 224, 3_504_872, 300_774_272),
        ("resnet20", "none", 32, 272_474, 40_813_184),
    ],
)
def test_complexity_of_published_networks(
    eca: Eca, name: str, attention: str, size: int, params: int, macs: int
) -> None:
    """Backbones by name are those of the papers, at their sizes."""
    told = eca("complexity", name, "--attention", attention, "--json").json
    assert told == {
        "version": 1,
        "models": [
            {
                "name": name,
                "attention": attention,
                "image_size": size,
                "params": params,
                "macs": macs,
            }
        ],
    }


def test_complexity_takes_several_names_and_space_files(eca: Eca, tmp_path: Path) -> None:
    """A space file counts with its holes at their defaults; --image-size and --attention hold."""
    config = spaces.load("digits").at(
        spaces.load("digits").fill(lambda parameter: parameter.first())
    )
    (tmp_path / "point.yaml").write_text(config.to_yaml())
    told = eca("complexity", "digits", "point.yaml", "resnet20", "--json").json["models"]
    assert [model["name"] for model in told] == ["digits", "point.yaml", "resnet20"]
    assert told[0]["macs"] == told[1]["macs"]
    larger = eca("complexity", "digits", "--image-size", "16", "--attention", "se", "--json").json
    assert larger["models"][0]["image_size"] == 16
    assert larger["models"][0]["attention"] == "se"
    assert larger["models"][0]["macs"] > told[0]["macs"]


def test_complexity_says_what_a_mac_is(eca: Eca) -> None:
    """For people, a table, and that 1 MAC is 2 FLOPs."""
    said = eca("complexity", "resnet20")
    assert "272,474" in said.out
    assert "1 MAC = 2 FLOPs" in said.out


def test_validate_spans_the_space(eca: Eca) -> None:
    """`validate --json`: parameters, settings, networks, cost ranges and notes of a ready space."""
    told = eca("validate", "digits", "--json").json
    space = spaces.load("digits")
    assert told["version"] == 1
    assert [p["name"] for p in told["parameters"]] == [p.name for p in space.parameters]
    assert told["settings"] == space.size()
    assert 1 < told["networks"] < told["settings"]
    assert all(0 < least < most for least, most in told["costs"].values())
    assert set(told["costs"]) == {"params", "macs"}
    assert any("answered from the journal" in note for note in told["notes"])


def test_validate_counts_the_networks_within_limits(eca: Eca, write_space: Any) -> None:
    """N of M networks, and the share of settings, are those of networks built and counted here.

    The limit lies between networks of one width, which differ by the kernels of their attention;
    several settings are one network on either side of it.
    """
    limit = 19_822
    mapping = "mapping: {name: log2, gamma: {choice: [1, 2]}, b: {int: [-1, 3]}}"
    path = write_space(
        width="{choice: [0.25, 0.5, 1.0]}",
        attention=f"{{choice: [{{name: none}}, {{name: eca, {mapping}}}]}}",
        search=f"limits: {{params: {limit}}}",
    )
    space = spaces.load(path)
    inside, networks = [], []
    for values in space.settings():
        built = trainers.build(space.at(values))
        inside.append(sum(weight.numel() for weight in built.parameters()) <= limit)
        kernels = [part.kernel_size for part in built.modules() if isinstance(part, nn.Conv1d)]
        networks.append((values["backbone.width"], *kernels))
    within = {network for network, allowed in zip(networks, inside, strict=True) if allowed}
    assert 0 < len(within) < sum(inside) < len(inside)
    share = sum(inside) / len(inside)

    told = eca("validate", str(path), "--json").json
    assert told["settings"] == len(inside)
    assert told["networks"] == len(set(networks))
    assert told["networks_within_limits"] == len(within)
    assert told["within_limits"] == pytest.approx(share)
    sentence = (
        f"{len(within)} of {len(set(networks))} networks ({share:.0%} of the settings) are within "
        "`search.limits`"
    )
    assert sentence in told["notes"]
    assert f"note: {sentence}\n" in eca("validate", str(path)).out
    # a limit that all are within is not worth a word
    loose = eca("validate", str(path), "search.limits.params=1e6", "--json").json
    assert (loose["within_limits"], loose["networks_within_limits"]) == (1, loose["networks"])
    assert not any("are within" in note for note in loose["notes"])


def test_validate_counts_no_networks_of_an_endless_space(eca: Eca) -> None:
    """A continuous recipe makes every run key new: networks are null, and a note says why."""
    lr = "training.optimizer.lr={float: [0.01, 1.0], log: true, default: 0.1}"
    told = eca("validate", "digits", lr, "--json").json
    assert told["settings"] is None
    assert told["networks"] is None
    assert any("training.optimizer.lr is continuous" in note for note in told["notes"])


def test_validate_warns_of_pruning_by_accuracy(eca: Eca) -> None:
    """A pruner that compares accuracy alone is allowed, with a warning about the front."""
    said = eca("validate", "digits", "search.pruner={name: MedianPruner}")
    assert said.code == 0
    assert "note: MedianPruner compares accuracy alone" in said.out


def test_validate_counts_a_large_space_or_says_that_it_did_not(eca: Eca) -> None:
    """Thousands of settings are looked at each; where they are too many a note says so."""
    mapping = "mapping: {name: log2, gamma: {float: [1, 4], step: STEP}, b: {int: [-1, 3]}}"
    where = "placement: {name: stages, stages: {subset: [1, 2, 3]}}"
    attention = f"attention={{name: eca, {where}, {mapping}}}"
    told = eca(
        "validate", "digits", attention.replace("STEP", "0.001"), "search.baselines=[]", "--json"
    ).json
    assert told["settings"] > 100_000
    assert told["networks"] is None
    assert any("networks are not counted" in note for note in told["notes"])
    told = eca(
        "validate", "digits", attention.replace("STEP", "0.05"), "search.baselines=[]", "--json"
    ).json
    assert 5_000 < told["settings"] < 50_000
    assert 1 < told["networks"] < told["settings"]


def test_validate_says_that_a_pruner_of_costs_does_nothing(eca: Eca) -> None:
    """Where all objectives are costs there is no curve to prune by."""
    costs = "search.objectives={params: min, macs: min}"
    said = eca("validate", "digits", costs, "search.pruner={name: MedianPruner}")
    assert said.code == 0
    assert "note: MedianPruner never stops a trial: all objectives are costs" in said.out


def test_validate_knows_plugins(eca: Eca) -> None:
    """A variant from --plugin is known by its file's name."""
    broken = "attention={name: faulty, fault: raise}"
    plugin = str(ROOT / "tests" / "plugins" / "faulty.py")
    bare = ["training.epochs=1", "search.baselines=[]", "search.trials=1"]
    assert eca("validate", "digits", broken, *bare, "--plugin", plugin).code == 0


def test_complexity_knows_plugins(eca: Eca) -> None:
    """An attention of one's own is counted in a published backbone."""
    (Path.cwd() / "doubling.py").write_text(
        "from torch import nn\n\n\ndef attention(channels, *, bias: bool = False):\n"
        "    return nn.Conv2d(channels, channels, 1, bias=bias)\n"
    )
    plain, gated = (
        eca("complexity", "resnet8", "--json", *options).json["models"][0]
        for options in ((), ("--attention", "doubling", "--plugin", "doubling.py"))
    )
    assert gated["params"] - plain["params"] == 16**2 + 32**2 + 64**2


def test_a_plugin_that_cannot_be_imported_is_located(eca: Eca, tmp_path: Path) -> None:
    """Its text was fine; what it does on import was not: the line is named, and nothing is left."""
    text = "import nowhere_at_all\n\n\ndef attention(channels): ...\n"
    (tmp_path / "broken.py").write_text(text)
    attention = ("attention={name: broken}", "search.baselines=[]", "search.trials=1")
    for command in (("validate",), ("run", "--executor", "inprocess")):
        said = eca(*command, "digits", *attention, "--plugin", "broken.py")
        assert (said.code, said.out) == (2, "")
        assert "broken.py:1:1: " in said.err
        assert "No module named 'nowhere_at_all'" in said.err
        assert "Traceback" not in said.err
    assert list(tmp_path.iterdir()) == [tmp_path / "broken.py"]


@pytest.mark.parametrize("argument", ["mine", "mine.yaml"])
def test_init_writes_a_valid_space(eca: Eca, tmp_path: Path, argument: str) -> None:
    """The written file loads as it is, names its schema, and the schema lies beside it."""
    said = eca("init", argument)
    assert said.code == 0
    text = (tmp_path / "mine.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=eca-search.schema.json\n")
    assert json.loads((tmp_path / "eca-search.schema.json").read_text())["$schema"]
    assert spaces.load(tmp_path / "mine.yaml").name == "mine"
    assert eca("validate", "mine.yaml").code == 0


def test_init_never_overwrites_unasked(eca: Eca, tmp_path: Path) -> None:
    """A file that is there stays as it is, unless --force is given."""
    (tmp_path / "mine.yaml").write_text("precious")
    said = eca("init", "mine")
    assert said.code == 2
    assert "--force" in said.err
    assert (tmp_path / "mine.yaml").read_text() == "precious"
    assert eca("init", "mine", "--force").code == 0


def test_schema_is_the_space_files_own(eca: Eca) -> None:
    """`schema` prints the JSON Schema that `spaces` makes."""
    from spaces.schema import schema

    assert eca("schema").json == schema()
