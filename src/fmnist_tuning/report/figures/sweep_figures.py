"""The figures of a sweep: the one that its file asks for, and its learning curves."""

from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.report.figures import style
from fmnist_tuning.report.figures.kinds import KINDS, axes_by_kind
from fmnist_tuning.report.figures.series import best_arms, short_labels

_PANELS = (("loss", "cross-entropy, nats", 1), ("accuracy", "accuracy, %", 100))


def draw_study(
    sweeps: Mapping[str, SweepFrames], kind: style.Format | None = None
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Draw each sweep that has finished runs, in the format of its file or all as one `kind`.

    Yields:
        A sweep's id, and its figures' contents by file name.

    Raises:
        FmnistError: When a figure cannot be drawn as its sweep asks, or two have one file name;
            nothing is drawn then.
    """
    owners: dict[str, str] = {}
    for sweep, frames in sweeps.items():
        if problems := frames.sweep.problems_of_figure(axes_by_kind()):
            raise FmnistError(f"{sweep}: {problems[0]}; `fmnist run` on its file repairs it")
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
            drawn = {own: draw_figure(frames), curves: draw_curves(frames)}
            yield (
                sweep,
                {
                    name: style.encode_figure(figure, name.rpartition(".")[2])  # type: ignore[arg-type]
                    for name, figure in drawn.items()
                },
            )


def file_names(frames: SweepFrames, kind: style.Format | None = None) -> tuple[str, str]:
    """The files of a sweep's figure and of its learning curves."""
    sweep = frames.sweep
    own = sweep.figure.file if sweep.figure else f"{sweep.id}.png"
    stem, _, suffix = own.rpartition(".")
    suffix = kind or suffix
    return f"{stem}.{suffix}", f"{sweep.id}_curves.{suffix}"


def draw_figure(frames: SweepFrames) -> Figure:
    """The figure that the sweep's file asks for, or a ranking; one run at least is finished."""
    sweep = frames.sweep
    kind = KINDS[sweep.figure.kind if sweep.figure else "ranking"]
    with style.styled():
        return kind.draw(frames, *(getattr(sweep.figure, axis) for axis in kind.axes))


def draw_curves(frames: SweepFrames) -> Figure:
    """Loss and accuracy over the epochs, a colour for each arm: train dashed, validation solid."""
    arms, left_out = best_arms(frames, style.MAX_SERIES)
    labels, looks = short_labels(frames, arms), style.looks(len(arms))
    with style.styled():
        figure, axes = style.new_figure(frames.sweep.title, 3.6, ncols=2)
        for (name, label, scale), panel in zip(_PANELS, axes, strict=True):
            for arm, look in zip(arms, looks, strict=True):
                own = frames.curves[frames.curves["arm"] == arm.label]
                train, validation = (
                    _by_epoch(own, f"{split}_{name}") * scale for split in ("train", "val")
                )
                _draw_arm(panel, train, validation, look)
            panel.set_xlabel("epoch")
            panel.set_ylabel(label)
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles = [
            Line2D([], [], color=look.colour, marker=look.marker, markersize=4, label=text)
            for look, text in zip(looks, labels, strict=True)
        ]
        handles.append(Line2D([], [], color=style.INK, label="validation"))
        handles.append(Line2D([], [], color=style.INK, ls="--", lw=1, label="train, dropout on"))
        style.add_legend(figure, handles)
        marks = "Thick: mean over the seeds; thin: each seed's validation."
        style.add_note(figure, style.note_on_seeds(frames, marks), left_out)
    return figure


def _draw_arm(axes: Any, train: pd.DataFrame, validation: pd.DataFrame, look: style.Look) -> None:
    axes.plot(train.index, train.mean(axis=1), color=look.colour, ls="--", lw=1)
    if validation.shape[1] > 1:
        axes.plot(validation.index, validation, color=look.colour, lw=0.5, alpha=0.5)
    marks = {"marker": look.marker, "markersize": 4, "markevery": max(1, len(validation) // 10)}
    axes.plot(validation.index, validation.mean(axis=1), color=look.colour, **marks)


def _by_epoch(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each epoch, a column for each seed."""
    own = curves[curves["metric"] == metric]
    return own.pivot_table(index="epoch", columns="seed", values="value")
