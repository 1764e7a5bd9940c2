"""An arm of a sweep: one combination of the swept values."""

import itertools
import math
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from fmnist_tuning.sweeps.marks import OnlyWith, Settings
from fmnist_tuning.sweeps.problems import Problem, as_json, nearest, problems_of
from fmnist_tuning.sweeps.settings import RunConfig, format_value
from fmnist_tuning.text import counted, shown

SETTINGS: Final = tuple(key for key in RunConfig.model_fields if key != "seed")
"""What a sweep can set; seeds have their own list."""

LABELS: Final = ("name", "predicted")
"""What an arm in a sweep's list can have beside settings."""

MAX_NAME: Final = 60

_OTHER_NAMES: Final = {
    "learning_rate": "lr eta alpha learning_rate_init base_lr",
    "dropout_rate": "dropout drop drop_rate dropout_p dropout_prob",
    "epochs": "n_epochs num_epochs max_epochs nb_epoch",
    "batch_size": "bs batch n_batch minibatch minibatch_size train_batch_size",
    "optimizer": "opt optim optimiser solver algorithm",
    "weight_decay": "wd l2 l2_reg regularization reg_lambda",
    "momentum": "mom",
    "num_conv_layers": "depth layers n_layers num_layers n_conv conv_layers n_conv_layers blocks",
    "conv_channels": "channels filters n_filters num_filters out_channels",
    "kernel_size": "kernel kernels filter_size ksize",
    "use_pooling": "pool pooling max_pool maxpool max_pooling",
    "use_batch_norm": "bn batchnorm batch_norm batch_normalization normalization norm",
    "fc_units": "hidden hidden_units hidden_size units dense dense_units fc linear_units n_hidden",
    "label_smoothing": "smoothing smooth",
    "gradient_clip": "grad_clip clip clip_grad_norm clip_norm max_norm max_grad_norm clipnorm",
    "schedule": "scheduler lr_scheduler lr_schedule learning_rate_schedule lr_policy",
    "warmup_epochs": "warmup num_warmup_epochs lr_warmup warmup_steps",
    "final_learning_rate": "min_lr eta_min final_lr end_lr lr_min",
    "step_epochs": "step_size lr_step_size decay_epochs",
    "step_factor": "gamma lr_gamma decay decay_rate lr_decay",
    "weight_averaging": "averaging ema swa model_ema average_weights polyak",
    "ema_decay": "model_ema_decay ema_rate",
    "swa_start": "swa_epoch_start swa_start_epoch",
    "initialization": "init initializer weight_init weights_init kernel_initializer",
    "augmentation": "augment aug transform transforms data_augmentation flip",
    "shift_pixels": "shift translate translation crop_padding",
    "rotate_degrees": "rotate rotation degrees rotation_range",
    "erase_pixels": "erase cutout cutout_size random_erasing",
    "early_stopping": "patience early_stop early_stopping_patience",
    "min_delta": "early_stopping_min_delta tolerance tol",
    "precision": "dtype amp mixed_precision fp16 bf16",
    "validation": "split val_split validation_split holdout",
    "train_size": "n_train num_train subset limit_train_batches train_samples",
    "val_size": "n_val num_val test_size val_samples limit_val_batches",
}
"""What other programs call our settings."""

_ELSEWHERE: Final = {
    "the activation is ReLU": "activation act nonlinearity",
    "the loss is cross-entropy": "loss criterion loss_fn",
    "--device and --jobs are options of `fmnist run`": "device gpu gpus jobs num_workers workers",
    "--data-dir is an option of `fmnist run`": "data data_dir dataset root",
    "seeds have a key of their own, `seeds`": "random_state random_seed manual_seed",
}
"""What others have settings for, and what holds here."""


def unknown_setting(key: str) -> str:
    """What to do about a key that is no setting."""
    folded = re.sub("[- ]", "_", key.casefold())
    for name, others in _OTHER_NAMES.items():
        if folded in others.split():
            return f"unknown key; did you mean {name}?"
    instead = [text for text, names in _ELSEWHERE.items() if folded in names.split()]
    close = nearest(key, SETTINGS)
    if "did you mean" in close and not instead:
        return f"unknown key{close}"
    here = f": {instead[0]}" if instead else ""
    return (
        f"there is no such setting{here}; docs/sweep-files.md lists the settings, and "
        "CONTRIBUTING.md says how to add one"
    )


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the swept values."""

    name: str | None  # from the list in the file, or A, B, C in a combination
    overrides: Settings  # the swept settings
    config: RunConfig  # all settings; the seed has its default value
    predicted: float | None = None  # the accuracy that a combination predicts

    @property
    def label(self) -> str:
        """`dropout_rate=0.3`, or with a name `A: dropout_rate=0.3`."""
        values = " ".join(f"{key}={format_value(value)}" for key, value in self.overrides.items())
        return f"{self.name}: {values}" if self.name else values

    @property
    def short_label(self) -> str:
        """Its name or values alone: `0.3`, `no BN`, `A`."""
        return self.name or " ".join(itertools.starmap(_short_value, self.overrides.items()))

    def matches(self, selector: Mapping[str, Any]) -> bool:
        """Whether this arm has the settings (or `name`) of `selector`; a list allows several."""
        for key, wanted in selector.items():
            if key != "name" and key not in RunConfig.model_fields:
                return False
            own = self.name if key == "name" else getattr(self.config, key)
            own = list(own) if isinstance(own, tuple) else own
            if own != wanted and not (isinstance(wanted, list) and own in wanted):
                return False
        return True


def _short_value(key: str, value: Any) -> str:
    if isinstance(value, bool):
        words = key.removeprefix("use_").split("_")
        what = "".join(word[0].upper() for word in words) if len(words) > 1 else words[0]
        return what if value else f"no {what}"
    return format_value(value).strip("[]")


def without_labels(arm: Settings) -> Settings:
    """The settings of an arm in a sweep's list."""
    return {key: value for key, value in arm.items() if key not in LABELS}


def needed_by(key: str) -> OnlyWith | None:
    """The mark of a setting that has an effect beside some values of another one only."""
    marks = RunConfig.model_fields[key].metadata
    return next((mark for mark in marks if isinstance(mark, OnlyWith)), None)


def is_idle(key: str, settings: Settings) -> bool:
    """Whether a setting has no effect beside these, which may leave defaults out."""
    mark = needed_by(key)
    if mark is None:
        return False
    default = RunConfig.model_fields[mark.setting].default
    return not mark.holds(settings.get(mark.setting, default))


def settings_of_arms(fixed: Settings, arms: Sequence[Settings]) -> list[Settings]:
    """What is fixed together with what each arm has of its own.

    A fixed setting that has an effect in some arms only is left out of the others: with `schedule:
    [constant, step]`, the arm `constant` has no `step_epochs`.
    """
    whole = [{**fixed, **arm} for arm in arms]
    for key in fixed:
        idle = [is_idle(key, settings) for settings in whole]
        if not all(idle):
            for settings, without in zip(whole, idle, strict=True):
                if without:
                    del settings[key]
    return whole


def run_config(settings: Settings) -> RunConfig:
    """A run's configuration from YAML values; `ValidationError` if it cannot be trained."""
    return RunConfig.model_validate_json(as_json(settings))


def problem_of_arms(
    problem: Problem, arms: list[tuple[int, str]], where: str, fixed: Settings
) -> Problem:
    """A problem of arms whose settings do not fit together, told once and at its place.

    `fixed` are the settings that all arms share, if all arms have the problem.
    """
    if problem.path[0] in fixed:
        return problem.under("fixed")
    more = f" (and {counted(len(arms) - 1, 'further arm')})" if len(arms) > 1 else ""
    index, first = arms[0]
    place = (where, index) if where == "arms" else (where,)
    return Problem(place, f"{first}{more}: {problem}")


def problems_of_labels(place: tuple[str | int, ...], arm: Settings) -> list[Problem]:
    """The problems of an arm's name and of its predicted accuracy."""
    problems = []
    name, predicted = arm.get("name"), arm.get("predicted", 0.0)
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        text = f"found {shown(name)}, allowed: a text of 1 to {MAX_NAME} printable characters"
        problems.append(Problem((*place, "name"), text))
    if type(predicted) not in {int, float} or not abs(predicted) < math.inf:
        text = f"found {shown(predicted)}, allowed: a number"
        problems.append(Problem((*place, "predicted"), text))
    return problems


def problems_of_settings(place: tuple[str | int, ...], settings: Settings) -> list[Problem]:
    """The problems of single settings. Settings that do not fit together are a later check."""
    problems = []
    for key, value in settings.items():
        if key == "seed":
            problems.append(Problem((*place, key), "is not set here; list the seeds in `seeds`"))
        elif key not in SETTINGS:
            problems.append(Problem((*place, key), unknown_setting(key)))
        else:
            try:
                run_config({key: value})
            except ValidationError as error:
                found = problems_of(error, RunConfig)
                by_itself = {d["loc"] for d in error.errors(include_url=False) if d["loc"]}
                problems += [p.under(*place) for p in found if p.path in by_itself]
    return problems


def letters(index: int) -> str:
    """A, B, ..., Z, AA, AB, ..."""
    head, tail = divmod(index, len(string.ascii_uppercase))
    return (letters(head - 1) if head else "") + string.ascii_uppercase[tail]
