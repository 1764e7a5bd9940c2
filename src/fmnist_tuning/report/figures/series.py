"""The parts of a sweep's figure: which arms it shows, their labels, and how each is drawn."""

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import matplotlib as mpl
from matplotlib.transforms import ScaledTranslation, Transform

from fmnist_tuning.analysis.best import Place, ranked
from fmnist_tuning.analysis.frames import SweepFrames, summary
from fmnist_tuning.metrics import ACCURACY, METRICS
from fmnist_tuning.report.figures.style import MAX_SERIES, PALE, Look, ink
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import RunConfig, label_of, label_of_value

_BESIDE_POINTS: Final = -6.0
_LOG_RATIO: Final = 20  # if the largest value is this many times the smallest, the axis is a log
_LABEL_WIDTH: Final = 60  # characters
_ACROSS: Final = 40  # characters; more of them below a panel would lie on each other


def best_arms(frames: SweepFrames, limit: int) -> tuple[list[Arm], str]:
    """The best arms in the sweep's order, and a sentence if any are left out."""
    arms = list(frames.arms)
    if len(arms) <= limit:
        return arms, ""
    best = ranked(frames)[:limit]
    kept = [arm for arm in arms if arm in best]
    return kept, f"The {limit} arms of {len(arms)} with the best mean validation accuracy."


def references(frames: SweepFrames, others: Mapping[str, SweepFrames]) -> dict[str, Place]:
    """Arms of other sweeps that the sweep's claims compare with, by their labels."""
    found = {}
    for claim in frames.sweep.claims:
        other = others.get(claim.versus_sweep or "")
        for arm in other.arms if other else ():
            if other and arm.matches(claim.versus):
                found[f"{_settings(arm)} ({other.sweep.id})"] = other, arm
    return found


def short_labels(frames: SweepFrames, arms: Sequence[Arm]) -> list[str]:
    """Each arm's name; else the settings in which the arms differ.

    The letters of a combination say nothing by themselves, so its arms have all that was chosen.
    """
    if frames.sweep.combine is not None:
        return [f"{arm.name}: {_settings(arm)}" for arm in arms]
    values = _differences(frames, arms)
    return [arm.name or text for arm, text in zip(arms, values, strict=True)]


def _differences(frames: SweepFrames, arms: Sequence[Arm], without: str = "") -> list[str]:
    settings = [arm.config.model_dump(mode="json") for arm in arms]
    differing = [
        key
        for key in frames.sweep.swept
        if key != without and any(s[key] != settings[0][key] for s in settings)
    ]
    return [
        ", ".join(f"{label_of(key)} {label_of_value(own[key])}" for key in differing)
        for own in settings
    ]


def _settings(arm: Arm) -> str:
    """`dropout rate 0.3, batch norm on`; the label of an arm that changes nothing."""
    parts = [f"{label_of(key)} {label_of_value(value)}" for key, value in arm.overrides.items()]
    return ", ".join(parts) or arm.label


class Scale:
    """Where the values of a setting stand on an axis.

    If `numbers` is true, numeric values stand where the number line has them. All other values are
    spaced evenly.
    """

    def __init__(self, setting: str, arms: Sequence[Arm], *, numbers: bool) -> None:
        self._setting = setting
        self._values = values_of(arms, setting)
        self._numeric = numbers and _all_numbers(self._values)
        low, high = (min(self._values), max(self._values)) if self._numeric else (0, 0)
        self._log = low > 0 and high / low >= _LOG_RATIO

    def position(self, arm: Arm, series: int, of: int) -> float:
        """Where an arm stands; evenly spaced values have their series side by side."""
        value = value_of(arm, self._setting)
        if self._numeric:
            return float(value)
        return self._values.index(value) + (series - (of - 1) / 2) * 0.5 / of

    def apply(self, axes: Any) -> None:
        """Label an x axis."""
        described = RunConfig.model_fields[self._setting].description
        more = f" ({described})" if described else ""
        axes.set_xlabel(textwrap.fill(label_of(self._setting) + more, 40))
        labels = [label_of_value(value) for value in self._values]
        if self._log:
            axes.set_xscale("log")
            axes.minorticks_off()
        if self._numeric:
            axes.set_xticks(self._values, labels)
            axes.margins(x=0.08)
        else:
            crowded = max(map(len, labels)) * len(labels) > _ACROSS
            axes.set_xticks(
                range(len(labels)),
                [textwrap.fill(text, 14) for text in labels],
                fontsize="small" if crowded else None,
            )
            axes.set_xlim(-0.6, len(labels) - 0.4)
        axes.grid(visible=False, axis="x")


def value_of(arm: Arm, setting: str) -> Any:
    """An arm's value of a setting."""
    return arm.config.model_dump(mode="json")[setting]


def values_of(arms: Sequence[Arm], setting: str) -> list[Any]:
    """The values of a setting: numbers by size, others in the sweep's order."""
    values: list[Any] = []
    for arm in arms:
        if value_of(arm, setting) not in values:
            values.append(value_of(arm, setting))
    return sorted(values) if _all_numbers(values) else values


def _all_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def grouped(frames: SweepFrames, arms: list[Arm], x: str) -> dict[str, list[Arm]]:
    """The arms by their other settings than `x`, each group in the order of `x`."""
    groups: dict[str, list[Arm]] = {}
    for arm, label in zip(arms, _differences(frames, arms, without=x), strict=True):
        groups.setdefault(textwrap.fill(label, _LABEL_WIDTH), []).append(arm)
    order = values_of(arms, x)
    return {
        label: sorted(members, key=lambda arm: order.index(value_of(arm, x)))
        for label, members in list(groups.items())[:MAX_SERIES]
    }


def draw(  # noqa: PLR0917  a series is what, where and how
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
    """A dot for each run, and each arm's mean with its interval; `across`: values along x."""
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
            dot = {"ls": "none", "marker": "o", "ms": _dot(), "mec": "none", "alpha": 0.6}
            axes.plot(*dots, **dot, color=look.colour, transform=beside)
    points = (means, positions) if across else (positions, means)
    bars = {"xerr" if across else "yerr": errors} if any(errors) else {}
    style = {"color": look.colour, "marker": look.marker, "ls": look.line if line else "none"}
    axes.errorbar(*points, **bars, **style, label=label)


def draw_levels(axes: Any, places: Mapping[str, Place], metric: str) -> None:
    """A dotted line across at the mean of each arm of another sweep."""
    for label, (frames, arm) in places.items():
        mean = METRICS[metric].on_axis(summary(frames, arm, metric).mean)
        if math.isfinite(mean):
            text = textwrap.fill(label, _LABEL_WIDTH)
            axes.axhline(mean, color=ink(), ls=":", lw=1, label=text)


def keep_runs_apart(
    axes: Any, places: Iterable[Place], metric: str, *, across: bool = False
) -> bool:
    """Cut intervals that are so wide that the runs would lie on each other.

    With two seeds a t interval is 18 times as wide as the runs lie apart. The axis ends as far
    beyond the runs as these reach, and no accuracy is above 100 %. Returns whether it cut any.
    """
    shown, percent = METRICS[metric], METRICS[metric].unit == "percent"
    runs, ends = [], []
    for frames, arm in places:
        runs += [shown.on_axis(value) for value in frames.by_seed([arm], metric).values()]
        found = summary(frames, arm, metric)
        ends += [shown.on_axis(end) for end in (found.low, found.high) if math.isfinite(end)]
    if not runs or not ends:
        return False
    low, high = min(runs), max(runs)
    room = max(high - low, 1e-3)
    least, most = low - room, high + room
    if percent:
        least, most = max(least, 0.0), min(most, 100.0)
    limits = max(least, min(*ends, low)), min(most, max(*ends, high))
    whole = limits[0] <= min(ends), limits[1] >= max(ends)
    # Dots stand beside their means, where matplotlib leaves no room for them at the edge.
    pad = (limits[1] - limits[0]) * 0.04
    set_limits = axes.set_xlim if across else axes.set_ylim
    set_limits(limits[0] - pad * whole[0], limits[1] + pad * whole[1])
    return not all(whole)


def join_seeds(
    axes: Any, frames: SweepFrames, arms: Sequence[Arm], positions: Sequence[float]
) -> None:
    """Lines between runs that share a seed: the pairs that the paired comparison compares."""
    values = [frames.by_seed([arm], ACCURACY) for arm in arms]
    beside = _beside(axes, across=False)
    for (one, here), (other, there) in pairwise(zip(values, positions, strict=True)):
        for seed in one.keys() & other.keys():
            pair = [METRICS[ACCURACY].on_axis(side[seed]) for side in (one, other)]
            axes.plot([here, there], pair, color=PALE, lw=0.8, zorder=1, transform=beside)


def _dot() -> float:
    """The size of a run's dot, in points: smaller than a mean's marker."""
    size: float = mpl.rcParams["lines.markersize"] * 0.7
    return size


def _beside(axes: Any, *, across: bool) -> Transform:
    """A little left of the mean, or below it, so that its marker does not hide a run's dot."""
    shift = _BESIDE_POINTS / 72
    offset = (0.0, shift) if across else (shift, 0.0)
    return axes.transData + ScaledTranslation(*offset, axes.figure.dpi_scale_trans)  # type: ignore[no-any-return]
