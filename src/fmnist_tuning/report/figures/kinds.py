"""The kinds of figure that a sweep file may ask for, each with the axes that it needs.

Each has two panels. The left one shows what the sweep is about, on an axis that does not start at
zero, so that differences can be seen. The right one shows overfitting: train beside validation.

Reading a sweep's file needs this module for the axes, so matplotlib is imported only when a figure
is drawn.
"""

import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fmnist_tuning.metrics import ACCURACY, GAP, METRICS
from fmnist_tuning.sweeps.settings import label_of, label_of_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fmnist_tuning.analysis.frames import SweepFrames

_MARKS: Final = "Dots: runs; marks with bars: means with their 95 % t intervals."
_FINAL: Final = "Both after the last epoch, dropout off."
_MAX_RANKED: Final = 20


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of figure."""

    axes: tuple[str, ...]  # which of `x` and `y` it needs; each names a swept setting
    draw: "Callable[..., Figure]"  # of the frames (at least one finished run) and those settings


KINDS: Final[dict[str, Kind]] = {}
"""By the name that a sweep's file uses."""


def _kind(*axes: str) -> "Callable[[Callable[..., Figure]], Callable[..., Figure]]":
    """Register a function as the kind of figure with the function's name."""

    def register(draw: "Callable[..., Figure]") -> "Callable[..., Figure]":
        KINDS[draw.__name__] = Kind(axes, draw)
        return draw

    return register


def axes_by_kind() -> dict[str, tuple[str, ...]]:
    """Each kind's axes, as `sweeps.reading.load_sweeps` needs them."""
    return {name: kind.axes for name, kind in KINDS.items()}


@_kind("x")
def trend(frames: "SweepFrames", x: str) -> "Figure":
    """A line over the values of `x`."""
    return _along(frames, x, joined=True)


@_kind("x")
def comparison(frames: "SweepFrames", x: str) -> "Figure":
    """The values of `x` side by side."""
    return _along(frames, x, joined=False)


def _along(frames: "SweepFrames", x: str, *, joined: bool) -> "Figure":
    """The values of a setting along the axis, and a series for each combination of the others."""
    from fmnist_tuning.report.figures import series, style

    figure, (left, right) = style.new_figure(frames.sweep.title, 3.4, ncols=2)
    arms, left_out = series.best_arms(frames, style.MAX_SERIES * 4)
    scale = series.Scale(x, arms, numbers=joined)
    groups = series.grouped(frames, arms, x)
    alone = len(groups) == 1
    for index, (look, (name, members)) in enumerate(
        zip(style.looks(len(groups)), groups.items(), strict=True)
    ):
        positions = [scale.position(arm, index, len(groups)) for arm in members]
        own = style.Look(style.VALIDATION, "o") if alone else look
        if not joined:
            series.join_seeds(left, frames, members, positions)
        place = (members, positions, own)
        series.draw(left, frames, ACCURACY, *place, line=joined, label=name or None)
        if alone:
            series.draw_train_beside(right, frames, members, positions, line=joined)
        else:
            series.draw(right, frames, GAP, *place, line=joined)
    for panel in (left, right):
        scale.apply(panel)
    left.set_ylabel(METRICS[ACCURACY].axis_label)
    if alone:
        right.set_ylabel("accuracy, %")
        series.legend_above(right)
    else:
        right.set_ylabel("train − validation accuracy, points")
        style.add_legend(figure, left.get_legend_handles_labels()[0])
    lines = "" if joined else " Grey lines join runs of one seed."
    style.add_note(figure, style.note_on_seeds(frames, _MARKS + lines), _FINAL, left_out)
    return figure


@_kind("x", "y")
def heatmap(frames: "SweepFrames", x: str, y: str) -> "Figure":
    """The grid of `x` and `y`, and how one setting's effect depends on the other."""
    from fmnist_tuning.report.figures import series, style

    figure, (left, right) = style.new_figure(
        frames.sweep.title, 3.4, ncols=2, width_ratios=(1, 1.15)
    )
    _draw_table(left, frames, x, y)
    arms = list(frames.arms)
    scale = series.Scale(x, arms, numbers=False)
    groups = series.grouped(frames, arms, x)
    for index, (look, (name, members)) in enumerate(
        zip(style.looks(len(groups)), groups.items(), strict=True)
    ):
        positions = [scale.position(arm, index, len(groups)) for arm in members]
        place = (members, positions, look)
        series.draw(right, frames, ACCURACY, *place, line=True, label=name or None)
    scale.apply(right)
    right.set_ylabel(METRICS[ACCURACY].axis_label)
    series.legend_above(right)
    style.add_note(
        figure,
        "Parallel lines: no interaction. "
        + style.note_on_seeds(frames, "In the table ± standard deviation. " + _MARKS),
    )
    return figure


def _draw_table(axes: Any, frames: "SweepFrames", x: str, y: str) -> None:
    """Mean accuracies as a table in colour."""
    import numpy as np

    from fmnist_tuning.analysis.frames import summary
    from fmnist_tuning.report.figures import series

    columns, rows = series.values_of(frames.arms, x), series.values_of(frames.arms, y)
    places = {
        arm.label: (rows.index(series.value_of(arm, y)), columns.index(series.value_of(arm, x)))
        for arm in frames.arms
    }
    found = {arm.label: summary(frames, arm, ACCURACY) for arm in frames.arms}
    cells = np.full((len(rows), len(columns)), math.nan)
    for label, place in places.items():
        cells[place] = METRICS[ACCURACY].on_axis(found[label].mean)
    mesh = axes.imshow(cells, cmap="cividis", aspect="auto")
    for label, (row, column) in places.items():
        text = METRICS[ACCURACY].number(found[label].mean)
        if found[label].seeds > 1:
            deviation = METRICS[ACCURACY].number(found[label].deviation)
            text += f"\n± {deviation}\nn = {found[label].seeds}"
        dark = mesh.norm(cells[row, column]) < 0.5  # noqa: PLR2004
        axes.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    axes.set_xticks(range(len(columns)), [label_of_value(value) for value in columns])
    axes.set_yticks(range(len(rows)), [label_of_value(value) for value in rows])
    axes.set_xlabel(label_of(x))
    axes.set_ylabel(label_of(y))
    axes.set_title(METRICS[ACCURACY].axis_label)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


@_kind()
def ranking(frames: "SweepFrames") -> "Figure":
    """All arms in order, the best at the top."""
    from fmnist_tuning.analysis.frames import summary
    from fmnist_tuning.report.figures import series, style

    arms, left_out = series.best_arms(frames, _MAX_RANKED)
    arms.sort(key=lambda arm: summary(frames, arm, ACCURACY).mean)
    labels = [textwrap.fill(text, 30) for text in series.short_labels(frames, arms)]
    lines = sum(1 + label.count("\n") for label in labels)
    height = 1.6 + 0.22 * max(lines, 2 * len(arms))
    figure, (left, right) = style.new_figure(frames.sweep.title, height, ncols=2, sharey=True)
    places = [float(place) for place in range(len(arms))]
    look = style.Look(style.VALIDATION, "o")
    series.draw(left, frames, ACCURACY, arms, places, look, across=True)
    predicted = [(arm.predicted, y) for arm, y in zip(arms, places, strict=True) if arm.predicted]
    for value, place in predicted:
        left.plot(value * 100, place, marker="D", ms=6, mfc="none", mec=style.INK, ls="none")
    series.draw_train_beside(right, frames, arms, places, across=True)
    left.set_yticks(places, labels)
    left.set_ylim(-0.6, len(arms) - 0.4)
    left.set_xlabel(METRICS[ACCURACY].axis_label)
    right.set_xlabel("accuracy, %")
    series.legend_above(right)
    for panel in (left, right):
        panel.grid(visible=False, axis="y")
        panel.tick_params(axis="y", length=0)
    diamonds = "Diamonds: predicted before these runs." if predicted else ""
    style.add_note(figure, style.note_on_seeds(frames, _MARKS), f"{_FINAL} {diamonds}", left_out)
    return figure
