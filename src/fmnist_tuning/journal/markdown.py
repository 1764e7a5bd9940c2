"""Small pieces of Markdown."""

from collections.abc import Sequence


def plain(text: str) -> str:
    """A text from outside as one line of Markdown that starts no tag, table cell or comment."""
    printable = "".join(sign if sign.isprintable() else " " for sign in text)
    escaped = printable.replace("\\", "\\\\").replace("|", "\\|")
    return " ".join(escaped.replace("<", "&lt;").replace(">", "&gt;").split())


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
