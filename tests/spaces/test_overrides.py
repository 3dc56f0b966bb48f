"""Overrides: typed by the schema, named by number, reaching into options by their names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import spaces


def at(*overrides: str) -> spaces.Config:
    """A sample of the ready space with overrides."""
    space = spaces.load("digits", overrides=overrides)
    return space.at(space.sample(seed=1))


@pytest.mark.parametrize(
    ("override", "value"),
    [("training.optimizer.lr=1e-3", 1e-3), ("training.optimizer.lr=1", 1.0)],
)
def test_a_value_is_typed_like_the_file(override: str, value: float) -> None:
    """1e-3 is a number, and 1 is one where a number is asked."""
    assert at(override).training.optimizer.lr == value


def test_missing_keys_and_sections_are_made() -> None:
    """A key that the file leaves out can be given, with its section."""
    config = at("training.augmentation.flip=true", "training.ema=0.99")
    assert config.training.augmentation.flip is True
    assert config.training.ema == 0.99


def test_an_option_is_taken_by_its_name() -> None:
    """attention=eca closes the choice, and the option's own holes stay."""
    space = spaces.load("digits", overrides=["attention=eca", "search.baselines=[]"])
    names = [parameter.name for parameter in space.parameters]
    assert "attention" not in names
    assert "attention.mapping.gamma" in names


def test_a_parameters_name_reaches_into_its_option() -> None:
    """The name that Optuna and MLflow show is the path of the override."""
    space = spaces.load("digits", overrides=["attention.eca.mapping.gamma=2"])
    assert "attention.eca.mapping.gamma" not in [parameter.name for parameter in space.parameters]
    config = space.at(space.fill(lambda p: "eca" if p.name == "attention" else p.first()))
    assert config.attention.mapping.params["gamma"] == 2.0


def test_a_hole_may_be_given() -> None:
    """The value may itself be a hole."""
    space = spaces.load("digits", overrides=["training.batch_size={choice: [32, 64], default: 64}"])
    assert space.parameters[-1].choices == (32, 64)


def test_a_hole_in_a_list_is_counted_from_one() -> None:
    """An element of a list is named as its parameter would be."""
    space = spaces.load("digits", overrides=["backbone.width=[1, 1, 1]", "backbone.width.2=0.5"])
    assert space.at(space.sample(seed=0)).backbone.params["width"] == [1.0, 0.5, 1.0]


def test_a_path_on_the_command_line_is_relative_to_where_it_is_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of a file are relative to the file, those of an override to the working directory."""
    monkeypatch.chdir(tmp_path)
    assert at("dataset.root=images").dataset.root == str(tmp_path / "images")
    space = spaces.load("digits", overrides=["search.tracking.uri=sqlite:///here.db"])
    assert space.search.tracking.uri == f"sqlite:///{tmp_path}/here.db"
    space = spaces.load("digits", overrides=["search.checkpoints.uri=s3://bucket/x"])
    assert space.search.checkpoints.uri == "s3://bucket/x"


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["optim.lr"], "override 1: not an override"),
        (["=1"], "override 1: not an override"),
        (["optim..lr=1"], "override 1: not an override"),
        (["training.optimizer.lr=["], "override 1: training.optimizer.lr: not YAML"),
        (["training.epochs=3", "training.epochs=abc"], "override 2: training.epochs: given twice"),
        (["training.epochs=abc"], 'override 1: training.epochs: not allowed here (got "abc"'),
        (["training.epochs=-3"], "override 1: training.epochs: out of range (got -3"),
        (["training.epochs="], "override 1: training.epochs: not allowed here (got null"),
        (["optim.lr=1"], "override 1: optim: unknown key"),
        (["training.epochz=1"], "did you mean 'epochs'"),
        (["training.epochs.x=1"], "training.epochs is a single value"),
        (["attention.ecaa.mapping.gamma=2"], "did you mean 'eca'"),
        (["attention.eca.mapping.gamma.x=2"], "is a hole"),
        (["backbone.width=[1, 1, 1]", "backbone.width.4=1"], "override 2: backbone.width.4: no"),
        (["training.epochs=!!python/name:os.system"], "override 1: training.epochs: a tag"),
        (["training.epochs=1", "search.trials=0"], "override 2: search.trials: out of range"),
        (["search.trials=10\nname: x"], "override 1: search.trials: "),
    ],
)
def test_bad_overrides_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], said: str
) -> None:
    """Group 58: at most six lines that name the override by its number; nothing is created."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(spaces.SpaceError) as caught:
        spaces.load("digits", overrides=overrides)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 6
    assert os.listdir(tmp_path) == []
