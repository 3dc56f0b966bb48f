"""Space: parameters, filling, points, settings, baselines, and the way back to YAML."""

from __future__ import annotations

import pickle
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spaces
from spaces.config import Config
from spaces.parameters import MISSING

# The example of the README: every hole there is, conditional parameters, the long objectives.
EXAMPLE = """\
name: cifar10-resnet20
task:      {name: classification}
dataset:   {name: cifar10}
backbone:  {name: resnet, depth: 20, width: {choice: [0.5, 0.75, 1.0], default: 1.0}}
attention:
  choice:
    - {name: none}
    - name: eca
      position: final
      placement: {name: stages, stages: {subset: [1, 2, 3], default: [1, 2, 3]}}
      mapping:   {name: log2, gamma: {float: [1, 4], step: 0.5, default: 2}, b: {float: [-1, 3], \
step: 1, default: 1}}
training:  {epochs: 30, batch_size: 256, optimizer: {name: sgd, lr: 0.1}}
search:
  trials: 96
  seed: 0
  replicates: 3
  objectives: {val_accuracy: max, params: {goal: min, tolerance: 0.01}, \
macs: {goal: min, tolerance: 0.01}}
  limits:    {macs: 45e6}
  sampler:   {name: TPESampler}
  pruner:    {name: ParetoPruner}
  baselines: [{attention: {name: none}}, {attention: {name: eca}}]
  resources: {cpu: 1, gpu: auto}
"""
PLAIN = """\
name: plain
dataset: {name: digits}
backbone: {name: resnet, depth: 8}
training: {epochs: 2, optimizer: {name: sgd, lr: 0.1}}
"""


def load(folder: Path, text: str, *overrides: str) -> spaces.Space:
    """The space that a text means."""
    path = folder / "space.yaml"
    path.write_text(text)
    return spaces.load(path, overrides=overrides)


@pytest.fixture
def space(tmp_path: Path) -> spaces.Space:
    return load(tmp_path, EXAMPLE)


def test_parameters_are_named_by_path_option_and_element(space: spaces.Space) -> None:
    """Names are the dotted path, an option by its name, a subset's element by its value."""
    assert [parameter.name for parameter in space.parameters] == [
        "backbone.width",
        "attention",
        "attention.eca.placement.stages.1",
        "attention.eca.placement.stages.2",
        "attention.eca.placement.stages.3",
        "attention.eca.mapping.gamma",
        "attention.eca.mapping.b",
    ]
    gamma = space.parameters[-2]
    assert (gamma.kind, gamma.low, gamma.high, gamma.step, gamma.default) == ("float", 1, 4, 0.5, 2)
    assert gamma.condition == (("attention", "eca"),)
    assert space.parameters[1].default is MISSING


def test_repeated_options_are_numbered(tmp_path: Path) -> None:
    """The second option named eca is eca_2, also in the names of its parameters."""
    text = EXAMPLE.replace(
        "    - {name: none}\n",
        "    - {name: none}\n    - {name: eca, mapping: {name: constant, kernel_size: "
        "{choice: [3, 5], default: 3}}}\n",
    )
    space = load(tmp_path, text)
    assert space.parameters[1].choices == ("none", "eca", "eca_2")
    names = [parameter.name for parameter in space.parameters]
    assert "attention.eca.mapping.kernel_size" in names
    assert "attention.eca_2.mapping.gamma" in names


def test_inactive_parameters_are_not_asked_for(space: spaces.Space) -> None:
    """A parameter of an option not taken is neither sampled nor part of the values."""
    asked = []

    def choose(parameter):
        asked.append(parameter.name)
        return "none" if parameter.name == "attention" else parameter.first()

    values = space.fill(choose)
    assert asked == ["backbone.width", "attention"] == list(values)
    config = space.at(values)
    assert config.attention.placement is None
    assert config.attention.mapping is None


def test_a_point_is_a_completed_config(space: spaces.Space) -> None:
    """Components are completed with their defaults, so that what means the same is equal."""
    values = space.fill(lambda p: "eca" if p.name == "attention" else p.first())
    config = space.at(values)
    assert config.backbone.params == {
        "depth": 20,
        "width": 1.0,
        "stem": "auto",
        "shortcut": "projection",
        "stride": "3x3",
        "groups": 1,
        "base_width": 64,
    }
    assert config.attention.mapping.params["rounding"] == "nearest"
    assert config.attention.placement.params == {"stages": [1, 2, 3]}
    assert config.training.optimizer.momentum == 0.9


def test_a_config_survives_json(space: spaces.Space) -> None:
    """model_dump(mode="json") and model_validate are inverse to each other."""
    for seed in range(20):
        config = space.at(space.sample(seed))
        assert Config.model_validate(config.model_dump(mode="json")) == config


def test_a_config_written_as_yaml_is_one_trial(space: spaces.Space, tmp_path: Path) -> None:
    """The config.yaml of a winner is a legal input that means the same network, once."""
    config = space.at(space.sample(seed=3))
    again = load(tmp_path, config.to_yaml())
    assert again.parameters == ()
    assert again.search.trials == 1
    assert again.at({}) == config
    objectives = {name: o.goal for name, o in again.search.objectives.items()}
    assert objectives == {"val_accuracy": "max", "params": "min", "macs": "min"}


def test_equal_meaning_is_equal(tmp_path: Path) -> None:
    """Defaults written out or left out, and stages in any order, give the same config."""
    short = load(tmp_path, PLAIN + "attention: {name: eca}\n").at({})
    long = PLAIN.replace("depth: 8", "depth: 8, width: 1, stem: auto") + (
        "attention: {name: eca, position: final, placement: {name: everywhere}, "
        "mapping: {name: log2, gamma: 2, b: 1.0}}\ntask: {name: classification}\n"
    )
    assert load(tmp_path, long).at({}) == short
    where = "attention: {name: se, placement: {name: stages, stages: STAGES}}\n"
    one, other = (
        load(tmp_path, PLAIN + where.replace("STAGES", stages)).at({})
        for stages in ("[1, 3]", "[3, 1]")
    )
    assert one == other


def test_samples_are_reproducible_and_legal(space: spaces.Space) -> None:
    """The same seed gives the same values, different seeds differ, all make a config."""
    samples = [space.sample(seed) for seed in range(50)]
    assert samples[7] == space.sample(7)
    assert len({str(sample) for sample in samples}) > 20
    assert {space.at(sample).attention.name for sample in samples} == {"none", "eca"}


def test_size_and_settings(space: spaces.Space) -> None:
    """3 widths x (none + 2^3 stages x 7 gammas x 5 b) settings, all different and legal."""
    assert space.size() == 3 * (1 + 8 * 7 * 5)
    settings = list(space.settings())
    assert len({str(values) for values in settings}) == len(settings) == space.size()
    for values in random.Random(0).sample(settings, 50):
        assert space.at(values).name == space.name


def test_very_many_parameters_need_no_deep_stack() -> None:
    """Settings are listed without recursion: more parameters than Python has stack frames."""
    from spaces.parameters import Parameter, every

    ones = [Parameter.categorical(f"p{n}", (n,), MISSING, ()) for n in range(1200)]
    last = Parameter.categorical("last", ("a", None), MISSING, ())
    below = Parameter.categorical("last.a.x", (1, 2), MISSING, (("last", "a"),))
    settings = list(every([*ones, last, below]))
    assert [list(values.values())[1200:] for values in settings] == [["a", 1], ["a", 2], [None]]
    assert list(settings[0])[:2] == ["p0", "p1"]


def test_many_holes_of_one_option_load(tmp_path: Path) -> None:
    """1,200 choices of one option each are read, and refused by what they make, not by a crash."""
    holes = ", ".join(["{choice: [1]}"] * 1200)
    with pytest.raises(spaces.SpaceError, match=r"backbone\.width: "):
        load(tmp_path, PLAIN.replace("depth: 8", f"depth: 8, width: [{holes}]"))


def test_a_free_float_is_not_countable(tmp_path: Path) -> None:
    """A float without step leaves no number of settings, and says which one it is."""
    text = EXAMPLE.replace("lr: 0.1", "lr: {float: [1e-3, 1], log: true, default: 0.1}")
    space = load(tmp_path, text)
    assert space.size() is None
    with pytest.raises(spaces.SpaceError, match=r"training\.optimizer\.lr: settings cannot be"):
        space.settings()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"backbone.width": 0.6}, "backbone.width: not a value"),
        ({"backbone.wdth": 1.0}, "backbone.wdth: no such parameter; did you mean 'backbone.width'"),
        ({"attention": "none"}, "not active here (allowed: where attention is eca)"),
        ({"attention.eca.mapping.gamma": 1.3}, "in steps of 0.5"),
        ({"attention.eca.mapping.gamma": "2"}, "attention.eca.mapping.gamma: not a value"),
        ({"attention.eca.mapping.gamma": float("nan")}, "attention.eca.mapping.gamma: not a"),
        ({"attention.eca.placement.stages.1": 1}, "allowed: false, true"),
    ],
)
def test_illegal_values_are_refused(space: spaces.Space, change: dict, said: str) -> None:
    """Values that are unknown, inactive or outside of their hole make no config."""
    values = space.fill(lambda p: "eca" if p.name == "attention" else p.first())
    with pytest.raises(spaces.SpaceError) as caught:
        space.at(values | change)
    assert said in str(caught.value)


def test_a_missing_value_is_refused(space: spaces.Space) -> None:
    """A hole that is active needs a value."""
    with pytest.raises(spaces.SpaceError, match="attention: a value is missing"):
        space.at({"backbone.width": 1.0})


def test_a_value_within_rounding_of_a_step_is_put_on_it(space: spaces.Space) -> None:
    """A sampler computes low + n * step in floats; the config gets the step itself."""
    values = space.fill(lambda p: "eca" if p.name == "attention" else p.first())
    near = space.at(values | {"attention.eca.mapping.gamma": 2.5000000000000004})
    assert near.attention.mapping.params["gamma"] == 2.5


def test_what_only_a_combination_shows_is_refused(tmp_path: Path) -> None:
    """A stage that one of the backbones lacks is found in the file, each on its own being legal."""
    text = PLAIN.replace(
        "backbone: {name: resnet, depth: 8}",
        "backbone: {choice: [{name: mobilenetv2}, {name: resnet, depth: 8}]}",
    )
    text += (
        "attention: {choice: [{name: none}, {name: se, placement: {name: stages, stages: [4]}}]}\n"
        "search: {trials: 4}\n"
    )
    with pytest.raises(spaces.SpaceError, match=r"no such stage \(got 4; allowed: 1 to 3\)"):
        load(tmp_path, text)


def test_baselines_take_defaults(space: spaces.Space) -> None:
    """A hole that a baseline leaves open takes its default."""
    plain, eca = space.baselines()
    assert plain == {"backbone.width": 1.0, "attention": "none"}
    assert eca["attention.eca.mapping.gamma"] == 2.0
    assert [eca[f"attention.eca.placement.stages.{stage}"] for stage in (1, 2, 3)] == [True] * 3


def test_baselines_may_fill_any_hole(tmp_path: Path) -> None:
    """A baseline names stages as a list and reaches into the option that it takes."""
    given = "[{backbone: {width: 0.5}, attention: {name: eca, placement: {stages: [2]}, "
    text = EXAMPLE.replace(
        "[{attention: {name: none}}, {attention: {name: eca}}]", given + "mapping: {gamma: 3}}}]"
    )
    (values,) = load(tmp_path, text).baselines()
    assert values["backbone.width"] == 0.5
    assert values["attention.eca.mapping.gamma"] == 3.0
    assert [values[f"attention.eca.placement.stages.{s}"] for s in (1, 2, 3)] == [0, 1, 0]


def test_a_baseline_finds_the_option_that_fits(tmp_path: Path) -> None:
    """Of several options named eca it is the one with the mapping that the baseline names."""
    text = EXAMPLE.replace(
        "    - {name: none}\n",
        "    - {name: none}\n    - {name: eca, mapping: {name: constant, kernel_size: 5}}\n",
    ).replace("{attention: {name: eca}}", "{attention: {name: eca, mapping: {name: log2}}}")
    assert load(tmp_path, text).baselines()[1]["attention"] == "eca_2"


def test_the_written_space_is_the_same_space(space: spaces.Space, tmp_path: Path) -> None:
    """to_yaml is legal input and means an equal space, from any folder."""
    copy = tmp_path / "elsewhere.yaml"
    copy.write_text(space.to_yaml())
    assert spaces.load(copy) == space


def test_texts_that_look_like_something_else_are_quoted(tmp_path: Path) -> None:
    """What YAML would read as a number, a date or a yes is written in quotes."""
    text = PLAIN + 'search: {tracking: {experiment: "1e-3", uri: "sqlite:////tmp/x.db"}}\n'
    space = load(tmp_path, text)
    for experiment in ("1e-3", "no", "2024-01-01", "010", "null", "# x", "a: b", "\u00e9", "-"):
        changed = load(tmp_path, text.replace('"1e-3"', repr(experiment)))
        assert load(tmp_path, changed.to_yaml()) == changed
        assert changed.search.tracking.experiment == experiment
    assert space != changed


def test_a_space_can_be_sent_to_a_worker(space: spaces.Space) -> None:
    """Spaces and configs pickle, the missing default included."""
    again = pickle.loads(pickle.dumps(space))
    assert again == space
    assert again.parameters[1].default is MISSING
    config = space.at(space.sample(seed=0))
    assert pickle.loads(pickle.dumps(config)) == config


def test_errors_can_be_sent_from_a_worker() -> None:
    """So do errors, with their text."""
    with pytest.raises(spaces.SpaceError) as caught:
        spaces.load("no such space")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_holes_in_a_list_are_numbered_from_one(tmp_path: Path) -> None:
    """A width per stage may be open stage by stage; the names count like the stages."""
    text = PLAIN.replace(
        "depth: 8", "depth: 8, width: [{choice: [0.5, 1.0]}, 1.0, {float: [1, 2]}]"
    )
    space = load(tmp_path, text + "search: {trials: 3}\n")
    assert [p.name for p in space.parameters] == ["backbone.width.1", "backbone.width.3"]
    config = space.at({"backbone.width.1": 0.5, "backbone.width.3": 1.25})
    assert config.backbone.params["width"] == [0.5, 1.0, 1.25]


def test_a_list_may_be_an_option(tmp_path: Path) -> None:
    """Options that are lists go by their JSON text."""
    text = PLAIN.replace("depth: 8", "depth: 8, width: {choice: [1.0, [0.5, 0.5, 1.0]]}")
    space = load(tmp_path, text + "search: {trials: 3}\n")
    assert space.parameters[0].choices == (1.0, "[0.5, 0.5, 1.0]")
    config = space.at({"backbone.width": "[0.5, 0.5, 1.0]"})
    assert config.backbone.params["width"] == [0.5, 0.5, 1.0]


def test_importing_spaces_imports_nothing_heavy() -> None:
    """torch, ray, optuna, mlflow, numpy and even yaml stay out until they are needed."""
    heavy = ("torch", "ray", "optuna", "mlflow", "numpy", "yaml", "trainers", "search")
    code = f"import spaces, sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@given(
    st.integers(-50, 50), st.integers(1, 40), st.sampled_from([0.1, 0.25, 0.3, 1.5]), st.booleans()
)
def test_every_value_of_a_stepped_hole_is_legal(
    tmp_path_factory: pytest.TempPathFactory, low: int, steps: int, step: float, whole: bool
) -> None:
    """The values are as many as the steps and one, the last is high, and each is its own."""
    from spaces.parameters import Parameter

    step = int(step * 10) if whole else step
    high = low + steps * step if whole else float(f"{low + steps * step:.10g}")
    kind = "int" if whole else "float"
    hole = Parameter("x", kind, low=low, high=high, step=step)
    values = list(hole.values())
    assert len(values) == hole.count() == steps + 1
    assert (values[0], values[-1]) == (low, high)
    assert [hole.legal(value) for value in values] == values
    assert hole.sample(random.Random(steps)) in values


@given(st.integers(1, 100), st.integers(0, 100), st.booleans(), st.integers())
def test_log_samples_stay_inside(low: int, more: int, whole: bool, seed: int) -> None:
    """Log-even samples are within the closed interval, for whole numbers and others."""
    from spaces.parameters import Parameter

    step = 1 if whole else None
    kind = "int" if whole else "float"
    hole = Parameter("x", kind, low=low, high=low + more, step=step, log=True)
    value = hole.sample(random.Random(seed))
    assert low <= value <= low + more
    assert hole.legal(value) == value
