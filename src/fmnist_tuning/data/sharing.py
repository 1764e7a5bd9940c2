"""The images in memory that all processes of a plan read and none copies."""

import multiprocessing
from ctypes import Array, c_ubyte

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data.files import DataFiles


class SharedImages:
    """The arrays of `DataFiles`, in memory that another process maps where it takes this object.

    What was verified is then what every worker trains on, whatever becomes of the files.

    Args:
        files: The verified files.
    """

    def __init__(self, files: DataFiles) -> None:
        arrays = (files.train_images, files.train_labels, files.test_images, files.test_labels)
        self._shapes = [array.shape for array in arrays]
        self._memory = [_shared(array) for array in arrays]

    def arrays(self) -> list[NDArray[np.uint8]]:
        """Training images (N, 28, 28) and labels (N,), then the test set's, without a copy."""
        return [
            np.ctypeslib.as_array(memory).reshape(shape)
            for memory, shape in zip(self._memory, self._shapes, strict=True)
        ]


def _shared(array: NDArray[np.uint8]) -> "Array[c_ubyte]":
    # Spawned processes are handed its descriptor: it has no name that a crash could leave behind.
    memory = multiprocessing.get_context("spawn").RawArray(c_ubyte, array.size)
    np.ctypeslib.as_array(memory)[:] = array.ravel()
    return memory
