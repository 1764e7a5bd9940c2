"""The kinds of figure that a sweep file may ask for, each with the axes that it needs.

Each has two panels. The left one shows what the sweep is about, on an axis that does not start at
zero, so that differences can be seen. The right one shows overfitting, or the interaction.

Reading a sweep's file needs this module for the axes, so matplotlib is imported only when a figure
is drawn.
"""

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fmnist_tuning.metrics import ACCURACY, GAP, METRICS
from fmnist_tuning.sweeps.settings import label_of, label_of_value

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fmnist_tuning.analysis.best import Place
    from fmnist_tuning.analysis.frames import SweepFrames

_MARKS: Final = "Dots: runs; marks with bars: means with their 95 % t intervals."
_GAP: Final = "Overfitting gap: train minus validation accuracy after the last epoch, dropout off."
_MAX_RANKED: Final = 20
_ACROSS: Final = 40  # characters; longer labels of a heatmap's columns would lie on each other


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of figure."""

    axes: tuple[str, ...]  # which of `x` and `y` it needs; each names a swept setting
    # Of the frames (at least one finished run), the other sweeps' arms that claims compare with,
    # and the settings.
    draw: "Callable[..., Figure]"


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
def trend(frames: "SweepFrames", others: "Mapping[str, Place]", x: str) -> "Figure":
    """A line over the values of `x`."""
    return _along(frames, others, x, joined=True)


@_kind("x")
def comparison(frames: "SweepFrames", others: "Mapping[str, Place]", x: str) -> "Figure":
    """The values of `x` side by side."""
    return _along(frames, others, x, joined=False)


def _along(
    frames: "SweepFrames", others: "Mapping[str, Place]", x: str, *, joined: bool
) -> "Figure":
    """The values of a setting along the axis, and a series for each combination of the others."""
    from fmnist_tuning.report.figures import series, style

    figure, (left, right) = style.new_figure(frames.sweep.title, ncols=2)
    arms, left_out = series.best_arms(frames, style.MAX_SERIES * 4)
    groups = series.grouped(frames, arms, x)
    if not joined:
        for members, positions, _ in _places(groups, x, numbers=False):
            series.join_seeds(left, frames, members, positions)
    for panel, metric in ((left, ACCURACY), (right, GAP)):
        for name, place in zip(groups, _places(groups, x, numbers=joined), strict=True):
            series.draw(panel, frames, metric, *place, line=joined, label=name or None)
        series.Scale(x, arms, numbers=joined).apply(panel)
        panel.set_ylabel(METRICS[metric].axis_label)
    series.draw_levels(left, others, ACCURACY)
    shown = [*((frames, arm) for arm in arms), *others.values()]
    cut = [series.keep_runs_apart(panel, shown, m) for panel, m in ((left, ACCURACY), (right, GAP))]
    style.add_legend(figure, left.get_legend_handles_labels()[0])
    lines = "" if joined else " Grey lines join runs of one seed."
    style.add_note(
        figure,
        style.note_on_seeds(frames, _MARKS + lines),
        f"{_GAP} {style.note_on_validation(frames)}",
        style.CUT if any(cut) else "",
        left_out,
    )
    return figure


def _places(groups: "Mapping[str, list[Any]]", x: str, *, numbers: bool) -> "list[Any]":
    """Each group's arms, their positions along the axis, and how they look."""
    from fmnist_tuning.report.figures import series, style

    scale = series.Scale(
        x, [arm for members in groups.values() for arm in members], numbers=numbers
    )
    return [
        (members, [scale.position(arm, index, len(groups)) for arm in members], look)
        for index, (look, members) in enumerate(
            zip(style.looks(len(groups)), groups.values(), strict=True)
        )
    ]


@_kind("x", "y")
def heatmap(frames: "SweepFrames", others: "Mapping[str, Place]", x: str, y: str) -> "Figure":
    """The grid of `x` and `y`, and how one setting's effect depends on the other."""
    from fmnist_tuning.report.figures import series, style

    figure, (left, right) = style.new_figure(frames.sweep.title, ncols=2, width_ratios=(1.15, 1))
    _draw_table(left, frames, x, y)
    arms = list(frames.arms)
    groups = series.grouped(frames, arms, x)
    for name, place in zip(groups, _places(groups, x, numbers=False), strict=True):
        series.draw(right, frames, ACCURACY, *place, line=True, label=name or None)
    series.Scale(x, arms, numbers=False).apply(right)
    series.draw_levels(right, others, ACCURACY)
    right.set_ylabel(METRICS[ACCURACY].axis_label)
    shown = [*((frames, arm) for arm in arms), *others.values()]
    cut = series.keep_runs_apart(right, shown, ACCURACY)
    style.add_legend(figure, right.get_legend_handles_labels()[0])
    style.add_note(
        figure,
        "Parallel lines: no interaction. In the table ± standard deviation; its colours span at "
        "least a cell's usual 95 % interval.",
        style.note_on_seeds(frames, _MARKS),
        style.note_on_validation(frames) + (f" {style.CUT}" if cut else ""),
    )
    return figure


def _draw_table(axes: Any, frames: "SweepFrames", x: str, y: str) -> None:
    """Mean accuracies as a table in colour."""
    import numpy as np

    from fmnist_tuning.analysis.frames import summary
    from fmnist_tuning.report.figures import series, style

    columns, rows = series.values_of(frames.arms, x), series.values_of(frames.arms, y)
    places = {
        arm.label: (rows.index(series.value_of(arm, y)), columns.index(series.value_of(arm, x)))
        for arm in frames.arms
    }
    metric = METRICS[ACCURACY]
    found = {arm.label: summary(frames, arm, ACCURACY) for arm in frames.arms}
    cells = np.full((len(rows), len(columns)), math.nan)
    for label, place in places.items():
        cells[place] = metric.on_axis(found[label].mean)
    widths = [metric.on_axis(cell.high - cell.low) for cell in found.values()]
    known = [width for width in widths if math.isfinite(width)]
    # Else colours would make night and day of differences that the runs cannot tell from none.
    span = max(np.nanmax(cells) - np.nanmin(cells), np.median(known) if known else 0)
    middle = (np.nanmax(cells) + np.nanmin(cells)) / 2
    mesh = axes.imshow(cells, aspect="auto", vmin=middle - span / 2, vmax=middle + span / 2)
    axes.figure.colorbar(mesh, ax=axes)
    axes.set_title(metric.axis_label)
    for label, (row, column) in places.items():
        text = metric.number(found[label].mean)
        if found[label].seeds > 1:
            deviation = metric.number(found[label].deviation)
            text += f"\n± {deviation}\nn = {found[label].seeds}"
        colour = style.legible_on(mesh.to_rgba(cells[row, column]))
        axes.text(column, row, text, ha="center", va="center", color=colour)
    across = [label_of_value(value) for value in columns]
    turned = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
    long = max(map(len, across)) * len(across) > _ACROSS
    axes.set_xticks(range(len(columns)), across, **(turned if long else {}))
    axes.set_yticks(range(len(rows)), [label_of_value(value) for value in rows])
    axes.set_xlabel(label_of(x))
    axes.set_ylabel(label_of(y))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


@_kind()
def ranking(frames: "SweepFrames", others: "Mapping[str, Place]") -> "Figure":
    """All arms in order, the best at the top, and those of other sweeps that claims are about."""
    from fmnist_tuning.analysis.frames import summary
    from fmnist_tuning.report.figures import series, style

    arms, left_out = series.best_arms(frames, _MAX_RANKED)
    own = dict(zip(series.short_labels(frames, arms), ((frames, arm) for arm in arms), strict=True))
    rows = sorted(
        (own | dict(others)).items(),
        key=lambda row: summary(row[1][0], row[1][1], ACCURACY).mean,
    )
    labels = [textwrap.fill(label, 34) for label, _ in rows]
    lines = sum(1 + label.count("\n") for label in labels)
    height = 1.6 + 0.22 * max(lines, 2 * len(rows))
    figure, (left, right) = style.new_figure(frames.sweep.title, height, ncols=2, sharey=True)
    looks = dict(zip(("own", "other"), style.looks(2), strict=True))
    # What a search scored is another metric, and in its own figure.
    predicted = any(arm.predicted for arm in arms) and not frames.sweep.are_finalists
    for place, (label, (source, arm)) in enumerate(rows):
        look = looks["own" if label in own else "other"]
        for panel, metric in ((left, ACCURACY), (right, GAP)):
            series.draw(panel, source, metric, [arm], [float(place)], look, across=True)
        if label in own and arm.predicted and predicted:
            left.plot(
                arm.predicted * 100, place, marker="D", mfc="none", mec=style.ink(), ls="none"
            )
    cut = [
        series.keep_runs_apart(panel, (place for _, place in rows), metric, across=True)
        for panel, metric in ((left, ACCURACY), (right, GAP))
    ]
    left.set_yticks(range(len(rows)), labels)
    left.set_ylim(-0.6, len(rows) - 0.4)
    left.set_xlabel(METRICS[ACCURACY].axis_label)
    right.set_xlabel(METRICS[GAP].axis_label)
    for panel in (left, right):
        panel.grid(visible=False, axis="y")
        panel.tick_params(axis="y", length=0)
    style.add_note(
        figure,
        style.note_on_seeds(frames, _MARKS),
        f"{_GAP} {style.note_on_validation(frames)}",
        "Squares: arms of other sweeps, which claims compare with." if others else "",
        "Diamonds: predicted before these runs." if predicted else "",
        style.CUT if any(cut) else "",
        left_out,
    )
    return figure
