"""One YAML file: the arms of a sweep, its seeds, its claims and its figure."""

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fmnist_tuning.metrics import ACCURACY, METRICS
from fmnist_tuning.sweeps.arms import (
    LABELS,
    SETTINGS,
    Arm,
    Settings,
    problems_of_labels,
    problems_of_settings,
    run_config,
)
from fmnist_tuning.sweeps.problems import Problem, nearest, problems_of, raise_problems
from fmnist_tuning.sweeps.settings import RunConfig, format_value
from fmnist_tuning.text import control_character, shorten, shown

MAX_ARMS: Final = 1_000
MAX_SEEDS: Final = 1_000
MAX_RUNS: Final = 10_000
_DEVICES: Final = r"(?i:(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$)))"
"""What Windows takes for a device, whatever its suffix."""


def _matching(pattern: str, allowed: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("name", "{allowed}", {"allowed": allowed})
        return text

    return AfterValidator(check)


def _plain_text(text: str) -> str:
    """Neither a terminal nor a figure can show control characters, and the one obeys them."""
    if control_character(text):
        raise PydanticCustomError("text", "a text without control characters")
    return text


def _one_line(text: str) -> str:
    if "\n" in text:
        raise PydanticCustomError("line", "a text in one line")
    return _plain_text(text)


SweepId = Annotated[
    str,
    _matching(rf"{_DEVICES}[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}", "up to 64 letters, digits, _ and -"),
]
FileName = Annotated[
    str,
    _matching(
        rf"{_DEVICES}[A-Za-z0-9][A-Za-z0-9_-]{{0,99}}\.(png|svg|pdf)",
        "a plain file name that ends in .png, .svg or .pdf",
    ),
]
Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=2_000), AfterValidator(_plain_text)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


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
    metric: Annotated[str, _matching("|".join(METRICS), ", ".join(METRICS))] = ACCURACY
    expect: Literal["higher", "lower", "equal"]
    margin: Annotated[float, Field(ge=0)]


class Figure(_Frozen):
    """The sweep's figure.

    Attributes:
        kind: One of `report.figures.kinds.KINDS`.
        x: A swept setting, where the kind asks for one.
        y: Another one, where the kind asks for two.
        file: Where it is written, in the folder of figures.
    """

    kind: Line
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


class Sweep(_Frozen):
    """A sweep as its file states it. Exactly one of `grid`, `arms` and `combine` makes its arms.

    A combination whose arms are chosen carries both `combine` and the `arms` that came of it.
    Validated with the context `{"figures": AXES}`, its figure is checked too: by kind, the axes
    that a drawing needs.

    Attributes:
        id: `sweep` in YAML.
        listed: `arms` in YAML: the settings of one arm after the other.

    Raises:
        pydantic.ValidationError: For anything that could not be trained, in any of its arms.
    """

    id: Annotated[SweepId, Field(alias="sweep")]
    title: Line
    hypothesis: Text = ""
    fixed: Settings = Field(default_factory=dict)
    grid: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)
    listed: Annotated[tuple[Settings, ...], Field(alias="arms")] = ()
    combine: Combine | None = None
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1, max_length=MAX_SEEDS)] = (0,)
    claims: Annotated[tuple[Claim, ...], Field(max_length=100)] = ()
    figure: Figure | None = None
    _arms: tuple[Arm, ...] = PrivateAttr(())

    @model_validator(mode="after")
    def _trainable(self, info: ValidationInfo) -> Self:
        problems = [*problems_of_settings(("fixed",), self.fixed), *self._problems_of_swept()]
        if len(set(self.seeds)) < len(self.seeds):
            text = f"found {shown(self.seeds)}, allowed: each seed once"
            problems.insert(0, Problem(("seeds",), text))
        # Combinations are judged only when every value is right by itself: one mistake, one line.
        if not problems:
            self._arms = tuple(self._build(problems))
        if not problems and not self.pending:
            kinds = info.context and info.context["figures"]
            problems = [*self._problems_of_claims(), *self.problems_of_figure(kinds)]
        raise_problems(problems)
        return self

    @property
    def arms(self) -> tuple[Arm, ...]:
        """In order: the grid's product with its last axis fastest, or the list."""
        return self._arms

    @property
    def swept(self) -> tuple[str, ...]:
        """The settings that differ between arms by intent, in the file's order."""
        keys = [*self.grid, *(key for arm in self.listed for key in arm if key not in LABELS)]
        return tuple(dict.fromkeys(keys))

    @property
    def pending(self) -> bool:
        """Whether the arms are still to be chosen by the sweeps that this one combines."""
        return self.combine is not None and not self.listed

    def definition(self) -> dict[str, Any]:
        """What its file would say, without what is at its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)

    def changed(self, **values: object) -> "Sweep":
        """The same sweep with other values by their YAML keys.

        Raises:
            pydantic.ValidationError: As for any sweep.
        """
        return Sweep.model_validate(self.model_dump(by_alias=True) | values)

    def _build(self, problems: list[Problem]) -> Iterator[Arm]:
        """Every arm, or what is wrong with it."""
        seen: dict[RunConfig, str] = {}
        names: set[str] = set()
        where = "arms" if self.listed else "grid"
        for index, (name, overrides, predicted) in enumerate(self._combinations()):
            values = " ".join(f"{k}={shorten(format_value(v))}" for k, v in overrides.items())
            try:
                config = run_config({**self.fixed, **overrides})
            except ValidationError as error:
                problems += [
                    Problem((where,), f"{values}: {p.path[0]}: {p.text}")
                    for p in problems_of(error, RunConfig)
                ]
                continue
            place = (where, index) if self.listed else (where,)
            if config in seen:
                problems.append(Problem(place, f"{name or values} repeats {seen[config]}"))
            if name in names:
                problems.append(Problem(place, f"the name {name} is already taken"))
            seen.setdefault(config, name or values)
            names |= {name} if name else set()
            yield Arm(name, overrides, config, predicted)

    def _combinations(self) -> Iterator[tuple[str | None, Settings, float | None]]:
        for arm in self.listed:
            overrides = {key: value for key, value in arm.items() if key not in LABELS}
            yield arm.get("name"), overrides, arm.get("predicted")
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield None, dict(zip(self.grid, values, strict=True)), None

    def _problems_of_swept(self) -> list[Problem]:
        given = {"grid": self.grid, "arms": self.listed, "combine": self.combine}
        makers = [key for key, value in given.items() if value]
        if makers not in (["grid"], ["arms"], ["combine"], ["arms", "combine"]):
            found = " and ".join(makers) or "none of them"
            return [Problem((), f"found {found}, allowed: one of grid, arms and combine")]
        size = len(self.listed) or math.prod(map(len, self.grid.values()))
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
                found_here = problems_of_settings((), {key: level})
                problems += [Problem((*place, *p.path[1:]), p.text) for p in found_here]
        for index, arm in enumerate(self.listed):
            settings = {key: value for key, value in arm.items() if key not in LABELS}
            problems += problems_of_settings(("arms", index), settings)
            problems += problems_of_labels(("arms", index), arm)
        for key in set(self.fixed) & set(self.swept):
            problems.append(Problem(("fixed", key), "is also swept; keep it in one place"))
        return list(dict.fromkeys(problems))

    def _problems_of_claims(self) -> list[Problem]:
        return [
            Problem(
                ("claims", index, side),
                f"found {shown(selector)}, which is no arm of this sweep; allowed: "
                + ", ".join(arm.label for arm in self.arms[:8]),
            )
            for index, claim in enumerate(self.claims)
            for side, selector in (("arm", claim.arm), ("versus", claim.versus))
            if not (side == "versus" and claim.versus_sweep)
            and not any(arm.matches(selector) for arm in self.arms)
        ]

    def problems_of_figure(self, kinds: Mapping[str, tuple[str, ...]] | None) -> list[Problem]:
        """What is wrong with the figure, if the kinds that there are, and their axes, are known."""
        if self.figure is None or kinds is None:
            return []
        kind = self.figure.kind
        if kind not in kinds:
            return [Problem(("figure", "kind"), f"found {shown(kind)}{nearest(kind, kinds)}")]
        swept = ", ".join(self.swept)
        problems = []
        for axis in ("x", "y"):
            setting, needed = getattr(self.figure, axis), axis in kinds[kind]
            if setting not in self.swept if needed else setting is not None:
                allowed = f"one of {swept}" if needed else "none; remove it"
                text = f"found {shown(setting)}, allowed with {kind}: {allowed}"
                problems.append(Problem(("figure", axis), text))
        axes = {self.figure.x, self.figure.y}
        if len(kinds[kind]) > 1 and not problems and (set(self.swept) != axes or len(axes) == 1):
            text = f"a {kind} has room for two settings, x and y; this sweep varies {swept}"
            problems.append(Problem(("figure", "kind"), text))
        return problems
