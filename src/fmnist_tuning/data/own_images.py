"""Reads a person's own images: a folder for each class, or IDX files of any square size."""

import hashlib
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from fmnist_tuning.data.files import PUBLISHED, DataFiles
from fmnist_tuning.data.idx import find_idx, read_content, read_idx
from fmnist_tuning.errors import DataError, MissingDataError
from fmnist_tuning.text import by_number

_PARTS: Final = ("train", "test")
_SUFFIXES: Final = {
    *(".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
}
_MOST_BYTES: Final = 1 << 32  # of the pixels of all images
_MOST_PIXELS: Final = 1024  # the edge of an image
_MOST_CLASSES: Final = 256
_COLOURS: Final = 3
_OPAQUE: Final = (255, 255)
_LAYOUT: Final = (
    "pictures (PNG, JPEG and others) in train/CLASS/ and test/CLASS/, or four IDX files of MNIST's "
    "names"
)


def read_folder(place: Path) -> DataFiles:
    """The images in `train/CLASS/` and `test/CLASS/`, or in IDX files of MNIST's names.

    All images are squares of one size. If one of them has colours, all are read as colours. An IDX
    file in colour has the dimensions N, S, S, 3.

    Raises:
        MissingDataError: If there are neither.
        DataError: Names the image that cannot be used, and why.
    """
    if all(find_idx(place, name) for name in PUBLISHED):
        arrays, classes = _idx_files(place)
    elif all((place / part).is_dir() for part in _PARTS):
        arrays, classes = _class_folders(place)
    else:
        found = ", ".join(f"{part}/" for part in _PARTS if (place / part).is_dir())
        raise MissingDataError(
            f"{place}: found {found or 'no images'} for `dataset: folder`, allowed: {_LAYOUT}; "
            "--data-dir (or FMNIST_DATA_DIR) names their folder"
        )
    digest = hashlib.sha256("\0".join(classes).encode())
    for array in arrays:
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array).data)
    shown = digest.hexdigest()[:16]
    one, two, three, four = arrays
    return DataFiles(place, shown, True, one, two, three, four, "folder", tuple(classes))


def _idx_files(place: Path) -> tuple[list[NDArray[np.uint8]], list[str]]:
    arrays = []
    for name in PUBLISHED:
        path = find_idx(place, name)
        assert path is not None  # noqa: S101  the caller has looked
        content = read_content(path, _MOST_BYTES, remedy="correct it")
        dimensions = content[3] if len(content) > 3 else 0  # noqa: PLR2004  the magic number's last byte
        wanted = dimensions if "images" in name and dimensions in {3, 4} else 1
        wanted = 3 if wanted == 1 and "images" in name else wanted
        array = read_idx(path, content, wanted, remedy="correct it")
        if array.ndim == 4:  # noqa: PLR2004
            if array.shape[3] not in {1, _COLOURS}:
                raise DataError(f"{path}: found {array.shape[3]} channels, allowed: 1 or 3")
            array = array[..., 0] if array.shape[3] == 1 else array.transpose(0, 3, 1, 2)
        arrays.append(array)
    for images, labels in zip(arrays[::2], arrays[1::2], strict=True):
        if len(images) != len(labels) or not len(images):
            raise DataError(
                f"{place}: found {len(images):,} images and {len(labels):,} labels, allowed: as "
                "many of both, and one at least"
            )
    first, second = arrays[0].shape[1:], arrays[2].shape[1:]
    if first != second or first[-1] != first[-2] or not 1 <= first[-1] <= _MOST_PIXELS:
        raise DataError(
            f"{place}: found training images of {_size(first)} and test images of {_size(second)}, "
            f"allowed: squares of one size, up to {_MOST_PIXELS} pixels"
        )
    if arrays[0].ndim != arrays[2].ndim:
        raise DataError(f"{place}: found grey and coloured images, allowed: one of them")
    highest = max(int(arrays[1].max()), int(arrays[3].max()))
    if highest == 0:
        raise DataError(f"{place}: found the label 0 alone, allowed: 2 to {_MOST_CLASSES} classes")
    return arrays, [str(number) for number in range(highest + 1)]


def _size(shape: Sequence[int]) -> str:
    return f"{shape[-2]}x{shape[-1]} pixels"


def _class_folders(place: Path) -> tuple[list[NDArray[np.uint8]], list[str]]:
    classes = sorted(
        (path.name for path in (place / "train").iterdir() if _is_class(path)), key=by_number
    )
    if not 2 <= len(classes) <= _MOST_CLASSES:  # noqa: PLR2004
        raise DataError(
            f"{place / 'train'}: found {len(classes)} folders of images, allowed: one for each "
            f"class, 2 to {_MOST_CLASSES}"
        )
    for path in (place / "test").iterdir():
        if _is_class(path) and path.name not in classes:
            raise DataError(f"{path}: {place / 'train'} has no class of that name")
    files = {part: _files(place / part, classes) for part in _PARTS}
    pictures = [path for part in _PARTS for path, _ in files[part]]
    size, mode = _form(pictures)
    arrays: list[NDArray[np.uint8]] = []
    for part in _PARTS:
        shape = (size, size) if mode == "L" else (_COLOURS, size, size)
        images = np.empty((len(files[part]), *shape), np.uint8)
        for image, (path, _) in zip(images, files[part], strict=True):
            image[:] = _pixels(path, size, mode)
        arrays += [images, np.array([label for _, label in files[part]], np.uint8)]
    return arrays, classes


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _files(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    """The pictures of a part with the numbers of their classes."""
    found = [
        (path, label)
        for label, name in enumerate(classes)
        if (folder / name).is_dir()
        for path in sorted((folder / name).iterdir(), key=lambda file: by_number(file.name))
        if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")
    ]
    counts = Counter(label for _, label in found)
    if lacking := [name for label, name in enumerate(classes) if not counts[label]]:
        raise DataError(
            f"{folder / lacking[0]}: found no images, allowed: one at least of each class, in "
            f"{' and in '.join(_PARTS)}"
        )
    return found


def _form(pictures: Sequence[Path]) -> tuple[int, str]:
    """The size that all pictures have, and `L` or `RGB`."""
    mode, size, first = "L", (0, 0), pictures[0]
    for path in pictures:
        with _opened(path) as picture:
            if path is first:
                size = picture.size
                if size[0] != size[1] or size[0] > _MOST_PIXELS:
                    raise DataError(
                        f"{path}: found {size[0]}x{size[1]} pixels, allowed: squares of up to "
                        f"{_MOST_PIXELS} pixels; cut or scale your images to one size"
                    )
            if picture.size != size:
                raise DataError(
                    f"{path}: found {picture.size[0]}x{picture.size[1]} pixels, allowed: "
                    f"{size[0]}x{size[1]} as {first} has; scale your images to one size"
                )
            if picture.mode[0] in "IF":  # to convert them would clip them
                raise DataError(f"{path}: has more than 8 bits for each pixel; save it with 8")
            if picture.mode not in {"1", "L", "LA"}:
                mode = "RGB"
    needed = len(pictures) * size[0] ** 2 * (_COLOURS if mode == "RGB" else 1)
    if needed > _MOST_BYTES:
        raise DataError(
            f"found {len(pictures):,} images that take {needed:,} bytes, allowed: {_MOST_BYTES:,}"
        )
    return size[0], mode


def _pixels(path: Path, size: int, mode: str) -> NDArray[np.uint8]:
    with _opened(path) as picture:
        try:
            upright = ImageOps.exif_transpose(picture)
            alpha = upright.convert("RGBA").getchannel("A")
            if upright.has_transparency_data and alpha.getextrema() != _OPAQUE:
                raise DataError(f"{path}: has transparent parts; save it on a background")
            pixels = np.asarray(upright.convert(mode))
        except DataError:
            raise
        except Exception as error:  # noqa: BLE001  a damaged picture can raise any error
            raise DataError(f"{path}: cannot be read: {str(error)[:200]}") from None
    assert pixels.shape[:2] == (size, size)  # noqa: S101  `_form` has asked for its size
    return pixels if mode == "L" else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _opened(path: Path) -> Image.Image:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(path)
        except UnidentifiedImageError:
            raise DataError(f"{path}: not a picture") from None
        except Exception as error:  # noqa: BLE001  a damaged picture can raise any error
            raise DataError(f"{path}: cannot be read: {str(error)[:200]}") from None
