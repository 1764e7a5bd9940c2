"""The one door for text from outside: what it may hold, and how it is made harmless where it goes.

Sweep files, stores, study files and file names are written by others. What they hold reaches
terminals, figures, messages and Markdown, each of which obeys signs of its own.
"""

import json
import re
import unicodedata
from typing import Final

_SHOWN_CHARACTERS: Final = 80

# What starts code, emphasis, mathematics, a table cell, a strike-through, a link's address, or an
# entity; an underscore inside a word starts nothing.
_MARKDOWN: Final = re.compile(r"[\\`*|$~]|(?<!\w)_|_(?!\w)|(?<=\])[(\[]|&(?=#?\w+;)")


def printable(text: str) -> str:
    r"""For a terminal: every sign that it would obey, or hide, written as its code.

    Escape sequences, control characters, marks that turn the direction of writing and halves of
    surrogate pairs become `\x1b` and the like; line feeds stay.
    """
    return "".join(
        sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text
    )


def markdown(text: str) -> str:
    """For the journal: one line of Markdown that shows the text and does nothing else."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", _one_line(text))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    """For the journal, between backticks."""
    return _one_line(text).replace("`", "'")


def shown(value: object) -> str:
    """For an error message: a value as found, in at most 80 characters of one line."""
    return shorten(ascii(value) if isinstance(value, str) else json.dumps(value, default=str))


def shorten(text: str) -> str:
    """At most 80 characters of a text."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def control_character(text: str, *, allowed: str = "\n") -> str | None:
    """The first control character of a text, if it has any but the allowed ones."""
    return next(
        (sign for sign in text if unicodedata.category(sign) == "Cc" and sign not in allowed), None
    )


def _one_line(text: str) -> str:
    visible = "".join(sign if sign.isprintable() else " " for sign in text)
    # What looks like a marker of ours would spoil the journal for its next writing.
    return re.sub("fmnist:(?=begin|end)", "fmnist: ", " ".join(visible.split()))
