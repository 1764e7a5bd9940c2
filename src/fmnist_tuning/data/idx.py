"""Reads IDX, the format of the MNIST files, plain or compressed by gzip.

A big-endian header (magic number, then the size of each dimension), then unsigned bytes. Source:
http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import struct
import zlib
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.errors import DataError

FETCH_AGAIN: Final = "delete it, and `fmnist data --fetch` gets it again"

# More than twice the size of Fashion-MNIST. A forged gzip file could expand without limit.
_MAX_BYTES: Final = 1 << 27


def find_idx(folder: Path, name: str) -> Path | None:
    """The file of that name, or its other forms."""
    # Some copies of the files have a dot in their names, as those of MNIST had.
    names = (name, f"{name}.gz", dotted := name.replace("-idx", ".idx"), f"{dotted}.gz")
    return next((path for each in names if (path := folder / each).is_file()), None)


def read_content(path: Path, most: int = _MAX_BYTES, *, remedy: str = FETCH_AGAIN) -> bytes:
    """The content of a file, decompressed; `remedy` says what to do if it is damaged.

    Raises:
        DataError: If it cannot be read, or has more than `most` bytes.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            content: bytes = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read ({error}); {remedy}") from None
    if len(content) > most:
        raise DataError(f"{path} is too large; allowed: at most {most:,} bytes")
    return content


def read_idx(
    path: Path, content: bytes, dimensions: int, *, remedy: str = FETCH_AGAIN
) -> NDArray[np.uint8]:
    """The array of a file of that content; `remedy` as above.

    Raises:
        DataError: If it has not so many dimensions, or another size than its header says.
    """
    header = 4 + 4 * dimensions
    shape = struct.unpack(f">{dimensions}I", content[4:header].ljust(4 * dimensions, b"\0"))
    if content[:4] != bytes([0, 0, 8, dimensions]):
        kind = f"an IDX file of {dimensions}-dimensional bytes"
        raise DataError(f"{path} is not {kind}; {remedy}")
    expected = header + int(np.prod(shape, dtype=object))
    if len(content) != expected:
        raise DataError(
            f"{path} is damaged: it has {len(content):,} bytes, its header says {expected:,}; "
            f"{remedy}"
        )
    return np.frombuffer(content, np.uint8, offset=header).reshape(shape)
