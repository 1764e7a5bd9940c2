"""The images: where they are, whether they are the right ones, and as tensors in batches."""

from fmnist_tuning.data.fetching import fetch
from fmnist_tuning.data.files import DEBIAN_FOLDER, DEFAULT_FOLDER, DataFiles, find
from fmnist_tuning.data.sharing import SharedImages

__all__ = ["DEBIAN_FOLDER", "DEFAULT_FOLDER", "DataFiles", "SharedImages", "fetch", "find"]
