"""Files that are either whole or not there, and errors in words where they cannot be had."""

import os
import tempfile
from pathlib import Path

from fmnist_tuning.errors import FmnistError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that nobody ever finds half of it; folders are made as needed.

    A file that has this content already is not touched, and one that is there keeps its rights.

    Raises:
        FmnistError: When it cannot be written; what was there is still there then.
    """
    try:
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                os.fchmod(file.fileno(), mode)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink()
            raise
    except OSError as error:
        in_the_way = isinstance(error, FileExistsError)
        reason = f"{path.parent} is not a folder" if in_the_way else error.strerror
        raise FmnistError(f"{path}: cannot be written: {reason}") from None


def read_whole(path: Path) -> bytes:
    """A file's content.

    Raises:
        FmnistError: When it cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise FmnistError(f"{path}: cannot be read: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)  # there is no way to read it but to set it
    os.umask(mask)
    return mask
