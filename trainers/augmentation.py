"""Flip, crop and cutout of a whole batch at once, on the device the images are on.

What happens to an image is drawn per epoch for the whole training set, as a function of seed,
epoch and the image's place in the set: arms of a comparison see the same pictures, whatever their
batch size or device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainers.seeds import stream


class Draws(NamedTuple):
    """What happens to each of N images in one epoch; every field has shape (N,)."""

    flip: Tensor  # bool
    top: Tensor  # first row of the crop in the padded image, 0 .. 2 * padding
    left: Tensor
    row: Tensor  # centre of the square cut out, 0 .. image_size - 1
    column: Tensor

    def take(self, index: Tensor) -> Draws:
        """The draws of the images at `index`."""
        return Draws(*(draw[index] for draw in self))

    def to(self, device: torch.device) -> Draws:
        """The same draws on `device`."""
        return Draws(*(draw.to(device, non_blocking=True) for draw in self))


def draw(count: int, image_size: int, padding: int, seed: int, epoch: int) -> Draws:
    """One epoch's draws for `count` images; each kind has a stream of its own.

    Switching one augmentation on or off, or giving it another size, leaves the others' draws alone.
    """

    def uniform(what: str, high: int) -> Tensor:
        return torch.randint(high, (count,), generator=stream(seed, "augmentation", what, epoch))

    return Draws(
        flip=uniform("flip", 2) == 1,
        top=uniform("top", 2 * padding + 1),
        left=uniform("left", 2 * padding + 1),
        row=uniform("row", image_size),
        column=uniform("column", image_size),
    )


def crop_and_flip(images: Tensor, draws: Draws, padding: int, *, flip: bool) -> Tensor:
    """Pad by black, crop back to size, then mirror left to right where drawn: one gather.

    (N, H, W, C) -> (N, H, W, C), of any dtype. `torchvision.transforms.RandomCrop(size, padding)`
    followed by `RandomHorizontalFlip` does the same to one image.
    """
    if padding == 0 and not flip:
        return images
    count, height, width, channels = images.shape
    device = images.device
    if padding:
        images = pad(images, (0, 0, padding, padding, padding, padding))
    rows = torch.arange(height, device=device) + draws.top[:, None]  # (N, H)
    columns = torch.arange(width, device=device).expand(count, width)
    if flip:
        columns = torch.where(draws.flip[:, None], width - 1 - columns, columns)
    columns = columns + draws.left[:, None]  # (N, W)
    first = torch.arange(count, device=device)[:, None, None] * (height + 2 * padding)
    pixel = (first + rows[:, :, None]) * (width + 2 * padding) + columns[:, None, :]  # (N, H, W)
    picked = images.reshape(-1, channels).index_select(0, pixel.flatten())
    return picked.view(count, height, width, channels)


def normalise(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(N, H, W, C) uint8 -> (N, C, H, W) float32 in channels_last: x / 255, less mean, over std.

    `mean` and `std` are on the scale 0..255, of shape (C,) or (1,).
    """
    return images.float().sub_(mean).div_(std).permute(0, 3, 1, 2)


def cutout(images: Tensor, draws: Draws, size: int) -> Tensor:
    """Set a square of `size` pixels around the drawn centre to zero, in place; (N, C, H, W).

    The square may hang over the border (DeVries and Taylor 2017, arXiv:1708.04552, section 3.2).
    On normalised images zero is the mean colour.
    """
    if size == 0:
        return images
    _, _, height, width = images.shape

    def covered(length: int, centre: Tensor) -> Tensor:  # -> (N, length)
        first = centre[:, None] - size // 2
        place = torch.arange(length, device=images.device)
        return (place >= first) & (place < first + size)

    square = covered(height, draws.row)[:, :, None] & covered(width, draws.column)[:, None, :]
    return images.masked_fill_(square[:, None], 0.0)
