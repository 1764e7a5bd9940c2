"""The figures of a sweep: the one that its file asks for, and its learning curves."""

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fmnist_tuning.analysis.frames import SweepFrames
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.metrics import CURVES
from fmnist_tuning.report.figures import style
from fmnist_tuning.report.figures.claims import draw_claims
from fmnist_tuning.report.figures.kinds import KINDS, axes_by_kind
from fmnist_tuning.report.figures.series import best_arms, references, short_labels
from fmnist_tuning.report.figures.trials import draw_search, draw_slices


def draw_study(
    sweeps: Mapping[str, SweepFrames],
    kind: style.Format | None = None,
    *,
    others: Mapping[str, SweepFrames] | None = None,
    sheet: str | None = None,
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Draw each sweep that has finished runs, in the format of its file or all as one `kind`.

    `others` has the sweeps that claims compare with. `sheet` is a matplotlib style sheet.

    Yields:
        A sweep's id, and its figures' contents by file name.

    Raises:
        FmnistError: When a figure cannot be drawn as its sweep asks, two have one file name, or a
            style cannot be read; nothing is drawn then.
    """
    owners = {claims_file(kind): "the study"}
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
            own, curves, *slices = file_names(frames, kind)
            with style.styled(sheet):
                drawn = {own: draw_figure(frames, others or sweeps), curves: draw_curves(frames)}
                drawn |= {name: draw_slices(frames, others or sweeps) for name in slices}
                contents = {
                    name: style.encode_figure(figure, name.rpartition(".")[2])  # type: ignore[arg-type]
                    for name, figure in drawn.items()
                }
            yield sweep, contents


def draw_study_claims(
    sweeps: Mapping[str, SweepFrames], kind: style.Format | None = None, *, sheet: str | None = None
) -> dict[str, bytes]:
    """The figure of all claims of a study, by its file name; empty if there is none to show."""
    with style.styled(sheet):
        figure = draw_claims(sweeps, sweeps)
        name = claims_file(kind)
        return {name: style.encode_figure(figure, kind or "png")} if figure else {}


def claims_file(kind: style.Format | None = None) -> str:
    """The file of a study's claims."""
    return f"claims.{kind or 'png'}"


def file_names(frames: SweepFrames, kind: style.Format | None = None) -> tuple[str, ...]:
    """The files of a sweep's figure, of its learning curves, and of a search's slices."""
    sweep = frames.sweep
    own = sweep.figure.file if sweep.figure else f"{sweep.id}.png"
    stem, _, suffix = own.rpartition(".")
    suffix = kind or suffix
    slices = (f"{sweep.id}_slices.{suffix}",) if sweep.search else ()
    return f"{stem}.{suffix}", f"{sweep.id}_curves.{suffix}", *slices


def draw_figure(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> Figure:
    """The figure that the sweep's file asks for, or a ranking; one run at least is finished."""
    sweep = frames.sweep
    if sweep.search:
        return draw_search(frames, others)
    kind = KINDS[sweep.figure.kind if sweep.figure else "ranking"]
    axes = (getattr(sweep.figure, axis) for axis in kind.axes)
    return kind.draw(frames, references(frames, others), *axes)


def draw_curves(frames: SweepFrames) -> Figure:
    """Loss and accuracy over the epochs, a series for each arm.

    Train and validation have panels of their own, because train's wider range would press the arms'
    validation together.
    """
    arms, left_out = best_arms(frames, style.MAX_SERIES)
    looks = style.looks(len(arms))
    figure, axes = style.new_figure(frames.sweep.title, 5.2, nrows=2, ncols=2, sharex=True)
    for panel, metric in zip(axes[::-1].flat, CURVES.values(), strict=True):
        for arm, look in zip(arms, looks, strict=True):
            own = frames.curves[frames.curves["arm"] == arm.label]
            _draw_arm(panel, _by_epoch(own, metric.name) * metric.on_axis(1), look)
        panel.set_ylabel(metric.axis_label)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    for panel in axes[-1]:
        panel.set_xlabel("epoch")
    handles = [
        Line2D([], [], color=look.colour, marker=look.marker, ls=look.line, label=fill(text, 60))
        for look, text in zip(looks, short_labels(frames, arms), strict=True)
    ]
    style.add_legend(figure, handles)
    style.add_note(
        figure,
        style.note_on_seeds(frames, "Thick: mean over the seeds; thin: each seed."),
        "A mean ends where the first of its seeds stopped early."
        if any(arm.config.early_stopping for arm in arms)
        else "",
        f"{style.note_on_validation(frames)} Train: over the epoch, {_train_mode(frames)}.",
        left_out,
    )
    return figure


def _train_mode(frames: SweepFrames) -> str:
    """What makes an epoch's train loss and accuracy unlike validation's."""
    configs = [arm.config for arm in frames.arms]
    parts = ["dropout on"]
    if any(config.augmentation != "none" for config in configs):
        parts.append("images changed where augmented")
    if any(config.label_smoothing for config in configs):
        parts.append("loss smoothed where labels are")
    if any(config.weight_averaging != "none" for config in configs):
        parts.append("weights not averaged")
    return ", ".join(parts)


def _draw_arm(axes: Any, values: pd.DataFrame, look: style.Look) -> None:
    if values.shape[1] > 1:
        axes.plot(values.index, values, color=look.colour, lw=0.5, alpha=0.5)
    every = max(1, len(values) // 10)
    axes.plot(
        values.dropna().index,
        values.dropna().mean(axis=1),  # no longer than all seeds go on
        color=look.colour,
        ls=look.line,
        marker=look.marker,
        ms=mpl.rcParams["lines.markersize"] * 0.8,
        markevery=every,
    )


def _by_epoch(curves: pd.DataFrame, metric: str) -> pd.DataFrame:
    """A row for each epoch, a column for each seed."""
    own = curves[curves["metric"] == metric]
    return own.pivot_table(index="epoch", columns="seed", values="value")
