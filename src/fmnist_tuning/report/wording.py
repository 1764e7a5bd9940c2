"""The words of the terminal and of the journal for statistics, arms and settings."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmnist_tuning.analysis.contrasts import Contrast
from fmnist_tuning.analysis.frames import Summary, SweepFrames
from fmnist_tuning.metrics import METRICS, Metric
from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS
from fmnist_tuning.sweeps.sections import Claim
from fmnist_tuning.sweeps.settings import label_of, label_of_value
from fmnist_tuning.text import counted, markdown

if TYPE_CHECKING:
    from fmnist_tuning.analysis.searching import Finalist, TrialResult
    from fmnist_tuning.analysis.verdicts import Verdict


def spread(metric: Metric, found: Summary, *, unit: bool = True) -> str:
    """`91.55 ± 0.25 %`: the mean and, with several seeds, the standard deviation."""
    number, mean = metric.number(found.mean), metric.format(found.mean)
    if math.isnan(found.deviation) or metric.exact:
        return mean if unit else number
    text = f"{number} ± {metric.number(found.deviation, found.mean)}"
    return text + mean.removeprefix(number) if unit else text


def worded_difference(metric: Metric, found: Contrast) -> str:
    """`+0.31 points (95 % interval +0.10 to +0.52, 3 seeds)`."""
    text = metric.format_difference(found.difference)
    seeds = f"{found.seeds} seed" + ("s" if found.seeds > 1 else "")
    if found.method == "exact":
        return f"{text} (exact)"
    if math.isnan(found.low):
        return f"{text} ({seeds}: how certain is unknown)"
    low, high = (metric.signed(end, found.difference) for end in (found.low, found.high))
    return f"{text} (95 % interval {low} to {high}, {seeds})"


def outcome(claim: Claim, verdict: "Verdict | None", frames: SweepFrames) -> str:
    """`supported at 8 seeds: −1.32 points (...)`; `frames` are those of the claim's sweep."""
    if verdict is None:
        return f"not judged: {_why_not(claim, frames)}"
    metric, found = METRICS[claim.metric], verdict.contrast
    if found.method == "exact" or math.isnan(found.low):
        more = "; repeat it with more seeds" if found.method != "exact" else ""
        return f"{verdict.word}: {worded_difference(metric, found)}{more}"
    if math.isinf(verdict.low):
        first = f"its first look is at {counted(frames.sweep.looks[0], 'seed')}"
        return f"{verdict.word}: {worded_difference(metric, found)}; {first}"
    ends = (verdict.low, verdict.high, found.low, found.high)
    low, high, *plain = (metric.signed(end, found.difference) for end in ends)
    what = "spread " if claim.compare == "spread" else ""
    text = (
        f"{verdict.word} at {counted(verdict.look, 'seed')}: {what}"
        f"{metric.format_difference(found.difference)} (95 % interval {plain[0]} to {plain[1]}, "
        f"adjusted {low} to {high})"
    )
    if verdict.word == "equivalent":
        return f"{text}, too little to matter"
    return f"{text}{_needed(verdict)}" if verdict.word == "inconclusive" else text


def _needed(verdict: "Verdict") -> str:
    if verdict.seeds_needed is None:
        return f"; more than {STANDARD_LOOKS[-1]} seeds would be needed"
    low, high = verdict.seeds_needed
    if high is None:
        return f"; {low} seeds or many more should decide it"
    return f"; {low if low == high else f'{low} to {high}'} seeds should decide it"


def _why_not(claim: Claim, frames: SweepFrames) -> str:
    if METRICS[claim.metric].of_machine:
        return "times depend on the machine and its load, which seeds do not repeat"
    sides = [claim.arm] if claim.versus_sweep else [claim.arm, claim.versus]
    arms = [[arm for arm in frames.sweep.arms if arm.matches(side)] for side in sides]
    if not all(frames.seeds_of(arm) for side in arms for arm in side):
        return "runs are missing"
    metric = METRICS[claim.metric]
    unmeasured = [side for side in arms if not frames.by_seed(side, claim.metric)]
    if not unmeasured:  # then it is the other sweep's side
        return f"{claim.versus_sweep} has no finished runs of its arm"
    which = markdown(unmeasured[0][0].label)
    if claim.metric == "epochs_to_80":
        return f"with {which}, the finished runs never reached 80 %"
    return f"with {which}, the finished runs have no {metric.label}"


def search_summary(
    metric: Metric,
    trials: "Sequence[TrialResult]",
    best: "Sequence[TrialResult]",
    to_come: int,
) -> str:
    """`40 trials: 18 complete, 22 pruned; the best is trial 17: ...`; `best` are those by rank."""
    counts: Counter[str] = Counter(trial.state for trial in trials)
    kinds = ("complete", "pruned", "missing")
    parts = [f"{counts[kind]} {kind}" for kind in kinds if counts[kind]]
    parts += [f"{to_come} to come"] if to_come else []
    text = f"{counted(len(trials), 'trial')}: {', '.join(parts)}"
    if not best:
        return text
    value = metric.format(best[0].value)
    return f"{text}; the best is trial {best[0].number}: {metric.label} {value}"


def finalist_summary(metric: Metric, finalist: "Finalist") -> str:
    """What a finalist was found to be, and how much its search flattered it, in sentences."""
    compared = {
        "found better": "found better than the base configuration",
        "found worse": "found worse than the base configuration",
        "equivalent": "equivalent to the base configuration",
        "undecided": "undecided whether it is better than the base configuration",
    }[finalist.found]
    beside = [
        "" if math.isnan(gain) else f", {metric.format_difference(gain)} beside the base"
        for gain in (finalist.promised, finalist.shown)
    ]
    seeds = counted(finalist.fresh.seeds, "fresh seed")
    sentences = [
        compared,
        f"The search scored {metric.format(finalist.score)}{beside[0]}",
        f"{capital(seeds)}: {spread(metric, finalist.fresh)}{beside[1]}",
        _flattered(metric, finalist),
    ]
    if finalist.test.seeds:
        sentences.append(f"Test accuracy: {spread(METRICS['test_accuracy'], finalist.test)}")
    return ". ".join(filter(None, sentences))


def _flattered(metric: Metric, finalist: "Finalist") -> str:
    if math.isnan(finalist.flattery):
        return ""
    size = metric.format_difference(abs(finalist.flattery)).lstrip("+")
    word = "flattered itself" if finalist.flattery > 0 else "promised too little"
    if math.isnan(finalist.chance):
        return f"So it {word} by {size}"
    chance = metric.number(finalist.chance)
    return f"So it {word} by {size} (chance alone: ± {chance})"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(items) < 2:  # noqa: PLR2004
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


def settings_of(arm: Arm) -> str:
    """`dropout rate 0.3, batch norm on`."""
    return ", ".join(
        f"{label_of(key)} {setting_value(value)}" for key, value in arm.overrides.items()
    )


def described(arm: Arm) -> str:
    """`dropout rate 0.3`, or `A (dropout rate 0.3, depth 3)` for an arm with a name."""
    return f"{markdown(arm.name)} ({settings_of(arm)})" if arm.name else settings_of(arm)


def lettered(arm: Arm) -> str:
    """`Config A`; the settings of an arm without a name."""
    return f"Config {markdown(arm.name)}" if arm.name else settings_of(arm)


def setting_value(value: object) -> str:
    """A setting's value: `on`, `0.3`."""
    return markdown(label_of_value(value))


def capital(text: str) -> str:
    """The text with its first letter as a capital."""
    return text[:1].upper() + text[1:]
