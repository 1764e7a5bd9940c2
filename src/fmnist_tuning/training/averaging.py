"""The mean of a network's weights over many steps, which is validated and kept in their place."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn, get_swa_multi_avg_fn, update_bn

from fmnist_tuning.data.images import Split
from fmnist_tuning.sweeps.choices import Averaging, Precision
from fmnist_tuning.training.model import FashionCNN
from fmnist_tuning.training.step import autocast, evaluation_batch


class Average:
    """The averaged network beside the one that trains.

    `ema` averages after each step, and what is older counts less by `ema_decay` a step (Polyak and
    Juditsky 1992, with exponential weights). `swa` averages the weights at the ends of epochs, once
    `swa_start` of all epochs are over (Izmailov et al. 2018). The averaged network's batch norms
    get their statistics from the training images, not augmented, after each epoch.

    The means are torch's own, without its `AveragedModel`, which would have a GPU waited for after
    each step, to count it.
    """

    def __init__(
        self,
        model: FashionCNN,
        *,
        weight_averaging: Averaging,
        ema_decay: float = 0.999,
        swa_start: float = 0.75,
    ) -> None:
        self._every_step = weight_averaging == "ema"
        self._start = 0.0 if self._every_step else swa_start
        self._take_in = (
            get_ema_multi_avg_fn(ema_decay)  # type: ignore[no-untyped-call]
            if self._every_step
            else get_swa_multi_avg_fn()  # type: ignore[no-untyped-call]
        )
        self._model = model
        self._averaged = copy.deepcopy(model)
        self._count = 0  # of the weights that the mean is of

    @property
    def network(self) -> FashionCNN:
        """The averaged network; the other one as long as there is no average."""
        return self._averaged if self._count else self._model

    def after_step(self) -> None:
        """Take the weights in, if every step counts."""
        if self._every_step:
            self._update()

    def after_epoch(self, over: float, images: Split, precision: Precision) -> None:
        """Take the weights in, if epochs count, and bring batch norms up to date.

        `over` is the share of all epochs that are over, `images` are the training images.
        """
        if not self._every_step and over > self._start:
            self._update()
        if self._count:
            blocks = nn.Sequential(*self._averaged.blocks)  # all that is normalised, and no dropout
            with autocast(images.labels.device, precision):
                update_bn(images.batches(evaluation_batch(images.images)), blocks)

    @torch.no_grad()
    def _update(self) -> None:
        mean: list[Tensor] = [*self._averaged.parameters()]
        now: list[Tensor] = [*self._model.parameters()]
        if self._count:
            self._take_in(mean, now, self._count)
        else:
            torch._foreach_copy_(mean, now)
        self._count += 1

    def state_dict(self) -> dict[str, Any]:
        """The average and how many weights it is of."""
        return {"network": self._averaged.state_dict(), "count": self._count}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from another's `state_dict`."""
        self._averaged.load_state_dict(state["network"])
        self._count = int(state["count"])
