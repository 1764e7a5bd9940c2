"""A run: one arm with one seed, and its fingerprint. Pure."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fmnist_tuning.sweeps.arms import Arm
from fmnist_tuning.sweeps.datasets import DatasetName
from fmnist_tuning.sweeps.settings import RunConfig

if TYPE_CHECKING:
    from fmnist_tuning.sweeps.sweep import Sweep

DEFAULT_DATASET: Final[DatasetName] = "fashion_mnist"
TRAINING_SEMANTICS: Final = 1
"""Part of every fingerprint. Increase it if a change of the program gives the same settings another
result (another initialisation, another metric). Older runs will then not be reused.
"""


@dataclass(frozen=True, slots=True)
class PlannedRun:
    """One arm with one seed; two runs must have the same result if their fingerprints are equal."""

    sweep: str
    arm: Arm
    config: RunConfig
    fingerprint: str

    @property
    def name(self) -> str:
        """`dropout_rate=0.3 seed=0`."""
        return f"{self.arm.label} seed={self.config.seed}"

    @property
    def short_name(self) -> str:
        """`exp1 0.3 #0`, the run's name in MLflow, whose page shows about 25 characters of it."""
        numbered = re.match(r"[a-z]+\d+(?=_)", self.sweep)
        sweep = numbered[0] if numbered else self.sweep
        return f"{sweep} {self.arm.short_label} #{self.config.seed}"


def data_of(dataset: str, data_digest: str) -> str:
    """The digest of one data set, from a text as `joined` makes it."""
    if "=" not in data_digest:
        return data_digest if dataset == DEFAULT_DATASET else "not read"
    known = dict(part.split("=", 1) for part in data_digest.split(","))
    return known.get(dataset, "not read")


def datasets_of(sweep: "Sweep") -> list[DatasetName]:
    """The data sets that a sweep's arms use, in order."""
    used = dict.fromkeys(arm.config.dataset for arm in sweep.arms)
    # The arms of a combination may not be chosen yet.
    return [*used] or [sweep.fixed.get("dataset", DEFAULT_DATASET)]


def data_of_sweep(sweep: "Sweep", data_digest: str) -> str:
    """The digest of the images that a sweep uses, or those of several as `joined` has them."""
    return joined({name: data_of(name, data_digest) for name in datasets_of(sweep)})


def joined(digests: Mapping[str, str]) -> str:
    """The digests of data sets as one text: `cifar10=0123,fashion_mnist=4567`.

    That of Fashion-MNIST alone stands as it is, as in the studies of before there were others.
    """
    if [*digests] == [DEFAULT_DATASET]:
        return digests[DEFAULT_DATASET]
    return ",".join(f"{name}={digests[name]}" for name in sorted(digests))


def runs_of(sweep: "Sweep", data_digest: str) -> list[PlannedRun]:
    """The runs of one sweep: every arm, and for each arm every seed.

    `data_digest` is the digest of the images, or those of several data sets as `joined` has them.
    """
    runs = []
    for arm in sweep.arms:
        digest = data_of(arm.config.dataset, data_digest)
        decisive = arm.config.decisive()  # the same for all seeds, but for the seed itself
        for seed in sweep.seeds_of(arm):
            config = arm.config.model_copy(update={"seed": seed})
            mark = _mark(decisive | {"seed": seed}, digest)
            runs.append(PlannedRun(sweep.id, arm, config, mark))
    return runs


def fingerprint(config: RunConfig, data_digest: str) -> str:
    """Hash of everything that decides a run's result: 16 hexadecimal digits.

    `data_digest` is that of the run's own images.
    """
    return _mark(config.decisive(), data_digest)


def _mark(decisive: Mapping[str, Any], data_digest: str) -> str:
    text = json.dumps(
        [decisive, data_digest, TRAINING_SEMANTICS], sort_keys=True, separators=(",", ":")
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]
