"""Text from outside, made harmless for a terminal."""


def printable(text: str) -> str:
    r"""The text with every sign that a terminal would obey, or hide, written as its code.

    Escape sequences, control characters, marks that turn the direction of writing and halves of
    surrogate pairs become `\x1b` and the like; line feeds stay.
    """
    return "".join(
        sign if sign.isprintable() or sign == "\n" else ascii(sign)[1:-1] for sign in text
    )
