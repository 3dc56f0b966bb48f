"""ECA's rivals against numbers of others: the paper's table 2, and timm's modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from timm.layers import CecaModule, EcaModule, GlobalContext, SEModule, create_attn
from timm.layers.cbam import CbamModule
from torch import nn

from spaces.config import Config
from trainers import measure, variants

GATES = {"sigmoid": "sigmoid", "hard_sigmoid": "hard_sigmoid", "tanh": "tanh"}


def added(attention: dict[str, Any]) -> int:
    """Parameters that an attention in every block adds to ResNet-50."""
    base = {
        "name": "rivals",
        "dataset": {"name": "cifar10"},
        "backbone": {"name": "resnet", "depth": 50},
        "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
    }
    plain, dressed = (
        measure(Config.model_validate(base | {"attention": it}))
        for it in ({"name": "none"}, attention)
    )
    return dressed.params - plain.params


K3 = {"name": "constant", "kernel_size": 3}


@pytest.mark.parametrize(
    ("attention", "params"),
    [
        ({"name": "se"}, 2_514_944),
        ({"name": "se_var1"}, 0),
        ({"name": "se_var2"}, 15_104),
        ({"name": "se_var3"}, 20_119_552),
        ({"name": "se_group", "groups": 16}, 1_257_472),
        ({"name": "se_group", "groups": "C/16"}, 241_664),
        ({"name": "se_group", "groups": "C/8"}, 120_832),
        ({"name": "eca_ns", "mapping": K3}, 45_312),
        ({"name": "eca", "mapping": K3}, 48),
        ({"name": "ceca", "mapping": K3}, 48),
    ],
    ids=lambda value: value if isinstance(value, int) else "-".join(map(str, value.values())),
)
def test_table_2(attention, params):
    """Params per module by the paper's table 2, summed over ResNet-50's 16 blocks by hand."""
    assert added(attention) == params


def ours(kind: str, *given: Any, **params: Any) -> nn.Module:
    return variants.load("attention", kind)(*given, **params).eval()


def alike(mine: nn.Module, theirs: nn.Module, channels: int) -> None:
    """Share the weights, in their order, and compare outputs and gradients."""
    torch.manual_seed(0)
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.3)
    weights = zip(mine.parameters(), theirs.parameters(), strict=True)
    with torch.no_grad():
        for own, other in weights:
            own.copy_(other.view_as(own))
    x = torch.randn(3, channels, 6, 5, requires_grad=True)
    outputs = [net.eval()(x) for net in (mine, theirs)]
    slopes = [torch.autograd.grad(y.square().sum(), x)[0] for y in outputs]

    # A linear layer and a 1x1 convolution may sum in another order.
    torch.testing.assert_close(outputs[0], outputs[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(slopes[0], slopes[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("kernel_size", [1, 3, 9])
def test_eca_and_its_ring_are_timms(gate, kernel_size):
    """With any of timm's gates, zero-padded and circular."""
    for kind, module in (("eca", EcaModule), ("ceca", CecaModule)):
        theirs = module(kernel_size=kernel_size, gate_layer=GATES[gate])
        alike(ours(kind, 24, kernel_size, gate=gate), theirs, 24)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("pool", ["avg", "avg_max"])
def test_se_is_timms(gate, bias, pool):
    """With a bias or not, pooling means or the mean of means and maxima."""
    theirs = SEModule(
        48, rd_channels=6, bias=bias, add_maxpool=pool == "avg_max", gate_layer=GATES[gate]
    )
    alike(ours("se", 48, reduction=8, bias=bias, gate=gate, pool=pool), theirs, 48)


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("spatial", [3, 7])
def test_cbam_is_timms(gate, bias, spatial):
    """Both gates, and the norm between them, with biases or without."""
    theirs = CbamModule(
        48, rd_channels=3, mlp_bias=bias, spatial_kernel_size=spatial, gate_layer=GATES[gate]
    )
    alike(ours("cbam", 48, reduction=16, bias=bias, spatial=spatial, gate=gate), theirs, 48)


@pytest.mark.parametrize("fusion", ["add", *GATES])
def test_global_context_is_timms(fusion):
    """Added as in the paper, or as a gate. LayerNorm's epsilon is 1e-5 here, as in GCNet; 1e-6 in
    timm.
    """
    add = fusion == "add"
    gate = {} if add else {"gate_layer": GATES[fusion]}
    theirs = GlobalContext(64, rd_channels=8, fuse_add=add, fuse_scale=not add, **gate)
    for module in theirs.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-5
    alike(ours("gc", 64, reduction=8, fusion=fusion), theirs, 64)


@pytest.mark.parametrize("module", ["se", "ese", "eca", "ecam", "ceca", "gc", "cbam", "lcbam"])
def test_timms_modules_are_timms(module):
    """`{name: timm, module: ...}` is what timm's own models ask for by that name."""
    alike(ours("timm", 32, module=module), create_attn(module, 32), 32)
