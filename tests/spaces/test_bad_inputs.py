"""What must be refused, and what looks odd but is legal.

The number of a case is its group: YAML form 1 to 23, scalars to 32, semantics to 52, names 53.
"""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

import pytest

import spaces

BASE = """\
name: base
dataset: {name: digits}
backbone: {name: resnet, depth: 20, width: {choice: [0.5, 1.0], default: 1.0}}
attention:
  choice:
    - {name: none}
    - name: eca
      placement: {name: stages, stages: {subset: [1, 2, 3], default: [1, 2, 3]}}
      mapping: {name: log2, gamma: {float: [1, 4], step: 0.5, default: 2}, b: 1}
training:
  epochs: 4
  batch_size: 64
  optimizer: {name: sgd, lr: 0.1}
search:
  trials: 8
  seed: 0
  objectives: {val_accuracy: max, params: min}
  sampler: {name: TPESampler}
  resources: {cpu: 1, gpu: auto}
"""
GAMMA = "{float: [1, 4], step: 0.5, default: 2}"
WIDTH = "{choice: [0.5, 1.0], default: 1.0}"
STAGES = "{subset: [1, 2, 3], default: [1, 2, 3]}"
LOG2 = "{name: log2, gamma: {float: [1, 4], step: 0.5, default: 2}, b: 1}"


def having(old: str, new: str) -> str:
    """The valid space with one thing changed."""
    assert old in BASE
    return BASE.replace(old, new)


FORM = [
    (1, "", "empty file"),
    (2, "# nothing\n# here\n", "empty file"),
    (3, "name: x\ntraining:\n\tepochs: 3\n", "tab"),
    (4, "name: [x\n", "expected"),
    (4, "name: 'x\n", "quoted"),
    (4, "name: {x: 1\n", "expected"),
    (5, BASE + "---\nname: y\n", "second document"),
    (6, "- name: x\n", "a list or a single value"),
    (7, "name\n", "a list or a single value"),
    (8, BASE + "name: again\n", "duplicate key 'name'"),
    (8, having("lr: 0.1", "lr: 0.1, lr: 0.2"), "training.optimizer.lr: duplicate key"),
    (8, "name: &a {x: 1, x: 2}\ndataset: {<<: *a}\n", "duplicate key 'x'"),
    (8, "name: &a {x: 1}\ndataset: &b {x: 2}\ntask: {<<: [*a, *b]}\n", "duplicate key 'x'"),
    (9, BASE + "1: x\n", "a key that is not a text (got 1"),
    (9, BASE + "null: x\n", "a key that is not a text (got null"),
    (9, BASE + ".inf: x\n", "not a finite number"),
    (9, BASE + "[1, 2]: x\n", "a key that is not a text"),
    (9, BASE + "yes: x\n", "yes"),
    (10, "name: !!python/object/apply:os.system [ls]\n", "!!python/object/apply:os.system"),
    (11, "name: !env HOME\n", "!env"),
    (12, "name: !!binary aGk=\n", "!!binary"),
    (12, "name: !!set {a, b}\n", "!!set"),
    (13, "name: *missing\n", "*missing"),
    (14, "name: &a [*a]\n", "*a stands inside"),
    (
        15,
        "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n"
            for i in range(8)
        ),
        "too many nodes",
    ),
    (15, "a: &a x\nb: [" + "*a, " * 200 + "]\n", "too many aliases"),
    (
        16,
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{i + 1}: &a{i + 1} {{<<: [*a{i}, *a{i}]}}\n" for i in range(20)),
        "merge",
    ),
    (16, "a: &a {x: 1}\nb: &b {<<: *a}\nc: {<<: *b}\n", "one level"),
    (17, "name: " + "[" * 200_000, "too many levels"),
    (17, "[" * 200_000, "too many levels"),
    (17, "name: " + "{a: " * 50_000, "too many levels"),
    (18, "name: x\n" + "# padding\n" * 200_000, "too large"),
    (19, 'name: "a\\0b"\n', "NUL"),
    (19, "name: a\0b\n", "character not allowed"),
    (19, 'name: "\\ud800"\n', "surrogate"),
    (20, having("epochs: 4", "epochs: " + "9" * 5000), "5000 digits"),
    (20, having("epochs: 4", "epochs: 99999999999999999999"), "training.epochs"),
    (21, "%YAML 1.1\n---\n" + BASE, "%YAML"),
    (21, "%TAG ! tag:x,2000:\n---\n" + BASE, "%TAG"),
]

SCALARS = [
    (25, having("epochs: 4", "epochs: 1_000"), "1_000"),
    (25, having("epochs: 4", "epochs: 010"), "010"),
    (25, having("epochs: 4", "epochs: 0o10"), "0o10"),
    (25, having("epochs: 4", "epochs: 12:30:45"), "12:30:45"),
    (25, having("lr: 0.1", "lr: 1_0.5"), "1_0.5"),
    (25, having("lr: 0.1", "lr: 1e400"), "too large"),
    (26, having("lr: 0.1", "lr: .nan"), ".nan"),
    (26, having("lr: 0.1", "lr: .inf"), ".inf"),
    (26, having(GAMMA, "{float: [1, .inf]}"), ".inf"),
    (26, having("cpu: 1", "cpu: -.inf"), "-.inf"),
    (27, having("name: base", "name: no"), "yes or no"),
    (27, having("lr: 0.1", "lr: 0.1, nesterov: yes"), "yes or no"),
    (27, having("lr: 0.1", "lr: 0.1, nesterov: off"), "yes or no"),
    (28, having("epochs: 4", 'epochs: "3"'), 'got "3"; allowed: a whole number'),
    (29, having("epochs: 4", "epochs: 3.0"), "got 3.0; allowed: a whole number"),
    (
        29,
        having("depth: 20", "depth: 20.0"),
        "backbone.depth: not allowed here (got 20.0; allowed: 8",
    ),
    (29, having("depth: 20", "depth: {choice: [20.0, 8]}"), "backbone.depth: not allowed here"),
    (30, having("epochs: 4", "epochs: true"), "got true; allowed: a whole number"),
    (30, having("lr: 0.1", "lr: true"), "got true; allowed: a number"),
    (31, having("name: base", "name: 1.10"), "allowed: text"),
    (32, having("name: base", "name: 2024-01-31"), "a date"),
]

SEMANTICS = [
    (33, having("gamma:", "gama:"), "did you mean 'gamma'"),
    (33, having("training:", "trainig:"), "did you mean 'training'"),
    (33, having("lr: 0.1", "lr: 0.1, momentm: 0.9"), "did you mean 'momentum'"),
    (33, having("  seed: 0", "  sead: 0"), "did you mean 'seed'"),
    (33, having(WIDTH, "{chioce: [0.5, 1.0]}"), "did you mean 'choice'"),
    (33, having("step: 0.5,", "stp: 0.5,"), "did you mean 'step'"),
    (33, having("placement:", "placment:"), "attention.placment: unknown key; did you mean 'plac"),
    (33, having("mapping:", "maping:"), "attention.maping: unknown key; did you mean 'mapping'"),
    (33, having("{name: none}", "{name: none, maping: {}}"), "(allowed: name)"),
    (33, having("{name: digits}", "{name: digits, subst: 100}"), "did you mean 'subset'"),
    (34, BASE + "epochs: 4\n", "it belongs under training"),
    (34, BASE + "trials: 4\n", "it belongs under search"),
    (34, having("depth: 20", "depth: 20, mapping: {name: log2}"), "backbone.mapping: unknown key"),
    (35, having("name: base\n", ""), "name: required key is missing"),
    (35, having("  epochs: 4\n", ""), "training.epochs: required key is missing"),
    (35, having(", depth: 20", ""), "backbone.depth: required key is missing"),
    (
        35,
        having("{name: sgd, lr: 0.1}", "{lr: 0.1}"),
        "training.optimizer.name: required key is missing",
    ),
    (35, having("  trials: 8\n", ""), "search.trials: required key is missing"),
    (36, having(GAMMA, "{float: [4, 1]}"), "low is above high"),
    (36, having(GAMMA, "{float: [1, 4], step: 0}"), "step out of range"),
    (36, having(GAMMA, "{float: [1, 4], step: -1}"), "step out of range"),
    (36, having(GAMMA, "{float: [1, 4], step: 5}"), "allowed: high 1 or 6"),
    (36, having(GAMMA, "{float: [1, 4], step: 0.4}"), "allowed: high 3.8 or 4.2"),
    (36, having("epochs: 4", "epochs: {int: [1, 8], step: 3}"), "allowed: high 7 or 10"),
    (36, having("epochs: 4", "epochs: {int: [1, 8.5]}"), "whole numbers"),
    (36, having(GAMMA, "{float: [1]}"), "got 1 numbers"),
    (36, having(GAMMA, "{float: 2}"), "a list [low, high]"),
    (36, having(GAMMA, "{float: [1, 4], default: 5}"), "the default is"),
    (36, having(GAMMA, "{float: [1, 4], step: 0.5, default: 1.3}"), "steps of 0.5"),
    (37, having("lr: 0.1", "lr: {float: [0, 1], log: true}"), "log needs positive"),
    (37, having("lr: 0.1", "lr: {float: [0.1, 1], log: true, step: 0.1}"), "exclude each other"),
    (37, having("epochs: 4", "epochs: {int: [0, 4], log: true}"), "log needs positive"),
    (37, having("lr: 0.1", "lr: {float: [0.1, 1], log: 1}"), "allowed: true, false"),
    (38, having(WIDTH, "{choice: []}"), "got 0 options"),
    (38, having(WIDTH, "{choice: 1.0}"), "allowed: a list"),
    (38, having(WIDTH, "{choice: [1.0, 1.0]}"), "options 1 and 2 are equal"),
    (38, having(WIDTH, "{choice: [1, 0.5, 1.0]}"), "options 1 and 3 are equal"),
    (38, having(WIDTH, "{choice: [1, true]}"), "options 1 and 2 are equal"),
    (38, having(WIDTH, '{choice: [1, "1"]}'), 'got "1"'),
    (38, having(WIDTH, "{choice: [[1, [2]], 1.0]}"), "backbone.width"),
    (38, having(WIDTH, "{choice: [0.5, 1.0], default: 0.7}"), "the default is no option"),
    (38, having(WIDTH, "{choice: [0.5, {float: [1, 2]}]}"), "a hole as an option"),
    (38, having(WIDTH, "{choice: [0.5], float: [1, 2]}"), "two kinds"),
    (38, having(STAGES, "{subset: []}"), "got 0 elements"),
    (38, having(STAGES, "{subset: [1, 1]}"), "named twice"),
    (38, having(STAGES, "{subset: [1, 2], default: [3]}"), "the default is no option"),
    (38, having("{name: none}", "{name: {choice: [none, se]}}"), "a name cannot be open"),
    (
        39,
        having(WIDTH, "{choice: [" + ",".join(map(str, range(1, 1200))) + "]}"),
        "got 1199 options",
    ),
    (
        39,
        having("lr: 0.1", "lr: OPEN, momentum: OPEN, weight_decay: OPEN")
        .replace(WIDTH, "OPEN")
        .replace("OPEN", "{choice: [" + ", ".join(f"0.0{n}" for n in range(100, 500)) + "]}"),
        "too many options in all holes together",
    ),
    (39, having(STAGES, "{subset: [" + ",".join(map(str, range(1, 200))) + "]}"), "199 elements"),
    (40, having(GAMMA, "0"), "gamma: out of range (got 0"),
    (40, having(GAMMA, "-2"), "gamma: out of range (got -2"),
    (40, having(GAMMA, "1e-9"), "gamma: out of range (got 1e-09"),
    (40, having(GAMMA, "{float: [0, 4]}"), "gamma: out of range (got 0"),
    (40, having("b: 1}", "b: -1000}"), "b: out of range"),
    (40, having(LOG2, "{name: constant, kernel_size: 4}"), "an odd number"),
    (40, having(LOG2, "{name: constant, kernel_size: 0}"), "kernel_size"),
    (40, having(LOG2, "{name: constant, kernel_size: -3}"), "at least 1"),
    (40, having(LOG2, "{name: constant, kernel_size: 100001}"), "at most 511"),
    (40, having(LOG2, "{name: constant, kernel_size: {int: [3, 8]}}"), "an odd number"),
    (40, having(LOG2, "{name: per_stage, kernel_sizes: [3, 5]}"), "one for each stage"),
    (40, having(LOG2, "{name: per_stage, kernel_sizes: [3, 5, 6]}"), "an odd number"),
    (40, having(LOG2, "{name: per_stage, kernel_sizes: []}"), "at least 1 entry)"),
    (40, having("b: 1}", "k_min: 7, k_max: 3}"), "k_max: out of range"),
    (40, having("b: 1}", "rounding: up}"), "allowed: nearest, nearest_down, floor, ceil"),
    (41, having(WIDTH, "0"), "width: out of range (got 0; allowed: 0.01 to 64)"),
    (41, having(WIDTH, "-1"), "width: out of range (got -1; allowed: 0.01 to 64)"),
    (41, having(WIDTH, '"1"'), 'width: not allowed here (got "1"'),
    (41, having(WIDTH, "1e9"), "allowed: 0.01 to 64"),
    (41, having(WIDTH, "[1.0, 0.5]"), "backbone.width"),
    (41, having(WIDTH, "[1.0, 0.5, 1.0, 1.0]"), "one for each stage"),
    (41, having(WIDTH, "[1.0, -0.5, 1.0]"), "width.2: out of range (got -0.5; allowed: 0.01"),
    (41, having(WIDTH, "{float: [0, 1]}"), "out of range (got 0.0; allowed: 0.01 to 64)"),
    (42, having(STAGES, "[1, 4]"), "no such stage (got 4; allowed: 1 to 3)"),
    (42, having(STAGES, "{subset: [1, 4]}"), "no such stage (got 4; allowed: 1 to 3)"),
    (42, having(STAGES, "[0]"), "more than 0"),
    (
        42,
        having(STAGES, "{subset: [1], always: [2]}"),
        "the always is no option (got 2; allowed: 1",
    ),
    (42, having(STAGES, "[2, 2]"), "named twice"),
    (42, having(STAGES, "[]"), "attention nowhere (got []; allowed: one or more stages"),
    (
        42,
        having(f"{{name: stages, stages: {STAGES}}}", "{name: blocks, blocks: [stage1.block9]}"),
        "no such block",
    ),
    (
        42,
        having(f"{{name: stages, stages: {STAGES}}}", "{name: blocks, blocks: [layer1]}"),
        "stage",
    ),
    (43, having("{name: resnet,", "{name: resnt,"), "did you mean 'resnet'"),
    (43, having("{name: digits}", "{name: digit}"), "did you mean 'digits'"),
    (43, having("{name: none}", "{name: nome}"), "did you mean 'none'"),
    (43, having("name: log2", "name: log"), "no mapping named 'log'"),
    (
        43,
        having("name: sgd", "name: sdg"),
        "space.yaml:13:21: training.optimizer.name: unknown name; did you mean 'sgd'",
    ),
    (
        43,
        having("epochs: 4", "epochs: 4\n  schedule: {warmup_epochs: 1, name: cosin}"),
        "space.yaml:12:38: training.schedule.name: unknown name; did you mean 'cosine'",
    ),
    (43, having("params: min", "parms: min"), "did you mean 'params'"),
    (
        44,
        having("{val_accuracy: max, params: min}", "{}"),
        "space.yaml:17:15: search.objectives: no objective (got {}; allowed: one or more of",
    ),
    (44, having("val_accuracy: max", "best_val_accuracy: max"), "did you mean 'val_accuracy'"),
    (44, having("{val_accuracy: max, params: min}", "[]"), "search.objectives"),
    (44, having("params: min", "params: max"), "wrong way"),
    (44, having("params: min", "params: minimise"), "unknown goal"),
    (44, having("params: min", "val_accuracy: min"), "duplicate key"),
    (44, having("params: min", "params: {goal: min, tolerance: -1}"), "tolerance"),
    (44, having("TPESampler", "CmaEsSampler"), "one objective"),
    (45, having("epochs: 4", "epochs: 0"), "training.epochs: out of range (got 0"),
    (45, having("epochs: 4", "epochs: 2.5"), "training.epochs"),
    (45, having("epochs: 4", "epochs: {int: [0, 4]}"), "training.epochs: out of range (got 0"),
    (
        45,
        having("  seed: 0", "  pruner: {name: MedianPruner, n_warmup_steps: 4}"),
        "it would never prune",
    ),
    (
        45,
        having("  seed: 0", "  pruner: {name: SuccessiveHalvingPruner, reduction_factor: 1}"),
        "reduction_factor",
    ),
    (45, having("  seed: 0", "  further: {seeds: 0}"), "search.further.seeds: out of range (got 0"),
    (45, having("  seed: 0", "  further: {}"), "search.further.seeds"),
    (
        45,
        having("  seed: 0", "  replicates: 3\n  further: {seeds: 9, most: 3}"),
        "search.further.most: every network has as many anyway (got 3 and replicates 3",
    ),
    (
        45,
        having("  seed: 0", "  duplicates: replicate\n  further: {seeds: 9}"),
        "search.further: duplicates ask for the same seeds",
    ),
    (45, having("epochs: 4", "epochs: 4\n  schedule: {name: cosine, warmup_epochs: 4}"), "warmup"),
    (46, having("batch_size: 64", "batch_size: 0"), "training.batch_size: out of range"),
    (46, having("batch_size: 64", "batch_size: 1"), "training.batch_size: out of range"),
    (46, having("batch_size: 64", "batch_size: 1000000"), "training.batch_size: out of range"),
    (47, having("trials: 8", "trials: 0"), "search.trials: out of range (got 0"),
    (47, having("trials: 8", "trials: -1"), "search.trials: out of range (got -1"),
    (47, having("trials: 8", "trials: 1000000000000"), "search.trials: out of range"),
    (47, having("trials: 8", "trials: 8\n  timeouts: {trial: 0}"), "search.timeouts.trial"),
    (47, having("trials: 8", "trials: 8\n  budget: {hours: 0}"), "search.budget.hours"),
    (48, having("seed: 0", "seed: -1"), "search.seed: out of range"),
    (48, having("seed: 0", "seed: 18446744073709551616"), "search.seed: out of range"),
    (48, having("seed: 0", "seed: [1, 1]"), "search.seed: not allowed here (got [1, 1]"),
    (48, having("TPESampler}", "TPESampler, seed: 3}"), "the sampler's seed is search.seed"),
    (49, having("cpu: 1,", "cpu: 0,"), "search.resources.cpu: out of range"),
    (49, having("gpu: auto", "gpu: 1.5"), "search.resources.gpu: out of range"),
    (49, having("gpu: auto", "gpu: -1"), "search.resources.gpu"),
    (49, having("gpu: auto", "gpu: many"), "search.resources.gpu"),
    (49, having("gpu: auto", "processes: 0"), "search.resources.processes: out of range"),
    (49, having("gpu: auto", "gpu: 8, processes: 2"), "search.resources.processes: each trains"),
    (49, having("gpu: auto", "gpu: 0.5, processes: 2"), "search.resources.processes: each trains"),
    (49, having("trials: 8", "trials: 8\n  max_concurrent: 0"), "search.max_concurrent"),
    (50, having("trials: 8", "trials: 8\n  limits: {params: 0}"), "search.limits.params"),
    (50, having("trials: 8", "trials: 8\n  limits: {flops: 1e6}"), "no cost named 'flops'"),
    (
        50,
        having("trials: 8", "trials: 8\n  reference: {}"),
        "search.reference: not allowed here (got {}; allowed: at least 1 entry",
    ),
    (
        51,
        having("trials: 8", "trials: 8\n  baselines: [{attention: {name: se}}]"),
        'no option (got "se"',
    ),
    (
        51,
        having("trials: 8", "trials: 8\n  baselines: [{backbone: {dept: 20}}]"),
        "did you mean 'depth'",
    ),
    (
        51,
        having("trials: 8", "trials: 8\n  baselines: [{backbone: {depth: 8}}]"),
        "fixed here (got 8; allowed: 20)",
    ),
    (
        51,
        having(", default: 2}", "}").replace(
            "trials: 8", "trials: 8\n  baselines: [{attention: {name: eca}}]"
        ),
        "attention.eca.mapping.gamma: left open",
    ),
    (52, having("trials: 8", "trials: {int: [8, 9]}"), "search.trials"),
]

NAMES = [
    "../../x",
    "a/b",
    ".",
    "",
    "a" * 300,
    "\U0001f600",
    "a\\nb",
    "\\e[31mred",
    "<script>",
    "CON",
    "con",
    "aux.txt",
    "a.",
    "a ",
    "a..b",
    "-a",
]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that loads a text and gives the refusal, once its form has been checked."""
    monkeypatch.chdir(tmp_path)

    def refuse(text: str | bytes) -> str:
        content = text if isinstance(text, bytes) else text.encode("utf-8")
        Path("space.yaml").write_bytes(content)
        with pytest.raises(spaces.SpaceError) as caught:
            spaces.load("space.yaml")
        assert os.listdir() == ["space.yaml"]
        said = str(caught.value)
        lines = said.splitlines()
        assert 1 <= len(lines) <= 6
        for line in lines:
            assert re.match(r"space\.yaml:\d+:\d+: |\.\.\. and \d+ more$", line), line
            assert len(line) < 230
            assert line.isprintable()
        return said

    return refuse


@pytest.mark.parametrize(
    ("group", "text", "said"),
    [pytest.param(*case, id=f"{case[0]}-{i}") for i, case in enumerate(FORM + SCALARS + SEMANTICS)],
)
@pytest.mark.timeout(30)
def test_refused_with_place_and_reason(refused, group: int, text: str, said: str) -> None:
    """Bad input is refused in at most six located lines that name it; no file appears."""
    assert said in refused(text)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_folder_everywhere_is_refused(refused, name: str) -> None:
    """Group 53: the study's folder bears the name, so it must be one, and print harmlessly."""
    said = refused(having("name: base", f'name: "{name}"'))
    assert ": name: not allowed here" in said
    assert "\x1b" not in said


def test_a_budget_pays_for_one_training_at_least(refused) -> None:
    """One of fewer epochs than any training takes would make a study without a trial."""
    text = having("  trials: 8", "  trials: 8\n  budget: {epochs: 3}")
    said = refused(text)
    assert "search.budget.epochs: it pays for no training (got 3; allowed: 4 or more)" in said


@pytest.mark.parametrize("value", ['""', "https://example.com/a.pt", "s3://a/b.pt", '"a\\0b"', "3"])
def test_pretrained_weights_are_a_file_s(refused, value: str) -> None:
    """A path is what backbone.pretrained takes; nothing is fetched from anywhere."""
    text = having("depth: 20", f"depth: 20, pretrained: {value}")
    assert "backbone.pretrained: " in refused(text)


@pytest.mark.parametrize(
    ("content", "place"),
    [
        (b"name: caf\xe9\n", "space.yaml:1:10"),
        (b"\xff\xfen\0a\0m\0e\0", "space.yaml:1:1"),
        (b"\x7fELF\x02\x01\x01\x00", "space.yaml:1:1"),
    ],
    ids=["latin-1", "utf-16", "binary"],
)
def test_bytes_that_are_no_utf8_are_refused(refused, content: bytes, place: str) -> None:
    """Groups 19 and 22: another encoding, or no text at all, is named with its place."""
    assert refused(content).startswith(place)


def test_an_unknown_key_is_located_at_the_key(refused) -> None:
    """An unknown key points at the key, a wrong value at the value."""
    text = having("{name: none}", "{name: none, x: 1}")
    assert "space.yaml:6:20: attention.x: unknown key" in refused(text)
    assert "space.yaml:13:30: training.optimizer.lr: " in refused(having("lr: 0.1", "lr: -1"))


def test_long_and_odd_keys_are_one_printable_line_each(refused) -> None:
    """Newlines, escapes and sheer length in keys, names and values do not reach the terminal."""
    keys = "".join(f'"a\\nb\\e[31m{i}{"x" * 400}": 1\n' for i in range(9))
    said = refused(BASE + keys)
    assert len(said.splitlines()) == 6
    assert "a\\nb\\x1b[31m0xxx" in said
    long = "log2" + "y" * 900
    assert "no mapping named 'log2yyy" in refused(having("name: log2", f"name: {long}"))
    assert "duplicate key 'log2yyy" in refused(f"{long}: 1\n{long}: 2\n")
    refused(having("depth: 20", 'depth: 20, "\\u202e\\u2028": 1'))


def test_every_value_of_a_large_space_is_tried_where_they_can_be_counted(refused) -> None:
    """Beside a continuous hole, which leaves no settings to list, even kernels are still found."""
    text = having("lr: 0.1", "lr: {float: [0.01, 1], log: true}")
    said = refused(text.replace(LOG2, "{name: constant, kernel_size: {int: [3, 9]}}"))
    key = "attention.mapping.kernel_size"
    wanted = [f"{key}: not allowed here (got {k}; allowed: an odd number)" for k in (4, 6, 8)]
    assert [line.split(": ", 1)[1] for line in said.splitlines()] == wanted
    said = refused(text.replace(LOG2, "{name: constant, kernel_size: {int: [1, 511]}}"))
    assert "allowed: an odd number" in said
    momentum = "lr: {float: [0.01, 1], log: true}, momentum: {float: [0, 1.5], step: 0.5}"
    said = refused(having("lr: 0.1", momentum))
    assert "momentum: out of range (got 1.0; allowed: less than 1.0)" in said
    for legal in ("{int: [3, 9], step: 2}", "{int: [1, 511], step: 2}"):
        Path("space.yaml").write_text(
            text.replace(LOG2, f"{{name: constant, kernel_size: {legal}}}")
        )
        assert spaces.load("space.yaml").size() is None


def test_seven_problems_are_six_lines(refused) -> None:
    """Many problems at once are five lines and a count."""
    keys = "".join(f"wrong{i}: 1\n" for i in range(9))
    said = refused(BASE + keys).splitlines()
    assert len(said) == 6
    assert said[-1] == "... and 4 more"


def test_what_is_wrong_in_several_sections_is_said_at_once(refused) -> None:
    """The search is checked beside what it searches: nobody mends one file twice."""
    text = having("lr: 0.1", "lr: -1").replace("epochs: 4", "epochs: 0")
    text = text.replace("trials: 8", "trials: 0").replace("gamma:", "gama:")
    said = [line.split(": ")[1] for line in refused(text).splitlines()]
    assert said == [
        "attention.mapping.gama",
        "training.epochs",
        "training.optimizer.lr",
        "search.trials",
    ]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device", "dangling", "missing"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    """Group 22: nothing that would hang or never end is read."""
    path = tmp_path / "space.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.close()
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "dangling":
        path.symlink_to(tmp_path / "nowhere.yaml")
    with pytest.raises(spaces.SpaceError, match=re.escape(f"{path}:1:1: ")) as caught:
        spaces.load(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs Linux's /proc")
def test_a_file_that_cannot_be_read_is_refused() -> None:
    """A regular file whose reading fails (also for root) gives the system's reason."""
    with pytest.raises(spaces.SpaceError, match=r"/proc/self/mem:1:1: cannot be read: "):
        spaces.load("/proc/self/mem")


def test_an_unknown_ready_space_is_answered_with_the_nearest() -> None:
    """A bare name that there is not is told the names that there are."""
    with pytest.raises(spaces.SpaceError, match="did you mean 'digits'"):
        spaces.load("digts")


LEGAL = {
    "21: %YAML 1.2": "%YAML 1.2\n---\n" + BASE,
    "19: BOM": "\ufeff" + BASE,
    "19: CRLF": BASE.replace("\n", "\r\n"),
    "24: 1e-3": having("lr: 0.1", "lr: 1e-3"),
    "25: 1E1 and +.5": having("lr: 0.1", "lr: +.5, weight_decay: 1E-1"),
    "25: 0x1F": having("epochs: 4", "epochs: 0x1F"),
    "36: low == high": having(GAMMA, "{float: [2, 2]}"),
    "38: one choice": having(WIDTH, "{choice: [1.0]}"),
    "38: 0.1 steps": having(GAMMA, "{float: [1.1, 1.7], step: 0.1}"),
    "49: a third of a GPU": having("gpu: auto", "gpu: 0.3333"),
    "8: merged": having(
        f"{{name: resnet, depth: 20, width: {WIDTH}}}",
        "{<<: &b {name: resnet, depth: 8}, depth: 20}",
    ),
}


@pytest.mark.parametrize("text", LEGAL.values(), ids=LEGAL)
def test_legal_input_loads(tmp_path: Path, text: str) -> None:
    """What looks odd but is right is read."""
    path = tmp_path / "space.yaml"
    path.write_bytes(text.encode("utf-8"))
    space = spaces.load(path)
    assert space.at(space.sample(seed=0)).name == "base"


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (having(GAMMA, "{float: [2, 2]}"), "attention.eca.mapping.gamma can have one value only"),
        (having(WIDTH, "{choice: [1.0]}"), "backbone.width can have one value only"),
        ("name: x\ndataset: {name: digits}\nbackbone: {name: resnet, depth: 8}\n"
         "training: {epochs: 1, optimizer: {name: sgd, lr: 0.1}}\n", "no holes"),
        (having("trials: 8", "trials: 1000"), "settings only"),
    ],
)  # fmt: skip
def test_legal_but_odd_input_is_noted(tmp_path: Path, text: str, note: str) -> None:
    """Group 52 and its like: legal, and said."""
    path = tmp_path / "space.yaml"
    path.write_text(text)
    assert any(note in said for said in spaces.load(path).notes)


def test_odd_paths_are_read_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Group 23: spaces, letters of any script, ~ and another working directory."""
    folder = tmp_path / "my spaces \u00e9\u4e2d"
    folder.mkdir()
    (folder / "a b.yaml").write_text(having("{name: digits}", "{name: digits, root: data}"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir("/")
    for path in (folder / "a b.yaml", "~/my spaces \u00e9\u4e2d/a b.yaml"):
        space = spaces.load(path)
        assert space.at(space.sample(seed=0)).dataset.root == str(folder / "data")


def test_one_point_e_minus_three_is_the_number(tmp_path: Path) -> None:
    """Group 24: 1e-3 is 0.001 and not a text, as in YAML 1.2."""
    path = tmp_path / "space.yaml"
    path.write_text(having("lr: 0.1", "lr: 1e-3"))
    space = spaces.load(path)
    assert space.at(space.sample(seed=0)).training.optimizer.lr == 0.001
