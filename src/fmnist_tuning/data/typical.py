"""How far a picture is from the images of Fashion-MNIST, whatever a network makes of it.

A network names a garment on noise too, and is sure of it. So a picture is compared with what 64
principal components of the training images can show: the length of what is left is large for
pictures of other things. This is the Q statistic of Jackson and Mudholkar, Control Procedures for
Residuals Associated with Principal Component Analysis, Technometrics 21 (1979).
"""

from functools import cache
from importlib.resources import files
from io import BytesIO
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fmnist_tuning.data.files import DataFiles

_FILE: Final = "typical.npz"
_COMPONENTS: Final = 64
_SAMPLE: Final = 10_000
_FALSE_ALARMS: Final = 0.01


def is_typical(images: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Which of the images, (N, 28, 28) bright on black, look like Fashion-MNIST's.

    Of its test images, 99 % do.
    """
    mean, components, limit = _known()
    return _left(images, mean, components) <= limit


def digest() -> str:
    """The digest of the images that `is_typical` knows."""
    return str(np.load(_content(), allow_pickle=False)["digest"])


def describe(data: DataFiles) -> bytes:
    """The file that `is_typical` reads, computed from Fashion-MNIST.

    `python -m fmnist_tuning.data.typical` writes it into the package.
    """
    pixels = data.train_images[:_SAMPLE].reshape(_SAMPLE, -1) / 255
    mean = pixels.mean(axis=0)
    _, vectors = np.linalg.eigh(np.cov((pixels - mean).T))
    components = vectors[:, ::-1][:, :_COMPONENTS].T.astype(np.float16)
    left = _left(data.test_images, mean.astype(np.float16), components)
    content = BytesIO()
    np.savez(
        content,
        mean=mean.astype(np.float16),
        components=components,
        limit=np.quantile(left, 1 - _FALSE_ALARMS),
        digest=data.digest,
    )
    return content.getvalue()


def _left(
    images: NDArray[np.uint8], mean: NDArray[np.float16], components: NDArray[np.float16]
) -> NDArray[np.float64]:
    basis = components.astype(np.float64)
    pixels = images.reshape(len(images), -1) / 255 - mean.astype(np.float64)
    left: NDArray[np.float64] = np.linalg.norm(pixels - (pixels @ basis.T) @ basis, axis=1)
    return left


@cache
def _known() -> tuple[NDArray[np.float16], NDArray[np.float16], float]:
    found = np.load(_content(), allow_pickle=False)
    return found["mean"], found["components"], float(found["limit"])


def _content() -> BytesIO:
    return BytesIO(files(__package__).joinpath(_FILE).read_bytes())


if __name__ == "__main__":
    from pathlib import Path

    from fmnist_tuning.data.files import find

    Path(__file__).with_name(_FILE).write_bytes(describe(find()))
