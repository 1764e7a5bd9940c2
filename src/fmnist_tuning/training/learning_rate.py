"""The learning rate of every step of a training, by torch's own schedulers."""

import math
from collections.abc import Iterator
from typing import Final

import torch
from torch.optim import lr_scheduler

from fmnist_tuning.sweeps.choices import Schedule

FIRST_PART: Final = 25.0
"""A cycle starts with this part of its highest learning rate (torch's default)."""


def learning_rates(
    *,
    learning_rate: float,
    epochs: int,
    epoch_steps: int,
    schedule: Schedule = "constant",
    warmup_epochs: float = 0.0,
    final_learning_rate: float = 0.0,
    step_epochs: int = 4,
    step_factor: float = 0.1,
) -> Iterator[float] | None:
    """The learning rate of each of `epochs * epoch_steps` steps; None if it is always the same.

    After a linear rise over `warmup_epochs` (Goyal et al. 2017), `step` multiplies it by
    `step_factor` every `step_epochs`; `cosine` (Loshchilov and Hutter 2017, without restarts) and
    `linear` bring it down to `final_learning_rate`. `one_cycle` (Smith and Topin 2018) rises and
    falls along cosines; its rise takes `warmup_epochs`, and the momentum stays what it is. A run
    that continues skips the steps that it has made, so a checkpoint needs no more than its epochs.
    """
    if schedule == "constant" and not warmup_epochs:
        return None
    steps = epochs * epoch_steps
    warm_up = min(round(warmup_epochs * epoch_steps), steps - 1)
    # It has nothing to optimise: schedulers can only change the learning rate of an optimizer.
    bearer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=learning_rate)
    made: lr_scheduler.LRScheduler
    match schedule:
        case "constant":
            made = lr_scheduler.ConstantLR(bearer, 1.0)
        case "step":
            made = lr_scheduler.StepLR(bearer, step_epochs * epoch_steps, step_factor)
        case "cosine":
            made = lr_scheduler.CosineAnnealingLR(bearer, steps - warm_up, final_learning_rate)
        case "linear":
            last = final_learning_rate / learning_rate
            made = lr_scheduler.LinearLR(bearer, 1.0, last, steps - warm_up)
        case "one_cycle":
            made = _one_cycle(bearer, steps, warm_up, final_learning_rate)
    if warm_up and schedule != "one_cycle":
        rise = lr_scheduler.LinearLR(bearer, 1 / (warm_up + 1), 1.0, warm_up)
        made = lr_scheduler.SequentialLR(bearer, [rise, made], [warm_up])
    return _values(bearer, made, steps)


def _one_cycle(
    bearer: torch.optim.Optimizer, steps: int, warm_up: int, final: float
) -> lr_scheduler.OneCycleLR:
    highest = bearer.param_groups[0]["lr"]
    return lr_scheduler.OneCycleLR(
        bearer,
        max_lr=highest,
        total_steps=steps,
        # Each of its two phases must be longer than a step.
        pct_start=min(max(warm_up, 1.5), steps - 1.5) / steps,
        div_factor=FIRST_PART,
        final_div_factor=highest / FIRST_PART / final if final else math.inf,
        cycle_momentum=False,
    )


def _values(
    bearer: torch.optim.Optimizer, scheduler: lr_scheduler.LRScheduler, steps: int
) -> Iterator[float]:
    for _ in range(steps):
        yield float(bearer.param_groups[0]["lr"])
        bearer.step()
        scheduler.step()
