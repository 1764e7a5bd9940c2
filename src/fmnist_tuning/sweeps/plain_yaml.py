"""YAML text as plain values, with the line of every key; YAML's dangerous features are refused."""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from fmnist_tuning.sweeps.problems import Path, dotted

MAX_BYTES: Final = 250_000
MAX_DEPTH: Final = 20
MAX_VALUES: Final = 5_000
"""Includes keys. Enough for hundreds of named arms; each value takes about 0.1 ms."""

_MAX_DIGITS: Final = 100
_TAG: Final = "tag:yaml.org,2002:"


class YamlError(Exception):
    """Text that is not one plain YAML document; `line` (from 1) is None where there is none."""

    def __init__(self, text: str, line: int | None = None) -> None:
        super().__init__(text)
        self.line = line


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader for plain values only: no aliases, tags, merging or dates.

    Numbers are decimal: `1e-3` is a number, but `1:30` and `010` are texts (YAML 1.1 reads them as
    90 and 8). Every key is a text.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = 0
        self._values = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        # A small file with aliases can expand to gigabytes, and tags can create any object. Sweeps
        # need neither.
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            raise YamlError("anchors and aliases (&, *) are not supported", line)
        if event.tag is not None:
            raise YamlError("tags (!) are not supported; quote a text that begins with one", line)
        self._values += 1
        if self._values > MAX_VALUES:
            raise YamlError(f"more than {MAX_VALUES:,} values; a sweep fits into a page", line)
        if self._depth > MAX_DEPTH:
            raise YamlError(f"nested deeper than {MAX_DEPTH} levels", line)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        return {key.value: self.construct_object(value, deep=deep) for key, value in node.value}


_Loader.yaml_implicit_resolvers = {}
for _kind, _pattern, _first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF",
     "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", "~nN\0"),
    ("int", r"[-+]?(0|[1-9][0-9_]*)", "-+0123456789"),
    ("float", r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*|\.(inf|Inf|INF))|\.(nan|NaN|NAN)",
     "-+.0123456789"),
    ("float", r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+", "-+.0123456789"),
):  # fmt: skip
    _Loader.add_implicit_resolver(
        _TAG + _kind, re.compile(rf"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first]
    )


def read_yaml(text: str) -> tuple[Any, dict[Path, int]]:
    """Parse one YAML document into its value and the line (from 1) of every key path.

    Raises:
        YamlError: For broken syntax, duplicate keys, aliases, tags, or too much size or depth.
    """
    if len(text) > MAX_BYTES:
        raise YamlError(f"longer than {MAX_BYTES:,} characters; a sweep fits into a page")
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        if node is None:
            return None, {}
        lines = dict(_lines(node, ()))
        return loader.construct_document(node), lines
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        # Some of PyYAML's messages have two halves: expected a single document, but found another.
        context = f"{error.context}, " if str(error.problem).startswith("but ") else ""
        raise YamlError(f"not valid YAML: {context}{error.problem}", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise YamlError(
            f"found the character #x{error.character:04x}, allowed: printable characters", line
        ) from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # such as "\UFFFFFFFF"
        line = loader.line + 1 if loader else None
        raise YamlError(f"not valid YAML: {str(error).splitlines()[0]}", line) from None
    finally:
        if loader is not None:
            loader.dispose()


def _lines(node: yaml.Node, path: Path) -> Iterator[tuple[Path, int]]:
    if isinstance(node, yaml.ScalarNode):
        _check_scalar(node)
    elif isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError("a key must be a plain word", line)
            _check_scalar(key)
            here = (*path, key.value)
            if key.value in seen:
                raise YamlError(f"{dotted(here)} is there already (line {seen[key.value]})", line)
            seen[key.value] = line
            yield here, line
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            yield here, value.start_mark.line + 1
            yield from _lines(value, here)


def _check_scalar(node: yaml.ScalarNode) -> None:
    line = node.start_mark.line + 1
    if any("\ud800" <= sign <= "\udfff" for sign in node.value):
        raise YamlError(
            "found half of a surrogate pair (\\uD800 to \\uDFFF), allowed: whole characters", line
        )
    # Python needs a second to read 100,000 digits, and refuses to write 5,000.
    if node.tag in {f"{_TAG}int", f"{_TAG}float"} and len(node.value) > _MAX_DIGITS:
        raise YamlError(
            f"found a number of {len(node.value):,} characters, allowed: {_MAX_DIGITS}", line
        )
