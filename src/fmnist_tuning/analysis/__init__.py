"""Tidy frames to what may be concluded from them. Pure: no store, no files, no terminal."""

from fmnist_tuning.analysis.combinations import predict_combinations
from fmnist_tuning.analysis.contrasts import Contrast, Verdict, contrast, holm, interval, judge
from fmnist_tuning.analysis.frames import (
    CURVES,
    Effect,
    Standing,
    Summary,
    SweepFrames,
    build_frames,
    compare,
    confounds,
    factorial_effects,
    judge_claims,
    no_curves,
    standings,
    summary,
)

__all__ = [
    "CURVES",
    "Contrast",
    "Effect",
    "Standing",
    "Summary",
    "SweepFrames",
    "Verdict",
    "build_frames",
    "compare",
    "confounds",
    "contrast",
    "factorial_effects",
    "holm",
    "interval",
    "judge",
    "judge_claims",
    "no_curves",
    "predict_combinations",
    "standings",
    "summary",
]
