"""The JSON Schema: in step with the code, kind to the ready spaces, strict with the rest."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest

import spaces
from spaces import catalogue, schema
from spaces.paths import ready
from spaces.reader import parse

ROOT = Path(spaces.__file__).parent.parent
READY = sorted((ROOT / "spaces").glob("*.yaml"))


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    made = schema.schema()
    jsonschema.Draft7Validator.check_schema(made)
    return jsonschema.Draft7Validator(made)


def test_the_committed_schema_is_in_step() -> None:
    """schema.json is what the models give; `eca-search schema > schema.json` renews it."""
    assert (ROOT / "schema.json").read_text() == schema.text()


def test_every_variant_is_in_it() -> None:
    """Each variant of each kind can be completed by an editor."""
    definitions = json.loads(schema.text())["definitions"]
    for kind in catalogue.FOLDERS:
        names = [v["properties"]["name"]["const"] for v in definitions[kind]["anyOf"]]
        assert names == catalogue.names(kind)


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_spaces_validate(validator: jsonschema.Draft7Validator, path: Path) -> None:
    """As written, as resolved, and as the config of one of their points."""
    space = spaces.load(path)
    config = space.at(space.sample(seed=0))
    for text in (path.read_text(), space.to_yaml(), config.to_yaml()):
        validator.validate(parse(text, path.name).plain())


@pytest.mark.parametrize(
    "change",
    [
        "name=A b",
        "backbone.dpth=20",
        "backbone.depth=21",
        "backbone.name=resnt",
        "backbone.width={chioce: [1]}",
        "backbone.width={choice: []}",
        "backbone.width={choice: [x]}",
        "backbone.width={float: [1, 2], stp: 1}",
        "backbone.width={float: [1]}",
        "attention.eca.mapping.gamma={int: [one, two]}",
        "attention.eca.mapping.gamma=0",
        "attention.eca.mapping={name: constant, kernel_size: 4}",
        "attention.eca.placement.stages={subset: []}",
        "attention.eca.position=top",
        "training.epochs=0",
        "training.epochs=1.5",
        "training.optimizer.name=sdg",
        "training.optimizer.beta=1",
        "training.schedule={name: cosin}",
        "training.precision=half",
        "search.trials=0",
        "search.seed=-1",
        "search.objectives={acc: max}",
        "search.objectives={val_accuracy: min}",
        "search.objectives={}",
        "search.objectives={best_val_accuracy: max}",
        "search.reference={}",
        "backbone.pretrained=3",
        "attention.eca.placement.stages={subset: [1, 2], always: 2}",
        "search.sampler=TPESampler",
        "search.executor=slurm",
        "search.unknown=1",
        "unknown=1",
    ],
)
def test_what_load_refuses_the_schema_refuses(
    validator: jsonschema.Draft7Validator, change: str
) -> None:
    """A file that an editor marks is one that load refuses, and the other way round."""
    from spaces.overrides import applied

    document = parse((ROOT / "spaces" / "digits.yaml").read_text(), "digits.yaml")
    assert not validator.is_valid(applied(document, [change]).plain())
    with pytest.raises(spaces.SpaceError):
        spaces.load("digits", overrides=[change])


@pytest.mark.parametrize(
    "change",
    [
        "backbone.pretrained=null",
        "backbone.pretrained=weights.pt",
        "backbone.pretrained={choice: [null, weights.pt], default: null}",
        "attention.eca.placement.stages={subset: [1, 2], always: [2], default: []}",
    ],
)
def test_what_load_takes_the_schema_takes(
    validator: jsonschema.Draft7Validator, change: str
) -> None:
    """Keys that are pinned but not built, and those that only an override writes."""
    from spaces.overrides import applied

    document = parse((ROOT / "spaces" / "digits.yaml").read_text(), "digits.yaml")
    validator.validate(applied(document, [change]).plain())
    assert spaces.load("digits", overrides=[change]).name == "digits"


@pytest.mark.parametrize("path", READY, ids=lambda path: path.stem)
def test_ready_spaces_open_with_what_one_wants_to_know(path: Path) -> None:
    """The schema for editors, then question, command, cost and expectation."""
    lines = path.read_text().splitlines()
    assert lines[0] == "# yaml-language-server: $schema=../schema.json"
    opening = [line.split(":")[0] for line in lines if line.startswith("# ") and ":" in line[:12]]
    assert opening[:4] == ["# Question", "# Run", "# Cost", "# Expect"]
    command = "compare" if spaces.load(path.stem).arms else "run"
    assert f"eca-search {command} {path.stem}" in path.read_text()
    assert "TBD" not in path.read_text()


@pytest.mark.parametrize("name", ready())
def test_ready_spaces_come_back_from_their_own_text(name: str, tmp_path: Path) -> None:
    """A ready space is found by its bare name and is equal to what it writes."""
    space = spaces.load(name)
    copy = tmp_path / "copy.yaml"
    copy.write_text(space.to_yaml())
    assert spaces.load(copy) == space
    assert all(space.at(values) for values in space.baselines())


def test_the_quick_space_can_be_edited_line_by_line() -> None:
    """digits.yaml has gamma and trials on a line each, in flow style."""
    lines = [line.strip() for line in (ROOT / "spaces" / "digits.yaml").read_text().splitlines()]
    assert sum(line.startswith("gamma: {") and line.endswith("}") for line in lines) == 1
    assert sum(line.startswith("trials: ") for line in lines) == 1
