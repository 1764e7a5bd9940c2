"""What a command is asked to train: its sweep files, and the images that they use."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fmnist_tuning.data.catalogue import find_dataset
from fmnist_tuning.data.files import DataFiles
from fmnist_tuning.report.figures.kinds import axes_by_kind
from fmnist_tuning.sweeps.datasets import Shape
from fmnist_tuning.sweeps.reading import load_sweeps, parse_overrides, parse_seeds
from fmnist_tuning.sweeps.runs import datasets_of, joined
from fmnist_tuning.sweeps.sweep import Sweep


def images_of(sweeps: Sequence[Sweep], data_dir: Path | None) -> list[DataFiles]:
    """Every data set that the sweeps use."""
    names = {name: None for sweep in sweeps for name in datasets_of(sweep)}
    return [find_dataset(name, data_dir) for name in names]


def own_shapes(sets: Sequence[DataFiles]) -> dict[str, Shape]:
    """Those of the images of a person's own."""
    own = (
        files
        for files in sets
        if files.dataset == "folder" or (files.dataset == "fashion_mnist" and not files.published)
    )
    return {files.dataset: files.shape for files in own}


def digest_of(sets: Sequence[DataFiles]) -> str:
    """The digests of all of them in one text, as fingerprints take it."""
    return joined({files.dataset: files.digest for files in sets})


def read_sweeps(
    configs: list[Path],
    settings: list[str] | None,
    seeds: str | None,
    shapes: Mapping[str, Shape] | None = None,
) -> list[Sweep]:
    """Read sweep files; for images that are not published ones again, by their shapes."""
    return load_sweeps(
        configs,
        parse_overrides(settings or []),
        None if seeds is None else parse_seeds(seeds),
        figures=axes_by_kind(),
        shapes=shapes,
    )
