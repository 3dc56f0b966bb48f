"""The backbone asks, the config answers: which modules stand where, and with which weights."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import trainers
import trainers.build
from spaces import catalogue
from spaces.config import Config
from trainers import variants
from trainers.attention.eca import ECA
from trainers.weights import initialise

OWN = '''
"""Scales every channel by a weight of its own."""

import torch
from torch import nn


class Diagonal(nn.Module):
    def __init__(self, channels, start):
        super().__init__()
        self.weight = nn.Parameter(torch.full((channels, 1, 1), start) + torch.rand(()))

    def forward(self, x):
        return x * self.weight


def attention(channels, *, start: float = 1.0) -> nn.Module:
    """A weight for each channel."""
    return Diagonal(channels, start)
'''


def config(attention: dict[str, Any] | None = None, **backbone: Any) -> Config:
    return Config.model_validate(
        {
            "name": "built",
            "dataset": {"name": "cifar10"},
            "backbone": {"name": "resnet", "depth": 8, **backbone},
            "attention": attention or {"name": "none"},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


def agreeing(first: nn.Module, second: nn.Module) -> tuple[set[str], set[str]]:
    """Names of parameters that agree in name and shape, and of those that are equal too."""
    ours, theirs = dict(first.named_parameters()), dict(second.named_parameters())
    same = {name for name in ours.keys() & theirs if ours[name].shape == theirs[name].shape}
    return same, {name for name in same if ours[name].equal(theirs[name])}


# ---- where and which ----------------------------------------------------------------------------


def test_attention_stands_where_the_placement_says():
    """A module stands at the chosen position of the chosen blocks, with the mapping's kernel."""
    point = config(
        {
            "name": "eca",
            "position": "mid",
            "placement": {"name": "stages", "stages": [1, 3]},
            "mapping": {"name": "per_stage", "kernel_sizes": [3, 5, 7]},
        }
    )

    net = trainers.build(point)

    found = {name: m.conv.kernel_size[0] for name, m in net.named_modules() if isinstance(m, ECA)}
    assert found == {"backbone.stages.0.0.mid": 3, "backbone.stages.2.0.mid": 7}
    assert trainers.kernels(point) == {"stage1.block1": 3, "stage3.block1": 7}
    assert [site.name for site in trainers.active(point)] == ["stage1.block1", "stage3.block1"]


def test_all_sites_are_listed():
    """`sites` lists what the backbone asks, attention or not, with the scaled channels."""
    bare, dressed = config(width=0.5), config({"name": "eca"}, width=0.5)

    sites = trainers.sites(dressed)

    assert sites == trainers.sites(bare)
    assert len(sites) == 3 * 5
    assert [s.channels for s in sites if s.position == "final"] == [8, 16, 32]
    assert trainers.active(bare) == ()


def test_attention_without_kernels_has_none():
    """SE stands at its sites and has no kernel sizes."""
    point = config({"name": "se"})

    assert len(trainers.active(point)) == 3
    assert trainers.kernels(point) == {}


def test_a_kernel_the_attention_refuses_is_an_error():
    """A plugin mapping that gives an even kernel size ends in the attention's ValueError."""
    point = config({"name": "eca"})
    even = point.attention.mapping.model_copy(update={"name": "constant", "kernel_size": 4})
    broken = point.attention.model_copy(
        update={"mapping": type(even)(name="constant", kernel_size=4)}
    )

    with pytest.raises(ValueError, match="odd"):
        trainers.build(point.model_copy(update={"attention": broken}))


# ---- first weights ------------------------------------------------------------------------------


def test_a_seed_gives_the_same_weights():
    """Building twice from one seed gives equal networks, from another seed other weights."""
    point = config({"name": "eca"})

    same, equal = agreeing(trainers.build(point, seed=3), trainers.build(point, seed=3))
    _, chance = agreeing(trainers.build(point, seed=3), trainers.build(point, seed=4))

    assert equal == same
    # Norms start at 1 and 0 and the classifier's bias at 0, whatever the seed.
    fixed = (".bn", ".path.1", ".stem.1", "fc.bias")
    assert all(any(part in name for part in fixed) for name in chance)


@pytest.mark.parametrize("other", ["eca", "se"])
def test_arms_share_their_weights(other):
    """Plain and attended networks of one seed start equal wherever names and shapes agree."""
    plain = trainers.build(config(), seed=1)
    dressed = trainers.build(config({"name": other}), seed=1)

    same, equal = agreeing(plain, dressed)

    assert same == {name for name, _ in plain.named_parameters()}
    assert equal == same


def test_depths_and_widths_share_what_fits():
    """Another depth, or another width in the last stage, changes no weight that both have."""
    point = {"name": "eca", "mapping": {"name": "constant", "kernel_size": 3}}
    base = trainers.build(config(point), seed=1)

    for other in (config(point, depth=14), config(point, width=[1, 1, 0.5])):
        same, equal = agreeing(base, trainers.build(other, seed=1))
        assert len(same) > 10
        assert equal == same


def test_weights_do_not_depend_on_the_world():
    """Neither the global generator nor what was built before matters, and it is left as it was."""
    torch.manual_seed(1)
    first = trainers.build(config({"name": "se"}))
    torch.manual_seed(2)
    state = torch.get_rng_state()
    second = trainers.build(config({"name": "se"}))

    same, equal = agreeing(first, second)

    assert equal == same
    assert torch.get_rng_state().equal(state)


def test_weights_have_the_right_spread():
    """Convolutions are normal with variance 2 / fan-out, the classifier uniform by its inputs."""
    net = trainers.build(config(depth=20, width=2))
    weight = net.backbone.stages[2][1].conv1.weight.detach()

    # 147,456 draws: the standard error of the deviation is 0.2 %.
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.01)
    assert weight.mean().item() == pytest.approx(0, abs=5e-4)
    assert net.fc.weight.abs().max().item() <= 128**-0.5
    assert net.fc.weight.abs().max().item() > 0.99 * 128**-0.5


# ---- variants -----------------------------------------------------------------------------------


def test_a_plugin_is_a_variant(tmp_path, monkeypatch):
    """A person's file stands in a network, is measured, and starts from the seed like our own."""
    monkeypatch.setattr(catalogue, "_plugins", {})
    (tmp_path / "diagonal.py").write_text(OWN)
    catalogue.plug(tmp_path / "diagonal.py")
    point = config({"name": "diagonal", "start": 2.0})

    first, second = trainers.build(point, seed=5), trainers.build(point, seed=5)

    gate = first.backbone.stages[0][0].final
    assert gate.weight.shape == (16, 1, 1)
    assert gate.weight.min() >= 2
    same, equal = agreeing(first, second)
    assert same == equal
    assert trainers.measure(point).params - trainers.measure(config()).params == 16 + 32 + 64
    assert type(gate) is type(second.backbone.stages[0][0].final)


def test_unknown_variants_are_named():
    """A name that no file has is refused, with the names that there are."""
    with pytest.raises(ValueError, match=r"no backbone named 'resnt'.*resnet"):
        variants.load("backbone", "resnt")


def test_public_names_are_functions():
    """`trainers.build` is the function, also after its file was imported."""
    assert callable(trainers.build)
    assert trainers.build(config()).fc.out_features == 10
    assert trainers.measure is trainers.measure
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        trainers.nothing  # noqa: B018


def test_the_package_is_pickled_by_its_name():
    """A function of one's own that uses `trainers` can be sent to a worker, as Ray Tune does."""
    assert pickle.loads(pickle.dumps(trainers)) is trainers


def test_imports_are_as_light_as_they_can_be():
    """Importing the variants imports no torch; measuring imports none of torch's compiler."""
    script = """
import sys
import trainers.variants
assert "torch" not in sys.modules
import trainers
from spaces.config import Config
point = Config.model_validate({
    "name": "light", "dataset": {"name": "cifar10"},
    "backbone": {"name": "mobilenetv2"}, "attention": {"name": "eca"},
    "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
})
assert trainers.measure(point).params == 2_236_741, trainers.measure(point)
assert "torch._dynamo" not in sys.modules
assert "sympy" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)

    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("own", [nn.Conv2d(3, 4, 1), nn.ModuleDict(), 7])
def test_a_network_may_call_anything_of_its_own_first(own: Any) -> None:
    """Only a mapping says how layers start; others are drawn as ever."""
    net, plain = nn.Module(), nn.Module()
    net.first = own
    net.last, plain.last = nn.Linear(2, 2), nn.Linear(2, 2)
    initialise(net, 0)
    initialise(plain, 0)
    assert net.last.weight.equal(plain.last.weight)
