"""Exported studies, opened and packed again by hand."""

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def lines_of(file: Path) -> list[dict[str, Any]]:
    """A study's file as its JSON."""
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).splitlines()]


def packed(lines: Sequence[Any]) -> bytes:
    """JSON, or lines as they are, as a study's file."""
    text = "".join(f"{line if isinstance(line, str) else json.dumps(line)}\n" for line in lines)
    return gzip.compress(text.encode())


def exported(fmnist: Callable[..., Any], uri: str, *options: str) -> bytes:
    """What a store gives, in `again.jsonl.gz`."""
    done = fmnist("export", "again.jsonl.gz", "--tracking-uri", uri, *options)
    assert done.returncode == 0, done.stderr
    return Path("again.jsonl.gz").read_bytes()
