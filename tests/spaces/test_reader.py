"""Reading YAML: what scalars mean, and that no text can do harm."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import spaces
from spaces import writer
from spaces.reader import parse
from spaces.scalars import plain

DIGITS = Path(spaces.__file__).parent / "digits.yaml"
TOKENS = ["{", "}", "[", "]", ":", ",", "-", "&a", "*a", "<<", "!!str", "\t", "'", '"', "|", "1e-3"]
TOKENS += ["null", "010", ".nan", "\u2028", "#", "%", "---", "\n", " ", "choice", "float", "none"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        ("+.5", 0.5),
        ("-2", -2),
        ("+3", 3),
        ("0x1F", 31),
        ("0", 0),
        ("1.", 1.0),
        ("-0.0", 0.0),
        ("true", True),
        ("FALSE", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("eca_2", "eca_2"),
        ("1.2.3", "1.2.3"),
        ("0.1.0", "0.1.0"),
        ("yess", "yess"),
        ("a:b", "a:b"),
        ("12e", "12e"),
        ("-", "-"),
        (".", "."),
        ("e5", "e5"),
        ("sha-1", "sha-1"),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    """The value and its type are those of YAML 1.2's core schema."""
    assert plain(text) == value
    assert type(plain(text)) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "010",
        "-007",
        "08",
        "00",
        "1_000",
        "1_0.5",
        "0x_1F",
        "0b101",
        "0o10",
        "12:30:45",
        "1:30",
        "190:20:30.15",
        "yes",
        "No",
        "ON",
        "off",
        "y",
        "N",
        "2001-12-14",
        "2001-12-14T21:59:43Z",
        ".inf",
        "-.INF",
        ".NaN",
        "=",
        "1e999",
        "9" * 41,
        "-0x1F",
    ],
)
def test_what_yaml_versions_disagree_on_is_refused(text: str) -> None:
    """A scalar that YAML 1.1 and 1.2 read differently is refused, a quoted one is a text."""
    with pytest.raises(ValueError, match="allowed"):
        plain(text)
    assert parse(f"'{text}'", "x").plain() == text


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**30), 10**30))
def test_numbers_survive_writing_and_reading(number: float) -> None:
    """What is written as a number is read as the same number of the same type."""
    again = parse(writer.dump({"x": number}), "x").plain()["x"]
    assert again == number
    assert type(again) is type(number)


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)


@given(TEXTS | st.sampled_from(["no", "1e-3", "0o7", "010", "<<", "=", "null", " x", "x: y", "-"]))
def test_texts_survive_writing_and_reading(text: str) -> None:
    """Any text is written so that it is read as that text, as a key too."""
    assert parse(writer.dump({"x": text}), "x").plain() == {"x": text}


def test_places_are_lines_and_columns_from_one() -> None:
    """A node knows where it and its key stand."""
    node = parse("a: 1\nb:\n  - {c: x}\n", "f.yaml").value["b"].value[0].value["c"]
    assert str(node.place) == "f.yaml:3:9"
    assert str(node.key) == "f.yaml:3:6"


def test_merged_keys_can_be_overridden() -> None:
    """A mapping's own key goes before one that it merges in, which itself is left alone."""
    text = "a: &a {x: 1, z: 2}\nb: {<<: *a, x: 3}\n"
    assert parse(text, "x").plain() == {"a": {"x": 1, "z": 2}, "b": {"x": 3, "z": 2}}


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_one_token_changed_is_a_space_or_a_located_refusal(data: st.DataObject) -> None:
    """Mutations of a valid file never give anything but a space or SpaceError in six lines."""
    text = DIGITS.read_text()
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(start + 12, len(text))))
    changed = text[:start] + data.draw(st.sampled_from(TOKENS) | st.text(max_size=3)) + text[end:]
    path = Path(DIGITS.parent.parent) / "in memory.yaml"
    try:
        outcome = parse(changed, str(path)).plain()
    except spaces.SpaceError as error:
        outcome = str(error).splitlines()
        outcome = len(outcome) <= 6 and outcome[0].startswith(f"{path}:")
    assert outcome is not False


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_file_loads_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The same through spaces.load: schema, holes and all."""
    text = DIGITS.read_text().split("name: digits\n", 1)[1]
    words = [word for word in text.replace("\n", " ").split(" ") if word]
    word = data.draw(st.sampled_from(words))
    other = data.draw(st.sampled_from(words + TOKENS + ["-1", "1e9", "x" * 90, "[1, [2]]", "{}"]))
    path = tmp_path_factory.mktemp("changed") / "space.yaml"
    path.write_text("name: digits\n" + text.replace(word, other, data.draw(st.integers(1, 3))))
    try:
        space = spaces.load(path)
        outcome = space.at(space.sample(seed=0)).name
    except spaces.SpaceError as error:
        outcome = str(error)
    refused = all(line.startswith((f"{path}:", "... and ")) for line in outcome.splitlines())
    assert outcome == "digits" or (refused and 1 <= len(outcome.splitlines()) <= 6)


def test_our_reading_is_yamls_for_the_ready_spaces() -> None:
    """For files without the scalars in dispute, PyYAML's safe loader reads the same."""
    for path in DIGITS.parent.glob("*.yaml"):
        ours = parse(path.read_text(), str(path)).plain()
        theirs = yaml.safe_load(path.read_text().replace("1e-", "1.0e-").replace("5e-", "5.0e-"))
        assert ours == theirs
