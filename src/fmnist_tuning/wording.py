"""Statistics as sentences that a scientist would sign."""

import math
from collections.abc import Sequence

from fmnist_tuning.analysis import EXACT_METRICS, Contrast, Summary, Verdict
from fmnist_tuning.config import Claim
from fmnist_tuning.metrics import METRICS, Metric


def spread(metric: Metric, found: Summary) -> str:
    """`91.55 ± 0.25 %`: the mean and, of several seeds, the standard deviation."""
    if math.isnan(found.deviation) or metric.name in EXACT_METRICS:
        return metric.format(found.mean)
    unit = metric.format(found.mean).removeprefix(metric.number(found.mean))
    return f"{metric.number(found.mean)} ± {metric.number(found.deviation, found.mean)}{unit}"


def difference(metric: Metric, found: Contrast) -> str:
    """`+0.31 points (95 % interval +0.10 to +0.52, 3 seeds)`."""
    text = metric.format_difference(found.difference)
    seeds = f"{found.seeds} seed" + ("s" if found.seeds > 1 else "")
    if found.method == "exact":
        return f"{text} (exact)"
    if math.isnan(found.low):
        return f"{text} ({seeds}: how certain is unknown)"
    low, high = (metric.signed(end, found.difference) for end in (found.low, found.high))
    return f"{text} (95 % interval {low} to {high}, {seeds})"


def outcome(claim: Claim, verdict: Verdict | None) -> str:
    """`supported: −1.32 points (95 % interval ...)`."""
    if verdict is None:
        return "not judged: runs are missing"
    metric = METRICS[claim.metric]
    found = difference(metric, verdict.contrast)
    match verdict.word:
        case "equivalent":
            margin = metric.format_difference(claim.margin).lstrip("+")
            return f"equivalent, the difference being below {margin} for certain: {found}"
        case "inconclusive":
            needed = verdict.seeds_needed
            hint = (
                f"; about {needed} seeds would decide it, were the difference as it looks"
                if needed
                else "; repeat it with more seeds"
                if math.isnan(verdict.contrast.low)
                else ""
            )
            return f"inconclusive: {found}{hint}"
        case word:
            return f"{word}: {found}"


def listed(items: Sequence[str]) -> str:
    """`a, b and c`."""
    if len(items) < 2:  # noqa: PLR2004
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"
