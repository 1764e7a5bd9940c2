"""The settings of one training."""

import ast
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from fmnist_tuning.sweeps.choices import (
    OPTIMIZERS_WITH_MOMENTUM,
    Augmentation,
    Averaging,
    Initialization,
    Optimizer,
    Precision,
    Schedule,
)
from fmnist_tuning.sweeps.datasets import DATASETS, MOST_IMAGES, Dataset, DatasetName
from fmnist_tuning.sweeps.impossible import impossible
from fmnist_tuning.sweeps.marks import Component, For, Later, OnlyWith
from fmnist_tuning.sweeps.problems import Frozen, Problem, raise_problems

BASE_CHANNELS: Final = 32
MOST_PIXELS: Final = 1024
MOST_CLASSES: Final = 256

# These bounds only stop mistakes in typing, which could ask for a terabyte of memory.
Channels = Annotated[int, Field(ge=1, le=2048)]
Units = Annotated[int, Field(ge=1, le=65_536)]
ImageCount = Annotated[int, Field(ge=1, le=MOST_IMAGES)]

_NONE: Final = BeforeValidator(lambda value: None if value == "none" else value)


def _with(change: str) -> tuple[str, ...]:
    return tuple(value for value in get_args(Augmentation) if change in value.split("_"))


def _warm_up(settings: dict[str, Any]) -> float:
    # The rise of a cycle takes torch's own default of three tenths.
    return 0.3 * settings["epochs"] if settings["schedule"] == "one_cycle" else 0.0


def _channel_progression(settings: dict[str, Any]) -> tuple[int, ...]:
    return tuple(BASE_CHANNELS * 2**block for block in range(settings["num_conv_layers"]))


def _of(settings: dict[str, Any]) -> Dataset:
    return DATASETS[settings["dataset"]]


def _held_out(settings: dict[str, Any]) -> int:
    return int(settings["holdout_size"]) if settings["validation"] == "holdout" else 0


class RunConfig(Frozen):
    """All settings that decide a run's result. The defaults are those of the journal.

    Sizes that are not given are computed from the other settings. Unknown keys, wrong types and
    impossible combinations are a `ValidationError`.
    """

    dataset: Annotated[
        DatasetName, Later("fashion_mnist"), Field(title="data set", description="of the images")
    ] = "fashion_mnist"
    image_size: Annotated[int, For("network"), Later(28)] = Field(
        default_factory=lambda settings: _of(settings).size,
        ge=0,
        le=MOST_PIXELS,
        description="edge of the images, pixels",
    )
    image_channels: Annotated[int, For("network"), Later(1)] = Field(
        default_factory=lambda settings: _of(settings).channels, ge=0, le=3
    )
    classes: Annotated[int, For("network"), Later(10)] = Field(
        default_factory=lambda settings: len(_of(settings).classes), ge=0, le=MOST_CLASSES
    )
    num_conv_layers: int = Field(2, ge=1, le=8, title="depth", description="convolution blocks")
    conv_channels: Annotated[
        tuple[Channels, ...],
        For("network"),
        Field(max_length=8, title="channels", description="output channels of each block"),
    ] = Field(default_factory=_channel_progression)
    kernel_size: Annotated[
        int, For("network"), Field(ge=1, le=27, description="odd edge length, pixels")
    ] = 3
    use_pooling: Annotated[
        bool, For("network"), Field(title="max pooling", description="2x2, in every block")
    ] = True
    use_batch_norm: Annotated[
        bool, For("network"), Field(title="batch norm", description="in every block")
    ] = True
    dropout_rate: Annotated[
        float, For("network"), Field(ge=0, lt=1, description="after each hidden layer")
    ] = 0.5
    fc_units: Annotated[
        tuple[Units, ...],
        For("network"),
        Field(max_length=8, title="hidden units", description="widths of the hidden linear layers"),
    ] = (128,)
    epochs: Annotated[int, For("loop"), Field(ge=1, le=10_000)] = 10
    batch_size: Annotated[int, For("loop"), Field(ge=1, le=MOST_IMAGES)] = 64
    learning_rate: Annotated[float, For("optimizer"), Field(gt=0)] = 0.001
    optimizer: Annotated[
        Optimizer, For("optimizer"), Field(description="a class of torch.optim")
    ] = "Adam"
    weight_decay: Annotated[float, For("optimizer"), Field(ge=0)] = 0.0
    momentum: Annotated[
        float, For("optimizer"), OnlyWith("optimizer", OPTIMIZERS_WITH_MOMENTUM), Field(ge=0, lt=1)
    ] = 0.0
    schedule: Annotated[
        Schedule,
        For("schedule"),
        Later("constant"),
        Field(title="schedule", description="of the learning rate, from step to step"),
    ] = "constant"
    warmup_epochs: Annotated[
        float,
        For("schedule"),
        Later(0.0),
        Field(ge=0, description="at first, in which the learning rate rises"),
    ] = Field(default_factory=_warm_up)
    final_learning_rate: Annotated[
        float,
        For("schedule"),
        Later(0.0),
        OnlyWith("schedule", ("cosine", "linear", "one_cycle")),
        Field(ge=0, description="which the last step approaches"),
    ] = 0.0
    step_epochs: Annotated[
        int,
        For("schedule"),
        Later(4),
        OnlyWith("schedule", ("step",)),
        Field(ge=1, le=10_000, description="between two falls of the learning rate"),
    ] = 4
    step_factor: Annotated[
        float,
        For("schedule"),
        Later(0.1),
        OnlyWith("schedule", ("step",)),
        Field(gt=0, lt=1, description="by which the learning rate falls"),
    ] = 0.1
    weight_averaging: Annotated[
        Averaging,
        For("averaging"),
        Later("none"),
        Field(description="of the weights of many steps, exponential (ema) or equal (swa)"),
    ] = "none"
    ema_decay: Annotated[
        float,
        For("averaging"),
        Later(0.999),
        OnlyWith("weight_averaging", ("ema",)),
        Field(gt=0, lt=1, title="EMA decay", description="of the average, a step"),
    ] = 0.999
    swa_start: Annotated[
        float,
        For("averaging"),
        Later(0.75),
        OnlyWith("weight_averaging", ("swa",)),
        Field(ge=0, lt=1, title="SWA start", description="share of the epochs before averaging"),
    ] = 0.75
    initialization: Annotated[
        Initialization, For("weights"), Later("default"), Field(description="of the weights")
    ] = "default"
    augmentation: Annotated[
        Augmentation,
        For("augmentation"),
        Later("none"),
        Field(description="random changes of training images"),
    ] = "none"
    shift_pixels: Annotated[
        int,
        For("augmentation"),
        Later(2),
        OnlyWith("augmentation", _with("shift")),
        Field(ge=1, le=MOST_PIXELS, description="at most, to each side"),
    ] = 2
    rotate_degrees: Annotated[
        float,
        For("augmentation"),
        Later(10.0),
        OnlyWith("augmentation", _with("rotate")),
        Field(gt=0, le=180, description="at most, to each side"),
    ] = 10.0
    erase_pixels: Annotated[
        int,
        For("augmentation"),
        Later(8),
        OnlyWith("augmentation", _with("erase")),
        Field(ge=1, le=MOST_PIXELS, description="edge of the square that is erased"),
    ] = 8
    early_stopping: Annotated[
        int | None,
        For("early stopping"),
        Later(None),
        Field(ge=1, le=10_000, description="epochs without a lower validation loss"),
        _NONE,
    ] = None
    min_delta: Annotated[
        float,
        For("early stopping"),
        Later(0.0),
        OnlyWith("early_stopping"),
        Field(ge=0, description="what counts as lower, in nats"),
    ] = 0.0
    label_smoothing: Annotated[
        float,
        For("loop"),
        Later(0.0),
        Field(ge=0, lt=1, description="share of the target that goes to all classes alike"),
    ] = 0.0
    gradient_clip: Annotated[
        float | None,
        For("loop"),
        Later(None),
        Field(gt=0, description="the longest gradient of a step, over all weights"),
        _NONE,
    ] = None
    precision: Annotated[
        Precision,
        For("loop"),
        Later("float32"),
        Field(description="of the arithmetic; tf32 on a CUDA device only"),
    ] = "float32"
    validation: Annotated[
        Literal["test", "holdout"],
        For("images"),
        Field(description="the test set, or a part of the training set"),
    ] = "test"
    holdout_size: Annotated[
        int, For("images"), OnlyWith("validation", ("holdout",)), Field(ge=1, lt=MOST_IMAGES)
    ] = 10_000
    train_size: Annotated[ImageCount, For("images")] = Field(
        default_factory=lambda settings: max(_of(settings).train_images - _held_out(settings), 1)
    )
    val_size: Annotated[ImageCount, For("images")] = Field(
        default_factory=lambda settings: _held_out(settings) or max(_of(settings).test_images, 1)
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        raise_problems([Problem((setting,), text) for setting, text in impossible(self)])
        return self

    def arguments(self, component: Component) -> dict[str, Any]:
        """The settings that a component of a training takes as arguments."""
        fields = type(self).model_fields.items()
        return {name: getattr(self, name) for name, f in fields if For(component) in f.metadata}

    def decisive(self) -> dict[str, Any]:
        """The settings that are part of the fingerprint, as JSON values."""
        fields, settings = type(self).model_fields, self.model_dump(mode="json")
        return {key: v for key, v in settings.items() if Later(v) not in fields[key].metadata}

    def params(self) -> dict[str, str]:
        """Every setting as an MLflow param, in Python's notation."""
        values = self.model_dump()
        return {key: format_value(v) if v is not None else "None" for key, v in values.items()}

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self | None:
        """The settings that `params` wrote, now or before some were added; None if not valid."""
        fields = cls.model_fields.items()
        before = {k: m.before for k, f in fields for m in f.metadata if isinstance(m, Later)}
        try:
            return cls.model_validate(before | {k: _literal(v) for k, v in params.items()})
        except ValidationError:
            return None


def format_value(value: object) -> str:
    """A setting as people and MLflow see it: `0.3`, `True`, `Adam`, `[32, 64]`, `none`."""
    if value is None:
        return "none"
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def label_of(setting: str) -> str:
    """A setting's name for people: `dropout rate`, `batch norm`."""
    return RunConfig.model_fields[setting].title or setting.replace("_", " ")


def label_of_value(value: object) -> str:
    """A setting's value for people: `on`, `off`, `0.3`, `[32, 64]`; `64` for a list of one."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return format_value(value[0])
    return format_value(value)


def _literal(text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text  # literal_eval raises all of these for texts that are no literals
    return tuple(value) if isinstance(value, list) else value
