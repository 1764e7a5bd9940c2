"""An arm of a sweep: one combination of the swept values."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import ValidationError

from fmnist_tuning.sweeps.problems import Problem, as_json, nearest, problems_of
from fmnist_tuning.sweeps.settings import RunConfig, format_value
from fmnist_tuning.text import shown

Settings = dict[str, Any]

SETTINGS: Final = tuple(key for key in RunConfig.model_fields if key != "seed")
"""What a sweep can set; seeds have their own list."""

LABELS: Final = ("name", "predicted")
"""What an arm in a sweep's list can have beside settings."""

MAX_NAME: Final = 60


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


def run_config(settings: Settings) -> RunConfig:
    """A run's configuration from YAML values; `ValidationError` if it cannot be trained."""
    return RunConfig.model_validate_json(as_json(settings))


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
            problems.append(Problem((*place, key), f"unknown key{nearest(key, SETTINGS)}"))
        else:
            try:
                run_config({key: value})
            except ValidationError as error:
                found = problems_of(error, RunConfig)
                by_itself = {d["loc"] for d in error.errors(include_url=False) if d["loc"]}
                problems += [p.under(*place) for p in found if p.path in by_itself]
    return problems
