"""Pictures of garments as the network knows them: 28x28 pixels, bright on black.

The steps follow those by which Fashion-MNIST was made of shop photographs (arXiv:1708.07747,
figure 1): trim to the garment, longest edge to 28 pixels, centre, negate, grey.
"""

import warnings
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist_tuning.errors import PictureError

SIZE: Final = 28

_MAX_BYTES: Final = 50_000_000
_MAX_PIXELS: Final = 50_000_000
_FORMATS: Final = ("PNG", "JPEG")
_BACKGROUND: Final = 24  # grey levels from the border's that still are background
_LIGHT: Final = 127


def read_picture(path: Path) -> NDArray[np.uint8]:
    """A PNG or JPEG file as (28, 28) uint8, bright on black.

    A picture of 28x28 pixels is taken as it is; any other is trimmed to what differs from its
    border. Either is negated when its border is light.

    Raises:
        PictureError: When it cannot be read, or shows nothing.
    """
    grey = _grey(path)
    background = float(np.median(np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])))
    if background > _LIGHT:
        grey, background = 255 - grey, 255 - background
    garment = grey - background > _BACKGROUND
    if not garment.any():
        raise PictureError(
            f"{path}: shows nothing that is brighter than a dark border, or darker than a light one"
        )
    if grey.shape == (SIZE, SIZE):
        return grey
    rows, columns = (np.flatnonzero(garment.any(axis)) for axis in (1, 0))
    trimmed = grey[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(np.float32)
    cleared = np.clip((trimmed - background) * (255 / (255 - background)), 0, 255)
    small = ImageOps.pad(
        Image.fromarray(cleared.astype(np.uint8)), (SIZE, SIZE), Image.Resampling.LANCZOS, color=0
    )
    return np.asarray(small)


def _grey(path: Path) -> NDArray[np.uint8]:
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise PictureError(f"{path}: larger than {_MAX_BYTES // 1_000_000} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path, formats=_FORMATS) as picture:
                width, height = picture.size
                if width * height > _MAX_PIXELS or min(width, height) < 2:  # noqa: PLR2004
                    raise PictureError(
                        f"{path}: {width:,} x {height:,} pixels, allowed: from 2 x 2 to "
                        f"{_MAX_PIXELS // 1_000_000} million"
                    )
                turned = ImageOps.exif_transpose(picture)
                if turned.mode.startswith("I"):  # 16 bits a pixel, which a conversion would cut
                    return (np.asarray(turned) // 256).astype(np.uint8)
                if turned.has_transparency_data:
                    turned = turned.convert("RGBA")
                    sheet = Image.new("RGBA", turned.size, "white")
                    turned = Image.alpha_composite(sheet, turned)
                return np.asarray(turned.convert("L"))
    except UnidentifiedImageError:
        raise PictureError(f"{path}: not a picture in the format PNG or JPEG") from None
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PictureError(f"{path}: cannot be read: {reason[:200]}") from None
