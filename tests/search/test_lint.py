"""What `validate` says of mappings before anything trains: values that mean the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import spaces
from search.beforehand.lint import lint
from search.cli import main
from spaces.mappings import log2

LOG2 = "{{name: eca, mapping: {{name: log2, gamma: {gamma}, b: {b}}}}}"


@pytest.fixture
def notes(tmp_path: Path) -> Callable[..., list[str]]:
    """The notes on ResNet-8 on digits, with another backbone, attention, or limits."""

    def write(
        attention: str,
        *,
        backbone: str = "{name: resnet, depth: 8, width: {choice: [0.5, 1.0]}}",
    ) -> list[str]:
        path = tmp_path / "linted.yaml"
        path.write_text(
            "name: linted\n"
            "dataset: {name: digits}\n"
            f"backbone: {backbone}\n"
            f"attention: {attention}\n"
            "training: {epochs: 1, optimizer: {name: sgd, lr: 0.1}}\n"
            "search: {trials: 4}\n"
        )
        return lint(spaces.load(path))

    return write


def equal(found: list[str]) -> list[str]:
    """The notes on equal values."""
    return [note for note in found if "give the same networks" in note]


def test_values_that_give_the_same_networks_are_named(notes: Callable[..., list[str]]) -> None:
    """Of four gammas two mean the same kernels on 8 to 64 channels, and only these are named."""
    kernels = {
        gamma: [log2.mapping(c, gamma=gamma, b=1) for c in (8, 16, 32, 64)]
        for gamma in (2.0, 2.25, 4.0)
    }
    assert kernels[2.0] != kernels[2.25]  # k(8) = 3 needs 4 / (2 gamma) >= 1
    found = notes(LOG2.format(gamma="{choice: [2.0, 2.25, 2.3, 4.0]}", b=1))
    assert equal(found) == [
        "attention.mapping.gamma: 2.25 and 2.3 give the same networks at every width"
    ]


def test_values_that_differ_at_one_width_are_not_called_equal(
    notes: Callable[..., list[str]],
) -> None:
    """Gamma 2 and 2.25 are both 3-3-3 at width 1; at width 0.5 stage 1 has 8 channels, and not."""
    gamma = "{choice: [2.0, 2.25]}"
    assert not equal(notes(LOG2.format(gamma=gamma, b=1)))
    alone = notes(LOG2.format(gamma=gamma, b=1), backbone="{name: resnet, depth: 8}")
    assert equal(alone) == [
        "attention.mapping.gamma: 2.0 and 2.25 give the same networks whatever else is chosen"
    ]


def test_width_and_b_are_said_to_be_confounded(notes: Callable[..., list[str]]) -> None:
    """A space that varies both is told its pairs: half the width is b less by one."""
    found = notes(LOG2.format(gamma="{choice: [1, 1.5, 2]}", b="{int: [0, 2]}"))
    said = [note for note in found if "confounded" in note]
    assert len(said) == 1
    assert "2 pairs of this space" in said[0]
    assert "width 0.5 with b 1 and width 1 with b 0" in said[0]
    assert not [n for n in notes(LOG2.format(gamma=2, b="{choice: [0, 0.5]}")) if "confounded" in n]


@pytest.mark.parametrize(
    ("mapping", "missing"),
    [
        ("{name: log2, gamma: {float: [1, 4], step: 0.5}, b: {int: [-1, 3]}}", True),
        ("{name: log2, gamma: {float: [1, 4]}, b: {float: [-1, 3]}}", True),
        ("{name: log2, gamma: {float: [0.5, 4]}, b: {float: [-5, 3]}}", False),  # (1, -4.5)
        ("{name: log2, gamma: {choice: [1, 2]}, b: {choice: [-4.5, 1]}}", False),
        ("{choice: [{name: log2}, {name: per_stage, kernel_sizes: [3, 5, 5, 7]}]}", False),
        ("{name: constant, kernel_size: {choice: [3, 5]}}", True),
        ("{name: log2}", False),  # nothing is searched
    ],
)
def test_spaces_without_the_released_profile_are_told(
    notes: Callable[..., list[str]], mapping: str, missing: bool
) -> None:
    """ResNet-50's 3-5-5-7 is in a space or not, for grids, choices and whole rectangles."""
    found = notes(f"{{name: eca, mapping: {mapping}}}", backbone="{name: resnet, depth: 50}")
    assert any("cannot express the authors' released resnet50, 3-5-5-7" in n for n in found) is (
        missing
    )


def test_a_continuous_plane_is_counted(notes: Callable[..., list[str]]) -> None:
    """A rectangle without steps is few networks, here one, by hand."""
    found = notes(LOG2.format(gamma="{float: [4, 5]}", b="{float: [0, 0.5]}"))
    # log2 C + b is at most log2(64) + 0.5 = 6.5 < 2 gamma, which is 8 or more: k = 1 everywhere
    assert "continuous, but on one backbone all their values are 1 network:" in found[0]


def test_fixed_mappings_and_large_spaces_get_no_note(notes: Callable[..., list[str]]) -> None:
    """Nothing is said where there is nothing to choose, or too much to look at."""
    assert notes("{choice: [{name: none}, {name: eca}]}") == []
    fine = LOG2.format(gamma="{float: [1, 4], step: 0.001}", b="{int: [0, 2]}")
    assert notes(fine) == []


def test_values_beyond_the_limits_are_named(
    write_space: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """A width and a b that no network within `search.limits` has are said in one note."""
    attention = LOG2.format(gamma=1, b="{choice: [1, 9]}")
    path = write_space(attention=attention)

    def said(limit: int) -> Any:
        code = main(["validate", str(path), f"search.limits={{params: {limit}}}", "--json"])
        assert code == 0
        return json.loads(capsys.readouterr().out)

    costs = said(10**9)["costs"]["params"]
    assert not any("no network within" in note for note in said(costs[1])["notes"])
    # ECA adds the sum of k: with b=9 it is over by a few parameters, without which nothing is
    tight = said(costs[0])["notes"]
    assert (
        "no network within `search.limits` has backbone.width 0.5; attention.mapping.b 9" in tight
    )


def test_a_pruner_that_ignores_cost_is_noted(
    write_space: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Accuracy pruning under several objectives is warned of, cost-aware pruning is not."""
    search = "objectives: {val_accuracy: max, params: min}\npruner: {name: MedianPruner%s}"
    for more, warned in (("", True), (", among: cheaper", False)):
        path = write_space(search=search % more)
        assert main(["validate", str(path)]) == 0
        assert ("compares accuracy alone" in capsys.readouterr().out) is warned
