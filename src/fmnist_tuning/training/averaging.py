"""The mean of a network's weights over many steps, which is validated and kept in their place."""

from collections.abc import Mapping
from typing import Any, cast

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from fmnist_tuning.data.images import Split
from fmnist_tuning.sweeps.choices import Averaging, Precision
from fmnist_tuning.training.model import FashionCNN
from fmnist_tuning.training.step import EVALUATION_BATCH, autocast


class Average:
    """The averaged network beside the one that trains.

    `ema` averages after each step, and what is older counts less by `ema_decay` a step (Polyak and
    Juditsky 1992, with exponential weights). `swa` averages the weights at the ends of epochs, once
    `swa_start` of all epochs are over (Izmailov et al. 2018). The averaged network's batch norms
    get their statistics from the training images, not augmented, after each epoch.
    """

    def __init__(
        self,
        model: FashionCNN,
        *,
        weight_averaging: Averaging,
        ema_decay: float = 0.999,
        swa_start: float = 0.75,
    ) -> None:
        decays = weight_averaging == "ema"
        self._every_step = decays
        self._start = 0.0 if decays else swa_start
        self._model = model
        mean = get_ema_multi_avg_fn(ema_decay) if decays else None  # type: ignore[no-untyped-call]
        self._averaged = AveragedModel(model, multi_avg_fn=mean)
        # It is asked whether this is zero after each step, for which a GPU would have to be waited
        # for.
        self._averaged.n_averaged = self._averaged.n_averaged.cpu()

    @property
    def network(self) -> FashionCNN:
        """The averaged network; the other one as long as there is no average."""
        averaged = self._averaged.module
        return cast("FashionCNN", averaged) if self._averaged.n_averaged else self._model

    def after_step(self) -> None:
        """Take the weights in, if every step counts."""
        if self._every_step:
            self._averaged.update_parameters(self._model)

    def after_epoch(self, over: float, images: Split, precision: Precision) -> None:
        """Take the weights in, if epochs count, and bring batch norms up to date.

        `over` is the share of all epochs that are over, `images` are the training images.
        """
        if not self._every_step and over > self._start:
            self._averaged.update_parameters(self._model)
        if self._averaged.n_averaged:
            blocks = nn.Sequential(*self.network.blocks)  # all that is normalised, and no dropout
            with autocast(images.labels.device, precision):
                update_bn(images.batches(EVALUATION_BATCH), blocks)

    def state_dict(self) -> dict[str, Any]:
        """The average and how many weights it is of."""
        return self._averaged.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from another's `state_dict`."""
        self._averaged.load_state_dict(state)
