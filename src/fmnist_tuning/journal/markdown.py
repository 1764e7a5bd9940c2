"""Small pieces of Markdown."""

import re
from collections.abc import Sequence
from typing import Final

# What starts code, emphasis, mathematics, a table cell, a strike-through, a link's address, or an
# entity; an underscore inside a word starts nothing.
_SYNTAX: Final = re.compile(r"[\\`*|$~]|(?<!\w)_|_(?!\w)|(?<=\])[(\[]|&(?=#?\w+;)")


def plain(text: str) -> str:
    """A text from outside as one line of Markdown that says what it says, and does nothing."""
    escaped = _SYNTAX.sub(r"\\\g<0>", _one_line(text))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """A text from outside as it may stand between backticks."""
    return _one_line(text).replace("`", "'")


def _one_line(text: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    # What looks like a marker of ours would spoil the journal for its next writing.
    return re.sub("fmnist:(?=begin|end)", "fmnist: ", " ".join(printable.split()))


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose source can be read too: every column as wide as its widest cell."""
    lines = [headings, *rows]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(headings))]
    ruler = ["-" * width for width in widths]
    return "\n".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in (headings, ruler, *rows)
    )
