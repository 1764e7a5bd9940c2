"""Problems of a configuration: where, what was found, what is allowed, the nearest right word."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

from fmnist_tuning.text import shorten, shown

Path = tuple[str | int, ...]

_WORD: Final = re.compile(r"\w{1,80}", re.ASCII)

# Where pydantic speaks of JSON or of Python.
_ALLOWED: Final = {
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
    "list_type": "a list",
    "tuple_type": "a list",
    "string_type": "a text",
    "too_short": "at least one entry",
    "json_invalid": "JSON",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong at one place of a configuration."""

    path: Path
    text: str

    def __str__(self) -> str:
        return f"{dotted(self.path)}: {self.text}" if self.path else self.text

    def under(self, *prefix: str | int) -> "Problem":
        """The same problem, seen from further outside."""
        return Problem((*prefix, *self.path), self.text)


def dotted(path: Path) -> str:
    """A key path as people write it: `grid.dropout_rate[2]`; a key that is no word, quoted."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
            continue
        key = part if _WORD.fullmatch(part) else shown(part)
        text += f".{key}" if text else key
    return text


def nearest(word: str, words: Iterable[str]) -> str:
    """`; did you mean X?` for a misspelt word, else the list of the allowed ones."""
    by_folded = {allowed.casefold(): allowed for allowed in words}
    close = get_close_matches(shorten(word.casefold()), by_folded, n=1)
    if close:
        return f"; did you mean {by_folded[close[0]]}?"
    return f"; allowed: {', '.join(by_folded.values())}"


def raise_problems(problems: list[Problem]) -> None:
    """Raise what a model's own validator found, in the form that `problems_of` reads back."""
    if problems:
        raise PydanticCustomError(
            "problems",
            "{text}",
            {"text": "; ".join(p.text for p in problems), "problems": problems},
        )


def problems_of(error: ValidationError, model: type[BaseModel]) -> list[Problem]:
    """Every problem that pydantic found with a value meant to be a `model`."""
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        # A default that depends on a field which is itself wrong: that field is the one to report.
        if detail["type"] == "default_factory_not_called":
            continue
        # A list is also too short for pydantic when its entries are wrong.
        if detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]:
            continue
        # A union repeats an error for each of its members, naming the member as if it were a key.
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
            return "missing, and needed"
        case "too_long" | "string_too_long":
            unit = "characters" if detail["type"] == "string_too_long" else "entries"
            return f"found {len(value):,} {unit}, allowed: at most {detail['ctx']['max_length']:,}"
        case "literal_error" if isinstance(value, str):
            allowed = detail["ctx"]["expected"].replace(" or ", ", ").replace("'", "").split(", ")
            return f"found {shown(value)}{nearest(value, allowed)}"
    default = detail["msg"].replace("Input should be ", "")
    text = _ALLOWED.get(detail["type"], f"{default[0].lower()}{default[1:]}")
    return f"found {shown(value)}, allowed: {text}"


def _keys_at(model: type[BaseModel], path: Path) -> Iterable[str]:
    """The field names of the model that sits at `path` inside `model`."""
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
    """A YAML mapping as JSON, so that pydantic's strict JSON mode can judge it.

    That mode takes a list for a tuple and an integer for a float, and nothing else for anything
    else: neither `true` for 1 nor `"10"` for 10.
    """
    return json.dumps(value, default=str)
