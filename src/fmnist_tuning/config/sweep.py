"""One YAML file: the arms of a sweep, its seeds, its claims and its figure."""

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fmnist_tuning.config.names import FileName, Line, SweepId, Text
from fmnist_tuning.config.problems import (
    Problem,
    as_json,
    nearest,
    problems_of,
    raise_problems,
    shorten,
    shown,
)
from fmnist_tuning.config.run import RunConfig, format_value
from fmnist_tuning.metrics import METRICS

MAX_ARMS: Final = 1_000
MAX_SEEDS: Final = 1_000
MAX_RUNS: Final = 10_000
SETTINGS: Final = tuple(key for key in RunConfig.model_fields if key != "seed")
"""What a sweep may set; seeds are listed apart."""

MAX_NAME: Final = 60
_ARM_LABELS: Final = ("name", "predicted")


def _known_metric(name: str) -> str:
    if name not in METRICS:
        raise PydanticCustomError("metric", "{allowed}", {"allowed": ", ".join(METRICS)})
    return name


Seed = Annotated[int, Field(ge=0, lt=2**32)]
Settings = dict[str, Any]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Claim(_Frozen):
    """A hypothesis as a contrast between two arms.

    Attributes:
        that: The hypothesis in words.
        arm: Settings that pick the arms claimed to differ; a list picks any of its values. Of
            several arms, the mean counts.
        versus: Settings that pick the arms they are compared with.
        versus_sweep: The sweep of those arms, where it is another one.
        metric: A metric of a finished run, see `metrics.METRICS`.
        expect: Whether `arm` is expected above, below or level with `versus`.
        margin: The smallest difference that matters, in the metric's own unit.
    """

    that: Text
    arm: Settings
    versus: Settings
    versus_sweep: SweepId | None = None
    metric: Annotated[str, AfterValidator(_known_metric)] = "final_val_accuracy"
    expect: Literal["higher", "lower", "equal"]
    margin: Annotated[float, Field(ge=0)]


class Figure(_Frozen):
    """The sweep's figure.

    Attributes:
        kind: `trend`: a line over the values of `x`. `comparison`: the values of `x` side by side.
            `heatmap`: the grid of `x` and `y`, and how they interact. `ranking`: all arms in order.
        x: A swept setting; not with `ranking`.
        y: Another one, with `heatmap` alone.
        file: Where it is written, in the folder of figures.
    """

    kind: Literal["trend", "comparison", "heatmap", "ranking"]
    x: str | None = None
    y: str | None = None
    file: FileName


class Combine(_Frozen):
    """Arms that finished sweeps choose.

    Attributes:
        sources: Ids of the sweeps whose runs are combined (`from` in YAML).
        top: How many combinations are taken, best predicted first.
        max_params: The most parameters that one of them may have; None for any number.
    """

    sources: Annotated[tuple[SweepId, ...], Field(alias="from", min_length=1, max_length=100)]
    top: Annotated[int, Field(ge=1, le=100)] = 3
    max_params: Annotated[int, Field(ge=1, le=10**12)] | None = None


@dataclass(frozen=True, slots=True)
class Arm:
    """One combination of the swept values.

    Attributes:
        name: Given in the file (`arms`) or by the combination (A, B, C), else None.
        overrides: The swept settings of this arm.
        config: The whole configuration, with the seed left at its default.
        predicted: The accuracy that the combination predicts for it.
    """

    name: str | None
    overrides: Settings
    config: RunConfig
    predicted: float | None = None

    @property
    def label(self) -> str:
        """`dropout_rate=0.3`, or `A: dropout_rate=0.3` for an arm with a name."""
        values = " ".join(f"{key}={format_value(value)}" for key, value in self.overrides.items())
        return f"{self.name}: {values}" if self.name else values

    def matches(self, selector: Mapping[str, Any]) -> bool:
        """Whether `selector` names this arm's settings (or its `name`), or lists them."""
        for key, wanted in selector.items():
            if key != "name" and key not in RunConfig.model_fields:
                return False
            own = self.name if key == "name" else getattr(self.config, key)
            own = list(own) if isinstance(own, tuple) else own
            if own != wanted and not (isinstance(wanted, list) and own in wanted):
                return False
        return True


class SweepConfig(_Frozen):
    """A sweep as its file states it. Exactly one of `grid`, `arms` and `combine` makes its arms.

    A decided combination carries both `combine` and the `arms` that came of it.

    Raises:
        pydantic.ValidationError: For anything that could not be trained, in any of its arms.
    """

    sweep: SweepId
    title: Line
    hypothesis: Text = ""
    fixed: Settings = Field(default_factory=dict)
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    arms: tuple[Settings, ...] = ()
    combine: Combine | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    claims: Annotated[tuple[Claim, ...], Field(max_length=100)] = ()
    figure: Figure | None = None

    @model_validator(mode="after")
    def _trainable(self) -> Self:
        problems = [
            *self._problems_of_seeds(),
            *_problems_of_settings(("fixed",), self.fixed),
            *self._problems_of_swept(),
        ]
        # Combinations are judged only when every value is right by itself: one mistake, one line.
        raise_problems(
            problems
            or self._problems_of_arms()
            or [*self._problems_of_claims(), *self._problems_of_figure()]
        )
        return self

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings that differ between arms by intent, in the file's order."""
        keys = [*self.grid, *(key for arm in self.arms for key in arm if key not in _ARM_LABELS)]
        return tuple(dict.fromkeys(keys))

    @property
    def undecided(self) -> bool:
        """Whether the arms are still to be chosen by the sweeps that this one combines."""
        return self.combine is not None and not self.arms

    def expanded(self) -> tuple[Arm, ...]:
        """The arms in order: the grid's product with its last axis fastest, or the list."""
        return tuple(
            Arm(name, overrides, _run_config({**self.fixed, **overrides}), predicted)
            for name, overrides, predicted in self._combinations()
        )

    def _combinations(self) -> Iterator[tuple[str | None, Settings, float | None]]:
        for arm in self.arms:
            overrides = {key: value for key, value in arm.items() if key not in _ARM_LABELS}
            yield arm.get("name"), overrides, arm.get("predicted")
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield None, dict(zip(self.grid, values, strict=True)), None

    def _problems_of_seeds(self) -> list[Problem]:
        if len(set(self.seeds)) < len(self.seeds):
            return [Problem(("seeds",), f"found {shown(self.seeds)}, allowed: each seed once")]
        return []

    def _problems_of_swept(self) -> list[Problem]:
        makers = [key for key in ("grid", "arms", "combine") if getattr(self, key)]
        if makers not in (["grid"], ["arms"], ["combine"], ["arms", "combine"]):
            found = " and ".join(makers) or "none of them"
            return [Problem((), f"found {found}, allowed: one of grid, arms and combine")]
        size = len(self.arms) or math.prod(len(levels) for levels in self.grid.values())
        if size > MAX_ARMS:
            return [Problem((makers[0],), f"found {size:,} arms, allowed: at most {MAX_ARMS:,}")]
        if size * len(self.seeds) > MAX_RUNS:
            text = f"found {len(self.seeds):,} for each of {size:,} arms"
            return [Problem(("seeds",), f"{text}, allowed: at most {MAX_RUNS:,} runs a sweep")]
        problems = []
        for key, levels in self.grid.items():
            for index, level in enumerate(levels):
                # A wrong key is one problem; a wrong value is one at its own level.
                place = ("grid", key, index) if key in SETTINGS else ("grid", key)
                found_here = _problems_of_settings((), {key: level})
                problems += [Problem((*place, *p.path[1:]), p.text) for p in found_here]
        for index, arm in enumerate(self.arms):
            problems += _problems_of_settings(("arms", index), arm, labels=_ARM_LABELS)
            problems += _problems_of_labels(("arms", index), arm)
        for key in set(self.fixed) & set(self.swept):
            problems.append(Problem(("fixed", key), "is also swept; keep it in one place"))
        return list(dict.fromkeys(problems))

    def _problems_of_arms(self) -> list[Problem]:
        problems: list[Problem] = []
        seen: dict[RunConfig, str] = {}
        names: set[str] = set()
        where = "arms" if self.arms else "grid"
        for index, (name, overrides, _) in enumerate(self._combinations()):
            try:
                config = _run_config({**self.fixed, **overrides})
            except ValidationError as error:
                values = " ".join(f"{k}={_brief(v)}" for k, v in overrides.items())
                problems += [
                    Problem((where,), f"{values}: {p.path[0]}: {p.text}")
                    for p in problems_of(error, RunConfig)
                ]
                continue
            label = name or " ".join(f"{k}={_brief(v)}" for k, v in overrides.items())
            place = (where, index) if self.arms else (where,)
            if config in seen:
                problems.append(Problem(place, f"{label} repeats {seen[config]}"))
            if name in names:
                problems.append(Problem(place, f"the name {name} is already taken"))
            seen.setdefault(config, label)
            names |= {name} if name else set()
        return problems

    def _problems_of_claims(self) -> list[Problem]:
        if self.undecided:
            return []
        arms = self.expanded()
        return [
            Problem(
                ("claims", index, side),
                f"found {shown(selector)}, which is no arm of this sweep; allowed: "
                + ", ".join(arm.label for arm in arms[:8]),
            )
            for index, claim in enumerate(self.claims)
            for side, selector in (("arm", claim.arm), ("versus", claim.versus))
            if not (side == "versus" and claim.versus_sweep)
            and not any(arm.matches(selector) for arm in arms)
        ]

    def _problems_of_figure(self) -> list[Problem]:
        if self.figure is None or self.undecided:
            return []
        needed = {"ranking": (), "heatmap": ("x", "y")}.get(self.figure.kind, ("x",))
        swept = ", ".join(self.swept)
        problems = []
        for axis in ("x", "y"):
            setting = getattr(self.figure, axis)
            if axis in needed and setting not in self.swept:
                text = f"found {shown(setting)}, allowed with {self.figure.kind}: one of {swept}"
                problems.append(Problem(("figure", axis), text))
            elif axis not in needed and setting is not None:
                text = f"found {shown(setting)}, allowed with {self.figure.kind}: none; remove it"
                problems.append(Problem(("figure", axis), text))
        if self.figure.kind == "heatmap" and not problems:
            axes = {self.figure.x, self.figure.y}
            if set(self.swept) != axes or len(axes) == 1:
                text = f"a heatmap has room for two settings, x and y; this sweep varies {swept}"
                problems.append(Problem(("figure", "kind"), text))
        return problems


def _run_config(settings: Settings) -> RunConfig:
    return RunConfig.model_validate_json(as_json(settings))


def _brief(value: object) -> str:
    return shorten(format_value(value))


def _problems_of_labels(place: tuple[str | int, ...], arm: Settings) -> list[Problem]:
    """What is wrong with an arm's name and with what was predicted for it."""
    problems = []
    name, predicted = arm.get("name"), arm.get("predicted", 0.0)
    if not isinstance(name, str) or not 1 <= len(name) <= MAX_NAME or not name.isprintable():
        text = f"found {shown(name)}, allowed: a text of 1 to {MAX_NAME} printable characters"
        problems.append(Problem((*place, "name"), text))
    if type(predicted) not in {int, float} or not abs(predicted) < math.inf:
        text = f"found {shown(predicted)}, allowed: a number, which a combination predicted"
        problems.append(Problem((*place, "predicted"), text))
    return problems


def _problems_of_settings(
    place: tuple[str | int, ...], settings: Settings, labels: tuple[str, ...] = ()
) -> list[Problem]:
    """What is wrong with each setting by itself; combinations are judged arm by arm."""
    problems = []
    for key, value in settings.items():
        if key in labels:
            continue
        if key == "seed":
            problems.append(Problem((*place, key), "is not set here; list the seeds in `seeds`"))
        elif key not in SETTINGS:
            problems.append(Problem((*place, key), f"unknown key{nearest(key, SETTINGS)}"))
        else:
            try:
                _run_config({key: value})
            except ValidationError as error:
                found = problems_of(error, RunConfig)
                by_itself = {d["loc"] for d in error.errors(include_url=False) if d["loc"]}
                problems += [p.under(*place) for p in found if p.path in by_itself]
    return problems
