"""Figures of sweeps, drawn from their frames: a few kinds, chosen by the YAML."""

from collections.abc import Iterator, Mapping

from fmnist_tuning.analysis import SweepFrames
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.figures.curves import draw_curves
from fmnist_tuning.figures.garments import draw_confusion, draw_mistakes
from fmnist_tuning.figures.kinds import draw_figure
from fmnist_tuning.figures.style import Format, encode

__all__ = [
    "Format",
    "draw_confusion",
    "draw_curves",
    "draw_figure",
    "draw_mistakes",
    "draw_study",
    "encode",
    "file_names",
]


def draw_study(
    sweeps: Mapping[str, SweepFrames], kind: Format | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Draw each sweep that has finished runs.

    Args:
        sweeps: By id.
        kind: Of every file, instead of what the sweeps say.

    Yields:
        A sweep's id, and its figures' contents by file name.

    Raises:
        FmnistError: When two figures would have the same file name; nothing is drawn then.
    """
    owners: dict[str, str] = {}
    for sweep, frames in sweeps.items():
        for name in file_names(frames, kind):
            if name in owners:
                raise FmnistError(
                    f"{owners[name]} and {sweep} both draw {name}; give one of them another "
                    "`figure: {file: ...}` and run it again"
                )
            owners[name] = sweep
    for sweep, frames in sweeps.items():
        if frames.arms:
            own, curves = file_names(frames, kind)
            yield (
                sweep,
                {
                    name: encode(draw(frames), name.rpartition(".")[2])  # type: ignore[arg-type]
                    for name, draw in ((own, draw_figure), (curves, draw_curves))
                },
            )


def file_names(frames: SweepFrames, kind: Format | None = None) -> tuple[str, str]:
    """The files of a sweep's figure and of its learning curves."""
    config = frames.config
    stem, _, suffix = (config.figure.file if config.figure else f"{config.sweep}.png").rpartition(
        "."
    )
    suffix = kind or suffix
    return f"{stem}.{suffix}", f"{config.sweep}_curves.{suffix}"
