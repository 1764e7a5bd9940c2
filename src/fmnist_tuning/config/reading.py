"""YAML text to plain values, with the line of every key, and nothing that YAML could smuggle in."""

import re
from collections.abc import Iterator
from typing import Any, Final

import yaml

from fmnist_tuning.config.problems import Path, dotted

MAX_BYTES: Final = 1_000_000
MAX_DEPTH: Final = 20


class YamlError(Exception):
    """Text that is not one plain YAML document; the message names the line."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, reading `1e-3` as the number that everyone means by it."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        # Aliases can blow a small file up to gigabytes, and a sweep has no use for them.
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1  # type: ignore[no-untyped-call]
            raise YamlError(f"line {line}: anchors and aliases (&, *) are not supported")
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: list(resolvers) for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"),
    list("-+.0123456789"),
)


def read_yaml(text: str) -> tuple[Any, dict[Path, int]]:
    """Parse one YAML document.

    Returns:
        Its value, and the line (from 1) of every key path in it.

    Raises:
        YamlError: For broken syntax, duplicate keys, aliases, or excessive size or depth.
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
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise YamlError(f"{line}not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, ValueError, OverflowError, TypeError) as error:
        raise YamlError(f"not valid YAML: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise YamlError(f"nested deeper than {MAX_DEPTH} levels") from None
    finally:
        if loader is not None:
            loader.dispose()


def _lines(node: yaml.Node, path: Path) -> Iterator[tuple[Path, int]]:
    if len(path) > MAX_DEPTH:
        raise YamlError(f"line {node.start_mark.line + 1}: nested deeper than {MAX_DEPTH} levels")
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, int] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise YamlError(f"line {line}: a key must be a plain word")
            here = (*path, key.value)
            if key.value in seen:
                raise YamlError(
                    f"line {line}: {dotted(here)} is there already (line {seen[key.value]})"
                )
            seen[key.value] = line
            yield here, line
            yield from _lines(value, here)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            here = (*path, index)
            yield here, value.start_mark.line + 1
            yield from _lines(value, here)
