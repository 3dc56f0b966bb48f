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


STAGES = "attention.eca.placement.stages"


def test_an_element_of_a_subset_is_taken_or_left_for_good(tmp_path: Path) -> None:
    """A parameter's name fixes its element; the others stay open, and the file written is equal."""
    overrides = [f"{STAGES}.2=false", f"{STAGES}.3=true", "search.baselines=[]"]
    space = spaces.load("digits", overrides=overrides)
    names = [p.name for p in space.parameters if p.name.startswith(STAGES)]
    assert names == [f"{STAGES}.1"]
    found = set()
    for seed in range(40):
        config = space.at(space.sample(seed))
        if config.attention.placement:
            found.add(tuple(config.attention.placement.params["stages"]))
    assert found == {(3,), (1, 3)}
    path = tmp_path / "written.yaml"
    path.write_text(space.to_yaml())
    again = spaces.load(path)
    assert again == space
    assert again.size() == space.size() == 3 * (1 + 2 * 7 * 5)


def test_a_subset_with_every_element_fixed_is_a_constant() -> None:
    """No element open is a list like any other."""
    given = zip((1, 2, 3), ("true", "false", "true"), strict=True)
    overrides = [f"{STAGES}.{stage}={value}" for stage, value in given]
    space = spaces.load("digits", overrides=overrides)
    assert not [p.name for p in space.parameters if p.name.startswith(STAGES)]
    config = space.at(space.fill(lambda p: "eca" if p.name == "attention" else p.first()))
    assert config.attention.placement.params == {"stages": [1, 3]}


def test_a_baseline_takes_the_elements_that_are_fixed() -> None:
    """A baseline that names no stages takes the fixed ones with the default."""
    space = spaces.load("digits", overrides=[f"{STAGES}.2=false"])
    assert len(space.baselines()) == 2
    assert space.at(space.baselines()[1]).attention.placement.params == {"stages": [1, 3]}


def test_a_baseline_that_an_override_contradicts_is_left_out_and_noted(tmp_path: Path) -> None:
    """The ready space stays usable; the note names the baseline, and the file written is equal."""
    space = spaces.load("digits", overrides=["attention=none"])
    assert space.search.baselines == [{"attention": {"name": "none"}}]
    assert space.baselines() == [{"backbone.width": 0.5}]
    (note,) = [note for note in space.notes if "baselines" in note]
    assert note.startswith("search.baselines.2 is left out, as an override closed what it asks for")
    assert "attention.name" in note
    path = tmp_path / "written.yaml"
    path.write_text(space.to_yaml())
    assert spaces.load(path) == space


def test_a_baseline_that_is_wrong_without_the_override_is_still_refused(tmp_path: Path) -> None:
    """An override excuses only what it did: the file's own mistakes, and an override's, stay."""
    text = (Path(spaces.__file__).parent / "digits.yaml").read_text()
    path = tmp_path / "space.yaml"
    path.write_text(text.replace("{attention: {name: eca}}]", "{attention: {name: ecaa}}]"))
    with pytest.raises(spaces.SpaceError, match=r"search\.baselines\.2\.attention"):
        spaces.load(path, overrides=["attention=none"])
    given = ["attention=none", "search.baselines=[{attention: {name: eca}}]"]
    with pytest.raises(spaces.SpaceError, match=r"override 2: search\.baselines\.1\.attention"):
        spaces.load("digits", overrides=given)


def test_a_hole_may_be_given() -> None:
    """The value may itself be a hole."""
    space = spaces.load("digits", overrides=["training.batch_size={choice: [32, 64], default: 64}"])
    assert space.parameters[-1].choices == (32, 64)


def test_a_hole_in_a_list_is_counted_from_one() -> None:
    """An element of a list is named as its parameter would be."""
    space = spaces.load("digits", overrides=["backbone.width=[1, 1, 1]", "backbone.width.2=0.5"])
    assert space.at(space.sample(seed=0)).backbone.params["width"] == [1.0, 0.5, 1.0]


def test_below_null_an_override_begins_a_mapping(tmp_path: Path) -> None:
    """Where a file, or a resolved space, says that there is none, as where it says nothing."""
    for search in ("{trials: 2, budget: null}", "{trials: 2}"):
        path = tmp_path / "none.yaml"
        path.write_text(
            spaces.load("digits").to_yaml().partition("search:")[0] + f"search: {search}\n"
        )
        space = spaces.load(path, overrides=["search.budget.epochs=99"])
        assert space.search.budget is not None
        assert space.search.budget.epochs == 99


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
        (["search.max_concurrent.x=1"], "override 1: search.max_concurrent: not allowed here"),
        (["search.pruner.promote=0.3"], "override 1: search.pruner"),
        (["attention.ecaa.mapping.gamma=2"], "did you mean 'eca'"),
        (["attention.eca.mapping.gamma.x=2"], "is a hole"),
        (["attention.eca.placement.stages.4=true"], "no such element (there are: 1, 2, 3)"),
        (["attention.eca.placement.stages.2=1"], "(got 1; allowed: true, false)"),
        (["attention.eca.placement.stages.2=2"], "stages.2: not allowed here (got 2"),
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
