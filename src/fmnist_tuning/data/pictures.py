"""Converts pictures of garments to the network's input: 28x28 pixels, bright on black.

The steps are those that made Fashion-MNIST from shop photographs (arXiv:1708.07747, figure 1):
trim to the garment, scale the longest edge to 28 pixels, centre, negate, convert to grey.
"""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist_tuning.errors import PictureError
from fmnist_tuning.sweeps.datasets import FASHION

SIZE: Final = FASHION.size
_MAX_BYTES: Final = 50_000_000
_MAX_PIXELS: Final = 50_000_000
_REFUSED: Final = {"EPS", "PDF"}  # Pillow lets another program run what is in them
_SAME_GREY: Final = 24  # grey levels; smaller differences from the background are noise
_SPECKS: Final = 0.01  # part of a row or column; less is dust
_KEPT: Final = 0.3  # of the variance; noise keeps next to nothing, photographs of garments most
_PLAIN: Final = 250  # variance of grey levels within a garment of one colour
_Decoded = TypeVar("_Decoded")
_LIGHT: Final = 127
_OPAQUE: Final = 127
_PALE: Final = 100  # a light garment is made as dark as most garments of Fashion-MNIST


def read_picture(path: Path, size: int = SIZE, channels: int = 1) -> NDArray[np.uint8]:
    """A file in any format that Pillow reads, as (28, 28) uint8, bright on black.

    For a network of colour images it is (3, size, size): cut to a square and scaled.

    The median grey of the border is the background. A picture of 28x28 pixels is only negated if
    its background is light. In other pictures, the brightness of a pixel becomes its difference
    from the background, and empty edges are trimmed. If the background is transparent, the garment
    is what is not, however light it is.

    Raises:
        PictureError: If the file cannot be read, or shows too little for the network.
    """
    if channels > 1:
        return _colours(path, size)
    grey, opaque = _grey(path)
    ground = int(np.median(_border(grey)))
    distance = np.abs(grey.astype(np.int16) - ground)
    garment = distance > _SAME_GREY
    if opaque is not None and not np.median(_border(opaque)) and opaque.any():
        ground, garment = 255, opaque
        distance = _brightness(255 - grey[opaque], opaque)
    rows, columns = (np.flatnonzero(garment.mean(axis) > _SPECKS) for axis in (1, 0))
    if not len(rows) or not len(columns):
        raise PictureError(f"{path}: shows nothing that differs from its border")
    if grey.shape == (size, size) and opaque is None:
        return 255 - grey if ground > _LIGHT else grey
    trimmed = distance[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if max(trimmed.shape) > size * min(trimmed.shape):
        raise PictureError(
            f"{path}: what it shows is too thin to be seen at {size} x {size} pixels"
        )
    bright = Image.fromarray((trimmed * (255 / max(ground, 255 - ground))).astype(np.uint8))
    small = ImageOps.contain(bright, (size, size), Image.Resampling.BOX)
    if np.var(np.asarray(small)) < _KEPT * np.var(np.asarray(bright)) - _PLAIN:
        raise PictureError(
            f"{path}: its pattern is too fine to be seen at {size} x {size} pixels; what is left "
            "would be a grey patch"
        )
    return np.asarray(ImageOps.pad(bright, (size, size), Image.Resampling.LANCZOS, color=0))


def _border(picture: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])


def _brightness(darkness: NDArray[np.uint8], opaque: NDArray[np.bool_]) -> NDArray[np.int16]:
    """How bright a cut-out garment is; a light one keeps its pattern, but not its paleness."""
    values = np.zeros(opaque.shape, dtype=np.int16)
    typical = np.median(darkness)
    values[opaque] = darkness if typical >= _PALE else np.clip(darkness + _PALE - typical, 0, 255)
    return values


def _colours(path: Path, size: int) -> NDArray[np.uint8]:
    return _read(path, lambda picture: _square(picture, path, size))


def _square(picture: Image.Image, path: Path, size: int) -> NDArray[np.uint8]:
    _check_size(picture, path)
    colours = ImageOps.exif_transpose(picture).convert("RGB")
    fitted = ImageOps.fit(colours, (size, size), Image.Resampling.LANCZOS)
    return np.ascontiguousarray(np.asarray(fitted).transpose(2, 0, 1))


def _grey(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """Grey levels, and where the picture is not transparent; None if it has no transparency."""
    return _read(path, lambda picture: _decoded(picture, path))


def _read(path: Path, decode: Callable[[Image.Image], _Decoded]) -> _Decoded:
    try:
        if path.is_file() and path.stat().st_size > _MAX_BYTES:
            raise PictureError(f"{path}: larger than {_MAX_BYTES // 1_000_000} MB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Image.init()
            formats = [name for name in Image.ID if name not in _REFUSED]
            with Image.open(path, formats=formats) as picture:
                return decode(picture)
    except PictureError:
        raise
    except UnidentifiedImageError:
        raise PictureError(
            f"{path}: not a picture; allowed: PNG, JPEG, WEBP and what else Pillow reads"
        ) from None
    except Exception as error:  # noqa: BLE001  a damaged picture can raise any error
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise PictureError(f"{path}: cannot be read: {reason[:200]}") from None


def _decoded(
    picture: Image.Image, path: Path
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    _check_size(picture, path)
    turned = ImageOps.exif_transpose(picture)
    if turned.mode[0] in "IF":  # more than 8 bits for each pixel; `convert` would clip them
        values = np.nan_to_num(np.asarray(turned, dtype=np.float64)).clip(0)
        # Some programs write values up to 255 into 16 bits.
        deep = values.max() > 255  # noqa: PLR2004
        return (values / (max(values.max(), 65_535) / 255 if deep else 1)).astype(np.uint8), None
    if turned.has_transparency_data:
        turned = turned.convert("RGBA")
        opaque = np.asarray(turned.getchannel("A")) > _OPAQUE
        turned = Image.alpha_composite(Image.new("RGBA", turned.size, "white"), turned)
        return np.asarray(turned.convert("L")), None if opaque.all() else opaque
    return np.asarray(turned.convert("L")), None


def _check_size(picture: Image.Image, path: Path) -> None:
    width, height = picture.size
    if width * height > _MAX_PIXELS or min(width, height) < 2:  # noqa: PLR2004
        raise PictureError(
            f"{path}: {width:,} x {height:,} pixels, allowed: from 2 x 2 to "
            f"{_MAX_PIXELS // 1_000_000} million"
        )
