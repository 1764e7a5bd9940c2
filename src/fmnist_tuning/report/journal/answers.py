"""Answers to the journal's questions: sentences computed from a sweep's frames."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from fmnist_tuning.analysis.best import highest, judged_by
from fmnist_tuning.analysis.contrasts import t_quantile
from fmnist_tuning.analysis.effects import confounds, factorial_effects
from fmnist_tuning.analysis.frames import summary
from fmnist_tuning.analysis.groups import Groups, compare
from fmnist_tuning.analysis.verdicts import told_apart
from fmnist_tuning.metrics import ACCURACY, GAP, METRICS
from fmnist_tuning.report.wording import capital, described, lettered, listed, worded_difference
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.combine import leverages
from fmnist_tuning.text import markdown

if TYPE_CHECKING:
    from fmnist_tuning.report.journal.section import Section

_MISSING: Final = "The runs that would tell are missing."


def overfitting(it: "Section") -> str:
    """For which arms it is certain that train accuracy is above validation accuracy."""
    certain: list[str] = []
    rest: list[str] = []
    for arm in it.frames.arms:
        group = certain if summary(it.frames, arm, GAP).low > 0 else rest
        group.append(described(arm))
    sentences = []
    if certain:
        where = listed(certain) if rest or len(certain) < 3 else "every arm"  # noqa: PLR2004
        sentences.append(
            "Train accuracy lies above validation accuracy, its whole 95 % interval above "
            f"zero, with {where}."
        )
    if rest:
        why = "is not certain" if it.frames.seeds > 1 else "cannot be judged from one seed"
        sentences.append(f"The gap {why} with {listed(rest)}.")
    return " ".join(sentences)


def loss_curves(it: "Section") -> str:
    """Where the mean validation loss was lowest, and how far it rose after that."""
    falling, rising = [], []
    for arm in it.frames.arms:
        means = _curve(it, arm, "val_loss").groupby("epoch")["value"].mean()
        curve: dict[Any, float] = means.to_dict()
        if not curve:
            continue
        epoch, last = min(curve, key=curve.__getitem__), max(curve)
        if epoch == last:
            falling.append(described(arm))
        else:
            rise = f"{curve[last] - curve[epoch]:.4f}"
            rising.append(f"after epoch {epoch} of {last} with {described(arm)}, up {rise} since")
    sentences = []
    if rising:
        sentences.append(f"Mean validation loss was lowest {'; '.join(rising)}.")
    if falling:
        what = "It" if rising else "Mean validation loss"
        sentences.append(f"{what} was lowest after the last epoch with {listed(falling)}.")
    return " ".join(sentences)


def unsteadiness(it: "Section") -> str:
    """How far validation accuracy moved from one epoch to the next."""
    parts = []
    for arm in it.frames.arms:
        runs = _curve(it, arm, "val_accuracy").groupby("seed")
        moves = [
            float(run.sort_values("epoch")["value"].diff().abs().dropna().mean()) for _, run in runs
        ]
        if moves := [move for move in moves if not math.isnan(move)]:
            parts.append(f"{fmean(moves) * 100:.2f} points with {described(arm)}")
    if not parts:
        return "One epoch tells nothing about steadiness."
    deviations = [
        f"{found.deviation * 100:.2f} points with {described(arm)}"
        for arm in it.frames.arms
        if not math.isnan((found := summary(it.frames, arm, ACCURACY)).deviation)
    ]
    between = (
        f"the final one has a standard deviation of {listed(deviations)}"
        if deviations
        else "how far is unknown with one seed"
    )
    return (
        "From one epoch to the next, validation accuracy moved by a mean of "
        f"{listed(parts)}; between seeds, {between}."
    )


def synergy(it: "Section") -> str:
    """The interactions of a factorial sweep."""
    found = [e for e in factorial_effects(it.frames, ACCURACY, it.pool) if e.interaction]
    if not found:
        return _MISSING
    apart = told_apart(it.frames, [effect.asked for effect in found], it.others)
    lines = []
    for effect, certain in zip(found, apart, strict=True):
        no = "not told apart from zero, so that these runs show no synergy"
        lines.append(
            f"{markdown(effect.name)}, by which one's effect on validation accuracy differs "
            "between the other's levels, is "
            f"{worded_difference(METRICS[ACCURACY], effect.contrast)}: "
            f"{'told apart from zero' if certain else no}"
        )
    return f"The interaction {'; '.join(lines)}."


def stronger(it: "Section") -> str:
    """The main effects, and which of them are told apart from zero."""
    found = [e for e in factorial_effects(it.frames, ACCURACY, it.pool) if not e.interaction]
    if not found:
        return _MISSING
    apart = told_apart(it.frames, [effect.asked for effect in found], it.others)
    parts = [
        f"{markdown(effect.name)}: {worded_difference(METRICS[ACCURACY], effect.contrast)}, "
        f"{'' if certain else 'not '}told apart from zero"
        for effect, certain in zip(found, apart, strict=True)
    ]
    which = "" if any(apart) else " Which is the stronger, these runs do not tell."
    return f"Main effects on validation accuracy: {'; '.join(parts)}.{which}"


def resolution(it: "Section") -> str:
    """How large the last block's images are: the runs tell no more about what it has learnt."""
    sizes = []
    for arm in it.frames.arms:
        size = arm.config.image_size >> (
            arm.config.num_conv_layers if arm.config.use_pooling else 0
        )
        sizes.append(f"{size}×{size} pixels with {described(arm)}")
    return (
        f"The linear layers see {listed(sizes)}. What features were learnt, these runs do not "
        "measure."
    )


def predictions(it: "Section") -> str:
    """How far the measured accuracies are from those that the combination predicted."""
    about, parts = METRICS[ACCURACY], []
    predicted = [arm for arm in it.frames.arms if arm.predicted is not None]
    for arm, half in zip(predicted, _uncertainties(it, predicted), strict=True):
        off = summary(it.frames, arm, ACCURACY).mean - (arm.predicted or 0.0)
        chance = (
            "how far chance reaches is unknown"
            if math.isnan(half)
            else f"{'within' if abs(off) <= half else 'outside'} ± {half * 100:.2f}"
        )
        parts.append(
            f"{lettered(arm)} came out {about.format_difference(off)} from the "
            f"{about.format(arm.predicted or 0.0)} predicted ({chance})"
        )
    if not parts:
        return "Nothing was predicted."
    return (
        f"{listed(parts)}. The ± is the 95 % prediction interval: it holds the luck of these runs "
        "and of those that predicted. These are the highest of many predictions, and the highest "
        "are too high on average."
    )


def _uncertainties(it: "Section", arms: Sequence[Arm]) -> list[float]:
    """Half the 95 % interval of each arm's mean minus its prediction; NaN where unknown."""
    combine = it.frames.sweep.combine
    known = [it.others[id_] for id_ in combine.sources if id_ in it.others] if combine else []
    if combine is None or len(known) < len(combine.sources) or not arms:
        return [math.nan] * len(arms)
    spread = it.pool.spread(ACCURACY, [arms[0].config])
    seeds = {
        frames.sweep.id: {arm.label: len(frames.seeds_of(arm)) for arm in frames.arms}
        for frames in known
    }
    if not spread.prior:
        return [math.nan] * len(arms)
    predicted = leverages([frames.sweep for frames in known], arms, seeds)
    measured = [1 / max(len(it.frames.seeds_of(arm)), 1) for arm in arms]
    return [
        t_quantile(spread.freedom) * math.sqrt(spread.paired * (one + other))
        for one, other in zip(predicted, measured, strict=True)
    ]


def against_others(it: "Section") -> str:
    """The best arm here against the best arm of all other sweeps."""
    best = highest(
        (frames, arm)
        for id_, frames in it.others.items()
        for arm in frames.contenders
        if id_ != it.id and judged_by(arm) == judged_by(it.best_arm)
    )
    if best is None:
        return "There is nothing to compare with yet."
    frames, arm = best
    asked = Groups(it.frames, [it.best_arm], [arm], frames)
    found = compare(asked, ACCURACY, it.pool)
    assert found is not None  # noqa: S101  both arms have finished runs
    certain = told_apart(it.frames, [asked], it.others)[0]
    return (
        f"{capital(described(it.best_arm))}, the best mean here, has "
        f"{worded_difference(METRICS[ACCURACY], found)} against the best of the others, "
        f"{described(arm)} of `{frames.sweep.id}`: {'' if certain else 'not '}told apart. "
        "Each side's best was chosen by the same runs."
    )


def trade_offs(it: "Section") -> str:
    """Accuracy, size, time and gap of each arm."""
    parts = [
        f"{lettered(arm)}: {it.value_of(arm, ACCURACY)}, {it.value_of(arm, 'total_params')} "
        f"parameters, {it.value_of(arm, 'train_seconds')} of training, gap {it.value_of(arm, GAP)}"
        for arm in it.frames.arms
    ]
    return f"{'; '.join(parts)}."


def steps(it: "Section", metric: str) -> str:
    """Each arm compared with the one before it, Holm-adjusted."""
    return _compared(it, metric, [*pairwise(it.frames.arms)])


def versus(it: "Section", metric: str, arm: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """One arm compared with another."""
    one, another = _first(it, other), _first(it, arm)
    if one is None or another is None:
        return _MISSING
    return _compared(it, metric, [(one, another)])


def values(it: "Section", metric: str) -> str:
    """A metric arm by arm, in one sentence."""
    label = METRICS[metric].label
    parts = [
        f"{it.value_of(arm, metric)} with {described(arm)}"
        for arm in it.frames.arms
        if summary(it.frames, arm, metric).seeds
    ]
    return f"{capital(label)}: {listed(parts)}." if parts else f"No run has a {label}."


def size_difference(it: "Section", arm: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How many parameters fewer one arm has, in percent."""
    one, another = _first(it, arm), _first(it, other)
    if one is None or another is None:
        return "not known yet"
    small, large = (summary(it.frames, a, "total_params").mean for a in (one, another))
    fewer = (1 - small / large) * 100
    return f"{fewer:.1f} % fewer params ({small:,.0f} instead of {large:,.0f})"


def size_confounds(it: "Section") -> str:
    """What else the arms change; an empty text if nothing."""
    return " ".join(markdown(note) for note in confounds(it.frames))


def _compared(it: "Section", metric: str, pairs: Sequence[tuple[Arm, Arm]]) -> str:
    """The second arm of each pair compared with the first.

    Only accuracies are told apart beside the claims: each further metric would need a share of the
    sweep's error rate. Of the others the difference is shown with its plain interval.
    """
    about = METRICS[metric]
    asked = [(one, other, Groups(it.frames, [other], [one])) for one, other in pairs]
    known = [
        (one, other, groups, found)
        for one, other, groups in asked
        if (found := compare(groups, metric, it.pool)) is not None
    ]
    if not known:
        return f"No {about.label} was measured."
    apart = told_apart(it.frames, [groups for _, _, groups, _ in known], it.others, metric)
    parts = []
    for (one, other, _, found), certain in zip(known, apart, strict=True):
        verdict = ", told apart" if certain else ", not told apart" if metric == ACCURACY else ""
        parts.append(
            f"{worded_difference(about, found)} with {described(other)} against "
            f"{described(one)}{verdict}"
        )
    return f"{capital(about.label)}: {'; '.join(parts)}."


def _curve(it: "Section", arm: Arm, metric: str) -> pd.DataFrame:
    curves = it.frames.curves
    return curves[(curves["arm"] == arm.label) & (curves["metric"] == metric)]


def _first(it: "Section", selector: Mapping[str, Any]) -> Arm | None:
    return next((arm for arm in it.frames.arms if arm.matches(selector)), None)
