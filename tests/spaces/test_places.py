"""Space.problem: what is found wrong later is said with its place in the document."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

import spaces

TEXT = """\
name: placed
dataset: {name: digits}
backbone: {name: resnet, depth: 8, width: [1, {choice: [0.5, 1.0]}, 1]}
attention:
  choice:
    - {name: none}
    - name: eca
      placement: {name: blocks, blocks: {subset: [stage1.block1, stage2.block1]}}
      mapping: {name: log2, b: {int: [0, 2], default: 1}}
training:
  epochs: 4
  optimizer: {name: sgd, lr: 0.1}
search:
  trials: 8
  limits: {params: 9000}
  sampler: {name: TPESampler}
  pruner: {name: PercentilePruner, percentile: 25.0}
  baselines:
    - {attention: {name: none}, backbone: {width: [1, 0.5, 1]}}
    - {attention: {name: none}, backbone: {width: [1, 1.0, 1]}}
"""


def placed(folder: Path, key: str, *overrides: str) -> str:
    """Where the space of TEXT says the key is, without the file."""
    path = folder / "space.yaml"
    path.write_text(TEXT)
    problem = spaces.load(path, overrides=overrides).problem(key, "it is wrong")
    assert (problem.key, problem.message) == (key, "it is wrong")
    assert str(problem).endswith(f": {key}: it is wrong")
    return str(problem.place).removeprefix(f"{path}:")


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("search.sampler.name", "16:19"),
        ("search.pruner.percentile", "17:48"),
        ("search.limits.params", "15:20"),
        ("search.limits.macs", "15:11"),
        ("search.baselines.2", "20:7"),
        ("search.tracking.uri", "14:3"),
        ("attention", "5:3"),
        ("attention.mapping.b", "9:32"),
        ("attention.eca.mapping.b", "9:32"),
        ("attention.mapping.gamma", "9:16"),
        ("attention.eca.placement.blocks.stage2.block1", "8:66"),
        ("backbone.width.2", "3:47"),
        ("training.epochs", "11:11"),
        ("training.batch_size", "11:3"),
        ("dataset.root", "2:10"),
        ("task.name", "1:1"),
    ],
)
def test_a_key_is_placed_where_it_is_written_or_nearest_above(
    tmp_path: Path, key: str, place: str
) -> None:
    """Names of parameters and keys of a config, holes, options, elements and what is left out."""
    assert placed(tmp_path, key) == place


def test_what_an_override_says_is_placed_there(tmp_path: Path) -> None:
    """The place of a value that was given on the command line is the override."""
    assert placed(tmp_path, "training.batch_size", "training.batch_size=32") == "override 1"
    assert placed(tmp_path, "search.limits.params", "search.limits.params=8e3") == "override 1"
    # The first baseline contradicts the override and is gone, so the second of the file is first.
    assert placed(tmp_path, "search.baselines.1", "backbone.width.2=1.0") == "20:7"


def test_a_space_without_a_search_places_its_keys_at_the_beginning() -> None:
    """Search keys of a file that has no search: section have a place too, also after a pickle."""
    space = spaces.load("digits", overrides=["search={trials: 3}"])
    assert str(space.problem("search.seed", "x").place) == "override 1"
    again = pickle.loads(pickle.dumps(space))
    assert again.problem("search.seed", "x") == space.problem("search.seed", "x")


def test_each_wrong_element_of_a_subset_is_said_once_at_its_own_place(tmp_path: Path) -> None:
    """Whatever subsets are tried, an element has one place and one name, its value."""
    path = tmp_path / "space.yaml"
    text = TEXT.replace("[stage1.block1, stage2.block1]", "[first, stage2.block1, third]")
    path.write_text(text)
    with pytest.raises(spaces.SpaceError) as caught:
        spaces.load(path)
    places = [(p.place.line, p.place.column, p.key) for p in caught.value.problems]
    assert places == [
        (8, 51, "attention.placement.blocks.first"),
        (8, 73, "attention.placement.blocks.third"),
    ]
    path.write_text(text.replace("first", "stage7.block1").replace("third", "stage8.block1"))
    with pytest.raises(spaces.SpaceError) as caught:
        spaces.load(path)
    said = sorted(p.message.split("got ")[1].split(";")[0] for p in caught.value.problems)
    assert said == ["stage7.block1", "stage8.block1"]
