"""Answers to the questions that the journal asks, as sentences computed from a sweep's frames."""

import math
from statistics import fmean

from fmnist_tuning.analysis import factorial_effects, summary, told_apart
from fmnist_tuning.config import Arm
from fmnist_tuning.config.run import IMAGE_SIZE
from fmnist_tuning.journal.markdown import plain
from fmnist_tuning.journal.naming import capital, described, lettered
from fmnist_tuning.journal.section import ACCURACY, GAP, Section
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.wording import difference, listed, spread


def overfitting(it: Section) -> str:
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


def loss_curves(it: Section) -> str:
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


def unsteadiness(it: Section) -> str:
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


def synergy(it: Section) -> str:
    """The interactions of a factorial sweep."""
    found = [e for e in factorial_effects(it.frames, ACCURACY) if e.interaction]
    if not found:
        return "The runs that would tell are missing."
    apart = told_apart(it.frames, ACCURACY, [effect.contrast for effect in found], it.others)
    lines = [
        f"{plain(effect.name)}, by which one's effect on validation accuracy differs between the "
        f"other's levels, is {difference(METRICS[ACCURACY], effect.contrast)}: "
        + (
            "told apart from zero"
            if certain
            else "not told apart from zero, so that these runs show no synergy"
        )
        for effect, certain in zip(found, apart, strict=True)
    ]
    return f"The interaction {'; '.join(lines)}."


def stronger(it: Section) -> str:
    """Which main effect is the larger."""
    found = [e for e in factorial_effects(it.frames, ACCURACY) if not e.interaction]
    if not found:
        return "The runs that would tell are missing."
    ranked = sorted(found, key=lambda effect: -abs(effect.contrast.difference))
    parts = [
        f"{plain(effect.name)}: {difference(METRICS[ACCURACY], effect.contrast)}"
        for effect in ranked
    ]
    return f"Main effects on validation accuracy, the largest first: {'; '.join(parts)}."


def resolution(it: Section) -> str:
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


def predictions(it: Section) -> str:
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


def against_others(it: Section) -> str:
    """The best arm here against the best arm of all other sweeps."""
    others = [
        Section(frames, it.others)
        for sweep, frames in it.others.items()
        if sweep != it.sweep and frames.arms
    ]
    if not others:
        return "There is nothing to compare with yet."
    best = max(others, key=lambda other: summary(other.frames, other.best_arm, ACCURACY).mean)
    found = it.compared_with(it.best_arm, best, best.best_arm)
    certain = told_apart(it.frames, ACCURACY, [found], it.others)[0]
    return (
        f"{capital(described(it.best_arm))}, the best mean here, has "
        f"{difference(METRICS[ACCURACY], found)} against the best of the others, "
        f"{described(best.best_arm)} of `{best.sweep}`: {'' if certain else 'not '}told apart. "
        "Each side's best was chosen by the same runs."
    )


def trade_offs(it: Section) -> str:
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


def _deviations(it: Section) -> str:
    deviations = [(arm, summary(it.frames, arm, ACCURACY).deviation) for arm in it.frames.arms]
    known = [
        f"{deviation * 100:.2f} points with {described(arm)}"
        for arm, deviation in deviations
        if not math.isnan(deviation)
    ]
    if not known:
        return "how far is unknown with one seed"
    return f"the final one has a standard deviation of {listed(known)}"


def _mean_curve(it: Section, arm: Arm, metric: str) -> dict[int, float]:
    own = it.frames.curves
    own = own[(own["arm"] == arm.label) & (own["metric"] == metric)]
    means = own.groupby("epoch")["value"].mean()
    return {int(epoch): float(value) for epoch, value in means.items()}  # type: ignore[call-overload]
