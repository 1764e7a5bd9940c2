"""One run, from initial weights to its outcome: the mathematics, and nothing around it."""

from fmnist_tuning.training.building import build_model, build_optimizer
from fmnist_tuning.training.checkpoint import pack, unpack
from fmnist_tuning.training.classifier import (
    Classifier,
    classify,
    pack_weights,
    unpack_weights,
)
from fmnist_tuning.training.loop import Progress, epochs_to_accuracy, evaluate, train
from fmnist_tuning.training.randomness import Stream, generator

__all__ = [
    "Classifier",
    "Progress",
    "Stream",
    "build_model",
    "build_optimizer",
    "classify",
    "epochs_to_accuracy",
    "evaluate",
    "generator",
    "pack",
    "pack_weights",
    "train",
    "unpack",
    "unpack_weights",
]
