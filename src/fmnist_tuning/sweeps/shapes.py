"""Sweeps on images that are not the published ones: their sizes follow from the files."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fmnist_tuning.sweeps.arms import run_config
from fmnist_tuning.sweeps.datasets import Shape
from fmnist_tuning.sweeps.runs import DEFAULT_DATASET
from fmnist_tuning.sweeps.search import whole_settings
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep

_HOLDOUT_SIZE: Final = RunConfig.model_fields["holdout_size"].default


def all_there_are(
    fixed: Mapping[str, Any], swept: Iterable[str], shapes: Mapping[str, Shape]
) -> dict[str, Any]:
    """The settings that are left out and follow from images that are not the published ones."""
    name = fixed.get("dataset", DEFAULT_DATASET)
    shape = shapes.get(name) if isinstance(name, str) else None
    if shape is None or "dataset" in swept:
        return {}
    known: dict[str, Any] = {}
    if name == "folder":
        known = {
            "image_size": shape.size, "image_channels": shape.channels, "classes": shape.classes,
        }  # fmt: skip
    train, test = shape.train_images, shape.test_images
    held_out = (
        fixed.get("holdout_size", _HOLDOUT_SIZE) if fixed.get("validation") == "holdout" else 0
    )
    if "validation" not in swept and isinstance(held_out, int) and held_out < train:
        known |= {"train_size": train - held_out, "val_size": held_out or test}
    return {key: value for key, value in known.items() if key not in swept}


def too_few(path: Path, sweep: Sweep, shapes: Mapping[str, Shape]) -> list[str]:
    """What a sweep's arms ask of such images that they do not have."""
    problems = []
    configs = [arm.config for arm in sweep.arms]
    if sweep.search and not configs:
        configs = [run_config(whole_settings(sweep.fixed, {}, sweep.search.space))]
    for config in configs:
        if (shape := shapes.get(config.dataset)) is None:
            continue
        own = {"image_size": shape.size, "image_channels": shape.channels, "classes": shape.classes}
        for key, value in own.items():
            if (found := getattr(config, key)) != value:
                problems.append(f"{path}: {key}: found {found}, allowed: {value}, as images have")
        held_out = config.holdout_size if config.validation == "holdout" else 0
        limits = {
            "train_size": shape.train_images - held_out,
            "val_size": held_out or shape.test_images,
        }
        for key, limit in limits.items():
            if (size := getattr(config, key)) > limit:
                there = f"{max(limit, 0):,}, as many as there are"
                problems.append(f"{path}: {key}: found {size:,}, allowed: at most {there}")
    return problems
