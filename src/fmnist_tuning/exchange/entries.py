"""What a study's file holds: an entry a sweep and an entry a run, trusted by nobody.

Whoever wrote the file may have forged it. An entry that could be made is fit to be written to any
store and to be read by every command: names are plain words, texts have no control characters,
numbers have bounds, and a run's fingerprint is that of its settings and data.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
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

from fmnist_tuning.config import RunConfig, SweepConfig
from fmnist_tuning.config.names import SweepId
from fmnist_tuning.config.problems import Problem, raise_problems, shown
from fmnist_tuning.planning import fingerprint
from fmnist_tuning.records import METRIC_NAMES, RunOutcome

OUTCOME_STEP: Final = 0
MLFLOW_TAGS: Final = frozenset(
    {
        "mlflow.note.content",
        "mlflow.source.git.commit",
        "mlflow.source.git.dirty",
        "mlflow.source.name",
        "mlflow.source.type",
        "mlflow.user",
    }
)
"""Of MLflow's own tags, those that say where a run comes from. Others hold ids and paths."""

OWN_TAGS: Final = frozenset(
    {"kind", "fingerprint", "sweeps", "data", "definition", "owner", "heartbeat"}
)
"""After `fmnist.`: these stand in an entry's fields, or say who is at work here and now."""

_MAX_TEXT: Final = 8_000  # MLflow's own limit to a tag
_MAX_TAGS: Final = 90  # MLflow takes 100 a call
_MAX_STEP: Final = 1_000_000
_YEAR_10000: Final = 253_402_300_800_000
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # but tab and newline
_COLUMNS: Final = {*RunConfig.model_fields, "arm", "run_id", "sweep"}  # beside which metrics stand
_MOST: Final = 1e100
_NEEDED: Final = tuple(field.name for field in fields(RunOutcome) if field.default is MISSING)


def _harmless(text: str) -> str:
    """A text, unless a character of it could play tricks on a terminal."""
    if found := _CONTROL.search(text):
        raise_problems([Problem((), f"found the control character {found[0]!a} in {shown(text)}")])
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


def _harmless_sweep(sweep: SweepConfig) -> SweepConfig:
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


def _metric_names(values: dict[str, float]) -> dict[str, float]:
    for name in values:
        if not is_metric_name(name):
            raise_problems(
                [Problem((), f"found {shown(name)}, allowed: a plain word that is no setting")]
            )
    return values


def _impossible(metric: str, value: float) -> bool:
    """Whether no run can have ended so; only a loss may be infinite, or no number at all."""
    return metric in METRIC_NAMES and not (
        0 <= value <= _MOST or (metric.endswith("_loss") and not math.isfinite(value))
    )


def _tag_names(tags: dict[str, str]) -> dict[str, str]:
    for name in tags:
        own = re.fullmatch(r"fmnist\.([a-z0-9_]{1,100})", name)
        if name not in MLFLOW_TAGS and (own is None or own[1] in OWN_TAGS):
            raise_problems(
                [Problem((), f"found {shown(name)}, allowed: fmnist.* and MLflow's own")]
            )
    return tags


def portable_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Of a store's tags those that an entry may have."""
    own = {tag for tag in tags if tag.startswith("fmnist.") and tag.split(".")[1] not in OWN_TAGS}
    return {tag: tags[tag] for tag in sorted(own | (MLFLOW_TAGS & tags.keys()))}


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
Tags = Annotated[dict[str, Text], Field(max_length=_MAX_TAGS), AfterValidator(_tag_names)]


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
        dict[str, Value], Field(min_length=1, max_length=1_000), AfterValidator(_metric_names)
    ]


class _Entry(_Frozen):
    data: Digest
    tags: Tags
    started: Milliseconds
    ended: Milliseconds


class SweepEntry(_Entry):
    """A sweep.

    Attributes:
        kind: What the line is.
        definition: With its arms decided.
        data: Digest of the data it ran on.
        status: How it ended.
        tags: `fmnist.*` and where it comes from.
        started: In ms since 1970.
        ended: The same.
    """

    kind: Literal["sweep"] = "sweep"
    definition: Annotated[SweepConfig, AfterValidator(_harmless_sweep)]
    status: Literal["FINISHED", "FAILED", "KILLED"]

    @model_validator(mode="after")
    def _readable(self) -> Self:
        problems = []
        if self.definition.undecided:
            problems.append(Problem(("definition", "arms"), "missing, and needed"))
        for index, arm in enumerate(self.definition.arms):
            predicted = arm.get("predicted")
            number = isinstance(predicted, (int, float)) and not isinstance(predicted, bool)
            if predicted is not None and not (number and -1 <= predicted <= 2):  # noqa: PLR2004
                place = ("definition", "arms", index, "predicted")
                problems.append(Problem(place, f"found {shown(predicted)}, allowed: an accuracy"))
        raise_problems(problems)
        return self


class RunEntry(_Entry):
    """A finished training.

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
        missing = [metric for metric in _NEEDED if (OUTCOME_STEP, metric) not in seen]
        if missing:
            text = f"step {OUTCOME_STEP} lacks {', '.join(missing)}; a finished run has them"
            problems.append(Problem(("history",), text))
        raise_problems(problems)
        return self


Entry = SweepEntry | RunEntry
