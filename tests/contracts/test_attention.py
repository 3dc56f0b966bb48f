"""Every attention there is, at every shape and in every position, answers the same questions."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import trainers
from spaces import catalogue
from spaces.config import Config
from spaces.site import POSITIONS
from trainers import variants

KINDS = variants.names("attention")
SHAPES = [(2, 16, 8, 8), (1, 4, 1, 1), (3, 40, 7, 5)]


def make(kind: str, channels: int) -> nn.Module:
    """An attention with its own defaults, of kernel size 3 where it takes one."""
    kernel = {"kernel_size": 3} if catalogue.accepts("attention", kind, "kernel_size") else {}
    return variants.load("attention", kind)(channels, **kernel)


def config(kind: str, position: str, backbone: str) -> Config:
    """A small network on 3 x 8 x 8 images with the attention in one position of every block."""
    size = {"depth": 8} if backbone == "resnet" else {}
    return Config.model_validate(
        {
            "name": "contract",
            "dataset": {"name": "cifar10", "image_size": 8},
            "backbone": {"name": backbone, "width": 0.25, **size},
            "attention": {"name": kind, "position": position},
            "training": {"epochs": 1, "optimizer": {"name": "sgd", "lr": 0.1}},
        }
    )


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_shape_is_kept(kind, shape):
    """An attention gives maps of the shape it got, for any batch, size and number of channels."""
    x = torch.randn(shape)

    assert make(kind, shape[1])(x).shape == x.shape


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_learns(kind):
    """The gradient of a loss reaches the input and every parameter, and is not zero."""
    torch.manual_seed(0)
    attention = make(kind, 16)
    x = torch.randn(4, 16, 6, 6, requires_grad=True)

    (attention(x) * torch.randn(4, 16, 6, 6)).sum().backward()

    assert x.grad is not None
    for name, parameter in attention.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("value", [0.0, 1e4, -1e4])
@pytest.mark.parametrize("kind", KINDS)
def test_extreme_maps_stay_finite(kind, value):
    """Maps of nothing but zeros or of 1e4 give finite outputs and gradients."""
    attention = make(kind, 16)
    x = torch.full((2, 16, 4, 4), value, requires_grad=True)

    y = attention(x)
    y.sum().backward()

    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is None or p.grad.isfinite().all() for p in attention.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_zeros_stay_zeros(kind):
    """A gate scales: where there is nothing, there is nothing after it."""
    x = torch.zeros(2, 16, 4, 4)

    assert make(kind, 16)(x).equal(x)


@pytest.mark.parametrize("kind", KINDS)
def test_meta_device_needs_no_memory(kind):
    """An attention can be made and called on the meta device, where tensors are only shapes."""
    with torch.device("meta"):
        y = make(kind, 16)(torch.empty(2, 16, 8, 8))

    assert y.is_meta
    assert y.shape == (2, 16, 8, 8)


@pytest.mark.parametrize("kind", KINDS)
def test_autocast_is_close_to_float32(kind):
    """Under bfloat16 autocast the output is that of float32 up to bfloat16's 8 bits."""
    torch.manual_seed(0)
    attention = make(kind, 16)
    x = torch.randn(2, 16, 8, 8)

    with torch.autocast("cpu", torch.bfloat16):
        y = attention(x)

    # Two roundings to 8 significant bits, of the gate and of the product: 2 * 2^-8, and slack.
    torch.testing.assert_close(y.float(), attention(x), rtol=2**-6, atol=2**-6)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_format_is_kept(kind):
    """Maps in channels_last come out in channels_last, and equal those of the plain format."""
    torch.manual_seed(0)
    attention = make(kind, 16)
    x = torch.randn(2, 16, 8, 8)

    y = attention(x.to(memory_format=torch.channels_last))

    assert y.is_contiguous(memory_format=torch.channels_last)
    # Means are summed in another order.
    torch.testing.assert_close(y, attention(x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_images_do_not_see_each_other(kind):
    """Each image's output is what it would be alone in the batch."""
    torch.manual_seed(0)
    attention = make(kind, 16)
    x = torch.randn(3, 16, 5, 5)

    alone = torch.cat([attention(image[None]) for image in x])

    # One image or three may take another kernel of the matrix product: float32 rounding.
    torch.testing.assert_close(attention(x), alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("backbone", variants.names("backbone"))
@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "none"])
def test_every_position_of_every_backbone(kind, position, backbone):
    """In any position a network trains: finite logits, a gradient for every parameter."""
    net = trainers.build(config(kind, position, backbone))

    logits = net(torch.randn(2, 3, 8, 8))
    logits.square().sum().backward()

    assert logits.shape == (2, 10)
    assert logits.isfinite().all()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
