import math
from typing import get_args

import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as transforms

from fmnist_tuning.sweeps.choices import Augmentation
from fmnist_tuning.training.augmentation import Augmenter

CHANGES = ("flip", "shift", "rotate", "erase")
FLIP, ACROSS, DOWN, TURN, COLUMN, ROW = range(6)


@pytest.fixture
def images() -> torch.Tensor:
    """Eight pictures of noise with three channels, as no mistake in a direction can hide there."""
    return torch.randint(1, 256, (8, 3, 28, 28), generator=torch.Generator().manual_seed(1)).float()


def chances(images: torch.Tensor, **column: float) -> torch.Tensor:
    """The middle of everything, but for these columns: no flip, shift or rotation."""
    made = torch.full((len(images), 6), 0.5)
    for name, value in column.items():
        made[:, globals()[name.upper()]] = value
    return made


def test_every_choice_of_changes_has_a_name():
    """None of them, or the names of some in one order."""
    choices = {
        "_".join(name for place, name in enumerate(CHANGES) if number >> place & 1) or "none"
        for number in range(2 ** len(CHANGES))
    }
    assert set(get_args(Augmentation)) == choices


def test_a_flip_is_that_of_torchvision(images):
    """Below one half an image is mirrored, else it stays."""
    augmenter = Augmenter(augmentation="flip")
    assert torch.equal(augmenter(images, chances(images, flip=0.5), 0.0), images)
    mirrored = augmenter(images, chances(images, flip=0.499), 0.0)
    assert torch.equal(mirrored, transforms.horizontal_flip(images))


@pytest.mark.parametrize(("across", "down"), [(0.0, 0.0), (0.999, 0.0), (0.3, 0.7), (0.5, 0.5)])
def test_a_shift_is_that_of_torchvision(images, across, down):
    """Whole pixels, as many to each side as the setting says, and black ones come in."""
    shifted = Augmenter(augmentation="shift", shift_pixels=3)(
        images, chances(images, across=across, down=down), 0.0
    )
    moves = [math.floor(chance * 7) - 3 for chance in (across, down)]
    assert torch.equal(
        shifted, transforms.affine(images, angle=0, translate=moves, scale=1, shear=[0.0, 0.0])
    )


@pytest.mark.parametrize("turn", [0.0, 0.1, 0.5, 0.999])
def test_a_rotation_is_that_of_torchvision(images, turn):
    """About the centre, by as many degrees to each side as the setting says."""
    turned = Augmenter(augmentation="rotate", rotate_degrees=15)(
        images, chances(images, turn=turn), 0.0
    )
    # Torchvision counts angles the other way round.
    wanted = transforms.rotate(
        images, -(2 * turn - 1) * 15, interpolation=InterpolationMode.BILINEAR
    )
    torch.testing.assert_close(turned, wanted, rtol=0, atol=0.1)


@pytest.mark.parametrize("edge", [1, 4, 7])
def test_a_square_is_erased(images, edge):
    """Round a pixel; at the border only what is inside, in every channel."""
    augmenter = Augmenter(augmentation="erase", erase_pixels=edge)
    middle = augmenter(images, chances(images, column=10 / 28, row=20 / 28), 99.5)
    left, top = 10 - edge // 2, 20 - edge // 2
    wanted = images.clone()
    wanted[:, :, top : top + edge, left : left + edge] = 99.5
    assert torch.equal(middle, wanted)
    corner = augmenter(images, chances(images, column=0.0, row=0.0), 99.5)
    assert (corner == 99.5).sum() == len(images) * 3 * (edge - edge // 2) ** 2


def test_images_change_each_by_its_own_chances(images):
    """Together as alone, in whatever batch they are."""
    augmenter = Augmenter(augmentation="flip_shift_rotate_erase")
    drawn = augmenter.draw(len(images), torch.Generator().manual_seed(2))
    together = augmenter(images, drawn, 7.0)
    alone = [augmenter(images[n : n + 1], drawn[n : n + 1], 7.0)[0] for n in range(len(images))]
    torch.testing.assert_close(together, torch.stack(alone), rtol=0, atol=1e-3)
    assert not torch.equal(together[0], images[0])
