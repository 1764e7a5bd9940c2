"""Images in memory that the processes of one machine share."""

import multiprocessing
import os
from collections.abc import Iterable
from ctypes import Array, c_ubyte
from multiprocessing import heap
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data.files import DataFiles

_SHM: Final = Path("/dev/shm")  # noqa: S108  where Python puts shared memory


class SharedImages:
    """The arrays of data sets in shared memory; a process that gets this object can read them.

    So every worker trains on the verified images, even if the files change later.
    """

    def __init__(self, sets: Iterable[DataFiles]) -> None:
        self._memory = {
            files.dataset: [(_shared(array), array.shape) for array in files.arrays]
            for files in sets
        }

    @property
    def arrays(self) -> dict[str, list[NDArray[np.uint8]]]:
        """The arrays of each data set by its name; not copied."""
        return {
            name: [np.ctypeslib.as_array(memory).reshape(shape) for memory, shape in shaped]
            for name, shaped in self._memory.items()
        }


def _shared(array: NDArray[np.uint8]) -> "Array[c_ubyte]":
    # Spawned processes get its descriptor. It has no name, so nothing is left behind after a crash.
    if not os.access(_SHM, os.W_OK | os.X_OK):
        heap.Arena._dir_candidates = []  # type: ignore[attr-defined]  # noqa: SLF001  then it takes TMPDIR
    memory = multiprocessing.get_context("spawn").RawArray(c_ubyte, array.size)
    np.ctypeslib.as_array(memory)[:] = array.ravel()
    return memory
