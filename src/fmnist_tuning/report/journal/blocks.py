"""Generated blocks between markers, in a text that otherwise belongs to a person.

A block is the text between two lines with its name::

    <!-- fmnist:begin exp1_dropout.results -->
    <!-- fmnist:end exp1_dropout.results -->
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from fmnist_tuning.errors import JournalError

_MARKER: Final = re.compile(r"<!-- fmnist:(begin|end) ([a-z0-9_.-]+) -->")
_REMAINS: Final = re.compile(r"fmnist:(begin|end)")

_ADDED: Final = {"answer", "directions"}
"""Blocks that the journals of older versions lack; they stay without."""


@dataclass(frozen=True, slots=True)
class _Marker:
    kind: str  # begin or end
    name: str
    line: int
    start: int
    stop: int


def read_blocks(text: str) -> dict[str, str]:
    """The contents of a text's blocks by name.

    Raises:
        JournalError: For a marker that is damaged, without its partner, nested or there twice.
    """
    return {name: text[start:stop] for name, (start, stop) in _spans(text).items()}


def replace_blocks(text: str, contents: Mapping[str, str]) -> str:
    """The text with new contents in its blocks; the text outside them does not change.

    The blocks may have any order. Each content ends with a line feed; its lines get the line
    endings of the block's own marker.

    Raises:
        JournalError: For a marker that is damaged or missing, and for a block not in `contents`.
    """
    spans = _spans(text)
    if missing := [name for name in contents if name not in spans and name not in _ADDED]:
        raise JournalError(
            f"the markers of {', '.join(missing)} are missing; put back the lines "
            f"`<!-- fmnist:begin {missing[0]} -->` and `<!-- fmnist:end {missing[0]} -->` where "
            "it belongs, or move the file away to have a new one written"
        )
    parts, done = [], 0
    for name, (start, stop) in sorted(spans.items(), key=lambda item: item[1]):
        if name not in contents:
            raise JournalError(f"there is no block {name}; rename or remove its two markers")
        line_end = "\r\n" if text[:start].endswith("\r\n") else "\n"
        parts += [text[done:start], contents[name].replace("\n", line_end)]
        done = stop
    return "".join([*parts, text[done:]])


def _spans(text: str) -> dict[str, tuple[int, int]]:
    spans: dict[str, tuple[int, int]] = {}
    opened: _Marker | None = None
    for marker in _markers(text):
        if marker.kind == "begin":
            if opened is not None:
                raise _unpaired(opened)
            if marker.name in spans:
                raise JournalError(f"line {marker.line}: the block {marker.name} is there twice")
            opened = marker
        else:
            if opened is None or opened.name != marker.name:
                raise _unpaired(marker if opened is None else opened)
            spans[marker.name] = (opened.stop, marker.start)
            opened = None
    if opened is not None:
        raise _unpaired(opened)
    return spans


def _unpaired(marker: _Marker) -> JournalError:
    other = "end" if marker.kind == "begin" else "begin"
    return JournalError(
        f"line {marker.line}: the marker `<!-- fmnist:{marker.kind} {marker.name} -->` has no "
        f"`<!-- fmnist:{other} {marker.name} -->`"
    )


def _markers(text: str) -> Iterator[_Marker]:
    position = 0
    # `splitlines` would also break lines at form feeds and other characters. Editors do not, and
    # the line numbers must be those of the reader's editor.
    for number, line in enumerate(re.findall(r"[^\n]*\n|[^\n]+", text), 1):
        found = _MARKER.fullmatch(line.rstrip("\r\n"))
        if found:
            yield _Marker(found[1], found[2], number, position, position + len(line))
        elif _REMAINS.search(line):
            raise JournalError(
                f"line {number}: found {line.strip()[:80]!r}, which is no marker; allowed: a line "
                "of its own, `<!-- fmnist:begin NAME -->` or `<!-- fmnist:end NAME -->`"
            )
        position += len(line)
