"""What a setting's annotation says of it beside its type and its bounds."""

from dataclasses import dataclass
from typing import Any, Literal

Settings = dict[str, Any]
"""Settings by name, as a YAML file has them."""

Component = Literal[
    "network",
    "weights",
    "optimizer",
    "schedule",
    "averaging",
    "augmentation",
    "early stopping",
    "loop",
    "images",
]


@dataclass(frozen=True, slots=True)
class For:
    """The component of a training that takes the setting as an argument."""

    component: Component


@dataclass(frozen=True, slots=True)
class Later:
    """The value that runs had before the setting was added.

    Fingerprints leave the setting out if it has this value, so that older runs are still found.
    """

    before: object


@dataclass(frozen=True, slots=True)
class OnlyWith:
    """The values of another setting without which this one has no effect.

    If there are no `values`, it has an effect unless the other one is None.
    """

    setting: str
    values: tuple[str, ...] = ()

    def holds(self, value: Any) -> bool:
        """Whether this setting has an effect beside that value of the other one."""
        return value in self.values if self.values else value not in {None, "none"}

    @property
    def problem(self) -> str:
        """What is wrong where it has none."""
        first = f": {self.values[0]}" if self.values else ""
        others = f" (or {', '.join(self.values[1:])})" if self.values[1:] else ""
        return f"has no effect without `{self.setting}{first}`{others}"
