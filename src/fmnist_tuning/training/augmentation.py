"""Random changes of training images, a whole batch at a time, on the device."""

import math
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from fmnist_tuning.sweeps.choices import Augmentation

_CHANCES: Final = 6  # flip, shift across and down, rotation, column and row of what is erased


class Augmenter:
    """Changes images by numbers that were drawn before, the same ones on every kind of device.

    `flip` mirrors half of the images left to right. `shift` moves each by up to `shift_pixels` to
    any side, `rotate` turns it about its centre by up to `rotate_degrees` to either side; pixels
    from outside are black. `erase` fills a square, whose edge is `erase_pixels` and whose centre
    may be any pixel, with one level (cutout, DeVries and Taylor 2017).
    """

    def __init__(
        self,
        *,
        augmentation: Augmentation,
        shift_pixels: int = 2,
        rotate_degrees: float = 10.0,
        erase_pixels: int = 8,
    ) -> None:
        changes = augmentation.split("_")
        self._flips = "flip" in changes
        self._shift = shift_pixels if "shift" in changes else 0
        self._turn = math.radians(rotate_degrees) if "rotate" in changes else 0.0
        self._erased = erase_pixels if "erase" in changes else 0

    @staticmethod
    def draw(images: int, generator: torch.Generator) -> Tensor:
        """What decides the changes of so many images: (N, 6) from 0 to below 1, on the CPU."""
        return torch.rand(images, _CHANCES, generator=generator)

    def __call__(self, images: Tensor, chances: Tensor, level: float) -> Tensor:
        """(B, C, S, S) grey levels and (B, 6) → the changed images; `level` is what erases."""
        flip, across, down, turn, column, row = chances.unbind(1)  # (B,)
        if self._flips:
            images = torch.where(_per_image(flip < 0.5), images.flip(3), images)  # noqa: PLR2004
        if self._shift or self._turn:
            images = self._moved(images, across, down, turn)
        if self._erased:
            covered = (
                self._covered(row, images)[:, :, None] & self._covered(column, images)[:, None]
            )
            images = images.masked_fill(covered[:, None], level)
        return images

    def _moved(self, images: Tensor, across: Tensor, down: Tensor, turn: Tensor) -> Tensor:
        size = images.shape[-1]
        places = torch.arange(size, device=images.device) - (size - 1) / 2  # (S,) from the centre
        span = 2 * self._shift + 1
        x = places - ((across * span).floor() - self._shift)[:, None]  # (B, S)
        y = places - ((down * span).floor() - self._shift)[:, None]
        angle = (2 * turn - 1) * self._turn
        cosine, sine = _per_image(angle.cos())[..., 0], _per_image(angle.sin())[..., 0]
        x, y = x[:, None, :], y[:, :, None]
        sources = torch.stack(
            [cosine * x + sine * y, cosine * y - sine * x], dim=-1
        )  # (B, S, S, 2)
        # Without a rotation, pixels stay pixels.
        mode = "bilinear" if self._turn else "nearest"
        return F.grid_sample(images, sources * (2 / size), mode=mode, align_corners=False)

    def _covered(self, chance: Tensor, images: Tensor) -> Tensor:
        """Which rows or columns of each image are erased: (B, S)."""
        size = images.shape[-1]
        start = (chance * size).floor()[:, None] - self._erased // 2
        places = torch.arange(size, device=images.device)
        return (places >= start) & (places < start + self._erased)


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]
