"""The settings that decide one training."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fmnist_tuning.sweeps.problems import Problem, raise_problems

TRAIN_IMAGES: Final = 60_000
TEST_IMAGES: Final = 10_000
IMAGE_SIZE: Final = 28
CLASSES: Final = 10
BASE_CHANNELS: Final = 32

# torch.optim's own names, spelt out because importing torch here would slow every command down.
Optimizer = Literal["Adadelta", "Adagrad", "Adam", "AdamW", "NAdam", "RAdam", "RMSprop", "SGD"]
Precision = Literal["float32", "tf32", "bf16"]
OPTIMIZERS_WITH_MOMENTUM: Final = ("RMSprop", "SGD")

# Bounds of the absurd, not of the useful: they keep a typing error from asking for a terabyte.
Channels = Annotated[int, Field(ge=1, le=2048)]
Units = Annotated[int, Field(ge=1, le=65_536)]
ImageCount = Annotated[int, Field(ge=1, le=TRAIN_IMAGES)]


Component = Literal["network", "optimizer", "loop", "images"]


@dataclass(frozen=True, slots=True)
class For:
    """In a setting's annotation: the component of a training that takes it, as an argument."""

    component: Component


@dataclass(frozen=True, slots=True)
class Later:
    """In a setting's annotation: it came after the first studies, which were run with this value.

    A later setting counts in fingerprints only where it differs from that value, so that what was
    trained before it is still found.
    """

    before: object


def _channel_progression(settings: dict[str, Any]) -> tuple[int, ...]:
    return tuple(BASE_CHANNELS * 2**block for block in range(settings["num_conv_layers"]))


def _all_training_images(settings: dict[str, Any]) -> int:
    held_out: int = settings["holdout_size"] if settings["validation"] == "holdout" else 0
    return max(TRAIN_IMAGES - held_out, 1)


def _all_validation_images(settings: dict[str, Any]) -> int:
    size: int = settings["holdout_size"] if settings["validation"] == "holdout" else TEST_IMAGES
    return size


class RunConfig(BaseModel):
    """Everything a person sets that decides a run's result; the defaults are the journal's.

    Sizes that are not given are filled in, so that an instance holds no open question.

    Raises:
        pydantic.ValidationError: For unknown keys, wrong types and impossible combinations.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    num_conv_layers: Annotated[
        int, Field(ge=1, le=8, title="depth", description="convolution blocks")
    ] = 2
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
    train_size: Annotated[ImageCount, For("images")] = Field(default_factory=_all_training_images)
    val_size: Annotated[ImageCount, For("images")] = Field(default_factory=_all_validation_images)
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @model_validator(mode="after")
    def _possible(self) -> Self:
        raise_problems([*self._impossible_network(), *self._impossible_training()])
        return self

    def _impossible_network(self) -> list[Problem]:
        found = []
        if len(self.conv_channels) != self.num_conv_layers:
            found.append(
                Problem(
                    ("conv_channels",),
                    f"found {list(self.conv_channels)}, allowed: exactly num_conv_layers = "
                    f"{self.num_conv_layers} entries",
                )
            )
        if self.kernel_size % 2 == 0:
            found.append(
                Problem(
                    ("kernel_size",),
                    f"found {self.kernel_size}, allowed: odd numbers, whose padding keeps the size",
                )
            )
        if self.use_pooling and IMAGE_SIZE >> self.num_conv_layers == 0:
            sizes = [str(IMAGE_SIZE >> block) for block in range(self.num_conv_layers + 1)]
            found.append(
                Problem(
                    ("num_conv_layers",),
                    f"found {self.num_conv_layers}, allowed: at most 4 with use_pooling, which "
                    f"halves the image each time ({' -> '.join(sizes)})",
                )
            )
        return found

    def _impossible_training(self) -> list[Problem]:
        held_out = self.holdout_size if self.validation == "holdout" else 0
        if not held_out and self.holdout_size != type(self).model_fields["holdout_size"].default:
            return [Problem(("holdout_size",), "has no effect without `validation: holdout`")]
        found = []
        limits = {"train_size": TRAIN_IMAGES - held_out, "val_size": held_out or TEST_IMAGES}
        for key, limit in limits.items():
            if getattr(self, key) > limit:
                found.append(
                    Problem((key,), f"found {getattr(self, key)}, allowed: at most {limit} images")
                )
        if self.batch_size > self.train_size:
            found.append(
                Problem(
                    ("batch_size",),
                    f"found {self.batch_size}, allowed: at most train_size = {self.train_size}",
                )
            )
        if self.momentum and self.optimizer not in OPTIMIZERS_WITH_MOMENTUM:
            found.append(
                Problem(
                    ("momentum",),
                    f"found {self.momentum:g}, allowed: 0 with {self.optimizer} "
                    f"({' and '.join(OPTIMIZERS_WITH_MOMENTUM)} take a momentum)",
                )
            )
        return found

    def arguments(self, component: Component) -> dict[str, Any]:
        """The settings that a component of a training takes, by the names of its arguments."""
        return {
            name: getattr(self, name)
            for name, field in type(self).model_fields.items()
            if For(component) in field.metadata
        }

    def decisive(self) -> dict[str, Any]:
        """The settings that a fingerprint is of, as JSON has them."""
        settings = self.model_dump(mode="json")
        return {
            name: value
            for name, value in settings.items()
            if not any(
                isinstance(mark, Later) and mark.before == value
                for mark in type(self).model_fields[name].metadata
            )
        }

    def params(self) -> dict[str, str]:
        """Every setting as an MLflow param, written as Python writes it."""
        return {key: format_value(value) for key, value in self.model_dump().items()}

    @classmethod
    def from_params(cls, params: Mapping[str, str]) -> Self | None:
        """The settings that `params` wrote, or None where they are not such settings."""
        try:
            return cls.model_validate({key: _literal(text) for key, text in params.items()})
        except ValidationError:
            return None


def format_value(value: object) -> str:
    """A setting as people and MLflow see it: `0.3`, `True`, `Adam`, `[32, 64]`."""
    return str(list(value)) if isinstance(value, (list, tuple)) else str(value)


def label_of(setting: str) -> str:
    """A setting's name for people: `dropout rate`, `batch norm`."""
    return RunConfig.model_fields[setting].title or setting.replace("_", " ")


def label_of_value(value: object) -> str:
    """A setting's value for people: `on`, `0.3`, `[32, 64]`."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return format_value(value)


def _literal(text: str) -> object:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return text  # all that literal_eval raises for a text that is no literal
    return tuple(value) if isinstance(value, list) else value
