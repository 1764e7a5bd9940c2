"""What the journal calls arms and settings."""

from fmnist_tuning.config import Arm, label_of, label_of_value
from fmnist_tuning.journal.markdown import plain


def settings_of(arm: Arm) -> str:
    """`dropout rate 0.3, batch norm on`."""
    return ", ".join(f"{label_of(key)} {shown(value)}" for key, value in arm.overrides.items())


def described(arm: Arm) -> str:
    """`dropout rate 0.3`, or `A (dropout rate 0.3, depth 3)` for an arm with a name."""
    return f"{plain(arm.name)} ({settings_of(arm)})" if arm.name else settings_of(arm)


def lettered(arm: Arm) -> str:
    """`Config A`; the settings of an arm without a name."""
    return f"Config {plain(arm.name)}" if arm.name else settings_of(arm)


def shown(value: object) -> str:
    """A setting's value: `on`, `0.3`."""
    return plain(label_of_value(value))


def capital(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]
