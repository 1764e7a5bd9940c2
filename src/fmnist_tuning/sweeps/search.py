"""The section `search` of a sweep's file: a space of settings, and how it is searched."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self, get_args

import pydantic
from pydantic import Field, ValidationError

from fmnist_tuning.metrics import METRICS
from fmnist_tuning.sweeps.arms import (
    SETTINGS,
    is_idle,
    needed_by,
    problems_of_settings,
    run_config,
    unknown_setting,
)
from fmnist_tuning.sweeps.marks import Settings
from fmnist_tuning.sweeps.problems import Frozen, Problem, as_json, problems_of, raise_problems
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.text import shown

Sampler = Literal["random", "tpe", "gp", "qmc"]
Pruner = Literal["none", "median", "hyperband"]
SearchMetric = Literal["late_val_accuracy", "final_val_accuracy", "late_val_loss", "final_val_loss"]

MAX_TRIALS: Final = 1_000
MAX_FINALISTS: Final = 20
_COUNTED: Final = 20_000  # combinations of a finite space that are counted one by one

_CURVES: Final[dict[SearchMetric, str]] = {
    "late_val_accuracy": "val_accuracy",
    "final_val_accuracy": "val_accuracy",
    "late_val_loss": "val_loss",
    "final_val_loss": "val_loss",
}
_MARGINS: Final = {"percent": 0.002, "loss": 0.01}
_OTHER_IMAGES: Final = {
    *("dataset", "image_size", "image_channels", "classes"),
    *("validation", "holdout_size", "val_size"),
}
"""Scores of trials that differ in these would not be of the same images."""


class Range(Frozen):
    """The numbers from `low` to `high`, evenly or (`log`) by their logarithm, or in steps."""

    low: float
    high: float
    log: bool = False
    step: Annotated[float | None, Field(gt=0)] = None

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Self:
        problems = []
        if self.low >= self.high:
            text = f"found {self.high:g}, allowed: more than low = {self.low:g}"
            problems.append(Problem(("high",), text))
        if self.log and self.low <= 0:
            text = f"found {self.low:g}, allowed with `log: true`: more than 0"
            problems.append(Problem(("low",), text))
        if self.log and self.step is not None:
            problems.append(Problem(("step",), "found with `log: true`; allowed: one of them"))
        elif self.step is not None and self.low < self.high < self.low + self.step:
            text = f"found {self.step:g}, allowed: at most high - low = {self.high - self.low:g}"
            problems.append(Problem(("step",), text))
        raise_problems(problems)
        return self

    def values(self, *, whole: bool) -> list[int] | list[float] | None:
        """All numbers of the range, `whole` ones or in steps; None if there is no counting them."""
        if self.step is None and not whole:
            return None
        step = self.step or 1.0
        steps = range(math.floor((self.high - self.low) / step + 1e-9) + 1)
        # Ten digits are those of the file, without the noise of adding.
        numbers = [float(f"{self.low + n * step:.10g}") for n in steps]
        return [round(number) for number in numbers] if whole else numbers


class Search(Frozen):
    """Which settings are searched, and how.

    `space` has a `Range` or a list of values for each setting.
    """

    space: Annotated[dict[str, Any], Field(min_length=1)]
    sampler: Sampler = "tpe"
    trials: Annotated[int, Field(ge=1, le=MAX_TRIALS)]
    prune: Pruner = "none"
    metric: SearchMetric = "late_val_accuracy"
    finalists: Annotated[int, Field(ge=1, le=MAX_FINALISTS)] = 3
    margin: Annotated[float | None, Field(ge=0)] = None
    # Of the sampler and of every trial: trials differ in their settings alone.
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Self:
        problems = [*_problems_of_space(self.space)]
        if self.finalists > self.trials:
            text = f"found {self.finalists}, allowed: at most trials = {self.trials}"
            problems.append(Problem(("finalists",), text))
        if self.prune != "none" and "epochs" in self.space:
            text = f"found with prune: {self.prune}, which needs trials of one length"
            problems.append(Problem(("space", "epochs"), text))
        raise_problems(problems)
        return self

    @property
    def levels(self) -> dict[str, Range | list[Any]]:
        """What each setting may be."""
        return {
            key: Range.model_validate_json(as_json(given)) if isinstance(given, dict) else given
            for key, given in self.space.items()
        }

    @property
    def curve(self) -> str:
        """The metric of an epoch that the search's metric comes from."""
        return _CURVES[self.metric]

    @property
    def higher(self) -> bool:
        """Whether more is better."""
        return METRICS[self.metric].better == "higher"

    @property
    def smallest_difference(self) -> float:
        """The margin of the finalists' claims."""
        return _MARGINS[METRICS[self.metric].unit] if self.margin is None else self.margin

    def same_space(self, other: "Search | None") -> bool:
        """Whether the trials of both are those of one search; it may go on longer."""
        grown = {"trials": 1, "finalists": 1, "margin": None}
        return other is not None and self.model_copy(update=grown) == other.model_copy(update=grown)


def is_whole(setting: str) -> bool | None:
    """Whether a setting is an integer; None if it is no number at all."""
    annotation = RunConfig.model_fields[setting].annotation
    kinds = {annotation, *get_args(annotation)}
    return True if int in kinds else False if float in kinds else None


def in_effect(settings: Settings, proposed: Mapping[str, Any]) -> Settings:
    """The proposed settings that have an effect together with all `settings`."""
    return {key: value for key, value in proposed.items() if not is_idle(key, settings)}


def whole_settings(fixed: Settings, proposed: Settings, space: Mapping[str, Any]) -> Settings:
    """What is fixed and what is proposed, without what has no effect beside a searched setting."""
    together = {**fixed, **proposed}

    def searched(key: str) -> bool:
        mark = needed_by(key)
        return key in space or (mark is not None and mark.setting in space)

    return {
        key: value
        for key, value in together.items()
        if not (is_idle(key, together) and searched(key))
    }


def base_settings(search: Search, fixed: Settings) -> Settings | None:
    """The searched settings of the configuration that a file fixes; None if not in the space."""
    own = run_config(whole_settings(fixed, {}, search.space)).model_dump(mode="json")
    settings = in_effect(own, {key: own[key] for key in search.space})
    levels = search.levels
    return settings if all(_holds(key, levels[key], v) for key, v in settings.items()) else None


def _holds(key: str, level: Range | list[Any], value: Any) -> bool:
    if not isinstance(level, Range):
        return value in level
    if value is None or not level.low <= value <= level.high:
        return False
    values = None if level.log else level.values(whole=bool(is_whole(key)))
    return values is None or any(math.isclose(value, other) for other in values)


def every_trial(search: Search, fixed: Settings) -> list[Settings] | None:
    """The different trials that a space has; None if there is no counting them."""
    levels = [
        given.values(whole=bool(is_whole(key))) if isinstance(given, Range) else given
        for key, given in search.levels.items()
    ]
    counted = [level for level in levels if level is not None]
    if len(counted) < len(levels) or math.prod(map(len, counted)) > _COUNTED:
        return None
    found: dict[RunConfig, Settings] = {}
    for values in itertools.product(*counted):
        proposed = dict(zip(search.space, values, strict=True))
        whole = whole_settings(fixed, proposed, search.space)
        try:
            found.setdefault(run_config(whole), in_effect(whole, proposed))
        except ValidationError:
            continue
    return [*found.values()]


def problems_with_fixed(search: Search, fixed: Settings) -> list[Problem]:
    """What is wrong with a search beside what is fixed."""
    problems = [
        Problem(("search", "space", key), "`fixed` has it too; keep one of them")
        for key in search.space
        if key in fixed
    ]
    problems += _without_effect(search, fixed)
    if problems:
        return problems
    try:
        base = base_settings(search, fixed)
    except ValidationError as error:
        why = "the base configuration, which has no searched setting, must be one to train"
        return [
            Problem(("fixed", *problem.path), f"{problem.text} ({why})")
            for problem in problems_of(error, RunConfig)
        ]
    if base is not None and search.finalists == search.trials:
        text = f"found {search.finalists}, allowed: less than trials = {search.trials}"
        text += ", of which the first is the base configuration"
        problems.append(Problem(("search", "finalists"), text))
    there = every_trial(search, fixed)
    if there is not None and len(there) < search.trials:
        text = f"found {search.trials}, allowed: at most {len(there)}, as many as the space has"
        problems.append(Problem(("search", "trials"), text))
    return problems


def _without_effect(search: Search, fixed: Settings) -> Iterator[Problem]:
    """Searched settings that have an effect in no trial."""
    for key in search.space:
        if (mark := needed_by(key)) is None or isinstance(search.space.get(mark.setting), dict):
            continue
        levels = search.space.get(mark.setting) or [None]
        beside = [fixed if level is None else {mark.setting: level} for level in levels]
        if all(is_idle(key, settings) for settings in beside):
            yield Problem(("search", "space", key), mark.problem)


def _problems_of_space(space: Mapping[str, Any]) -> Iterator[Problem]:
    for key, given in space.items():
        place = ("space", key)
        if key not in SETTINGS:
            text = "trials have one seed, `search: {seed: ...}`"
            yield Problem(place, text if key == "seed" else unknown_setting(key))
        elif key in _OTHER_IMAGES:
            yield Problem(place, "trials are judged by the same images; set it in `fixed`")
        elif isinstance(given, list):
            yield from _problems_of_list(key, given)
        elif isinstance(given, dict):
            yield from _problems_of_range(key, given)
        else:
            text = "a list of values, or a range such as {low: 0, high: 0.5}"
            yield Problem(place, f"found {shown(given)}, allowed: {text}")


def _problems_of_list(key: str, values: list[Any]) -> Iterator[Problem]:
    found = [p for v in values for p in problems_of_settings(("space",), {key: v})]
    yield from dict.fromkeys(found)
    different = [value for place, value in enumerate(values) if value not in values[:place]]
    if not found and len(different) < max(len(values), 2):
        text = f"found {shown(values)}, allowed: two different values or more"
        yield Problem(("space", key), text)


def _problems_of_range(key: str, given: Mapping[str, Any]) -> Iterator[Problem]:
    place = ("space", key)
    whole = is_whole(key)
    if whole is None:
        yield Problem(place, f"found {shown(given)}, allowed: a list of values; it is no number")
        return
    try:
        parsed = Range.model_validate_json(as_json(given))
    except ValidationError as error:
        yield from (problem.under(*place) for problem in problems_of(error, Range))
        return
    for name in ("low", "high"):
        for problem in problems_of_settings((), {key: given[name]}):
            yield Problem((*place, name), problem.text)
    if whole and parsed.step is not None and not parsed.step.is_integer():
        yield Problem((*place, "step"), f"found {parsed.step:g}, allowed: an integer")
