"""Finds, reads, verifies and shares the four IDX files of Fashion-MNIST, without PyTorch.

IDX is the format of the MNIST files: a big-endian header (magic number, then the size of each
dimension), then unsigned bytes. Source: http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import hashlib
import multiprocessing
import os
import shlex
import struct
import zlib
from ctypes import Array, c_ubyte
from dataclasses import dataclass
from multiprocessing import heap
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.errors import DataError, MissingDataError
from fmnist_tuning.sweeps.datasets import TEST_IMAGES, TRAIN_IMAGES

DEBIAN_FOLDER: Final = Path("/usr/share/datasets/fashion-mnist")
DEFAULT_FOLDER: Final = Path("data")
TORCHVISION_LAYOUT: Final = Path("FashionMNIST/raw")
CHECKSUMS: Final = "SHA256SUMS"

CLASS_NAMES: Final = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)

PUBLISHED: Final = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""SHA-256 of each file's uncompressed contents, as published with the paper (arXiv:1708.07747)."""

_FETCH_AGAIN: Final = "delete it, and `fmnist data --fetch` gets it again"

# More than twice the size of Fashion-MNIST. A forged gzip file could expand without limit.
_MAX_BYTES: Final = 1 << 27
_MOST_IMAGES: Final = {"train": TRAIN_IMAGES, "t10k": TEST_IMAGES}
_MAX_LISTING_BYTES: Final = 100_000

_SHM: Final = Path("/dev/shm")  # noqa: S108  where Python puts shared memory
_ARRAYS: Final = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, slots=True)
class DataFiles:
    """Four verified files."""

    folder: Path
    digest: str  # SHA-256 of the digests of the four contents; part of every fingerprint
    published: bool  # this is Fashion-MNIST, not other data with its own `SHA256SUMS`
    train_images: NDArray[np.uint8]  # (N, 28, 28)
    train_labels: NDArray[np.uint8]  # (N,) 0 to 9
    test_images: NDArray[np.uint8]  # (M, 28, 28)
    test_labels: NDArray[np.uint8]  # (M,) 0 to 9

    @property
    def arrays(self) -> list[NDArray[np.uint8]]:
        """Training images (N, 28, 28) and labels (N,), then those of the test set."""
        return [getattr(self, name) for name in _ARRAYS]

    @property
    def counts(self) -> tuple[int, int]:
        """How many training and test images there are."""
        return len(self.train_labels), len(self.test_labels)

    @property
    def described(self) -> str:
        """A description such as `Fashion-MNIST, 60,000 + 10,000 images`."""
        kind = "Fashion-MNIST" if self.published else "not Fashion-MNIST but your own data"
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
                there = any(_path(folder, name) for name in PUBLISHED)
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
        return [*inside, *(deep for path in inside for deep in sorted(path.glob("*/")))]
    except OSError:
        return []


def _admitted(folder: Path) -> bool:
    """Whether a nested folder is meant: MNIST and others have files of the same names."""
    name = "train-labels-idx1-ubyte"
    try:
        path = _path(folder, name)
        known = path is not None and hashlib.sha256(_read(path)).hexdigest() == PUBLISHED[name]
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
        path = _path(folder, name)
        if path is None:
            if (folder / name).exists():
                raise DataError(f"{folder / name} is not a file; put the file of that name there")
            raise DataError(
                f"{folder / name}(.gz) is missing, but others of the four files are there; "
                "`fmnist data --fetch` gets them all"
            )
        content = _read(path)
        arrays.append(_array(path, name, content))
        digests.append(hashlib.sha256(content).hexdigest())
        if digests[-1] != expected[name]:
            raise DataError(
                f"{path}: its contents are not those that were published (SHA-256 differs). If "
                f"they are damaged, {_FETCH_AGAIN}. If they are your own images, list them: "
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
        **dict(zip(_ARRAYS, arrays, strict=True)),
    )


def _path(folder: Path, name: str) -> Path | None:
    # Some copies of the files have a dot in their names, as those of MNIST had.
    names = (name, f"{name}.gz", dotted := name.replace("-idx", ".idx"), f"{dotted}.gz")
    return next((path for each in names if (path := folder / each).is_file()), None)


def _expected_checksums(folder: Path) -> dict[str, str]:
    listing = folder / CHECKSUMS
    if not listing.is_file():
        return PUBLISHED
    try:
        with listing.open("rb") as file:
            lines = file.read(_MAX_LISTING_BYTES).decode("utf-8").splitlines()
        own = {name.lstrip(" *"): digest for digest, name in (li.split(maxsplit=1) for li in lines)}
        own |= {name.replace(".idx", "-idx"): digest for name, digest in own.items()}
        return {name: own[name].lower() for name in PUBLISHED}
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


def _read(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content: bytes = file.read(_MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {_FETCH_AGAIN}") from None
    if len(content) > _MAX_BYTES:
        raise DataError(f"{path} is too large; allowed: at most {_MAX_BYTES:,} bytes")
    return content


def _array(path: Path, name: str, content: bytes) -> NDArray[np.uint8]:
    dimensions = 3 if "images" in name else 1
    header = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:header].ljust(4 * dimensions, b"\0"))
    if content[:4] != bytes([0, 0, 8, dimensions]):
        kind = f"an IDX file of {dimensions}-dimensional bytes"
        raise DataError(f"{path} is not {kind}; {_FETCH_AGAIN}")
    if dimensions == 3 and shape[1:] != (28, 28):  # noqa: PLR2004
        size = f"{shape[1]}x{shape[2]} pixels"
        raise DataError(f"{path} holds images of {size}; allowed: 28x28 pixels")
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DataError(
            f"{path} is damaged: it has {len(content):,} bytes, its header says {expected:,}; "
            f"{_FETCH_AGAIN}"
        )
    if dimensions == 1 and max(content[header:], default=0) >= len(CLASS_NAMES):
        raise DataError(f"{path} holds the label {max(content[header:])}; allowed: 0 to 9")
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)


class SharedImages:
    """The arrays of `DataFiles` in shared memory; a process that gets this object can read them.

    So every worker trains on the verified images, even if the files change later.
    """

    def __init__(self, files: DataFiles) -> None:
        self._shapes = [array.shape for array in files.arrays]
        self._memory = [_shared(array) for array in files.arrays]

    @property
    def arrays(self) -> list[NDArray[np.uint8]]:
        """The same arrays; not copied."""
        shaped = zip(self._memory, self._shapes, strict=True)
        return [np.ctypeslib.as_array(memory).reshape(shape) for memory, shape in shaped]


def _shared(array: NDArray[np.uint8]) -> "Array[c_ubyte]":
    # Spawned processes get its descriptor. It has no name, so nothing is left behind after a crash.
    if not os.access(_SHM, os.W_OK | os.X_OK):
        heap.Arena._dir_candidates = []  # type: ignore[attr-defined]  # noqa: SLF001  then it takes TMPDIR
    memory = multiprocessing.get_context("spawn").RawArray(c_ubyte, array.size)
    np.ctypeslib.as_array(memory)[:] = array.ravel()
    return memory
