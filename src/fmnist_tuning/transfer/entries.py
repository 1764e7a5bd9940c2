"""The entries of a study's file: one for each sweep and one for each run.

The file may be forged, so the entries check everything. A valid entry can be written to any store
and read by every command: names are plain words, texts have no control characters, numbers have
bounds, and a run's fingerprint belongs to its settings and data.
"""

import math
import re
import sys
from collections.abc import Callable, Iterator
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator
from pydantic_core import PydanticCustomError

from fmnist_tuning.metrics import METRIC_NAMES, REQUIRED
from fmnist_tuning.store import records
from fmnist_tuning.sweeps.problems import Frozen, Problem, raise_problems
from fmnist_tuning.sweeps.runs import fingerprint
from fmnist_tuning.sweeps.sections import SweepId
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.text import control_character, shown

OUTCOME_STEP: Final = 0

_ORIGIN_TAGS: Final = {
    *(records.NOTE, records.USER),
    *(f"mlflow.source.{part}" for part in ("git.commit", "git.dirty", "name", "type")),
}
"""Those of MLflow's own tags that say where a run comes from. Others hold ids and paths."""

_FIELD_TAGS: Final = {
    *(records.KIND, records.FINGERPRINT, records.SWEEPS, records.DATA),
    *(records.DEFINITION, records.OWNER, records.HEARTBEAT, records.RETRAINS),
}
"""An entry has fields for these, or they only matter while a command runs."""

_MAX_TEXT: Final = 8_000  # MLflow's limit for a tag
_MAX_TAGS: Final = 90  # MLflow takes 100 a call
_MAX_STEP: Final = 1_000_000
_YEAR_10000: Final = 253_402_300_800_000
_COLUMNS: Final = {
    *RunConfig.model_fields,
    "arm",
    "run_id",
    "sweep",
}  # a frame has these beside the metrics
_MOST: Final = 1e100


def _harmless(text: str) -> str:
    # A terminal would obey control characters.
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
    # JSON has no NaN and no infinity, and MLflow's databases lose infinity and the sign of zero.
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
    """Whether a metric's name is allowed: no path in any store, and no other column of a frame."""
    return re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,249}", name) is not None and name not in _COLUMNS


def _sorted_names(is_allowed: Callable[[str], bool], allowed: str) -> AfterValidator:
    def check(values: dict[str, Any]) -> dict[str, Any]:
        for name in values:
            if not is_allowed(name):
                raise_problems([Problem((), f"found {shown(name)}, allowed: {allowed}")])
        return dict(sorted(values.items()))

    return AfterValidator(check)


def _impossible(metric: str, value: float) -> bool:
    """Whether no run can end with this value; only a loss may be infinite or NaN."""
    return metric in METRIC_NAMES and not (
        0 <= value <= _MOST or (metric.endswith("_loss") and not math.isfinite(value))
    )


def is_portable(tag: str) -> bool:
    """Whether a tag is allowed in an entry."""
    own = re.fullmatch(r"fmnist\.[a-z0-9_]{1,100}", tag) is not None and tag not in _FIELD_TAGS
    return own or tag in _ORIGIN_TAGS


TagText = Annotated[str, Field(max_length=_MAX_TEXT), AfterValidator(_harmless)]
Name = Annotated[TagText, AfterValidator(_line)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{1,64}$")]
# As `sweeps.runs.joined` has those of several data sets.
_NAMED = r"[a-z0-9_]{1,20}=[0-9a-f]{1,64}"
Digests = Annotated[str, Field(pattern=rf"^([0-9a-f]{{1,64}}|{_NAMED}(,{_NAMED}){{0,9}})$")]
Milliseconds = Annotated[int, Field(ge=1, lt=_YEAR_10000)]
Value = Annotated[
    float,
    Field(allow_inf_nan=True),
    BeforeValidator(_number),
    PlainSerializer(_in_json, when_used="json"),
]
Tags = Annotated[
    dict[str, TagText],
    Field(max_length=_MAX_TAGS),
    _sorted_names(is_portable, "fmnist.* and MLflow's own"),
]
Values = Annotated[
    dict[str, Value],
    Field(min_length=1, max_length=1_000),
    _sorted_names(is_metric_name, "a plain word that is not a setting"),
]


class Logged(Frozen):
    """Values that were logged together, by metric.

    Infinities and NaN are the strings `Infinity`, `-Infinity`, `NaN` in the file. The largest float
    counts as infinity, because databases store infinity as the largest float.
    """

    step: Annotated[int, Field(ge=0, le=_MAX_STEP)]  # the epoch, or 0 for the finished run
    at: Annotated[int, Field(ge=0, lt=_YEAR_10000)]  # ms since 1970
    values: Values


class SweepEntry(Frozen):
    """A sweep whose arms are known. The file has the fields in this order."""

    kind: Literal["sweep"] = "sweep"
    definition: Annotated[
        Sweep, AfterValidator(_harmless_sweep), PlainSerializer(lambda sweep: sweep.definition())
    ]
    data: Digests
    tags: Tags
    started: Milliseconds
    ended: Milliseconds
    status: records.EndStatus

    @model_validator(mode="after")
    def _readable(self) -> Self:
        problems = []
        if self.definition.pending:
            problems.append(Problem(("definition", "arms"), "this key is required"))
        for index, arm in enumerate(self.definition.listed):
            predicted = arm.get("predicted")
            number = isinstance(predicted, (int, float)) and not isinstance(predicted, bool)
            if predicted is not None and not (number and -1 <= predicted <= 2):  # noqa: PLR2004
                place = ("definition", "arms", index, "predicted")
                problems.append(Problem(place, f"found {shown(predicted)}, allowed: an accuracy"))
        raise_problems(problems)
        return self


class RunEntry(Frozen):
    """A finished training, or a pruned trial of a search. The file has the fields in this order."""

    kind: Literal["run"] = "run"
    name: Name
    fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
    sweeps: Annotated[tuple[SweepId, ...], Field(max_length=100)]  # the first one trained it
    config: RunConfig
    data: Digest
    tags: Tags
    started: Milliseconds
    ended: Milliseconds
    history: tuple[Logged, ...]  # the last value of every metric at every step

    @property
    def pruned(self) -> bool:
        """Whether it ended early, as a trial that was not worth going on."""
        return records.PRUNED in self.tags

    @model_validator(mode="after")
    def _measured(self) -> Self:
        problems = []
        right = fingerprint(self.config, self.data)
        if self.fingerprint != right:
            text = f"found {self.fingerprint}, allowed: {right}, that of its settings and data"
            problems.append(Problem(("fingerprint",), text))
        seen: set[tuple[int, str]] = set()
        for index, logged in enumerate(self.history):
            for metric, value in logged.values.items():
                if (logged.step, metric) in seen:
                    text = f"is there already for step {logged.step}"
                    problems.append(Problem(("history", index, "values", metric), text))
                seen.add((logged.step, metric))
                if logged.step == OUTCOME_STEP and _impossible(metric, value):
                    text = f"found {shown(_in_json(value))}, allowed: 0 to {_MOST:g}"
                    problems.append(Problem(("history", index, "values", metric), text))
        missing = [metric for metric in REQUIRED if (OUTCOME_STEP, metric) not in seen]
        if self.pruned and len(missing) < len(REQUIRED):
            text = f"found {self.tags[records.PRUNED]} in a finished run, allowed: none"
            problems.append(Problem(("tags", records.PRUNED), text))
        elif missing and not self.pruned:
            text = f"step {OUTCOME_STEP} lacks {', '.join(missing)}; a finished run has them"
            problems.append(Problem(("history",), text))
        raise_problems(problems)
        return self


Entry = SweepEntry | RunEntry
