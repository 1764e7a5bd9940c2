"""Files are written completely or not at all, and errors are reported in words."""

import contextlib
import os
import tempfile
from pathlib import Path

from fmnist_tuning.errors import FmnistError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that no reader ever sees a part of it; create folders if needed.

    A file that has this content is not touched. A file that is replaced keeps its permissions. A
    symbolic link stays, and its target is written. What is no ordinary file, such as /dev/stdout,
    is written into.

    Raises:
        FmnistError: If it cannot be written; an older file is kept then.
    """
    try:
        if path.exists() and not path.is_file() and not path.is_dir():
            path.write_bytes(content)
            return
        path = path.resolve() if path.is_symlink() else path
        if path.is_file() and path.read_bytes() == content:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o666 & ~_umask()
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                with contextlib.suppress(OSError):  # some file systems have no permissions
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
    """A file's content; raises `FmnistError` if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise FmnistError(f"{path}: cannot be read: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    return mask
