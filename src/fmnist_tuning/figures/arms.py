"""Which arms a figure shows, and what it calls them."""

from statistics import fmean

from fmnist_tuning.analysis import SweepFrames
from fmnist_tuning.config import Arm, label_of, label_of_value

ACCURACY = "final_val_accuracy"


def best_arms(frames: SweepFrames, limit: int) -> tuple[list[Arm], str]:
    """The arms in the sweep's order, at most so many, and a sentence on those left out."""
    arms = list(frames.arms)
    if len(arms) <= limit:
        return arms, ""
    ranked = sorted(arms, key=lambda arm: -accuracy(frames, arm))[:limit]
    kept = [arm for arm in arms if arm in ranked]
    return kept, f"The {limit} arms of {len(arms)} with the best mean validation accuracy."


def accuracy(frames: SweepFrames, arm: Arm) -> float:
    """An arm's mean validation accuracy, a fraction."""
    return fmean(frames.by_seed([arm], ACCURACY).values())


def short_labels(frames: SweepFrames, arms: list[Arm], without: tuple[str, ...] = ()) -> list[str]:
    """What tells these arms apart: the swept settings, less those on which they agree.

    Args:
        frames: Of the sweep.
        arms: To be named.
        without: Settings that the figure shows by other means.
    """
    settings = [arm.config.model_dump(mode="json") for arm in arms]
    differing = [
        key
        for key in frames.config.swept
        if key not in without and any(s[key] != settings[0][key] for s in settings)
    ]
    return [
        " ".join(
            filter(
                None,
                (
                    f"{arm.name}:" if arm.name and differing else arm.name,
                    ", ".join(f"{label_of(k)} {label_of_value(own[k])}" for k in differing),
                ),
            )
        )
        for arm, own in zip(arms, settings, strict=True)
    ]
