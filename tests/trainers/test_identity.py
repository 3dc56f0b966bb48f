"""Two keys: the identity of a network, and the key of a run."""

from __future__ import annotations

from typing import Any

import pytest

import trainers
from spaces import catalogue
from spaces.config import Config
from trainers import keys

ECA = {"name": "eca"}
PAPER = {"name": "eca", "mapping": {"name": "log2", "gamma": 2.0, "b": 1.0}}
THREES = {"name": "eca", "mapping": {"name": "constant", "kernel_size": 3}}


def config(**parts: Any) -> Config:
    """ResNet-20 on 32 pixels, plain, but for the parts given."""
    base: dict[str, Any] = {
        "name": "keys",
        "dataset": {"name": "cifar10"},
        "backbone": {"name": "resnet", "depth": 20},
        "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    for key, value in parts.items():
        merged = isinstance(value, dict) and key != "attention" and value.get("name") is None
        base[key] = base[key] | value if merged else value
    return Config.model_validate(base)


SAME = {
    "mappings that agree at 16, 32, 64 channels": (
        {"attention": PAPER},
        {"attention": THREES},
    ),
    "attention nowhere is none": (
        {"attention": ECA | {"placement": {"name": "stages", "stages": []}}},
        {"attention": {"name": "none"}},
    ),
    "attention nowhere, whatever the position": (
        {"attention": {"name": "se", "placement": {"name": "blocks", "blocks": []}}},
        {"attention": {"name": "none"}},
    ),
    "all stages are everywhere": (
        {"attention": ECA | {"placement": {"name": "stages", "stages": [3, 1, 2]}}},
        {"attention": ECA},
    ),
    "a stage is its blocks": (
        {"attention": ECA | {"placement": {"name": "stages", "stages": [1]}}},
        {
            "attention": ECA
            | {
                "placement": {
                    "name": "blocks",
                    "blocks": ["stage1.block1", "stage1.block2", "stage1.block3"],
                }
            }
        },
    ),
    "auto is the cifar stem at 32 pixels": (
        {"backbone": {"stem": "auto"}},
        {"backbone": {"stem": "cifar"}},
    ),
    "widths that round to the same channels": (
        {"backbone": {"width": 1.0}},
        {"backbone": {"width": 1.01}},
    ),
    "one width and a list of it": (
        {"backbone": {"width": 0.5}},
        {"backbone": {"width": [0.5, 0.5, 0.5]}},
    ),
    "data of the same shape and classes": (
        {"dataset": {"name": "cifar10"}},
        {"dataset": {"name": "cifar10", "split_seed": 7, "root": "/elsewhere"}},
    ),
    "the recipe": (
        {"training": {"epochs": 1}},
        {"training": {"epochs": 9, "batch_size": 32, "label_smoothing": 0.1}},
    ),
    "the name": ({"name": "one"}, {"name": "two"}),
}

DIFFERENT = {
    "attention": ({"attention": ECA}, {}),
    "its kind": ({"attention": ECA}, {"attention": {"name": "se"}}),
    "its parameters": ({"attention": {"name": "se"}}, {"attention": {"name": "se", "bias": True}}),
    "its position": ({"attention": ECA}, {"attention": ECA | {"position": "mid"}}),
    "its blocks": (
        {"attention": ECA},
        {"attention": ECA | {"placement": {"name": "stages", "stages": [1, 2]}}},
    ),
    "one kernel": (
        {"attention": THREES},
        {"attention": ECA | {"mapping": {"name": "per_stage", "kernel_sizes": [3, 3, 5]}}},
    ),
    "depth": ({}, {"backbone": {"depth": 32}}),
    "width": ({}, {"backbone": {"width": 0.5}}),
    "one stage's width": ({}, {"backbone": {"width": [1.0, 1.0, 0.5]}}),
    "stem": ({}, {"backbone": {"stem": "imagenet"}}),
    "shortcut": ({}, {"backbone": {"shortcut": "identity"}}),
    "backbone": ({}, {"backbone": {"name": "mobilenetv2"}}),
    "classes": ({}, {"dataset": {"name": "cifar100"}}),
    "image size": ({}, {"dataset": {"image_size": 64}}),
}


@pytest.mark.parametrize(("first", "second"), SAME.values(), ids=SAME)
def test_the_same_network_has_one_identity(first, second):
    """However it was written: what is built decides."""
    assert trainers.identity(config(**first)) == trainers.identity(config(**second))


@pytest.mark.parametrize(("first", "second"), DIFFERENT.values(), ids=DIFFERENT)
def test_other_networks_have_other_identities(first, second):
    """Whatever changes the network changes its identity."""
    assert trainers.identity(config(**first)) != trainers.identity(config(**second))


def test_dropout_is_part_of_the_network():
    """MobileNetV2's dropout before the classifier makes another network of it."""
    first, second = (
        config(backbone={"name": "mobilenetv2", "dropout": rate}) for rate in (0.2, 0.25)
    )

    assert trainers.identity(first) != trainers.identity(second)


def test_identity_is_short_hex():
    """Both keys are 16 hex digits."""
    for key in (trainers.identity(config()), trainers.run_key(config(), "d")):
        assert len(key) == 16
        assert int(key, 16) >= 0


@pytest.mark.parametrize(
    "change",
    [
        {"training": {"epochs": 2}},
        {"training": {"batch_size": 64}},
        {"training": {"optimizer": {"name": "sgd", "lr": 0.2}}},
        {"training": {"ema": 0.99}},
        {"training": {"compile": True}},
        {"training": {"augmentation": {"flip": True}}},
        {"dataset": {"split_seed": 1}},
        {"dataset": {"val": 0.2}},
        {"dataset": {"subset": 1000}},
        {"attention": ECA},
    ],
    ids=str,
)
def test_run_keys_hold_the_whole_recipe(change):
    """Whatever changes what is trained, on what and how, changes the run key."""
    assert trainers.run_key(config(), "d") != trainers.run_key(config(**change), "d")


@pytest.mark.parametrize(
    ("training", "key"),
    [
        ({}, "4615e40c0df01524"),
        ({"accumulate": 1}, "4615e40c0df01524"),
        ({"compile": False}, "4615e40c0df01524"),
    ],
    ids=["left out", "one part", "eager"],
)
def test_run_keys_of_earlier_studies_stay(training, key):
    """A setting that came later, at its default, is in no run key (as computed at 0b55778)."""
    assert keys.RECIPE_VERSION == 1
    assert trainers.run_key(config(training=training), "d") == key


@pytest.mark.parametrize(
    "change",
    [{"name": "other"}, {"dataset": {"root": "/elsewhere"}}, {"backbone": {"stem": "cifar"}}],
    ids=str,
)
def test_run_keys_hold_nothing_else(change):
    """Neither the name, nor where the data lies, nor how the same network was written."""
    assert trainers.run_key(config(), "d") == trainers.run_key(config(**change), "d")


def test_run_keys_do_not_hold_how_many_decode(tmp_path):
    """The workers of a folder of images change no number; its other settings do."""
    for name in ("ant", "bee"):
        (tmp_path / "train" / name).mkdir(parents=True)

    def key(**change: Any) -> str:
        photos = {"name": "image_folder", "root": str(tmp_path), "image_size": 64}
        return trainers.run_key(config(dataset=photos | change), "d")

    assert key(workers=0) == key(workers=2) == key()
    assert key(val=0.2) != key()


def test_run_keys_follow_the_data():
    """Other images under the same name are another run."""
    assert trainers.run_key(config(), "d") != trainers.run_key(config(), "e")


def test_run_keys_follow_the_training_code(monkeypatch):
    """A new version of the recipe makes every run new."""
    before = trainers.run_key(config(), "d")
    monkeypatch.setattr(keys, "RECIPE_VERSION", keys.RECIPE_VERSION + 1)

    assert trainers.run_key(config(), "d") != before


def test_run_keys_follow_plugins(tmp_path, monkeypatch):
    """Editing a person's own file changes the run key, though its name and parameters are kept."""
    monkeypatch.setattr(catalogue, "_plugins", {})
    file = tmp_path / "fixed.py"
    source = '"""One size."""\n\n\ndef mapping(channels, stage=None) -> int:\n    return 3\n'
    file.write_text(source)
    catalogue.plug(file)
    point = config(attention={"name": "eca", "mapping": {"name": "fixed"}})

    before = trainers.run_key(point, "d")
    identity = trainers.identity(point)
    file.write_text(source + "\n\n# edited\n")

    assert trainers.run_key(point, "d") != before
    assert trainers.identity(point) == identity == trainers.identity(config(attention=THREES))


RESNET20 = {"name": "resnet", "depth": 20}
RESNET50 = {"name": "resnet", "depth": 50, "stem": "imagenet"}


@pytest.mark.parametrize(
    ("backbone", "attention", "network", "run"),
    [
        (RESNET20, {"name": "none"}, "1ab9b4a4c3f5b0f3", "4615e40c0df01524"),
        (RESNET20, ECA, "f3b2e0f16d48114c", "82b21f2554bead1b"),
        (RESNET20, {"name": "se", "bias": True}, "97b24dccc3e7a0d0", "58e3689ee48ac47d"),
        (RESNET50, ECA | {"position": "mid"}, "6d846f7207fcf361", "dc37c32cc6691e5b"),
        (RESNET50, {"name": "se"}, "1b2152ad0aacb389", "a8ab714aea6da65e"),
        (
            {"name": "mobilenetv2"},
            {"name": "se", "reduction": 8},
            "7d37021643d3fb4a",
            "626edca7aa91923e",
        ),
    ],
)
def test_keys_outlive_new_parameters(backbone, attention, network, run):
    """Both keys are those of commit 0b55778, before attention had a gate or a pool to choose:
    results of then are results of now.
    """
    point = config(backbone=backbone, attention=attention)

    assert (trainers.identity(point), trainers.run_key(point, "d")) == (network, run)


@pytest.mark.parametrize("kind", ["eca", "se"])
@pytest.mark.parametrize("change", [{"gate": "tanh"}, {"pool": "max"}], ids=str)
def test_a_later_parameter_that_changes_something_is_in_the_identity(kind, change):
    """At the value it had before there was a choice it is not; at any other it is."""
    before = trainers.identity(config(attention={"name": kind}))
    same = {"name": kind, "gate": "sigmoid", "pool": "avg"}

    assert trainers.identity(config(attention=same)) == before
    assert trainers.identity(config(attention={"name": kind, **change})) != before
