"""What a study's file holds: an entry a sweep and an entry a run, trusted by nobody.

Whoever wrote the file may have forged it. An entry that could be made is fit to be written to any
store and to be read by every command: names are plain words, texts have no control characters,
numbers have bounds, and a run's fingerprint is that of its settings and data.
"""

import math
import re
import sys
from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from fmnist_tuning.metrics import METRIC_NAMES, REQUIRED
from fmnist_tuning.store import records
from fmnist_tuning.sweeps.problems import Problem, raise_problems
from fmnist_tuning.sweeps.runs import fingerprint
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep, SweepId
from fmnist_tuning.text import control_character, shown

OUTCOME_STEP: Final = 0

_ORIGIN_TAGS: Final = frozenset(
    {
        records.NOTE,
        records.USER,
        *(f"mlflow.source.{part}" for part in ("git.commit", "git.dirty", "name", "type")),
    }
)
"""Of MLflow's own tags, those that say where a run comes from. Others hold ids and paths."""

_FIELD_TAGS: Final = frozenset(
    {
        *(records.KIND, records.FINGERPRINT, records.SWEEPS, records.DATA),
        *(records.DEFINITION, records.OWNER, records.HEARTBEAT),
    }
)
"""These stand in an entry's fields, or say who is at work here and now."""

_MAX_TEXT: Final = 8_000  # MLflow's own limit to a tag
_MAX_TAGS: Final = 90  # MLflow takes 100 a call
_MAX_STEP: Final = 1_000_000
_YEAR_10000: Final = 253_402_300_800_000
_COLUMNS: Final = {*RunConfig.model_fields, "arm", "run_id", "sweep"}  # beside which metrics stand
_MOST: Final = 1e100


def _harmless(text: str) -> str:
    """A text, unless a character of it could play tricks on a terminal."""
    if found := control_character(text, allowed="\n\t"):
        raise_problems([Problem((), f"found the control character {found!a} in {shown(text)}")])
    return text


def _texts(value: Any) -> Iterator[str]:
    """Every text in plain values, keys included."""
    waiting = [value]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            waiting += [*part, *part.values()]
        elif isinstance(part, (list, tuple)):
            waiting += part


def _harmless_sweep(sweep: Sweep) -> Sweep:
    for text in _texts(sweep.model_dump()):
        _harmless(text)
    return sweep


def _number(value: Any) -> Any:
    # JSON has no such numbers, and MLflow's databases keep no infinity and no sign of zero.
    if isinstance(value, str) and value in {"NaN", "Infinity", "-Infinity"}:
        return float(value)
    if isinstance(value, float) and abs(value) >= sys.float_info.max:
        return math.copysign(math.inf, value)
    return value + 0.0 if isinstance(value, float) else value


def _in_json(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _line(text: str) -> str:
    if "\n" in text or "\t" in text or not text.strip():
        raise PydanticCustomError("line", "one line of text")
    return text


def is_metric_name(name: str) -> bool:
    """Whether a metric may stand in an entry: no path to any store, and no column of another."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,249}", name) is not None and name not in _COLUMNS


def _sorted_values(values: dict[str, float]) -> dict[str, float]:
    for name in values:
        if not is_metric_name(name):
            raise_problems(
                [Problem((), f"found {shown(name)}, allowed: a plain word that is no setting")]
            )
    return dict(sorted(values.items()))


def _impossible(metric: str, value: float) -> bool:
    """Whether no run can have ended so; only a loss may be infinite, or no number at all."""
    return metric in METRIC_NAMES and not (
        0 <= value <= _MOST or (metric.endswith("_loss") and not math.isfinite(value))
    )


def is_portable(tag: str) -> bool:
    """Whether a tag may stand in an entry."""
    own = re.fullmatch(r"fmnist\.[a-z0-9_]{1,100}", tag) is not None and tag not in _FIELD_TAGS
    return own or tag in _ORIGIN_TAGS


def _sorted_tags(tags: dict[str, str]) -> dict[str, str]:
    for name in tags:
        if not is_portable(name):
            raise_problems(
                [Problem((), f"found {shown(name)}, allowed: fmnist.* and MLflow's own")]
            )
    return dict(sorted(tags.items()))


Text = Annotated[str, Field(max_length=_MAX_TEXT), AfterValidator(_harmless)]
Name = Annotated[Text, AfterValidator(_line)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
Milliseconds = Annotated[int, Field(ge=1, lt=_YEAR_10000)]
Value = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(_number),
    PlainSerializer(_in_json, when_used="json"),
]
Tags = Annotated[dict[str, Text], Field(max_length=_MAX_TAGS), AfterValidator(_sorted_tags)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Logged(_Frozen):
    """What was logged at once.

    Attributes:
        step: The epoch, or 0 for the outcome.
        at: When, in ms since 1970.
        values: By metric. Infinities and NaN are the strings `Infinity`, `-Infinity`, `NaN` in the
            file; the largest float counts as infinity, since databases make the one of the other.
    """

    step: Annotated[int, Field(ge=0, le=_MAX_STEP)]
    at: Annotated[int, Field(ge=0, lt=_YEAR_10000)]
    values: Annotated[
        dict[str, Value], Field(min_length=1, max_length=1_000), AfterValidator(_sorted_values)
    ]


class SweepEntry(_Frozen):
    """A sweep, its fields in the order in which the file has them.

    Attributes:
        kind: What the line is.
        definition: With its arms chosen.
        data: Digest of the data it ran on.
        tags: `fmnist.*` and where it comes from.
        started: In ms since 1970.
        ended: The same.
        status: How it ended.
    """

    kind: Literal["sweep"] = "sweep"
    definition: Annotated[
        Sweep, AfterValidator(_harmless_sweep), PlainSerializer(lambda sweep: sweep.definition())
    ]
    data: Digest
    tags: Tags
    started: Milliseconds
    ended: Milliseconds
    status: records.EndStatus

    @model_validator(mode="after")
    def _readable(self) -> Self:
        problems = []
        if self.definition.pending:
            problems.append(Problem(("definition", "arms"), "missing, and needed"))
        for index, arm in enumerate(self.definition.listed):
            predicted = arm.get("predicted")
            number = isinstance(predicted, (int, float)) and not isinstance(predicted, bool)
            if predicted is not None and not (number and -1 <= predicted <= 2):  # noqa: PLR2004
                place = ("definition", "arms", index, "predicted")
                problems.append(Problem(place, f"found {shown(predicted)}, allowed: an accuracy"))
        raise_problems(problems)
        return self


class RunEntry(_Frozen):
    """A finished training, its fields in the order in which the file has them.

    Attributes:
        kind: What the line is.
        name: Its arm and seed, for people.
        fingerprint: What decided its result.
        sweeps: Ids of the sweeps that use it, the one that trained it first.
        config: Every setting.
        data: Digest of the data it was trained on.
        tags: `fmnist.*` and where it comes from.
        started: In ms since 1970.
        ended: The same.
        history: The last value of every metric at every step.
    """

    kind: Literal["run"] = "run"
    name: Name
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    sweeps: Annotated[tuple[SweepId, ...], Field(max_length=100)]
    config: RunConfig
    data: Digest
    tags: Tags
    started: Milliseconds
    ended: Milliseconds
    history: tuple[Logged, ...]

    @model_validator(mode="after")
    def _measured(self) -> Self:
        problems = []
        right = fingerprint(self.config, self.data)
        if self.fingerprint != right:
            text = f"found {self.fingerprint}, allowed: {right}, that of its settings and data"
            problems.append(Problem(("fingerprint",), text))
        seen: set[tuple[int, str]] = set()
        for index, logged in enumerate(self.history):
            for metric in logged.values:
                if (logged.step, metric) in seen:
                    text = f"is there already for step {logged.step}"
                    problems.append(Problem(("history", index, "values", metric), text))
                seen.add((logged.step, metric))
                if logged.step == OUTCOME_STEP and _impossible(metric, logged.values[metric]):
                    text = (
                        f"found {shown(_in_json(logged.values[metric]))}, allowed: 0 to {_MOST:g}"
                    )
                    problems.append(Problem(("history", index, "values", metric), text))
        missing = [metric for metric in REQUIRED if (OUTCOME_STEP, metric) not in seen]
        if missing:
            text = f"step {OUTCOME_STEP} lacks {', '.join(missing)}; a finished run has them"
            problems.append(Problem(("history",), text))
        raise_problems(problems)
        return self


Entry = SweepEntry | RunEntry
