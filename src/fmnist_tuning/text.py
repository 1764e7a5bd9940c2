"""Checks text from outside, and makes it harmless where it is shown.

Other people write sweep files, stores, study files and file names. Their text is shown in
terminals, figures, messages and Markdown, and each of these has its own special characters.
"""

import hashlib
import json
import re
import shutil
import sys
import unicodedata
from pathlib import Path
from typing import Final

_SHOWN_CHARACTERS: Final = 80

# These characters start code, emphasis, mathematics, a table cell, a strike-through, a link's
# address, or an entity. An underscore inside a word starts nothing.
_MARKDOWN: Final = re.compile(r"[\\`*|$~]|(?<!\w)_|_(?!\w)|(?<=\])[(\[]|&(?=#?\w+;)")


def printable(text: str) -> str:
    r"""For a terminal: characters that it would obey or hide become codes such as `\x1b`.

    These are escape sequences, control characters, marks that change the direction of writing, and
    halves of surrogate pairs. Line feeds are kept.
    """
    return "".join(
        sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text
    )


def markdown(text: str) -> str:
    """For the journal: one line of Markdown that only shows the text."""
    escaped = _MARKDOWN.sub(r"\\\g<0>", _one_line(text))
    return escaped.replace("<", "&lt;").replace(">", "&gt;")


def markdown_code(text: str) -> str:
    """For the journal, between backticks."""
    return _one_line(text).replace("`", "'")


def file_name(name: str) -> str:
    """For a file or folder: ASCII letters, digits and `_ . -`; different names stay different."""
    safe = re.sub(r"^[.-]|[^\w.-]", "_", name, flags=re.ASCII)
    return safe if safe == name else f"{safe}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def shown(value: object) -> str:
    """For an error message: a value in one line of at most 80 characters."""
    return shorten(ascii(value) if isinstance(value, str) else json.dumps(value, default=str))


def user_path(path: Path | str) -> Path:
    """A path in which a leading `~` is the user's home; a shell leaves that of `--output=~/x`."""
    try:
        return Path(path).expanduser()
    except RuntimeError:  # there is no such user
        return Path(path)


def command_name(name: str) -> str:
    """How a person calls a command of this environment, which may not be on the PATH."""
    return name if shutil.which(name) else str(Path(sys.executable).with_name(name))


def counted(number: int, noun: str) -> str:
    """`1 run`, `1,200 runs`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def shorten(text: str) -> str:
    """At most 80 characters of a text."""
    return text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 3] + "..."


def control_character(text: str, *, allowed: str = "\n") -> str | None:
    """The first control character of a text, except for the allowed ones."""
    return next(
        (sign for sign in text if unicodedata.category(sign) == "Cc" and sign not in allowed), None
    )


def _one_line(text: str) -> str:
    visible = "".join(sign if sign.isprintable() else " " for sign in text)
    # Text that looks like one of our markers would break the journal when it is written again.
    return re.sub("fmnist:(?=begin|end)", "fmnist: ", " ".join(visible.split()))


def by_number(name: str) -> list[tuple[int, str]]:
    """A key to sort names by, in which numbers count as numbers: `exp9` comes before `exp10`."""
    parts = re.split(r"([0-9]{1,18})", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
