"""The catalogue: variants found, read and checked from their text alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

import spaces
from spaces import catalogue
from spaces.errors import SpaceError, VariantError

PLUGIN = '''\
"""A kernel that grows with the stage."""

raise RuntimeError("reading a variant must not run it")


def mapping(channels, stage=None, *, first: KernelSize = 3, words: list[str] | None = None,
            pair: tuple[int, ...] = (1, 2), ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5):
    """first: the kernel of stage 1."""
    return first + 2 * (stage - 1)
'''


@pytest.fixture(autouse=True)
def unplugged(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test leaves the catalogue as it found it."""
    monkeypatch.setattr(catalogue, "_plugins", {})
    yield
    catalogue._read.cache_clear()


def test_every_variant_reads() -> None:
    """Each file of each kind has a schema, a docstring and a path."""
    for kind, folder in catalogue.FOLDERS.items():
        names = catalogue.names(kind)
        assert names == sorted(names)
        for name in names:
            assert catalogue.path(kind, name) == folder / f"{name}.py"
            assert "name" in catalogue.model(kind, name).model_fields
            assert len(catalogue.doc(kind, name)) > 20
            assert catalogue.digest(kind, name) == ""


def test_the_variants_of_the_language_are_there() -> None:
    """What the README's examples name exists."""
    assert catalogue.names("mapping") == ["constant", "linear", "log2", "per_stage"]
    assert catalogue.names("placement") == ["blocks", "everywhere", "stages"]
    assert {"none", "eca", "se"} <= set(catalogue.names("attention"))
    assert {"resnet", "mobilenetv2"} <= set(catalogue.names("backbone"))
    datasets = {"digits", "fashion_mnist", "cifar10", "cifar100", "image_folder", "webdataset"}
    assert datasets <= set(catalogue.names("dataset"))


def test_kernel_size_is_seen_in_the_signature() -> None:
    """Only an attention with kernel_size gets a mapping."""
    assert catalogue.accepts("attention", "eca", "kernel_size")
    assert not catalogue.accepts("attention", "se", "kernel_size")


@pytest.mark.parametrize(
    ("params", "key"),
    [
        ({"name": "log2", "gama": 2}, "gama"),
        ({"name": "log2", "gamma": "2"}, "gamma"),
        ({"name": "log2", "gamma": True}, "gamma"),
        ({"name": "log2", "gamma": float("nan")}, "gamma"),
        ({"name": "constant", "kernel_size": 3.0}, "kernel_size"),
        ({"name": "constant", "kernel_size": True}, "kernel_size"),
        ({"name": "per_stage"}, "kernel_sizes"),
        ({"name": "per_stage", "kernel_sizes": [3, 4]}, "kernel_sizes.1"),
        ({"name": "lg2"}, "name"),
        ({"name": 3}, "name"),
        ({}, "name"),
    ],
)
def test_wrong_parameters_are_refused_by_key(params: dict, key: str) -> None:
    """Check names the key inside the parameters; types are strict."""
    with pytest.raises(VariantError) as caught:
        catalogue.check("mapping", params)
    assert caught.value.key == key


def test_check_completes() -> None:
    """Check gives all parameters, a whole number counting as a number."""
    assert catalogue.check("mapping", {"name": "log2", "gamma": 3}) == {
        "name": "log2",
        "gamma": 3.0,
        "b": 1.0,
        "rounding": "nearest",
        "k_min": 1,
        "k_max": None,
    }


def test_blocks_are_read_from_the_table() -> None:
    """Blocks per stage come from the backbone's own literal."""
    assert catalogue.blocks({"name": "resnet", "depth": 50}) == (3, 4, 6, 3)
    assert catalogue.blocks({"name": "mobilenetv2"}) == (1, 2, 3, 4, 3, 3, 1)


def test_a_plugin_joins_by_its_text(tmp_path: Path) -> None:
    """A person's file is a variant by its stem and function, without being run; idempotently."""
    file = tmp_path / "growing.py"
    file.write_text(PLUGIN)
    catalogue.plug(file)
    catalogue.plug(file)
    assert catalogue.plugins() == (file,)
    assert "growing" in catalogue.names("mapping")
    completed = catalogue.check("mapping", {"name": "growing", "words": ["a"]})
    assert completed == {
        "name": "growing",
        "first": 3,
        "words": ["a"],
        "pair": [1, 2],
        "ratio": 0.5,
    }
    assert catalogue.digest("mapping", "growing") == hashlib.sha256(file.read_bytes()).hexdigest()
    space = spaces.load("digits", overrides=["attention.eca.mapping={name: growing, first: 5}"])
    config = space.at(space.fill(lambda p: "eca" if p.name == "attention" else p.first()))
    assert config.attention.mapping.params["first"] == 5


ORDERED = '''\
"""Attention in the first of these that there are."""


def placement(site, *, stages: list[int | str], blocks: int = 1, order: list[str] = []) -> bool:
    """In that order."""
'''


def test_a_plugins_lists_keep_their_order(tmp_path: Path) -> None:
    """Only our own stages and blocks are sets; a plugin's keys of that name are its own matter."""
    file = tmp_path / "ordered.py"
    file.write_text(ORDERED)
    catalogue.plug(file)
    given = "{name: ordered, stages: [9, a, 1, 9], blocks: 3, order: [b, a]}"
    space = spaces.load("digits", overrides=[f"attention.eca.placement={given}"])
    config = space.at(space.fill(lambda p: "eca" if p.name == "attention" else p.first()))
    assert config.attention.placement.params == {
        "stages": [9, "a", 1, 9],
        "blocks": 3,
        "order": ["b", "a"],
    }


def test_a_literal_is_exactly_its_type(tmp_path: Path) -> None:
    """1 is neither true nor 1.0: a value has the literal's type."""
    file = tmp_path / "growing.py"
    file.write_text("from typing import Literal\n\n\ndef mapping(c, s, *, n: Literal[1, 2]): ...\n")
    catalogue.plug(file)
    assert catalogue.check("mapping", {"name": "growing", "n": 2})["n"] == 2
    for wrong in (True, 2.0, "2", 3, [1]):
        with pytest.raises(VariantError, match="allowed: 1, 2"):
            catalogue.check("mapping", {"name": "growing", "n": wrong})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("growing.py", "def mapping(:", "growing.py:1:13: invalid syntax"),
        ("growing.py", "x = 1\n", "not a variant (got functions: none"),
        ("growing.py", "def mapping(c): ...\ndef task(): ...\n", "not a variant"),
        ("log2.py", "def mapping(c, s): ...\n", "there is a mapping named 'log2' already"),
        ("my-map.py", "def mapping(c, s): ...\n", "not a variant"),
        ("growing.py", "\ndef mapping(c, s, *, x): ...\n", ".py:2:22: parameter x has no annot"),
        ("growing.py", "def mapping(c, s, *, x: eval = 1): ...\n", ".py:1:25: eval is no type"),
        ("growing.py", "def mapping(c, s, *, x: int = f()): ...\n", ".py:1:31: f() is no literal"),
        ("growing.py", "def mapping(c, s, *, x: Literal[f()] = 1): ...\n", "f() is no literal"),
        ("growing.py", "def mapping(c, s, *, x: Annotated[int, f]): ...\n", "f is no Field"),
        (
            "growing.py",
            "def mapping(c, s, *, x: Annotated[int, Field(gt='a')] = 1): ...\n",
            ":1:1: ",
        ),
        ("growing.py", "def mapping(c, s, *, _x: int): ...\n", ":1:22: _x cannot be a parameter"),
        ("gate.py", "def attention(c, *, position: int): ...\n", "position cannot be a parameter"),
        ("growing.py", "def mapping(c): ...\n", "a mapping is called with channels, stage (got c)"),
        (
            "gate.py",
            "def attention(c, gain=1.0): ...\n",
            ".py:1:18: gain would never be given: put",
        ),
        ("gate.py", "def attention(c, kernel_size, gain): ...\n", "put `*, ` before `gain`"),
        ("gate.py", "def attention(c, *, kernel_size: int): ...\n", "put it before the `*`"),
        (
            "net.py",
            "def backbone(attend, *, depth: int): ...\n",
            "is called with attend, channels_in",
        ),
        ("growing.py", "def mapping(c, s): ...\n\0", "growing.py:1:1: "),
        ("growing.py", "x = " + "(" * 5000, "growing.py:1:"),
        ("missing.py", None, "cannot be read"),
    ],
)
def test_a_file_that_is_no_variant_is_refused(
    tmp_path: Path, name: str, text: str | None, said: str
) -> None:
    """The refusal is located in the file and leaves the catalogue as it was."""
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(spaces.SpaceError) as caught:
        catalogue.plug(file)
    assert str(file) in str(caught.value)
    assert said in str(caught.value)
    assert catalogue.plugins() == ()


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("attention", "def attention(channels, kernel_size, *, gain: float = 1.0): ...\n"),
        ("attention", "def attention(kernel_size, channels): ...\n"),
        ("mapping", "def mapping(channels, stage=None): ...\n"),
        ("mapping", "def mapping(*sizes): ...\n"),
        ("placement", "def placement(site, /, *, deep: bool = False): ...\n"),
    ],
)
def test_a_variant_is_called_as_its_kind(tmp_path: Path, kind: str, text: str) -> None:
    """What can be called as its kind is joins; only what stands behind the star is a parameter."""
    file = tmp_path / "my_own.py"
    file.write_text(text)
    catalogue.plug(file)
    assert "my_own" in catalogue.names(kind)
    assert set(catalogue.model(kind, "my_own").model_fields) <= {"name", "gain", "deep"}


def test_an_unknown_variant_is_told_of_plugins() -> None:
    """Whoever has written one of their own reads how it joins."""
    with pytest.raises(VariantError, match=r"did you mean 'eca'\? .*--plugin FILE\.py"):
        catalogue.check("attention", {"name": "ecaa"})


def test_depths_are_those_of_the_table() -> None:
    """What a backbone can be asked for by name and depth."""
    assert catalogue.depths("mobilenetv2") == (None,)
    assert 20 in catalogue.depths("resnet")
    assert set(catalogue.depths("resnet")) == {8, 14, 20, 32, 44, 56, 110, 18, 34, 50, 101, 152}


@pytest.mark.parametrize(
    "line", ["NEEDS = list(range(3))", "DETECTORS = 5", "TARGETS = 10", 'TARGETS = list("xy")']
)
def test_names_that_mean_something_in_a_task_are_free_elsewhere(tmp_path: Path, line: str) -> None:
    """What a person's attention calls so is its own matter."""
    file = tmp_path / "own.py"
    file.write_text(f"{line}\n\ndef attention(channels): ...\n")
    catalogue.plug(file)
    assert "own" in catalogue.names("attention")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("NEEDS = list(range(3))", "is no literal"),
        ("NEEDS = ['numpy']", "NEEDS is ['numpy'] (allowed:"),
        ("NEEDS = {'numpy': 1}", "NEEDS is {'numpy': 1} (allowed:"),
        ("DETECTORS = 5", "DETECTORS is 5 (allowed:"),
        ("TARGETS = 10", "TARGETS is 10 (allowed:"),
        ("TARGETS = ('boxes', 1)", "TARGETS is ('boxes', 1) (allowed:"),
        ("TARGETS = list('xy')", "is no literal"),
    ],
)
def test_a_task_that_says_nothing_readable_is_refused(tmp_path: Path, line: str, said: str) -> None:
    """At its line, when it is plugged in."""
    file = tmp_path / "own.py"
    file.write_text(f"{line}\n\ndef task(classes, label_smoothing, detector): ...\n")
    with pytest.raises(SpaceError, match=r"own\.py:1:") as caught:
        catalogue.plug(file)
    assert said in str(caught.value)
