"""Problems of a configuration: the place, what was found, what is allowed, the nearest word."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from fmnist_tuning.text import shorten, shown

Path = tuple[str | int, ...]

_BOUNDS: Final = {
    "greater_than": ("gt", "greater than"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "less than"),
    "less_than_equal": ("le", "at most"),
}
"""The bounds of numbers by the type of pydantic's error: their names there, and words."""

_COUNTED_SEEDS: Final = 10
_NUMBERS: Final = {
    "an integer": re.compile(r"-?(0|[1-9][0-9]{0,20})"),
    "a number": re.compile(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?(e-?[0-9]{1,3})?"),
}
"""Numbers as this YAML has them, by what is allowed."""

_WORD: Final = re.compile(r"\w{1,80}", re.ASCII)

# Here pydantic's own words are those of JSON or Python.
_ALLOWED: Final = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "a text",
    "bool_type": "true or false",
    "int_type": "an integer",
    "int_from_float": "an integer",
    "float_type": "a number",
    "too_short": "at least one entry",
    "json_invalid": "JSON",
}


class Frozen(BaseModel):
    """Base of the models that check values from outside: no conversions, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake at one place of a configuration."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}" if self.path else self.text

    def under(self, *prefix: str | int) -> "Problem":
        """The same problem with a longer path."""
        return Problem((*prefix, *self.path), self.text)


def dotted(path: Path) -> str:
    """A key path as people write it: `grid.dropout_rate[2]`. A key that is no word is quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        key = part if _WORD.fullmatch(part) else shown(part)
        text += f".{key}" if text else key
    return text


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean X?` for a misspelt word, else the list of the allowed words."""
    by_folded = {allowed.casefold(): allowed for allowed in words}
    parts = sorted(word.casefold().split("_"))
    close = [folded for folded in by_folded if sorted(folded.split("_")) == parts]
    close = close or get_close_matches(shorten(word.casefold()), by_folded, n=1)
    if close:
        return f"; did you mean {by_folded[close[0]]}?"
    return f"; allowed: {', '.join(by_folded.values())}"


def raise_problems(problems: list[Problem]) -> None:
    """Raise the problems that a model's validator found; `problems_of` reads them back."""
    if problems:
        text = "; ".join(problem.text for problem in problems)
        raise PydanticCustomError("problems", "{text}", {"text": text, "problems": problems})


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every problem that pydantic found with a value for `model`."""
    found: list[Problem] = []
    details = error.errors(include_url=False)
    unknown: dict[tuple[int | str, ...], list[str]] = {}  # by the mapping that has the key
    for detail in details:
        if detail["type"] == "extra_forbidden":
            unknown.setdefault(detail["loc"][:-1], []).append(str(detail["loc"][-1]))
    for detail in details:
        *parent, key = detail["loc"] or ("",)
        # A missing key that is there under another spelling is reported as that.
        if detail["type"] == "missing" and _resembles(str(key), unknown.get(tuple(parent), [])):
            continue
        # This default depends on another field that is wrong, and that field is reported.
        if detail["type"] == "default_factory_not_called":
            continue
        # pydantic also calls a list too short if its entries are wrong.
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue
        # A union repeats an error for each of its members, and names the member like a key.
        path = tuple(p for p in detail["loc"] if not (isinstance(p, str) and p.startswith("list[")))
        if detail["type"] == "problems":
            found += [problem.under(*path) for problem in detail["ctx"]["problems"]]
        else:
            found.append(Problem(path, _sentence(detail, model, path)))
    return list(dict.fromkeys(found))


def _sentence(detail: ErrorDetails, model: type[BaseModel], path: Path) -> str:
    value = detail["input"]
    match detail["type"]:
        case "extra_forbidden":
            keys = _keys_at(model, path[:-1])
            return f"unknown key{nearest(str(detail['loc'][-1]), keys)}"
        case "missing":
            return "this key is required"
        case "too_long" | "string_too_long":
            unit = "characters" if detail["type"] == "string_too_long" else "entries"
            return f"found {len(value):,} {unit}, allowed: at most {detail['ctx']['max_length']:,}"
        case "literal_error" if isinstance(value, str | list):
            allowed = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            word = value if isinstance(value, str) else "_".join(map(str, value))
            return f"found {shown(value)}{nearest(word, allowed)}"
    if detail["type"] == "dict_type" and path[-1:] in {("arm",), ("versus",)} and value:
        return f"found {shown(value)}, allowed: a mapping, such as {{name: {value}}}"
    text = _bounds(model, path) if detail["type"] in _BOUNDS else _ALLOWED.get(detail["type"])
    if text is None:
        default = detail["msg"].replace("Input should be ", "")
        text = f"{default[0].lower()}{default[1:]}"
    optional = ", or none" if _may_be_none(model, path) else ""
    return f"found {shown(value)}, allowed: {text}{optional}{_hint(value, text, path)}"


def _may_be_none(model: type[BaseModel], path: Path) -> bool:
    field = model.model_fields.get(str(path[0])) if len(path) == 1 else None
    return field is not None and type(None) in getattr(field.annotation, "__args__", ())


def _hint(value: object, allowed: str, path: Path) -> str:
    """What was probably meant."""
    if allowed == "a list" and type(value) in {int, float} and math.isfinite(float(str(value))):
        # Who writes `seeds: 3` means three of them.
        few = path == ("seeds",) and isinstance(value, int) and 1 <= value <= _COUNTED_SEEDS
        return f", such as {[*range(value)] if few and isinstance(value, int) else [value]}"
    quoted = _NUMBERS.get(allowed)
    if quoted and isinstance(value, str) and quoted.fullmatch(value):
        return "; remove the quotes"
    return ""


def _resembles(key: str, words: Iterable[str]) -> bool:
    return any(get_close_matches(shorten(word.casefold()), [key]) for word in words)


def _bounds(model: type[BaseModel], path: Path) -> str | None:
    """All bounds of the numbers at `path`, in words; None if there are none."""
    field = None
    for part in path:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model else None
            model = (field and _model_in(field.annotation)) or model
    said = {}
    for constraint in _constraints(field) if field else ():
        for name, words in _BOUNDS.values():
            if (bound := getattr(constraint, name, None)) is not None:
                said[name] = f"{words} {bound:,}"
    return " and ".join(said[name] for name, _ in _BOUNDS.values() if name in said) or None


def _constraints(field: FieldInfo) -> Iterator[object]:
    """What a field, or the entries of its list, are restricted to."""
    yield from field.metadata
    for entry in getattr(field.annotation, "__args__", ()):
        for found in getattr(entry, "__metadata__", ()):
            yield from found.metadata if isinstance(found, FieldInfo) else [found]


def _keys_at(model: type[BaseModel], path: Path) -> Iterable[str]:
    """The field names of the model at `path` inside `model`."""
    for part in path:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        nested = _model_in(field.annotation) if field else None
        if nested is None:
            return ()
        model = nested
    return [field.alias or name for name, field in model.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(argument) for argument in getattr(annotation, "__args__", ()))
    return next((model for model in inner if model is not None), None)


def as_json(value: Mapping[str, Any]) -> str:
    """A YAML mapping as JSON, to be checked by pydantic's strict JSON mode.

    That mode accepts a list for a tuple and an integer for a float. It accepts no other
    conversions, such as `true` for 1 or `"10"` for 10.
    """
    return json.dumps(value, default=str)
