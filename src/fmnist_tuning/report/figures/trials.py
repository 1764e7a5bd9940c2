"""The figures of a search: how its trials went, which settings mattered, and along each setting."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator

from fmnist_tuning.analysis.frames import SweepFrames, summary
from fmnist_tuning.analysis.searching import (
    Finalist,
    TrialResult,
    finalists_of,
    importances_of,
    trials_of,
)
from fmnist_tuning.metrics import METRICS, Metric
from fmnist_tuning.report.figures import style
from fmnist_tuning.sweeps.search import Range
from fmnist_tuning.sweeps.settings import label_of, label_of_value
from fmnist_tuning.sweeps.sweep import BASE, FINALISTS, search_of

_ACROSS: Final = 3  # panels in a row
_ROOM: Final = 0.15  # of the complete trials' range: below them, pruned ones stand on the edge
_PRUNED: Final = "Crosses: pruned trials after their last epoch; very bad ones stand at the edge."
_LETTERS: Final = "Letters: the finalists."


def draw_search(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> Figure:
    """The history of a search with what became of its finalists, and the settings' importance."""
    search, trials = search_of(frames.sweep), trials_of(frames)
    metric, finalists = METRICS[search.metric], finalists_of(frames, others)
    figure, (left, right) = style.new_figure(frames.sweep.title, ncols=2, width_ratios=(1.6, 1))
    own, base = style.looks(2)
    _draw_trials(left, metric, trials, [trial.number for trial in trials], own)
    best = _best_so_far(trials, metric)
    left.plot(*best, color=own.colour, lw=1, drawstyle="steps-post", label="best so far")
    _name(left, metric, trials, finalists, [trial.number for trial in trials])
    _draw_fresh(left, metric, finalists, others.get(f"{frames.sweep.id}{FINALISTS}"), base)
    left.set_xlabel("trial")
    left.set_ylabel(textwrap.fill(metric.axis_label, 30))
    left.grid(visible=False, axis="x")
    _draw_importances(right, importances_of(frames))
    style.add_legend(figure, left.get_legend_handles_labels()[0])
    right_of = "Right of the line: means by seeds that did not choose them, with 95 % intervals."
    style.add_note(
        figure,
        f"{_LETTERS} {right_of} {style.CUT}" if finalists else "",
        _PRUNED if any(trial.state == "pruned" for trial in trials) else "",
        "Importance: the share of the complete trials' variance, by fANOVA "
        "(Hutter, Hoos, Leyton-Brown 2014).",
        style.note_on_validation(frames),
    )
    return figure


def draw_slices(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> Figure:
    """The trials along each setting that was searched."""
    search, trials = search_of(frames.sweep), trials_of(frames)
    metric, finalists = METRICS[search.metric], finalists_of(frames, others)
    rows = math.ceil(len(search.space) / _ACROSS)
    columns = math.ceil(len(search.space) / rows)
    figure, panels = style.new_figure(
        frames.sweep.title, 0.9 + 2.2 * rows, nrows=rows, ncols=columns, sharey=True, squeeze=False
    )
    (look,) = style.looks(1)
    for panel in panels.flat[len(search.space) :]:
        panel.set_visible(False)
    for panel, (setting, level) in zip(panels.flat, search.levels.items(), strict=False):
        there = [trial for trial in trials if setting in trial.arm.overrides]
        places = [_place(level, trial.arm.overrides[setting]) for trial in there]
        _draw_trials(panel, metric, there, places, look)
        _name(panel, metric, there, finalists, places)
        panel.set_xlabel(label_of(setting))
        if isinstance(level, Range):
            _set_range(panel, level)
        else:
            panel.set_xticks(range(len(level)), [label_of_value(value) for value in level])
            panel.set_xlim(-0.6, len(level) - 0.4)
        panel.grid(visible=False, axis="x")
    for panel in panels[:, 0]:
        panel.set_ylabel(textwrap.fill(metric.axis_label, 24))
    style.add_note(
        figure,
        _PRUNED if any(trial.state == "pruned" for trial in trials) else "",
        _LETTERS if finalists else "",
        "Trials differ in all settings at once; a search tries more where it found good ones.",
        style.note_on_validation(frames),
    )
    return figure


def _set_range(axes: Any, level: Range) -> None:
    """The whole range that was searched, with plain numbers at its ticks."""
    if level.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
        room = (level.high / level.low) ** 0.05
        axes.set_xlim(level.low / room, level.high * room)
    else:
        room = (level.high - level.low) * 0.05
        axes.set_xlim(level.low - room, level.high + room)


def _draw_trials(
    axes: Any,
    metric: Metric,
    trials: Sequence[TrialResult],
    places: Sequence[float],
    look: style.Look,
) -> None:
    """A dot for each complete trial, a cross for each pruned one."""
    shown = [metric.on_axis(trial.value) for trial in trials]
    complete = [value for value, t in zip(shown, trials, strict=True) if t.state == "complete"]
    low, high = min(complete, default=0.0), max(complete, default=1.0)
    room = max((high - low) * _ROOM, 1e-3)
    axes.set_ylim(low - room, high + room)
    for state, marker in (("complete", "o"), ("pruned", "x")):
        chosen = [n for n, trial in enumerate(trials) if trial.state == state]
        inside = [min(max(shown[n], low - room), high + room) for n in chosen]
        axes.plot(
            [places[n] for n in chosen],
            inside,
            ls="none",
            marker=marker,
            color=look.colour if state == "complete" else style.PALE,
            ms=4,
            zorder=3 if state == "complete" else 2,
            clip_on=False,
            label=f"{state} trials" if chosen else None,
        )


def _best_so_far(trials: Sequence[TrialResult], metric: Metric) -> tuple[list[int], list[float]]:
    numbers: list[int] = []
    best: list[float] = []
    choose = min if metric.better == "lower" else max
    for trial in trials:
        if trial.state == "complete":
            value = metric.on_axis(trial.value)
            best.append(choose(best[-1], value) if best else value)
            numbers.append(trial.number)
    return ([*numbers, len(trials)], [*best, best[-1]]) if best else ([], [])


def _name(
    axes: Any,
    metric: Metric,
    trials: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    places: Sequence[float],
) -> None:
    """The letters of the finalists at their trials."""
    letters = {finalist.arm.config: finalist.arm.name for finalist in finalists}
    for trial, place in zip(trials, places, strict=True):
        if trial.state == "complete" and trial.arm.config in letters:
            axes.annotate(
                letters[trial.arm.config],
                (place, metric.on_axis(trial.value)),
                xytext=(0, 4),
                textcoords="offset points",
                ha="center",
                fontweight="bold",
            )


def _draw_fresh(
    axes: Any,
    metric: Metric,
    finalists: Sequence[Finalist],
    frames: SweepFrames | None,
    look: style.Look,
) -> None:
    """The finalists and the base configuration by fresh seeds, right of the trials.

    Intervals that are wider than all else are cut, because the trials would lie on each other.
    """
    if not finalists or frames is None:
        return
    edge = axes.get_xlim()[1]
    step = max(edge * 0.11, 1.0)
    axes.axvline(edge, color=style.PALE, lw=0.8)
    shown = [(one.arm.name or "", one.fresh) for one in finalists]
    shown += [(BASE, summary(frames, arm, metric.name)) for arm in frames.arms if arm.name == BASE]
    places = [edge + place * step for place in range(1, len(shown) + 1)]
    means = [metric.on_axis(found.mean) for _, found in shown]
    halves = [metric.on_axis(found.high - found.low) / 2 for _, found in shown]
    known = [0.0 if math.isnan(half) else half for half in halves]
    axes.errorbar(
        places,
        means,
        yerr=known if any(known) else None,
        color=look.colour,
        marker=look.marker,
        ls="none",
        label="fresh seeds",
    )
    low, high = (choose(*axes.get_ylim(), *means) for choose in (min, max))
    ends = [mean + side * half for mean, half in zip(means, known, strict=True) for side in (-1, 1)]
    room = high - low
    axes.set_ylim(max(min(low, *ends), low - room / 2), min(max(high, *ends), high + room / 2))
    ticks = [tick for tick in axes.get_xticks() if 0 < tick <= edge]
    axes.set_xlim(0, edge + (len(shown) + 0.6) * step)
    axes.set_xticks(
        [*ticks, *places], [*(f"{tick:g}" for tick in ticks), *(name for name, _ in shown)]
    )


def _draw_importances(axes: Any, found: Mapping[str, float]) -> None:
    upwards = [*found][::-1]
    names = [textwrap.fill(label_of(setting), 14) for setting in upwards]
    axes.set_xlabel("importance, %")
    axes.grid(visible=False, axis="y")
    if not found:
        axes.set_yticks([])
        return
    bars = axes.barh(names, [100 * found[setting] for setting in upwards], color=style.PALE)
    axes.bar_label(bars, fmt="%.0f", padding=2)
    axes.margins(x=0.15)


def _place(level: Range | Sequence[Any], value: Any) -> float:
    if isinstance(level, Range):
        return float(value)
    return float([*level].index([*value] if isinstance(value, tuple) else value))
