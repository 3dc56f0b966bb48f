"""Arms: a comparison's settings, each the space with a few keys replaced and its holes closed."""

from __future__ import annotations

from pathlib import Path

import pytest

import spaces
from spaces import SpaceError, arms

SPACE = """\
name: rules
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: {choice: [0.25, 0.5], default: 0.5}}
attention:
  choice:
    - {name: none}
    - {name: eca, mapping: {name: log2, gamma: {float: [1, 4], step: 0.5, default: 2}, b: 1}}
  default: eca
training: {epochs: 2, batch_size: 32, optimizer: {name: sgd, lr: {float: [0.01, 1.0]}}}
"""
ARMS = """\
arms:
  published: {training.optimizer.lr: 0.1}
  k3: {attention.eca.mapping: {name: constant, kernel_size: 3}, training.optimizer.lr: 0.1}
  none: {attention: {name: none}, training.optimizer.lr: 0.1}
blocks: [backbone.width]
"""


def load(folder: Path, text: str, **how: object) -> spaces.Space:
    """The space that a text means."""
    path = folder / "space.yaml"
    path.write_text(text)
    return spaces.load(path, **how)  # type: ignore[arg-type]


def refusal(folder: Path, text: str, **how: object) -> str:
    """What is said against a text."""
    with pytest.raises(SpaceError) as caught:
        load(folder, text, **how)
    assert len(str(caught.value).splitlines()) <= 6
    return str(caught.value)


def test_every_arm_is_taken_at_every_value_of_the_blocks(tmp_path: Path) -> None:
    """The settings are arms times blocks; all other holes take their defaults."""
    space = load(tmp_path, SPACE + ARMS)
    settings = list(space.settings())
    assert [(arms.of(v), dict(arms.block(v))) for v in settings] == [
        (name, {"backbone.width": width})
        for name in ("published", "k3", "none")
        for width in (0.25, 0.5)
    ]
    configs = [space.at(values) for values in settings]
    assert [c.attention.name for c in configs] == ["eca"] * 4 + ["none"] * 2
    mappings = [c.attention.mapping for c in configs[:4]]
    assert [m.name for m in mappings if m] == ["log2", "log2", "constant", "constant"]
    assert {c.training.optimizer.lr for c in configs} == {0.1}
    assert mappings[0] is not None
    assert mappings[0].params["gamma"] == 2
    assert space.baselines() == settings
    assert space.search.trials == 6


def test_it_is_written_as_it_was_and_loads_as_an_equal_space(tmp_path: Path) -> None:
    """`to_yaml` keeps the holes of the base, the arms and the blocks."""
    space = load(tmp_path, SPACE + ARMS)
    written = space.to_yaml()
    again = load(tmp_path, written)
    assert again == space
    assert again.to_yaml() == written
    assert "float: [1.0, 4.0]" in written
    other = load(tmp_path, (SPACE + ARMS).replace("kernel_size: 3", "kernel_size: 5"))
    assert other != space


def test_a_path_in_an_arm_is_relative_to_the_file(tmp_path: Path) -> None:
    """As anywhere in a space file, also when the space is written elsewhere."""
    text = SPACE.replace("{name: digits}", "{name: image_folder, root: photos}")
    text += "arms:\n  a: {dataset.root: here, training.optimizer.lr: 0.1}\n"
    text += "  b: {dataset: {name: image_folder, root: there}, training.optimizer.lr: 0.1}\n"
    space = load(tmp_path, text)
    roots = [space.at(values).dataset.root for values in space.settings()]
    assert roots == [str(tmp_path / "here"), str(tmp_path / "there")]
    (tmp_path / "elsewhere").mkdir()
    assert load(tmp_path / "elsewhere", space.to_yaml()) == space


def test_a_comparison_leaves_no_room_for_a_sampler_or_a_pruner(tmp_path: Path) -> None:
    """What says how a space is searched is refused where it stands, never ignored."""
    search = "search: {trials: 4, pruner: {name: ParetoPruner}, sampler: {name: TPESampler}}\n"
    said = refusal(tmp_path, SPACE + ARMS + search)
    assert "search.pruner: a space with arms trains each of them, whole" in said
    assert "search.sampler" in said


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("arms: {}\n", "arms: no arms (got 0 arms"),
        ("arms: [a, b]\n", "arms: no arms"),
        ("arms: {a: 3}\n", "arms.a: not an arm (got 3"),
        ("arms: {a.b: {}}\n", "arms.a.b: it would be part of a parameter's name"),
        ("arms: {a: {}}\n", "training.optimizer.lr is left open, and the hole has no default"),
        ("arms: {a: {search.seed: 3}}\n", "arms.a.search.seed: no such key"),
        ("arms: {a: {name: other}}\n", "arms.a.name: no such key"),
        ("arms: {a: {training.lr: 0.1, training.optimizer.lr: 0.1}}\n", "training.lr: unknown key"),
        ("arms: {a: {attention.se.reduction: 4}}\n", "attention has no such option"),
        ("blocks: [backbone.width]\n", "blocks: a comparison's, and there are no arms"),
    ],
)
def test_what_is_no_arm_is_refused_where_it_stands(tmp_path: Path, wrong: str, said: str) -> None:
    """Located, with what is allowed, in at most six lines."""
    found = refusal(tmp_path, SPACE + wrong)
    assert said in found
    assert found.startswith(str(tmp_path / "space.yaml") + ":")


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ("[backbone.widht]", "no arm leaves such a hole open; did you mean 'backbone.width'?"),
        ("[training.optimizer.lr]", "got a float without step"),
        ("backbone.width", "blocks: no blocks"),
    ],
)
def test_what_is_no_block_is_refused(tmp_path: Path, blocks: str, said: str) -> None:
    """A block is a finite hole that every arm leaves open."""
    text = SPACE.replace("0.01, 1.0]}", "0.01, 1.0], default: 0.1}")
    assert said in refusal(tmp_path, f"{text}arms: {{a: {{}}, b: {{}}}}\nblocks: {blocks}\n")


def test_a_block_that_one_arm_closes_is_refused(tmp_path: Path) -> None:
    """Blocks are complete: every arm has every value, or nothing could be compared."""
    text = SPACE + ARMS.replace("none: {", "none: {backbone.width: 1.0, ")
    assert "blocks.backbone.width: arm none leaves no such hole open (open: " in refusal(
        tmp_path, text
    )


def test_arms_said_on_the_command_line(tmp_path: Path) -> None:
    """`NAME=key=VALUE; key=VALUE` replaces what the search says; values are YAML."""
    text = SPACE + "search: {trials: 9, replicates: 2, pruner: {name: ParetoPruner}}\n"
    said = [
        "published=training.optimizer.lr=0.1",
        "k=attention={name: eca, mapping: {name: per_stage, kernel_sizes: [3, 5, 7]}}; "
        "training.optimizer.lr=1e-1",
    ]
    space = load(tmp_path, text, compared=said, blocks=["backbone.width=[0.25, 1.0]"])
    assert space.search.pruner is None
    assert space.search.replicates == 2
    found = [space.at(values) for values in space.settings()]
    assert [c.backbone.params["width"] for c in found] == [0.25, 1.0] * 2
    assert found[2].attention.mapping is not None
    assert found[2].attention.mapping.params["kernel_sizes"] == [3, 5, 7]
    assert load(tmp_path, space.to_yaml()) == space


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (["=attention=none"], "--arm : an arm without a name"),
        (
            ["a"],
            "--arm a: it replaces nothing (allowed: a=KEY=VALUE, or a= for the space as it is)",
        ),
        (
            ["attention=none"],
            "--arm attention: no replacement (got none; allowed: key.path=value after the arm's ",
        ),
        (["a=attention=none", "a=attention=eca"], "--arm a: given twice"),
        (["a=attention=none; attention=eca"], "--arm a: attention: given twice"),
        (["a=attention=[none"], "--arm a"),
        (["a=attenton=none"], "--arm a: attenton: no such key; did you mean 'attention'?"),
        (["a.b=attention=none"], "--arm a.b: it would be part of a parameter's name"),
        (
            ["a=attention=ecaa"],
            """--arm a: attention: no such option; did you mean 'eca'? (got "ecaa"; """
            "allowed: none, eca, or a whole component, {name: ...})",
        ),
        (
            ["a=attention=eca; attention.eca.mapping.gamma=3"],
            "--arm a: attention.eca: attention is eca here, no choice any more "
            "(allowed: attention.mapping.gamma)",
        ),
    ],
)
def test_a_wrong_arm_option_is_named(tmp_path: Path, said: list[str], expected: str) -> None:
    """An option is called as it was typed."""
    text = SPACE.replace("0.01, 1.0]}", "0.01, 1.0], default: 0.1}")
    assert expected in refusal(tmp_path, text, compared=said)


def said_once(folder: Path, **how: object) -> str:
    """What is said against arms and blocks of a space whose learning rate has no default."""
    found = refusal(folder, SPACE, **how)
    assert len(found.splitlines()) == 1, found
    return found


def test_what_is_wrong_with_every_arm_is_said_once(tmp_path: Path) -> None:
    """A hole left open, a block that there is not; and of arms that are named, which."""
    both = ["a=attention=eca", "b=attention=none"]
    assert said_once(tmp_path, compared=both) == (
        "--arm: training.optimizer.lr is left open by every arm, and the hole has no default "
        "(allowed: a value in the arm, a default, or the hole among the blocks)"
    )
    closed = [f"{arm}; training.optimizer.lr=0.1" for arm in both]
    assert said_once(tmp_path, compared=[*both, f"c={closed[0][2:]}"]).startswith(
        "--arm: training.optimizer.lr is left open by a, b, and the hole has no default"
    )
    assert said_once(tmp_path, compared=[both[0], closed[1]]).startswith(
        "--arm a: training.optimizer.lr is left open, and the hole has no default"
    )
    assert said_once(tmp_path, compared=closed, blocks=["backbone.widht"]).startswith(
        "--block backbone.widht: no arm leaves such a hole open; did you mean 'backbone.width'?"
    )
    several = [*closed, f"c={closed[1][2:]}"]
    gamma = "attention.mapping.gamma"
    assert said_once(tmp_path, compared=several, blocks=[gamma]).startswith(
        f"--block {gamma}: arms b, c leave no such hole open (open: backbone.width)"
    )


def test_a_misspelt_key_is_said_without_what_follows_from_it(tmp_path: Path) -> None:
    """The hole that it was meant to close is open, which is not what is wrong."""
    other = "b=attention=none; training.optimizer.lr=0.1"
    said = said_once(tmp_path, compared=["a=training.optimizr.lr=0.1", other])
    assert said.startswith("--arm a: training.optimizr: unknown key; did you mean 'optimizer'?")
    said = said_once(tmp_path, compared=["a=training.optimizer.l=0.1", other])
    assert "--arm a: training.optimizer.l: " in said


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        (
            ["backbone.width=0.25"],
            "--block backbone.width: not a list of values (got 0.25; allowed: backbone.width=[...",
        ),
        (["backbone.width=[]"], "--block backbone.width: not a list of values (got []; "),
        (["backbone.width=[.25, .25]"], "--block backbone.width: 0.25 given twice (allowed: once)"),
        (["backbone.width"] * 2, "--block backbone.width: given twice (allowed: once, as KEY=["),
    ],
)
def test_a_wrong_block_option_is_named(tmp_path: Path, blocks: list[str], said: str) -> None:
    """As it was typed, and with nothing that follows from it."""
    arms = ["a=training.optimizer.lr=0.1", "b=attention=none; training.optimizer.lr=0.1"]
    assert said_once(tmp_path, compared=arms, blocks=blocks).startswith(said)


def test_what_is_asked_of_the_search_is_refused_what_the_file_says_left_out(tmp_path: Path) -> None:
    """A pruner asked for beside arms is no comparison's; the file's own arm to compare with goes
    with the file's arms.
    """
    text = SPACE.replace("0.01, 1.0]}", "0.01, 1.0], default: 0.1}") + ARMS
    text += "search: {compare: {against: published, margin: 0.01}}\n"
    own = ["a=attention=eca", "b=attention=none"]
    assert load(tmp_path, text, compared=own).search.compare.against is None
    assert load(tmp_path, text, compared=own).search.compare.margin == 0.01
    assert load(tmp_path, text, compared=[]).search.compare.against == "published"
    said = refusal(tmp_path, text, compared=own, overrides=["search.sampler.name=GridSampler"])
    assert said == (
        "override 1: search.sampler: a comparison trains each of its arms, whole "
        "(allowed: leave it out)"
    )


def test_test_images_judge_nothing_but_a_confirmation(tmp_path: Path) -> None:
    """No search has an objective on the test images, and none confirms without arms."""
    other = "{study: other, uuid: abc, metric: val_accuracy, values: {none: 0.5}}"
    search = "search: {objectives: {test_accuracy: max}}\n"
    assert "for `eca-search confirm` alone" in refusal(tmp_path, SPACE + ARMS + search)
    search = f"search: {{trials: 3, confirms: {other}, objectives: {{test_accuracy: max}}}}\n"
    assert "only arms are confirmed" in refusal(tmp_path, SPACE + search)
    search = f"search: {{confirms: {other}, objectives: {{val_accuracy: max}}}}\n"
    assert "trained on where a study is confirmed" in refusal(tmp_path, SPACE + ARMS + search)
    search = f"search: {{confirms: {other}, objectives: {{test_accuracy: max, params: min}}}}\n"
    assert load(tmp_path, SPACE + ARMS + search).search.judge == "test"
