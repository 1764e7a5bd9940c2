"""The settings of one training."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fmnist_tuning.sweeps.problems import Frozen, Problem, raise_problems

TRAIN_IMAGES: Final = 60_000
TEST_IMAGES: Final = 10_000
IMAGE_SIZE: Final = 28
CLASSES: Final = 10
BASE_CHANNELS: Final = 32

# The names of torch.optim. They are written here because importing torch would slow down every
# command.
Optimizer = Literal["Adadelta", "Adagrad", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD"]
Precision = Literal["float32", "tf32", "bf16"]
OPTIMIZERS_WITH_MOMENTUM: Final = ("RMSprop", "SGD")

# These bounds only stop mistakes in typing, which could ask for a terabyte of memory.
Channels = Annotated[int, Field(ge=1, le=2048)]
Units = Annotated[int, Field(ge=1, le=65_536)]
ImageCount = Annotated[int, Field(ge=1, le=TRAIN_IMAGES)]

Component = Literal["network", "optimizer", "loop", "images"]


@dataclass(frozen=True, slots=True)
class For:
    """In a setting's annotation: the component of a training that takes it as an argument."""

    component: Component


@dataclass(frozen=True, slots=True)
class Later:
    """In a setting's annotation: the value that runs had before the setting was added.

    Fingerprints leave the setting out if it has this value, so that older runs are still found.
    """

    before: object


def _channel_progression(settings: dict[str, Any]) -> tuple[int, ...]:
    return tuple(BASE_CHANNELS * 2**block for block in range(settings["num_conv_layers"]))


def _held_out(settings: dict[str, Any]) -> int:
    return int(settings["holdout_size"]) if settings["validation"] == "holdout" else 0


class RunConfig(Frozen):
    """All settings that decide a run's result. The defaults are those of the journal.

    Sizes that are not given are computed from the other settings. Unknown keys, wrong types and
    impossible combinations are a `ValidationError`.
    """

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
    batch_size: Annotated[int, For("loop"), Field(ge=1, le=TRAIN_IMAGES)] = 64
    learning_rate: Annotated[float, For("optimizer"), Field(gt=0)] = 0.001
    optimizer: Annotated[
        Optimizer, For("optimizer"), Field(description="a class of torch.optim")
    ] = "Adam"
    weight_decay: Annotated[float, For("optimizer"), Field(ge=0)] = 0.0
    momentum: Annotated[
        float, For("optimizer"), Field(ge=0, lt=1, description="SGD and RMSprop only")
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
    holdout_size: Annotated[int, For("images"), Field(ge=1, lt=TRAIN_IMAGES)] = 10_000
    train_size: Annotated[ImageCount, For("images")] = Field(
        default_factory=lambda settings: max(TRAIN_IMAGES - _held_out(settings), 1)
    )
    val_size: Annotated[ImageCount, For("images")] = Field(
        default_factory=lambda settings: _held_out(settings) or TEST_IMAGES
    )
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        raise_problems([*self._impossible_network(), *self._impossible_training()])
        return self

    def _impossible_network(self) -> Iterator[Problem]:
        channels, blocks = list(self.conv_channels), self.num_conv_layers
        if len(channels) != blocks:
            allowed = f"exactly num_conv_layers = {blocks} entries"
            yield Problem(("conv_channels",), f"found {channels}, allowed: {allowed}")
        if self.kernel_size % 2 == 0:
            allowed = "odd numbers, whose padding keeps the size"
            yield Problem(("kernel_size",), f"found {self.kernel_size}, allowed: {allowed}")
        if self.use_pooling and IMAGE_SIZE >> blocks == 0:
            sizes = " -> ".join(str(IMAGE_SIZE >> block) for block in range(blocks + 1))
            allowed = f"at most 4 with use_pooling, which halves the image each time ({sizes})"
            yield Problem(("num_conv_layers",), f"found {blocks}, allowed: {allowed}")

    def _impossible_training(self) -> Iterator[Problem]:
        held_out = self.holdout_size if self.validation == "holdout" else 0
        if not held_out and self.holdout_size != type(self).model_fields["holdout_size"].default:
            yield Problem(("holdout_size",), "has no effect without `validation: holdout`")
            return
        limits = {"train_size": TRAIN_IMAGES - held_out, "val_size": held_out or TEST_IMAGES}
        for key, limit in limits.items():
            if (size := getattr(self, key)) > limit:
                yield Problem((key,), f"found {size}, allowed: at most {limit} images")
        if self.batch_size > self.train_size and "batch_size" in self.model_fields_set:
            allowed = f"at most train_size = {self.train_size}"
            yield Problem(("batch_size",), f"found {self.batch_size}, allowed: {allowed}")
        elif self.batch_size > self.train_size:
            allowed = f"at least batch_size = {self.batch_size}; or set a smaller batch_size"
            yield Problem(("train_size",), f"found {self.train_size}, allowed: {allowed}")
        if self.momentum and self.optimizer not in OPTIMIZERS_WITH_MOMENTUM:
            takers = " and ".join(OPTIMIZERS_WITH_MOMENTUM)
            allowed = f"0 with {self.optimizer} ({takers} take a momentum)"
            yield Problem(("momentum",), f"found {self.momentum:g}, allowed: {allowed}")

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
        return {key: format_value(value) for key, value in self.model_dump().items()}

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
    """A setting as people and MLflow see it: `0.3`, `True`, `Adam`, `[32, 64]`."""
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def label_of(setting: str) -> str:
    """A setting's name for people: `dropout rate`, `batch norm`."""
    return RunConfig.model_fields[setting].title or setting.replace("_", " ")


def label_of_value(value: object) -> str:
    """A setting's value for people: `on`, `off`, `0.3`, `[32, 64]`; `64` for a list of one."""
    if value is None or isinstance(value, bool):
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
