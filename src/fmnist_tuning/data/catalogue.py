"""Finds any data set by its name: Fashion-MNIST, others that are published, a person's own images.

Fashion-MNIST's contents are checked against what was published. The files of the others are checked
against the `SHA256SUMS` beside them, which `fmnist data --fetch` writes when it has checked their
archives against the published MD5.
"""

import hashlib
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data import files
from fmnist_tuning.data.files import CHECKSUMS, DEFAULT_FOLDER, OTHER_LAYOUTS, DataFiles
from fmnist_tuning.data.idx import find_idx, read_content, read_idx
from fmnist_tuning.data.own_images import read_folder
from fmnist_tuning.errors import DataError, MissingDataError
from fmnist_tuning.sweeps.datasets import DATASETS, Dataset, DatasetName

_RECORD: Final = 3 * 32 * 32  # bytes of one image of CIFAR, a plane after the other
_IDX: Final = ("images-idx3-ubyte", "labels-idx1-ubyte")

FILES: Final[dict[str, tuple[str, ...]]] = {
    "mnist": tuple(f"{part}-{kind}" for part in ("train", "t10k") for kind in _IDX),
    "kmnist": tuple(f"{part}-{kind}" for part in ("train", "t10k") for kind in _IDX),
    "emnist_letters": tuple(
        f"emnist-letters-{part}-{kind}" for part in ("train", "test") for kind in _IDX
    ),
    "cifar10": (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin"),
    "cifar100": ("train.bin", "test.bin"),
}
"""The files of each data set, those of the training set first."""

MOST_BYTES: Final = 1 << 28  # the largest has 154 MB

Arrays = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]


def find_dataset(name: DatasetName, data_dir: Path | None = None) -> DataFiles:
    """Find, read and check a data set, in `data_dir` or else in `./data`.

    Fashion-MNIST is looked for in Debian's package too. `folder` is the images of a person's own.

    Raises:
        MissingDataError: If it is not there.
        DataError: If it is damaged, or not checked.
    """
    if name == "fashion_mnist":
        return files.find(data_dir)
    place = data_dir or DEFAULT_FOLDER
    if name == "folder":
        return read_folder(place)
    folder = place / OTHER_LAYOUTS[name]
    there = DATASETS[name]
    missing = [each for each in FILES[name] if find_idx(folder, each) is None]
    if len(missing) == len(FILES[name]):
        raise MissingDataError(
            f"the images of {there.title} are not in {folder}; `fmnist data --fetch --dataset "
            f"{name}` gets them, and --data-dir (or FMNIST_DATA_DIR) names another folder"
        )
    if missing:
        raise DataError(f"{folder / missing[0]} is missing, but others of its files are there")
    contents, digests = _checked_contents(name, folder)
    read: Callable[[Dataset, Sequence[tuple[Path, bytes]]], Arrays]
    read = _read_cifar if name.startswith("cifar") else _read_mnist_like
    arrays = read(there, contents)
    _check(folder, there, arrays)
    digest = hashlib.sha256("".join(digests).encode()).hexdigest()[:16]
    # That the files are listed does not say that they are the published ones.
    return DataFiles(folder, digest, False, *arrays, name, there.classes)


def _again(name: str) -> str:
    return f"`fmnist data --fetch --dataset {name}`"


def _checked_contents(
    name: DatasetName, folder: Path
) -> tuple[list[tuple[Path, bytes]], list[str]]:
    """The contents of a data set's files, and their digests, which its `SHA256SUMS` must list."""
    listing = folder / CHECKSUMS
    quoted = shlex.quote(str(folder))
    if not listing.is_file():
        raise DataError(
            f"{folder}: its files cannot be checked, for there is no {CHECKSUMS}; {_again(name)} "
            f"gets checked ones, and for your own copies `cd {quoted} && "
            f"sha256sum {' '.join(FILES[name])} > {CHECKSUMS}` lists them (after `gunzip *.gz`)"
        )
    expected = files.listed_checksums(listing, FILES[name])
    contents, digests = [], []
    for each in FILES[name]:
        path = find_idx(folder, each)
        assert path is not None  # noqa: S101  the caller has looked
        content = read_content(path, MOST_BYTES, remedy=f"{_again(name)} gets the right one")
        digests.append(hashlib.sha256(content).hexdigest())
        if digests[-1] != expected[each]:
            raise DataError(
                f"{path} is damaged: its contents are not those that {CHECKSUMS} lists; "
                f"{_again(name)} gets the right ones"
            )
        contents.append((path, content))
    return contents, digests


def _read_mnist_like(there: Dataset, contents: Sequence[tuple[Path, bytes]]) -> Arrays:
    arrays = [
        read_idx(path, content, 3 if "images" in path.name else 1) for path, content in contents
    ]
    if there.title.startswith("EMNIST"):
        # NIST's images lie on their sides, and letters are counted from 1.
        arrays = [array.swapaxes(1, 2) if array.ndim == 3 else array - 1 for array in arrays]  # noqa: PLR2004
    one, two, three, four = arrays
    return one, two, three, four


def _read_cifar(there: Dataset, contents: Sequence[tuple[Path, bytes]]) -> Arrays:
    """CIFAR's binary form: an image's label (CIFAR-100: coarse, then fine), then its planes.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html.
    """
    labels = 1 if len(there.classes) == 10 else 2  # noqa: PLR2004
    parts = []
    for path, content in contents:
        if len(content) % (labels + _RECORD):
            raise DataError(
                f"{path} is damaged: {len(content):,} bytes are not whole records of "
                f"{labels + _RECORD:,} bytes"
            )
        parts.append(np.frombuffer(content, np.uint8).reshape(-1, labels + _RECORD))
    train, test = np.concatenate(parts[:-1]), parts[-1]

    def images(records: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.ascontiguousarray(records[:, labels:]).reshape(-1, 3, 32, 32)

    return images(train), train[:, labels - 1], images(test), test[:, labels - 1]


def _check(folder: Path, there: Dataset, arrays: Arrays) -> None:
    counts = (there.train_images, there.test_images)
    for kind, count, images, labels in zip(
        ("training", "test"), counts, arrays[::2], arrays[1::2], strict=True
    ):
        if len(images) != count or len(labels) != count:
            found = f"{len(images):,} {kind} images and {len(labels):,} labels"
            raise DataError(f"{folder}: found {found}, allowed: {count:,} of both")
        if images.shape[-2:] != (there.size, there.size):
            size = f"{images.shape[-2]}x{images.shape[-1]}"
            raise DataError(
                f"{folder}: found images of {size} pixels, allowed: {there.size}x{there.size}"
            )
        if labels.max() >= len(there.classes):
            raise DataError(
                f"{folder}: found the label {labels.max()}, allowed: 0 to {len(there.classes) - 1}"
            )
