"""The kinds of figure that a sweep file may ask for.

Each has two panels: what the sweep is about on the left, on an axis that starts where differences
can be seen, and train beside validation on the right, where overfitting shows.
"""

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation, Transform

from fmnist_tuning.analysis import SweepFrames, summary
from fmnist_tuning.config import Arm, RunConfig, label_of, label_of_value
from fmnist_tuning.config import Figure as FigureConfig
from fmnist_tuning.figures.arms import ACCURACY, accuracy, best_arms, short_labels
from fmnist_tuning.figures.style import (
    INK,
    MAX_SERIES,
    PALE,
    TRAIN,
    VALIDATION,
    Look,
    add_legend,
    add_note,
    looks,
    new_figure,
    note_on_seeds,
    styled,
)
from fmnist_tuning.metrics import METRICS

_TRAIN_ACCURACY: Final = "final_train_accuracy"
_MARKS: Final = "Dots: runs; marks with bars: means with their 95 % t intervals."
_FINAL: Final = "Both after the last epoch, dropout off."
_MAX_RANKED: Final = 20
_BESIDE_POINTS: Final = -6.0
_LOG_RATIO: Final = 20  # values that span more are spread by their ratios


def draw_figure(frames: SweepFrames) -> Figure:
    """The figure that the sweep's file asks for; a ranking where it asks for none.

    Args:
        frames: With at least one finished run.
    """
    asked = frames.config.figure or FigureConfig(kind="ranking", file="ranking.png")
    with styled():
        match asked.kind:
            case "trend":
                return _along(frames, asked.x or "", joined=True)
            case "comparison":
                return _along(frames, asked.x or "", joined=False)
            case "heatmap":
                return _heatmap(frames, asked.x or "", asked.y or "")
            case "ranking":
                return _ranking(frames)


def _along(frames: SweepFrames, x: str, *, joined: bool) -> Figure:
    """The values of a setting along the axis, and a series for each of the other settings."""
    figure, (left, right) = new_figure(frames.config.title, 3.4, ncols=2)
    arms, left_out = best_arms(frames, MAX_SERIES * 4)
    scale = _Scale(x, arms, numbers=joined)
    groups = _grouped(frames, arms, x)
    for index, (look, (name, members)) in enumerate(
        zip(looks(len(groups)), groups.items(), strict=True)
    ):
        positions = [scale.position(arm, index, len(groups)) for arm in members]
        colour = Look(VALIDATION, "o") if len(groups) == 1 else look
        if not joined:
            _join_seeds(left, frames, members, positions)
        _draw(left, frames, ACCURACY, members, positions, colour, line=joined, label=name or None)
        if len(groups) == 1:
            _train_beside(right, frames, members, positions, line=joined)
        else:
            _draw(right, frames, "overfitting_gap", members, positions, colour, line=joined)
    for panel in (left, right):
        scale.apply(panel)
    left.set_ylabel(METRICS[ACCURACY].axis_label)
    if len(groups) == 1:
        right.set_ylabel("accuracy, %")
        _legend_above(right)
    else:
        right.set_ylabel("train − validation accuracy, points")
        add_legend(figure, left.get_legend_handles_labels()[0])
    lines = "" if joined else " Grey lines join runs of one seed."
    add_note(figure, note_on_seeds(frames, _MARKS + lines), _FINAL, left_out)
    return figure


def _heatmap(frames: SweepFrames, x: str, y: str) -> Figure:
    """Mean accuracies as a table in colour, and how one setting's effect depends on the other."""
    figure, (left, right) = new_figure(frames.config.title, 3.4, ncols=2, width_ratios=(1, 1.15))
    columns, rows = _values(frames.arms, x), _values(frames.arms, y)
    cells = np.full((len(rows), len(columns)), math.nan)
    for arm in frames.arms:
        place = rows.index(_value(arm, y)), columns.index(_value(arm, x))
        cells[place] = METRICS[ACCURACY].on_axis(accuracy(frames, arm))
    mesh = left.imshow(cells, cmap="cividis", aspect="auto")
    for arm in frames.arms:
        row, column = rows.index(_value(arm, y)), columns.index(_value(arm, x))
        found = summary(frames, arm, ACCURACY)
        text = METRICS[ACCURACY].number(found.mean)
        if found.seeds > 1:
            text += f"\n± {METRICS[ACCURACY].number(found.deviation)}\nn = {found.seeds}"
        dark = mesh.norm(cells[row, column]) < 0.5  # noqa: PLR2004
        left.text(column, row, text, ha="center", va="center", color="white" if dark else "black")
    left.set_xticks(range(len(columns)), [label_of_value(value) for value in columns])
    left.set_yticks(range(len(rows)), [label_of_value(value) for value in rows])
    left.set_xlabel(label_of(x))
    left.set_ylabel(label_of(y))
    left.set_title(METRICS[ACCURACY].axis_label)
    left.grid(visible=False)
    left.spines[:].set_visible(False)
    left.tick_params(length=0)

    arms = list(frames.arms)
    scale = _Scale(x, arms, numbers=False)
    groups = _grouped(frames, arms, x)
    for index, (look, (name, members)) in enumerate(
        zip(looks(len(groups)), groups.items(), strict=True)
    ):
        positions = [scale.position(arm, index, len(groups)) for arm in members]
        _draw(right, frames, ACCURACY, members, positions, look, line=True, label=name or None)
    scale.apply(right)
    right.set_ylabel(METRICS[ACCURACY].axis_label)
    _legend_above(right)
    add_note(
        figure,
        "Parallel lines: no interaction. "
        + note_on_seeds(frames, "In the table ± standard deviation. " + _MARKS),
    )
    return figure


def _ranking(frames: SweepFrames) -> Figure:
    """All arms, the best at the top."""
    arms, left_out = best_arms(frames, _MAX_RANKED)
    arms.sort(key=lambda arm: accuracy(frames, arm))
    labels = [textwrap.fill(text, 30) for text in short_labels(frames, arms)]
    lines = sum(1 + label.count("\n") for label in labels)
    figure, (left, right) = new_figure(
        frames.config.title, 1.6 + 0.22 * max(lines, 2 * len(arms)), ncols=2, sharey=True
    )
    places = [float(place) for place in range(len(arms))]
    _draw(left, frames, ACCURACY, arms, places, Look(VALIDATION, "o"), across=True)
    predicted = [(arm.predicted, y) for arm, y in zip(arms, places, strict=True) if arm.predicted]
    for value, place in predicted:
        left.plot(value * 100, place, marker="D", ms=6, mfc="none", mec=INK, ls="none")
    _train_beside(right, frames, arms, places, across=True)
    left.set_yticks(places, labels)
    left.set_ylim(-0.6, len(arms) - 0.4)
    left.set_xlabel(METRICS[ACCURACY].axis_label)
    right.set_xlabel("accuracy, %")
    _legend_above(right)
    for panel in (left, right):
        panel.grid(visible=False, axis="y")
        panel.tick_params(axis="y", length=0)
    diamonds = "Diamonds: predicted before these runs." if predicted else ""
    add_note(figure, note_on_seeds(frames, _MARKS), f"{_FINAL} {diamonds}", left_out)
    return figure


class _Scale:
    """Where the values of a setting stand on an axis.

    Args:
        setting: The setting.
        arms: That have its values.
        numbers: Space numeric values as numbers; otherwise, and for others, evenly.
    """

    def __init__(self, setting: str, arms: Sequence[Arm], *, numbers: bool) -> None:
        self._setting = setting
        self._values = _values(arms, setting)
        self._numeric = numbers and all(
            isinstance(value, (int, float)) and not isinstance(value, bool)
            for value in self._values
        )
        self._log = (
            self._numeric
            and min(self._values) > 0
            and max(self._values) / min(self._values) >= _LOG_RATIO
        )

    def position(self, arm: Arm, series: int, of: int) -> float:
        value = _value(arm, self._setting)
        if self._numeric:
            return float(value)
        return self._values.index(value) + (series - (of - 1) / 2) * 0.5 / of

    def apply(self, axes: Any) -> None:
        described = RunConfig.model_fields[self._setting].description
        more = f" ({described})" if described else ""
        axes.set_xlabel(textwrap.fill(label_of(self._setting) + more, 44))
        labels = [label_of_value(value) for value in self._values]
        if self._log:
            axes.set_xscale("log")
            axes.minorticks_off()
        if self._numeric:
            axes.set_xticks(self._values, labels)
            axes.margins(x=0.08)
        else:
            axes.set_xticks(range(len(labels)), [textwrap.fill(text, 14) for text in labels])
            axes.set_xlim(-0.6, len(labels) - 0.4)
        axes.grid(visible=False, axis="x")


def _value(arm: Arm, setting: str) -> Any:
    return arm.config.model_dump(mode="json")[setting]


def _values(arms: Sequence[Arm], setting: str) -> list[Any]:
    """The values of a setting: numbers by size, others in the sweep's order."""
    values: list[Any] = []
    for arm in arms:
        if _value(arm, setting) not in values:
            values.append(_value(arm, setting))
    ordered = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)
    return sorted(values) if ordered else values


def _grouped(frames: SweepFrames, arms: list[Arm], x: str) -> dict[str, list[Arm]]:
    """The arms by what tells them apart but for `x`, each group in the order of `x`."""
    groups: dict[str, list[Arm]] = {}
    for arm, label in zip(arms, short_labels(frames, arms, without=(x,)), strict=True):
        groups.setdefault(label, []).append(arm)
    order = _values(arms, x)
    return {
        label: sorted(members, key=lambda arm: order.index(_value(arm, x)))
        for label, members in list(groups.items())[:MAX_SERIES]
    }


def _train_beside(
    axes: Any,
    frames: SweepFrames,
    arms: Sequence[Arm],
    positions: Sequence[float],
    *,
    line: bool = False,
    across: bool = False,
) -> None:
    for metric, look, label in (
        (_TRAIN_ACCURACY, Look(TRAIN, "s"), "train"),
        (ACCURACY, Look(VALIDATION, "o"), "validation"),
    ):
        _draw(axes, frames, metric, arms, positions, look, line=line, label=label, across=across)


def _draw(  # noqa: PLR0917  a series is what, where and how
    axes: Any,
    frames: SweepFrames,
    metric: str,
    arms: Sequence[Arm],
    positions: Sequence[float],
    look: Look,
    *,
    line: bool = False,
    label: str | None = None,
    across: bool = False,
) -> None:
    """A dot a run, and each arm's mean with its interval; `across` lays the values on x."""
    shown = METRICS[metric]
    beside = _beside(axes, across=across)
    means, errors = [], []
    for arm, position in zip(arms, positions, strict=True):
        values = [shown.on_axis(value) for value in frames.by_seed([arm], metric).values()]
        found = summary(frames, arm, metric)
        means.append(shown.on_axis(found.mean))
        half = shown.on_axis(found.high - found.low) / 2
        errors.append(0 if math.isnan(half) else half)
        if len(values) > 1:
            places = [position] * len(values)
            dots = (values, places) if across else (places, values)
            axes.plot(
                *dots,
                ls="none",
                marker="o",
                ms=4,
                mec="none",
                color=look.colour,
                alpha=0.6,
                transform=beside,
            )
    points = (means, positions) if across else (positions, means)
    bars = {"xerr" if across else "yerr": errors} if any(errors) else {}
    axes.errorbar(
        *points,
        **bars,
        color=look.colour,
        marker=look.marker,
        ms=5.5,
        ls="-" if line else "none",
        lw=1.2,
        elinewidth=1.1,
        capsize=2.5,
        label=label,
    )


def _legend_above(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderaxespad=0.2)


def _join_seeds(
    axes: Any, frames: SweepFrames, arms: Sequence[Arm], positions: Sequence[float]
) -> None:
    """Lines between runs that share a seed: what the paired comparison compares."""
    values = [frames.by_seed([arm], ACCURACY) for arm in arms]
    for (one, here), (other, there) in pairwise(zip(values, positions, strict=True)):
        for seed in one.keys() & other.keys():
            pair = [METRICS[ACCURACY].on_axis(side[seed]) for side in (one, other)]
            axes.plot(
                [here, there],
                pair,
                color=PALE,
                lw=0.8,
                zorder=1,
                transform=_beside(axes, across=False),
            )


def _beside(axes: Any, *, across: bool) -> Transform:
    """A little left of the mean, or below it, where its marker does not hide a run's dot."""
    shift = _BESIDE_POINTS / 72
    offset = (0.0, shift) if across else (shift, 0.0)
    return axes.transData + ScaledTranslation(*offset, axes.figure.dpi_scale_trans)  # type: ignore[no-any-return]
