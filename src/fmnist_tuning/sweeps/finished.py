"""A finished run, as far as plans and combinations use it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FinishedRun:
    """What a plan needs to know about a study's finished run; the store adds more."""

    run_id: str  # MLflow's id
    name: str  # arm and seed, for people
    sweeps: tuple[str, ...]  # ids of the sweeps that use it; the first one trained it
    params: Mapping[str, str]  # settings as text
    metrics: Mapping[str, float]  # the last value of each
    device: str  # the kind of device, such as `cpu`
    ended: float  # seconds since 1970
