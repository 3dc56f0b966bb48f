"""Batched augmentation against the same done slowly, image by image and pixel by pixel."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainers import augmentation
from trainers.batches import resize

COUNT = 12


def pictures(channels: int, height: int, width: int) -> torch.Tensor:
    """Random uint8 images, (N, H, W, C)."""
    generator = torch.Generator().manual_seed(height * 1000 + width)
    shape = (COUNT, height, width, channels)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


shapes = st.tuples(st.integers(1, 3), st.integers(2, 9), st.integers(2, 9))


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(0, 5), st.booleans(), st.integers(0, 99))
def test_crop_and_flip_pixel_by_pixel(
    shape: tuple[int, int, int], padding: int, flip: bool, seed: int
) -> None:
    """Each pixel is the one that padding, cropping and mirroring puts there, else black."""
    images = pictures(*shape)
    draws = augmentation.draw(COUNT, shape[1], padding, seed, 1)
    done = augmentation.crop_and_flip(images, draws, padding, flip=flip)
    _, height, width = shape
    for n in range(COUNT):
        for y in range(height):
            for x in range(width):
                column = width - 1 - x if flip and draws.flip[n] else x
                row = y + int(draws.top[n]) - padding
                column += int(draws.left[n]) - padding
                inside = 0 <= row < height and 0 <= column < width
                expected = images[n, row, column] if inside else torch.zeros_like(done[n, y, x])
                assert torch.equal(done[n, y, x], expected)


def test_crop_and_flip_as_torchvision_does() -> None:
    """The same crop and flip by torchvision's own functions give the same images."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = pictures(3, 32, 32)
    draws = augmentation.draw(COUNT, 32, 4, 0, 1)
    done = augmentation.crop_and_flip(images, draws, 4, flip=True).permute(0, 3, 1, 2)
    for n, image in enumerate(images.permute(0, 3, 1, 2)):
        cropped = functional.crop(
            functional.pad(image, 4), int(draws.top[n]), int(draws.left[n]), 32, 32
        )
        if draws.flip[n]:
            cropped = functional.horizontal_flip(cropped)
        assert torch.equal(done[n], cropped)


@settings(deadline=None, max_examples=60)
@given(shapes, st.integers(0, 12), st.integers(0, 99))
def test_cutout_pixel_by_pixel(shape: tuple[int, int, int], size: int, seed: int) -> None:
    """Exactly the pixels of the square around the drawn centre are zero; it may hang over."""
    channels, height, width = shape
    images = torch.rand(COUNT, channels, height, width) + 1
    draws = augmentation.draw(COUNT, min(height, width), 0, seed, 1)
    expected = images.clone()
    for n in range(COUNT):
        top, left = int(draws.row[n]) - size // 2, int(draws.column[n]) - size // 2
        for y in range(max(top, 0), min(top + size, height)):
            for x in range(max(left, 0), min(left + size, width)):
                expected[n, :, y, x] = 0
    assert torch.equal(augmentation.cutout(images, draws, size), expected)


def test_normalise_is_scale_shift_and_layout() -> None:
    """(x / 255 - mean) / std per channel, channels first, laid out channels last."""
    images = pictures(3, 5, 7)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.3, 0.4])
    done = augmentation.normalise(images, mean * 255, std * 255)
    expected = (images.permute(0, 3, 1, 2) / 255 - mean[:, None, None]) / std[:, None, None]
    # float32: the same quotient with the factor 255 taken out
    torch.testing.assert_close(done, expected, rtol=1e-5, atol=1e-5)
    assert done.is_contiguous(memory_format=torch.channels_last)


def test_draws_follow_from_seed_and_epoch() -> None:
    """Equal seed and epoch, equal draws; another seed or epoch, others."""
    first, again = (augmentation.draw(100, 8, 2, 1, 1) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    for seed, epoch in ((2, 1), (1, 2)):
        other = augmentation.draw(100, 8, 2, seed, epoch)
        assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_one_kind_of_draw_does_not_disturb_another() -> None:
    """Another padding moves crops alone: flips and squares stay those of the other arm."""
    one, other = augmentation.draw(50, 8, 0, 7, 3), augmentation.draw(50, 8, 4, 7, 3)
    for name in ("flip", "row", "column"):
        assert torch.equal(getattr(one, name), getattr(other, name))


def test_draws_cover_their_range() -> None:
    """All crops and centres occur, half of the images are mirrored."""
    draws = augmentation.draw(20_000, 8, 2, 0, 1)
    assert draws.top.unique().tolist() == draws.left.unique().tolist() == list(range(5))
    assert draws.row.unique().tolist() == draws.column.unique().tolist() == list(range(8))
    # 20,000 coins: five standard deviations are 0.018
    assert abs(draws.flip.float().mean().item() - 0.5) < 0.018


def test_resize_as_torchvision_does() -> None:
    """In-memory images are resized as torchvision's Resize does, to one grey level."""
    functional = pytest.importorskip("torchvision.transforms.v2.functional")
    images = pictures(3, 32, 32)
    for size in (8, 20, 48):
        done = resize(images, size).permute(0, 3, 1, 2)
        expected = functional.resize(images.permute(0, 3, 1, 2), [size, size], antialias=True)
        assert done.shape == expected.shape
        # torchvision works in uint8 with weights of fixed point
        assert (done.int() - expected.int()).abs().max() <= 1


def test_resize_to_the_same_size_is_the_same() -> None:
    """Images that fit are not touched."""
    images = pictures(1, 8, 8)
    assert resize(images, 8) is images
