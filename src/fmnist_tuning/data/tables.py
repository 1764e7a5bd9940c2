"""Fashion-MNIST as a table: CSV files of 785 columns, a label and the pixels of an image."""

import hashlib
import struct
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fmnist_tuning.data.files import CHECKSUMS, PUBLISHED, TORCHVISION_LAYOUT, verify
from fmnist_tuning.errors import DataError
from fmnist_tuning.files import read_whole, write_whole
from fmnist_tuning.sweeps.datasets import FASHION

_COLUMNS = FASHION.size**2 + 1


def convert(tables: tuple[Path, Path], folder: Path) -> Path:
    """Write two tables as the four IDX files, with their checksums; return the folder of these.

    Each row is a label, then the grey levels of an image, row by row; a heading is skipped. The
    table with more rows has the training images. Such tables have the published images in another
    order, so results are not comparable bit by bit with those of the published files.

    Raises:
        DataError: If a table is not like that, or the folder has other images already.
    """
    found = sorted((_read(table) for table in tables), key=len)
    target = folder / TORCHVISION_LAYOUT
    contents = _contents(found)
    for name, content in contents.items():
        packed = target / f"{name}.gz"
        if packed.exists() or ((target / name).exists() and read_whole(target / name) != content):
            raise DataError(
                f"{target}: has other images already; name another folder with --data-dir, or move "
                "them away"
            )
    for name, content in contents.items():
        write_whole(target / name, content)
    return target


def _contents(found: Sequence[NDArray[np.uint8]]) -> dict[str, bytes]:
    """What each file is to hold, checked as if it were there."""
    contents, listing = {}, ""
    for name in PUBLISHED:
        rows = found[1 if name.startswith("train") else 0]
        values = rows[:, 1:] if "images" in name else rows[:, 0]
        shape = (len(rows), FASHION.size, FASHION.size) if "images" in name else (len(rows),)
        header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
        content = header + np.ascontiguousarray(values).tobytes()
        contents[name] = content
        listing += f"{hashlib.sha256(content).hexdigest()}  {name}\n"
    contents[CHECKSUMS] = listing.encode()
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in contents.items():
            write_whole(Path(scratch) / name, content)
        verify(Path(scratch))
    return contents


def _read(path: Path) -> NDArray[np.uint8]:
    try:
        table = pd.read_csv(path, header=None, dtype=str, nrows=1)
        heading = 0 if str(table.iloc[0, 0]).strip().isdigit() else 1
        rows = pd.read_csv(path, header=None, skiprows=heading, dtype=np.int16).to_numpy()
    except (OSError, ValueError, OverflowError) as error:  # pandas' errors are ValueErrors
        raise DataError(f"{path}: cannot be read as a table: {str(error)[:200]}") from None
    if rows.shape[1] != _COLUMNS:
        raise DataError(
            f"{path}: found {rows.shape[1]} columns, allowed: {_COLUMNS}, a label and the pixels"
        )
    if rows.min() < 0 or rows[:, 0].max() >= len(FASHION.classes) or rows.max() > 255:  # noqa: PLR2004
        raise DataError(f"{path}: allowed: labels from 0 to 9, then grey levels from 0 to 255")
    return rows.astype(np.uint8)
