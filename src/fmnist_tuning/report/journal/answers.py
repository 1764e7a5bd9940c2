"""Answers to the questions that the journal asks, as sentences computed from a sweep's frames."""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from fmnist_tuning.analysis.best import highest
from fmnist_tuning.analysis.effects import confounds, factorial_effects
from fmnist_tuning.analysis.frames import summary
from fmnist_tuning.analysis.verdicts import contrast_arms, told_apart
from fmnist_tuning.metrics import ACCURACY, GAP, METRICS
from fmnist_tuning.report.wording import (
    capital,
    described,
    lettered,
    listed,
    spread,
    worded_difference,
)
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.settings import IMAGE_SIZE
from fmnist_tuning.text import markdown

if TYPE_CHECKING:
    from fmnist_tuning.report.journal.section import Section


def overfitting(it: "Section") -> str:
    """For which arms the train accuracy is above the validation accuracy for certain."""
    found = {described(arm): summary(it.frames, arm, GAP) for arm in it.frames.arms}
    certain = [f"{arm} ({spread(METRICS[GAP], f)})" for arm, f in found.items() if f.low > 0]
    rest = [f"{arm} ({spread(METRICS[GAP], f)})" for arm, f in found.items() if not f.low > 0]
    sentences = []
    if certain:
        sentences.append(
            "Train accuracy lies above validation accuracy, its whole 95 % interval above "
            f"zero, with {listed(certain)}."
        )
    if rest:
        why = "is not certain" if it.frames.seeds > 1 else "cannot be judged from one seed"
        sentences.append(f"The gap {why} with {listed(rest)}.")
    return " ".join(sentences)


def loss_curves(it: "Section") -> str:
    """Where the mean validation loss was lowest, and what it did from there."""
    falling, rising = [], []
    for arm in it.frames.arms:
        curve = _mean_curve(it, arm, "val_loss")
        if not curve:
            continue
        epoch, lowest = min(curve.items(), key=lambda item: item[1])
        last = max(curve)
        if epoch == last:
            falling.append(described(arm))
        else:
            rise = f"{curve[last] - lowest:.4f}"
            rising.append(f"after epoch {epoch} of {last} with {described(arm)}, up {rise} since")
    sentences = []
    if rising:
        sentences.append(f"Mean validation loss was lowest {'; '.join(rising)}.")
    if falling:
        sentences.append(f"It was lowest after the last epoch with {listed(falling)}.")
    return " ".join(sentences).replace("It was", "Mean validation loss was", not rising)


def unsteadiness(it: "Section") -> str:
    """How far validation accuracy moved from one epoch to the next."""
    parts = []
    for arm in it.frames.arms:
        own = it.frames.curves
        own = own[(own["arm"] == arm.label) & (own["metric"] == "val_accuracy")]
        moves = [
            float(run.sort_values("epoch")["value"].diff().abs().dropna().mean())
            for _, run in own.groupby("seed")
        ]
        moves = [move for move in moves if not math.isnan(move)]
        if moves:
            parts.append(f"{fmean(moves) * 100:.2f} points with {described(arm)}")
    if not parts:
        return "One epoch tells nothing about steadiness."
    return (
        "From one epoch to the next, validation accuracy moved by a mean of "
        f"{listed(parts)}; between seeds, {_deviations(it)}."
    )


def synergy(it: "Section") -> str:
    """The interactions of a factorial sweep."""
    found = [e for e in factorial_effects(it.frames, ACCURACY) if e.interaction]
    if not found:
        return "The runs that would tell are missing."
    apart = told_apart(it.frames, [effect.contrast for effect in found], it.others)
    lines = [
        f"{markdown(effect.name)}, by which one's effect on validation accuracy differs between "
        f"the other's levels, is {worded_difference(METRICS[ACCURACY], effect.contrast)}: "
        + (
            "told apart from zero"
            if certain
            else "not told apart from zero, so that these runs show no synergy"
        )
        for effect, certain in zip(found, apart, strict=True)
    ]
    return f"The interaction {'; '.join(lines)}."


def stronger(it: "Section") -> str:
    """Which main effect is the larger."""
    found = [e for e in factorial_effects(it.frames, ACCURACY) if not e.interaction]
    if not found:
        return "The runs that would tell are missing."
    ranked = sorted(found, key=lambda effect: -abs(effect.contrast.difference))
    parts = [
        f"{markdown(effect.name)}: {worded_difference(METRICS[ACCURACY], effect.contrast)}"
        for effect in ranked
    ]
    return f"Main effects on validation accuracy, the largest first: {'; '.join(parts)}."


def resolution(it: "Section") -> str:
    """How large the last block's images are, which is all that these runs know of it."""
    sizes = []
    for arm in it.frames.arms:
        blocks = arm.config.num_conv_layers if arm.config.use_pooling else 0
        size = IMAGE_SIZE >> blocks
        sizes.append(f"{size}×{size} pixels with {described(arm)}")
    return (
        f"The linear layers see {listed(sizes)}. What features were learnt, these runs do not "
        "measure."
    )


def predictions(it: "Section") -> str:
    """What was measured against what the combination predicted."""
    parts = []
    for arm in it.frames.arms:
        if arm.predicted is None:
            continue
        found = summary(it.frames, arm, ACCURACY)
        off = METRICS[ACCURACY].format_difference(found.mean - arm.predicted)
        within = (
            "one seed does not say whether by chance"
            if math.isnan(found.low)
            else "within its interval"
            if found.low <= arm.predicted <= found.high
            else "outside its interval"
        )
        parts.append(
            f"{lettered(arm)} came out {off} from the "
            f"{METRICS[ACCURACY].format(arm.predicted)} predicted ({within})"
        )
    if not parts:
        return "Nothing was predicted."
    return (
        f"{listed(parts)}. A prediction outside the interval speaks for interactions that the "
        "main effects and dropout × batch norm do not hold. These are the highest of many "
        "predictions, and the highest are too high on average."
    )


def against_others(it: "Section") -> str:
    """The best arm here against the best arm of all other sweeps."""
    best = highest(
        (frames, arm) for id_, frames in it.others.items() for arm in frames.arms if id_ != it.id
    )
    if best is None:
        return "There is nothing to compare with yet."
    frames, arm = best
    found = contrast_arms(it.frames, [it.best_arm], [arm], ACCURACY, frames)
    assert found is not None  # noqa: S101  both arms have finished runs
    certain = told_apart(it.frames, [found], it.others)[0]
    return (
        f"{capital(described(it.best_arm))}, the best mean here, has "
        f"{worded_difference(METRICS[ACCURACY], found)} against the best of the others, "
        f"{described(arm)} of `{frames.sweep.id}`: {'' if certain else 'not '}told apart. "
        "Each side's best was chosen by the same runs."
    )


def trade_offs(it: "Section") -> str:
    """Accuracy, size, time and gap of each arm."""
    parts = []
    for arm in it.frames.arms:
        figures = [
            spread(METRICS[name], summary(it.frames, arm, name))
            for name in (ACCURACY, "total_params", "train_seconds", GAP)
        ]
        parts.append(
            f"{lettered(arm)}: {figures[0]}, {figures[1]} parameters, "
            f"{figures[2]} of training, gap {figures[3]}"
        )
    return f"{'; '.join(parts)}."


def steps(it: "Section", metric: str) -> str:
    """Each arm against the one before it, Holm-adjusted."""
    return _compared(it, metric, [*pairwise(it.frames.arms)])


def versus(it: "Section", metric: str, arm: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """One arm against another."""
    picked = [next((a for a in it.frames.arms if a.matches(s)), None) for s in (other, arm)]
    one, another = picked
    if one is None or another is None:
        return "The runs that would tell are missing."
    return _compared(it, metric, [(one, another)])


def values(it: "Section", metric: str) -> str:
    """A metric arm by arm, in one sentence."""
    about = METRICS[metric]
    parts = [
        f"{spread(about, found)} with {described(arm)}"
        for arm in it.frames.arms
        if (found := summary(it.frames, arm, metric)).seeds
    ]
    if not parts:
        return f"No run has a {about.label}."
    return f"{capital(about.label)}: {listed(parts)}."


def size_difference(it: "Section", arm: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """How many parameters fewer one arm has, in percent."""
    counts = []
    for selector in (arm, other):
        chosen = next((a for a in it.frames.arms if a.matches(selector)), None)
        if chosen is None:
            return "not known yet"
        counts.append(summary(it.frames, chosen, "total_params").mean)
    fewer = (1 - counts[0] / counts[1]) * 100
    return f"{fewer:.1f} % fewer params ({counts[0]:,.0f} instead of {counts[1]:,.0f})"


def size_confounds(it: "Section") -> str:
    """What else the arms change; empty where nothing is."""
    return " ".join(markdown(note) for note in confounds(it.frames))


def _compared(it: "Section", metric: str, pairs: Sequence[tuple[Arm, Arm]]) -> str:
    """The second arm of each pair against the first, all of them judged together."""
    about = METRICS[metric]
    known = [
        (one, other, found)
        for one, other in pairs
        if (found := contrast_arms(it.frames, [other], [one], metric)) is not None
    ]
    if not known:
        return f"No {about.label} was measured."
    apart = told_apart(it.frames, [found for _, _, found in known], it.others)
    parts = []
    for (one, other, found), certain in zip(known, apart, strict=True):
        if certain:
            way = "higher" if found.difference > 0 else "lower"
            verdict = f"is {way} than with {described(one)}"
        else:
            verdict = f"cannot be told apart from that with {described(one)}"
        parts.append(f"with {described(other)} it {verdict}: {worded_difference(about, found)}")
    return f"{capital(about.label)}: {'; '.join(parts)}."


def _deviations(it: "Section") -> str:
    deviations = [(arm, summary(it.frames, arm, ACCURACY).deviation) for arm in it.frames.arms]
    known = [
        f"{deviation * 100:.2f} points with {described(arm)}"
        for arm, deviation in deviations
        if not math.isnan(deviation)
    ]
    if not known:
        return "how far is unknown with one seed"
    return f"the final one has a standard deviation of {listed(known)}"


def _mean_curve(it: "Section", arm: Arm, metric: str) -> dict[int, float]:
    own = it.frames.curves
    own = own[(own["arm"] == arm.label) & (own["metric"] == metric)]
    means = own.groupby("epoch")["value"].mean()
    return {int(epoch): float(value) for epoch, value in means.items()}  # type: ignore[call-overload]
