"""Tidy frames to what may be concluded from them. Pure: no store, no files, no terminal."""

from fmnist_tuning.analysis.combinations import predict_combinations
from fmnist_tuning.analysis.contrasts import (
    EXACT_METRICS,
    Contrast,
    Verdict,
    contrast,
    holm,
    interval,
    judge,
)
from fmnist_tuning.analysis.factorial import Effect, confounds, factorial_effects
from fmnist_tuning.analysis.frames import (
    CURVES,
    Summary,
    SweepFrames,
    build_frames,
    no_curves,
    summary,
)
from fmnist_tuning.analysis.judging import (
    Standing,
    compare,
    judge_claims,
    standings,
    told_apart,
    winner,
)
from fmnist_tuning.analysis.scores import Scores

__all__ = [
    "CURVES",
    "EXACT_METRICS",
    "Contrast",
    "Effect",
    "Scores",
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
    "told_apart",
    "winner",
]
