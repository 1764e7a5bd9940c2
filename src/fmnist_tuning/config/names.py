"""Texts of a sweep file that end up in file names, terminals and figures."""

import re
import unicodedata
from typing import Annotated, Final

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

_DEVICES: Final = r"(?i:(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$)))"
"""What Windows takes for a device, whatever its suffix."""


def _plain_name(name: str) -> str:
    if not re.fullmatch(rf"{_DEVICES}[A-Za-z0-9][A-Za-z0-9_-]{{0,63}}", name):
        raise PydanticCustomError("name", "up to 64 letters, digits, _ and -")
    return name


def _plain_file(name: str) -> str:
    if not re.fullmatch(rf"{_DEVICES}[A-Za-z0-9][A-Za-z0-9_-]{{0,99}}\.(png|svg|pdf)", name):
        raise PydanticCustomError("file", "a plain file name that ends in .png, .svg or .pdf")
    return name


def _plain_text(text: str) -> str:
    """Neither a terminal nor a figure can show control characters, and the one obeys them."""
    if any(unicodedata.category(sign) == "Cc" and sign != "\n" for sign in text):
        raise PydanticCustomError("text", "a text without control characters")
    return text


def _one_line(text: str) -> str:
    if "\n" in text:
        raise PydanticCustomError("line", "a text in one line")
    return _plain_text(text)


SweepId = Annotated[str, AfterValidator(_plain_name)]
Line = Annotated[str, Field(max_length=200), AfterValidator(_one_line)]
Text = Annotated[str, Field(max_length=2_000), AfterValidator(_plain_text)]
FileName = Annotated[str, AfterValidator(_plain_file)]
