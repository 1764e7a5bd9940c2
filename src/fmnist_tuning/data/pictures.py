"""Converts pictures of garments to the network's input: 28x28 pixels, bright on black.

The steps are those that made Fashion-MNIST from shop photographs (arXiv:1708.07747, figure 1):
trim to the garment, scale the longest edge to 28 pixels, centre, negate, convert to grey.
"""

import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist_tuning.errors import PictureError
from fmnist_tuning.sweeps.settings import IMAGE_SIZE as SIZE

_MAX_BYTES: Final = 50_000_000
_MAX_PIXELS: Final = 50_000_000
_FORMATS: Final = ("PNG", "JPEG")
_SAME_GREY: Final = 24  # grey levels; smaller differences from the background are noise
_SPECKS: Final = 0.01  # part of a row or column; less is dust
_LIGHT: Final = 127


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A PNG or JPEG file as (28, 28) uint8, bright on black.

    The median grey of the border is the background. A picture of 28x28 pixels is only negated if
    its background is light. In other pictures, the brightness of a pixel becomes its difference
    from the background, and empty edges are trimmed.

    Raises:
        PictureError: If the file cannot be read, or shows too little for the network.
    """
    grey = _grey(path)
    ground = int(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    distance = np.abs(grey.astype(np.int16) - ground)
    garment = distance > _SAME_GREY
    rows, columns = (np.flatnonzero(garment.mean(axis) > _SPECKS) for axis in (1, 0))
    if not len(rows) or not len(columns):
        raise PictureError(f"{path}: shows nothing that differs from its border")
    if grey.shape == (SIZE, SIZE):
        return 255 - grey if ground > _LIGHT else grey
    trimmed = distance[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(trimmed.shape) > SIZE * min(trimmed.shape):
        raise PictureError(
            f"{path}: what it shows is too thin to be seen at {SIZE} x {SIZE} pixels"
        )
    bright = Image.fromarray((trimmed * (255 / max(ground, 255 - ground))).astype(np.uint8))
    return np.asarray(ImageOps.pad(bright, (SIZE, SIZE), Image.Resampling.LANCZOS, color=0))


def _grey(path: Path) -> NDArray[np.uint8]:
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise PictureError(f"{path}: larger than {_MAX_BYTES // 1_000_000} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path, formats=_FORMATS) as picture:
                return _decoded(picture, path)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(f"{path}: not a picture in the format PNG or JPEG") from None
    except Exception as error:  # noqa: BLE001  a damaged picture can raise any error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PictureError(f"{path}: cannot be read: {reason[:200]}") from None


def _decoded(picture: Image.Image, path: Path) -> NDArray[np.uint8]:
    width, height = picture.size
    if width * height > _MAX_PIXELS or min(width, height) < 2:  # noqa: PLR2004
        raise PictureError(
            f"{path}: {width:,} x {height:,} pixels, allowed: from 2 x 2 to "
            f"{_MAX_PIXELS // 1_000_000} million"
        )
    turned = ImageOps.exif_transpose(picture)
    if turned.mode.startswith("I"):  # 16 bits for each pixel; `convert` would clip them
        return (np.asarray(turned) // 256).astype(np.uint8)
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
    return np.asarray(turned.convert("L"))
