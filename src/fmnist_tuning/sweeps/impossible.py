"""Settings that do not fit together, each with the place, what was found and what is allowed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from fmnist_tuning.sweeps.datasets import DATASETS
from fmnist_tuning.sweeps.marks import OnlyWith

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.settings import RunConfig


def impossible(config: "RunConfig") -> Iterator[tuple[str, str]]:
    """The problems of settings that are possible by themselves: each a setting, and what it is."""
    idle = [*_without_effect(config)]
    yield from idle
    yield from _dataset(config)
    yield from _network(config)
    if not any(setting == "holdout_size" for setting, _ in idle):
        yield from _images(config)
    yield from _averaging(config)
    yield from _schedule(config)


def _without_effect(config: "RunConfig") -> Iterator[tuple[str, str]]:
    for name, field in type(config).model_fields.items():
        for mark in field.metadata:
            if (
                isinstance(mark, OnlyWith)
                and getattr(config, name) != field.default
                and not mark.holds(getattr(config, mark.setting))
            ):
                yield name, mark.problem


def _dataset(config: "RunConfig") -> Iterator[tuple[str, str]]:
    there = DATASETS[config.dataset]
    own = {"image_size": there.size, "image_channels": there.channels}
    own["classes"] = len(there.classes)
    for key, value in own.items() if there.size else ():
        if (found := getattr(config, key)) != value:
            yield key, f"found {found}, allowed with {config.dataset}: {value}; leave it out"
    for key, change in (("shift_pixels", "shift"), ("erase_pixels", "erase")):
        found, size = getattr(config, key), config.image_size
        if change in config.augmentation.split("_") and size and found >= size:
            yield key, f"found {found}, allowed: less than image_size = {size}"


def _network(config: "RunConfig") -> Iterator[tuple[str, str]]:
    channels, blocks = list(config.conv_channels), config.num_conv_layers
    if len(channels) != blocks:
        allowed = f"exactly num_conv_layers = {blocks} entries"
        yield "conv_channels", f"found {channels}, allowed: {allowed}"
    if config.kernel_size % 2 == 0:
        allowed = "odd numbers, whose padding keeps the size"
        yield "kernel_size", f"found {config.kernel_size}, allowed: {allowed}"
    size = config.image_size
    if config.use_pooling and size and size >> blocks == 0:
        sizes = " -> ".join(str(size >> block) for block in range(blocks + 1))
        most = size.bit_length() - 1
        allowed = f"at most {most} with use_pooling, which halves the image each time ({sizes})"
        yield "num_conv_layers", f"found {blocks}, allowed: {allowed}"


def _images(config: "RunConfig") -> Iterator[tuple[str, str]]:
    held_out = config.holdout_size if config.validation == "holdout" else 0
    there = DATASETS[config.dataset]
    limits = {
        "train_size": there.train_images - held_out,
        "val_size": held_out or there.test_images,
    }
    for key, limit in limits.items():
        # How many images a folder has is known when it is read.
        if (size := getattr(config, key)) > limit and there.train_images:
            yield key, f"found {size}, allowed: at most {limit} images"
    if not there.train_images and "train_size" not in config.model_fields_set:
        return
    if config.batch_size > config.train_size and "batch_size" in config.model_fields_set:
        allowed = f"at most train_size = {config.train_size}"
        yield "batch_size", f"found {config.batch_size}, allowed: {allowed}"
    elif config.batch_size > config.train_size:
        allowed = f"at least batch_size = {config.batch_size}; or set a smaller batch_size"
        yield "train_size", f"found {config.train_size}, allowed: {allowed}"


def _averaging(config: "RunConfig") -> Iterator[tuple[str, str]]:
    if config.weight_averaging == "swa" and config.early_stopping is not None:
        found = f"found {config.early_stopping} with `weight_averaging: swa`"
        yield "early_stopping", f"{found}, whose averages come last; allowed: none"


def _schedule(config: "RunConfig") -> Iterator[tuple[str, str]]:
    if config.warmup_epochs >= config.epochs:
        allowed = f"less than epochs = {config.epochs}"
        yield "warmup_epochs", f"found {config.warmup_epochs:g}, allowed: {allowed}"
    if config.schedule == "one_cycle" and not config.warmup_epochs:
        text = "found 0, allowed with one_cycle: more than 0; leave it out for 0.3 x epochs"
        yield "warmup_epochs", text
    steps = config.epochs * -(-config.train_size // config.batch_size)
    known = DATASETS[config.dataset].train_images or "train_size" in config.model_fields_set
    if config.schedule == "one_cycle" and known and steps < 3:  # noqa: PLR2004
        text = f"found one_cycle for {steps} steps, allowed: at least 3, to rise and to fall"
        yield "schedule", text
    given = "step_epochs" in config.model_fields_set  # its default may be long for a short trial
    late = config.step_epochs + config.warmup_epochs >= config.epochs
    if config.schedule == "step" and given and late:
        room = config.epochs - config.warmup_epochs
        allowed = f"less than {room:g}, or the learning rate never falls within its epochs"
        yield "step_epochs", f"found {config.step_epochs}, allowed: {allowed}"
    falls = config.schedule in {"cosine", "linear", "one_cycle"}
    if falls and config.final_learning_rate >= config.learning_rate:
        allowed = f"less than learning_rate = {config.learning_rate:g}"
        found = f"found {config.final_learning_rate:g}"
        yield "final_learning_rate", f"{found}, allowed: {allowed}"
