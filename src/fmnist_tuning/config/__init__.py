"""What a person asks for: the settings of a run, the sweep files, and how they are read."""

from fmnist_tuning.config.loading import load_sweeps, parse_overrides, parse_seeds
from fmnist_tuning.config.run import RunConfig, format_value, label_of, label_of_value
from fmnist_tuning.config.sweep import Arm, Claim, Combine, Figure, SweepConfig

__all__ = [
    "Arm",
    "Claim",
    "Combine",
    "Figure",
    "RunConfig",
    "SweepConfig",
    "format_value",
    "label_of",
    "label_of_value",
    "load_sweeps",
    "parse_overrides",
    "parse_seeds",
]
