"""What augmentation makes of training images, drawn for the sweeps that use it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.data.catalogue import find_dataset
from fmnist_tuning.data.images import pixel_statistics
from fmnist_tuning.errors import DataError
from fmnist_tuning.report.figures.garments import draw_augmented
from fmnist_tuning.report.figures.style import Format, encode_figure, styled
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.training.augmentation import Augmenter
from fmnist_tuning.training.building import Stream, generator

IMAGES: Final = 8
_MOST_ROWS: Final = 12


def draw_examples(
    frames: SweepFrames,
    data_dir: Path | None,
    kind: Format | None,
    *,
    digests: Mapping[str, str],
    sheet: str | None,
) -> Mapping[str, bytes]:
    """Up to eight training images and their changed versions, a row for each augmentation.

    `digests` has those of the runs' images, by the runs' ids.

    The content of the figure by its file name; empty for a sweep that changes no images.

    Raises:
        DataError: When the images are missing, damaged, or not those of the runs.
    """
    changing = [arm for arm in frames.arms if arm.config.augmentation != "none"]
    if not changing:
        return {}
    dataset = changing[0].config.dataset
    changes = {_label(arm): arm for arm in changing if arm.config.dataset == dataset}
    files = find_dataset(dataset, data_dir)
    runs = [row.run_id for row in frames.rows if row.arm in changes.values()]
    if any(digests.get(run_id) != files.digest for run_id in runs):
        raise DataError(f"{files.folder}: not the images that {frames.sweep.id} was trained on")
    level = pixel_statistics(files.train_images)[0] * 255
    # The first image of each class, as far as they go.
    _, first = np.unique(files.train_labels, return_index=True)
    images = files.train_images[np.sort(first)[:IMAGES]]
    shown = [*changes.items()][:_MOST_ROWS]
    rows = {label: augmented(images, arm.config, level) for label, arm in shown}
    left_out = f"{len(shown)} of {len(changes)} augmentations." if len(changes) > len(shown) else ""
    with styled(sheet):
        figure = draw_augmented(images, rows, frames.sweep.title, left_out)
        name = f"{frames.sweep.id}_examples.{kind or 'png'}"
        return {name: encode_figure(figure, kind or "png")}


def _label(arm: Arm) -> str:
    """The settings that change images, as far as they have an effect."""
    config, parts = arm.config, arm.config.augmentation.split("_")
    strengths = {
        "shift": f"{config.shift_pixels} px",
        "rotate": f"{config.rotate_degrees:g}°",
        "erase": f"{config.erase_pixels} px",
    }
    return ", ".join(f"{part} {strengths.get(part, '')}".strip() for part in parts)


def augmented(images: NDArray[np.uint8], config: RunConfig, level: float) -> NDArray[np.uint8]:
    """Images as an epoch of this configuration may show them; `level` is what erases.

    (N, S, S) or (N, 3, S, S), and the same again.
    """
    augmenter = Augmenter(**config.arguments("augmentation"))
    chances = augmenter.draw(len(images), generator(config.seed, Stream.AUGMENTATION))
    pixels = torch.from_numpy(images).float()
    grey = pixels.ndim == 3  # noqa: PLR2004
    changed = augmenter(pixels[:, None] if grey else pixels, chances, level)
    made: NDArray[np.uint8] = (changed[:, 0] if grey else changed).round().byte().numpy()
    return made
