"""Finds, reads and verifies the four files of Fashion-MNIST, without PyTorch."""

import hashlib
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data.idx import FETCH_AGAIN, find_idx, read_content, read_idx
from fmnist_tuning.errors import DataError, MissingDataError
from fmnist_tuning.sweeps.datasets import DATASETS, FASHION, DatasetName, Shape

DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")
DEFAULT_FOLDER: Final = Path("data")
TORCHVISION_LAYOUT: Final = Path("FashionMNIST/raw")
CHECKSUMS: Final = "SHA256SUMS"

PUBLISHED: Final = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each file's uncompressed contents, as published with the paper (arXiv:1708.07747)."""

_MOST_IMAGES: Final = {"train": FASHION.train_images, "t10k": FASHION.test_images}
_MAX_LISTING_BYTES: Final = 100_000
OTHER_LAYOUTS: Final = {
    "mnist": Path("MNIST/raw"),
    "kmnist": Path("KMNIST/raw"),
    "emnist_letters": Path("EMNIST/raw"),
    "cifar10": Path("cifar-10-batches-bin"),
    "cifar100": Path("cifar-100-binary"),
}
"""Where other data sets are in a folder of data sets, as torchvision and their archives have it."""


_ARRAYS: Final = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, slots=True)
class DataFiles:
    """The verified images of a data set."""

    folder: Path
    digest: str  # of their contents, 16 hexadecimal digits; part of every fingerprint
    published: bool  # these are those of `dataset`, not other images of the same shape
    train_images: NDArray[np.uint8]  # (N, S, S), or (N, 3, S, S) in colour
    train_labels: NDArray[np.uint8]  # (N,) from 0
    test_images: NDArray[np.uint8]  # (M, S, S) or (M, 3, S, S)
    test_labels: NDArray[np.uint8]  # (M,) from 0
    dataset: DatasetName = "fashion_mnist"
    classes: tuple[str, ...] = FASHION.classes

    @property
    def arrays(self) -> list[NDArray[np.uint8]]:
        """Training images and labels, then those of the test set."""
        return [getattr(self, name) for name in _ARRAYS]

    @property
    def shape(self) -> Shape:
        """How many images there are, and of which shape."""
        images = self.train_images
        channels = 1 if images.ndim == 3 else images.shape[1]  # noqa: PLR2004  (N, S, S)
        return Shape(
            len(images), len(self.test_images), images.shape[-1], channels, len(self.classes)
        )

    @property
    def described(self) -> str:
        """A description such as `Fashion-MNIST, 60,000 + 10,000 images`."""
        kind = DATASETS[self.dataset].title
        if self.dataset == "fashion_mnist" and not self.published:
            kind = f"not {kind} but your own data"
        return f"{kind}, {len(self.train_labels):,} + {len(self.test_labels):,} images"

    def as_json(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "folder": str(self.folder),
            "digest": self.digest,
            "published": self.published,
            "train_images": len(self.train_labels),
            "test_images": len(self.test_labels),
        }


def find(data_dir: Path | None = None) -> DataFiles:
    """Find, read and verify the images, in `data_dir` or else in `./data` and Debian's package.

    Raises:
        MissingDataError: If there are none.
        DataError: If the first ones found are damaged.
    """
    places = [data_dir] if data_dir is not None else [DEFAULT_FOLDER, DEBIAN_FOLDER]
    for place in places:
        for folder in (place / TORCHVISION_LAYOUT, place, *filter(_admitted, _nested(place))):
            try:
                there = any(find_idx(folder, name) for name in PUBLISHED)
            except OSError as error:  # the name is too long, or we may not read the folder
                raise DataError(f"{folder} cannot be read: {error.strerror}") from None
            if there:
                return verify(folder)
    looked = " nor in ".join(str(place) for place in places)
    raise MissingDataError(
        f"the Fashion-MNIST images are not in {looked}{_otherwise(places[0])}; `fmnist data "
        "--fetch` gets them, and --data-dir (or FMNIST_DATA_DIR) names another folder"
    )


def _nested(place: Path) -> list[Path]:
    """Folders in a folder, and those in them: archives unpack in many ways."""
    try:
        inside = sorted(path for path in place.glob("*") if path.is_dir())
        nested = [*inside, *(deep for path in inside for deep in sorted(path.glob("*/")))]
        others = {place / layout for layout in OTHER_LAYOUTS.values()}
        return [path for path in nested if path not in others]
    except OSError:
        return []


def _admitted(folder: Path) -> bool:
    """Whether a nested folder is meant: MNIST and others have files of the same names."""
    name = "train-labels-idx1-ubyte"
    try:
        path = find_idx(folder, name)
        known = path is not None and (
            hashlib.sha256(read_content(path)).hexdigest() == PUBLISHED[name]
        )
        return known or (folder / CHECKSUMS).is_file()
    except (OSError, DataError):
        return False


def _otherwise(place: Path) -> str:
    """What is there instead, and how it is brought into form."""
    try:
        tables = sorted(
            file for folder in (place, *_nested(place)) for file in folder.glob("*.csv")
        )
    except OSError:
        tables = []
    tables = tables[:2]
    if all((place / part).is_dir() for part in ("train", "test")):
        return " (images of your own, in train/ and test/, are asked for by `dataset: folder`)"
    if len(tables) < 2:  # noqa: PLR2004  training and test images
        return ""
    names = " ".join(shlex.quote(str(path)) for path in tables)
    return f" (`fmnist data --csv {names}` makes them of these tables)"


def verify(folder: Path) -> DataFiles:
    """Read the four files of one folder and compare them with their checksums.

    These are the published ones, unless the folder has its own `SHA256SUMS`: then it may hold other
    data of the same shape.

    Raises:
        DataError: Names the file that is missing, incomplete, changed or inconsistent.
    """
    expected = _expected_checksums(folder)
    digests, arrays = [], []
    for name in PUBLISHED:
        path = find_idx(folder, name)
        if path is None:
            if (folder / name).exists():
                raise DataError(f"{folder / name} is not a file; put the file of that name there")
            raise DataError(
                f"{folder / name}(.gz) is missing, but others of the four files are there; "
                "`fmnist data --fetch` gets them all"
            )
        content = read_content(path)
        arrays.append(_checked(path, read_idx(path, content, 3 if "images" in name else 1)))
        digests.append(hashlib.sha256(content).hexdigest())
        if digests[-1] != expected[name]:
            raise DataError(
                f"{path}: its contents are not those that were published (SHA-256 differs). If "
                f"they are damaged, {FETCH_AGAIN}. If they are your own images, list them: "
                f"`cd {shlex.quote(str(folder))} && sha256sum *ubyte > {CHECKSUMS}` (after `gunzip "
                "*.gz`)"
                if expected is PUBLISHED
                else f"{path} is damaged: its contents are not those that {CHECKSUMS} lists; put "
                f"back the right ones, or list these with `sha256sum *ubyte > {CHECKSUMS}`"
            )
    kinds: tuple[str, ...] = ("train", "t10k")
    for kind, images, labels in zip(kinds, arrays[::2], arrays[1::2], strict=True):
        if len(images) != len(labels):
            raise DataError(
                f"{folder}: found {len(images):,} {kind} images but {len(labels):,} labels, "
                "allowed: the same number of both"
            )
        if not 0 < len(images) <= _MOST_IMAGES[kind]:
            allowed = f"from 1 to {_MOST_IMAGES[kind]:,}"
            raise DataError(f"{folder}: found {len(images):,} {kind} images, allowed: {allowed}")
    return DataFiles(
        folder=folder,
        digest=hashlib.sha256("".join(digests).encode()).hexdigest()[:16],
        published=digests == list(PUBLISHED.values()),
        **dict(zip(_ARRAYS, arrays, strict=True)),  # type: ignore[arg-type]
    )


def _expected_checksums(folder: Path) -> dict[str, str]:
    listing = folder / CHECKSUMS
    return listed_checksums(listing, PUBLISHED) if listing.is_file() else PUBLISHED


def listed_checksums(listing: Path, names: Iterable[str]) -> dict[str, str]:
    """The SHA-256 that a `SHA256SUMS` lists for files of these names.

    Raises:
        DataError: If it lacks one of them, or is no such list.
    """
    try:
        with listing.open("rb") as file:
            lines = file.read(_MAX_LISTING_BYTES).decode("utf-8").splitlines()
        own = {name.lstrip(" *"): digest for digest, name in (li.split(maxsplit=1) for li in lines)}
        own |= {name.replace(".idx", "-idx"): digest for name, digest in own.items()}
        return {name: own[name].lower() for name in names}
    except (OSError, ValueError, KeyError) as error:
        reason = {
            KeyError: f"no line for {error}",
            UnicodeDecodeError: "not a text in UTF-8",
            ValueError: "lines without a checksum and a name",
        }.get(type(error), str(error))
        raise DataError(
            f"{listing} does not list the SHA-256 of each uncompressed file: found {reason}; write "
            f"it with `sha256sum *ubyte > {CHECKSUMS}`"
        ) from None


def _checked(path: Path, array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The array, if it has the shape or the labels of Fashion-MNIST."""
    if array.ndim == 3 and array.shape[1:] != (FASHION.size, FASHION.size):  # noqa: PLR2004
        size = f"{array.shape[1]}x{array.shape[2]} pixels"
        raise DataError(f"{path} holds images of {size}; allowed: 28x28 pixels")
    if array.ndim == 1 and array.max(initial=0) >= len(FASHION.classes):
        raise DataError(f"{path} holds the label {array.max()}; allowed: 0 to 9")
    return array
