"""The sections of a sweep's file that have keys of their own."""

import re
from typing import Annotated, Final, Literal, Self

import pydantic
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from fmnist_tuning.metrics import ACCURACY, METRICS
from fmnist_tuning.sweeps.marks import Settings
from fmnist_tuning.sweeps.problems import Frozen, Problem, raise_problems
from fmnist_tuning.text import control_character

_DEVICES: Final = r"(?i:(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$)))"
"""Names that Windows reserves for devices, with any suffix."""


def _matching(pattern: str, allowed: str) -> AfterValidator:
    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise PydanticCustomError("name", "{allowed}", {"allowed": allowed})
        return text

    return AfterValidator(check)


def _plain_text(text: str) -> str:
    # A figure cannot show control characters, and a terminal would obey them.
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


class Claim(Frozen):
    """A hypothesis about the difference between two arms, which are selected by their settings.

    A list selects any of its values. If several arms match, their mean is used. A claim about the
    spread compares how far a metric is from its arm's median, in the mean over seeds.
    """

    that: Text  # the hypothesis in words
    arm: Settings
    versus: Settings
    versus_sweep: SweepId | None = None  # if `versus` is in another sweep
    metric: Annotated[str, _matching("|".join(METRICS), ", ".join(METRICS))] = ACCURACY
    compare: Literal["mean", "spread"] = "mean"  # of the metric between seeds
    expect: Literal["higher", "lower", "equal"]  # `arm`, compared with `versus`
    margin: Annotated[float, Field(ge=0)]  # the smallest difference that matters

    @pydantic.model_validator(mode="after")
    def _possible(self) -> Self:
        metric = METRICS[self.metric]
        if self.compare == "spread" and (metric.exact or metric.ratio):
            text = f"found spread, allowed with {self.metric}: mean"
            raise_problems([Problem(("compare",), text)])
        most = metric.widest / 10
        if self.margin >= most:
            allowed = f"less than {most:.3g}, in the metric's own unit"
            if metric.unit in {"percent", "points"}:
                allowed += f": {self.margin:g} percentage points are {self.margin / 100:g}"
            text = f"found {self.margin:g}, allowed: {allowed}"
            raise_problems([Problem(("margin",), text)])
        return self


class Figure(Frozen):
    """The sweep's figure: one of `report.figures.kinds.KINDS`, with swept settings as its axes."""

    kind: Line
    x: str | None = None
    y: str | None = None
    file: FileName


class Combine(Frozen):
    """How finished sweeps choose arms: the `top` combinations with the best predictions.

    With `trials`, the source is a search with so many, and its `top` trials are its finalists.
    """

    sources: Annotated[tuple[SweepId, ...], Field(alias="from", min_length=1, max_length=100)]
    top: Annotated[int, Field(ge=1, le=100)] = 3
    max_params: Annotated[int, Field(ge=1, le=10**12)] | None = None
    trials: Annotated[int, Field(ge=1)] | None = None
