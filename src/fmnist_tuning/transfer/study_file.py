"""A study's file: gzipped JSON Lines, a header and then one entry in each line.

The same entries make the same bytes: sweeps are sorted by id, runs by name and fingerprint, keys
have a fixed order, and gzip's own header has no time and no name.
"""

import contextlib
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeVar, cast

from pydantic import BaseModel, Field, ValidationError

from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.sweeps.problems import Frozen, Problem, problems_of
from fmnist_tuning.sweeps.runs import TRAINING_SEMANTICS
from fmnist_tuning.text import printable, shown
from fmnist_tuning.transfer.entries import Entry, RunEntry, SweepEntry

FORMAT: Final = "fmnist-study"
FORMAT_VERSION: Final = 1

MAX_FILE_BYTES: Final = 256_000_000  # unpacked
MAX_LINE: Final = 16_000_000  # a run of 10,000 epochs has 3 MB
MAX_SWEEPS: Final = 1_000
MAX_FILE_RUNS: Final = 100_000
_SHOWN_PROBLEMS: Final = 3
_SHOWN_CHARACTERS: Final = 300
_DAMAGED: Final = "damaged or cut short; copy or export it again"

_Model = TypeVar("_Model", bound=BaseModel)


class Header(Frozen):
    """The first line: what the file is, and how many entries follow."""

    format: Literal["fmnist-study"] = FORMAT
    version: Literal[1] = FORMAT_VERSION
    semantics: int = TRAINING_SEMANTICS
    sweeps: int = Field(ge=0, le=MAX_SWEEPS)
    runs: int = Field(ge=0, le=MAX_FILE_RUNS)


def pack_study(entries: Iterable[Entry], *, compressed: bool = True) -> bytes:
    """The bytes of a file with these entries, in whatever order they come."""
    entries = list(entries)
    sweeps = [entry for entry in entries if isinstance(entry, SweepEntry)]
    runs = [entry for entry in entries if isinstance(entry, RunEntry)]
    sweeps.sort(key=lambda entry: entry.definition.id)
    runs.sort(key=lambda entry: (entry.name, entry.fingerprint))
    header = Header(sweeps=len(sweeps), runs=len(runs))
    plain = b"".join(_line_of(line) for line in (header, *sweeps, *runs))
    if not compressed:
        return plain
    packed = io.BytesIO()
    # GzipFile's header is the same on every Python; that of `gzip.compress` is not.
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        file.write(plain)
    return packed.getvalue()


def _line_of(line: Frozen) -> bytes:
    values = line.model_dump(mode="json")
    if isinstance(line, RunEntry):
        values["history"].sort(key=lambda one: (one["step"], one["at"], *one["values"]))
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return f"{text}\n".encode()


def read_file(path: Path) -> list[Entry]:
    """Read and check every entry of a file; raises `ExchangeError` if it is not as exported."""
    try:
        if str(path) == "-":
            return unpack_study(sys.stdin.buffer, "stdin")
        with path.open("rb") as file:
            return unpack_study(file, str(path))
    except OSError as error:
        raise ExchangeError(f"{path}: cannot be read: {error.strerror}") from None


def unpack_study(packed: IO[bytes], place: str) -> list[Entry]:
    """Read and check the entries of an open file; raises `ExchangeError` that names `place`."""
    try:
        return _entries(_lines(packed))
    except _FormatError as error:
        raise ExchangeError(f"{place}: {error}; nothing was imported") from None


class _FormatError(Exception):
    pass


def _lines(packed: IO[bytes]) -> Iterator[bytes]:
    """Unpacked lines, one at a time: the whole may be too large for the memory."""
    left = MAX_FILE_BYTES
    peekable = io.BufferedReader(cast("io.RawIOBase", packed))  # a pipe cannot go back
    # Browsers unpack what they download, and may keep its name.
    plain = contextlib.nullcontext(peekable) if peekable.peek(1)[:1] == b"{" else None
    try:
        with plain or gzip.GzipFile(fileobj=peekable, mode="rb") as file:
            while line := file.readline(MAX_LINE + 1):
                left -= len(line)
                if len(line) > MAX_LINE:
                    raise _FormatError(f"a line is longer than {MAX_LINE // 10**6} MB")
                if left < 0:
                    raise _FormatError(f"it unpacks to more than {MAX_FILE_BYTES // 10**6} MB")
                yield line
    except gzip.BadGzipFile:
        if left == MAX_FILE_BYTES:
            raise _FormatError("found no gzip data, allowed: what `fmnist export` wrote") from None
        raise _FormatError(_DAMAGED) from None
    except (EOFError, zlib.error):
        raise _FormatError(_DAMAGED) from None


def _entries(lines: Iterator[bytes]) -> list[Entry]:
    header = _header(next(lines, b""))
    found: list[Entry] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(lines, 2):
        if len(found) == header.sweeps + header.runs:
            raise _FormatError(f"line {number}: more than the {len(found)} entries announced")
        entry = _entry(line, number)
        own = entry.fingerprint if isinstance(entry, RunEntry) else entry.definition.id
        key = f"the {entry.kind} {own}"
        if key in seen:
            raise _FormatError(f"line {number}: {key} is there already (line {seen[key]})")
        seen[key] = number
        found.append(entry)
    counts = [sum(entry.kind == kind for entry in found) for kind in ("sweep", "run")]
    if counts != [header.sweeps, header.runs]:
        raise _FormatError(
            f"found {counts[0]} sweeps and {counts[1]} runs, announced: {header.sweeps} and "
            f"{header.runs}; copy or export it again"
        )
    return found


def _header(line: bytes) -> Header:
    try:
        found = _json(line)
    except _FormatError:
        found = None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise _FormatError(
            "line 1: not that of a study's file, allowed: what `fmnist export` wrote"
        )
    if found.get("version") != FORMAT_VERSION:
        raise _FormatError(
            f"line 1: found version {shown(found.get('version'))}, allowed: {FORMAT_VERSION}; it "
            "may be of a newer fmnist"
        )
    header = _validated(Header, line, 1)
    if header.semantics != TRAINING_SEMANTICS:
        raise _FormatError(
            f"line 1: its runs were trained by semantics {header.semantics}, where the same "
            f"settings meant something else; allowed: {TRAINING_SEMANTICS}, this fmnist's"
        )
    return header


def _entry(line: bytes, number: int) -> Entry:
    try:
        found = _json(line)
    except _FormatError as error:
        raise _FormatError(f"line {number}: {error}") from None
    match found:
        case {"kind": "sweep"}:
            return _validated(SweepEntry, line, number)
        case {"kind": "run"}:
            return _validated(RunEntry, line, number)
    raise _FormatError(f"line {number}: allowed: an entry of the kind sweep or run")


def _validated(model: type[_Model], line: bytes, number: int) -> _Model:
    try:
        return model.model_validate_json(line)
    except ValidationError as error:
        texts = map(_described, problems_of(error, model)[:_SHOWN_PROBLEMS])
        raise _FormatError(f"line {number}: {'; '.join(texts)}") from None


def _described(problem: Problem) -> str:
    """A problem in one short line; the keys of the file in it may hold control characters."""
    text = printable(str(problem)).replace("\n", "\\n")
    if len(text) > _SHOWN_CHARACTERS:
        return f"{text[: _SHOWN_CHARACTERS // 2]} ... {text[-_SHOWN_CHARACTERS // 2 :]}"
    return text


def _json(line: bytes) -> Any:
    """A line as plain values; refuses NaN and repeated keys, which pydantic's parser accepts."""
    try:
        text = line.decode("utf-8")
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise _FormatError("not JSON in UTF-8") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _FormatError("a key appears twice in one object")
    return found


def _refuse_constant(constant: str) -> Any:
    raise _FormatError(f"found {constant}, which is not JSON")
