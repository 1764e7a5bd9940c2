"""Learning curves: how training went, epoch by epoch."""

from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fmnist_tuning.analysis import SweepFrames
from fmnist_tuning.figures.arms import best_arms, short_labels
from fmnist_tuning.figures.style import (
    INK,
    MAX_SERIES,
    Look,
    add_legend,
    add_note,
    looks,
    new_figure,
    note_on_seeds,
    styled,
)

_PANELS = (("loss", "cross-entropy, nats", 1), ("accuracy", "accuracy, %", 100))


def draw_curves(frames: SweepFrames) -> Figure:
    """Loss and accuracy over the epochs, an arm a colour: train dashed, validation solid.

    Args:
        frames: With at least one finished run.
    """
    arms, left_out = best_arms(frames, MAX_SERIES)
    labels = short_labels(frames, arms)
    with styled():
        figure, axes = new_figure(frames.config.title, 3.6, ncols=2)
        for (name, label, scale), panel in zip(_PANELS, axes, strict=True):
            for arm, look in zip(arms, looks(len(arms)), strict=True):
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
            for look, text in zip(looks(len(arms)), labels, strict=True)
        ]
        handles.append(Line2D([], [], color=INK, label="validation"))
        handles.append(Line2D([], [], color=INK, ls="--", lw=1, label="train, dropout on"))
        add_legend(figure, handles)
        marks = "Thick: mean over the seeds; thin: each seed's validation."
        add_note(figure, note_on_seeds(frames, marks), left_out)
    return figure


def _draw_arm(axes: Any, train: pd.DataFrame, validation: pd.DataFrame, look: Look) -> None:
    every = max(1, len(validation) // 10)
    axes.plot(train.index, train.mean(axis=1), color=look.colour, ls="--", lw=1)
    if validation.shape[1] > 1:
        axes.plot(validation.index, validation, color=look.colour, lw=0.5, alpha=0.5)
    axes.plot(
        validation.index,
        validation.mean(axis=1),
        color=look.colour,
        marker=look.marker,
        markersize=4,
        markevery=every,
    )


def _by_epoch(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row an epoch, a column a seed."""
    return curves[curves["metric"] == metric].pivot_table(
        index="epoch", columns="seed", values="value"
    )
