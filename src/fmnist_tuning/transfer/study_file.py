"""A study's file: gzipped JSON Lines, a header and then an entry a line. Pure but for `read_file`.

The same entries make the same bytes: sweeps by id, then runs by name and fingerprint, each with its
keys in a fixed order; gzip's own header holds neither time nor name.
"""

import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.sweeps.problems import Problem, problems_of
from fmnist_tuning.sweeps.runs import TRAINING_SEMANTICS
from fmnist_tuning.text import printable, shown
from fmnist_tuning.transfer.entries import Entry, RunEntry, SweepEntry

FORMAT: Final = "fmnist-study"
VERSION: Final = 1

MAX_BYTES: Final = 256_000_000  # unpacked
MAX_LINE: Final = 16_000_000  # a run of 10,000 epochs has 3 MB
MAX_SWEEPS: Final = 1_000
MAX_RUNS: Final = 100_000
_SHOWN_PROBLEMS: Final = 3
_SHOWN_CHARACTERS: Final = 300
_DAMAGED: Final = "damaged or cut short; copy or export it again"

_Model = TypeVar("_Model", bound=BaseModel)


class Header(BaseModel):
    """The first line: what the file is, and how much is to follow."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    format: Literal["fmnist-study"] = FORMAT
    version: Literal[1] = VERSION
    semantics: int = TRAINING_SEMANTICS
    sweeps: int = Field(ge=0, le=MAX_SWEEPS)
    runs: int = Field(ge=0, le=MAX_RUNS)


def pack_study(entries: Iterable[Entry]) -> bytes:
    """Entries as a file, whatever order they come in."""
    entries = list(entries)
    sweeps = sorted(
        (entry for entry in entries if isinstance(entry, SweepEntry)),
        key=lambda entry: entry.definition.id,
    )
    runs = sorted(
        (entry for entry in entries if isinstance(entry, RunEntry)),
        key=lambda entry: (entry.name, entry.fingerprint),
    )
    header = Header(sweeps=len(sweeps), runs=len(runs))
    packed = io.BytesIO()
    # GzipFile's header is the same on every Python; that of `gzip.compress` is not.
    with gzip.GzipFile("", "wb", compresslevel=9, fileobj=packed, mtime=0) as file:
        for line in (header, *sweeps, *runs):
            values = line.model_dump(mode="json")
            if isinstance(line, RunEntry):
                values["history"].sort(key=lambda one: (one["step"], one["at"], *one["values"]))
            text = json.dumps(values, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
            file.write(f"{text}\n".encode())
    return packed.getvalue()


def read_file(path: Path) -> list[Entry]:
    """Every entry of a file, each of them checked.

    Raises:
        ExchangeError: When it cannot be read, is damaged, or is not what `pack_study` makes.
    """
    try:
        with path.open("rb") as file:
            return unpack_study(file, str(path))
    except OSError as error:
        raise ExchangeError(f"{path}: cannot be read: {error.strerror}") from None


def unpack_study(packed: IO[bytes], place: str) -> list[Entry]:
    """The entries of a file's bytes, which are unpacked a line at a time.

    Args:
        packed: Open for reading.
        place: Its name, for messages.

    Raises:
        ExchangeError: When they are damaged, or not what `pack_study` makes.
    """
    try:
        return _entries(_lines(packed))
    except _FormatError as error:
        raise ExchangeError(f"{place}: {error}; nothing was imported") from None


class _FormatError(Exception):
    pass


def _lines(packed: IO[bytes]) -> Iterator[bytes]:
    """Unpacked lines; no more than one of them is in memory."""
    left = MAX_BYTES
    try:
        with gzip.GzipFile(fileobj=packed, mode="rb") as file:
            while line := file.readline(MAX_LINE + 1):
                left -= len(line)
                if len(line) > MAX_LINE:
                    raise _FormatError(f"a line is longer than {MAX_LINE // 10**6} MB")
                if left < 0:
                    raise _FormatError(f"it unpacks to more than {MAX_BYTES // 10**6} MB")
                yield line
    except gzip.BadGzipFile:
        if left == MAX_BYTES:
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
        key = entry.fingerprint if isinstance(entry, RunEntry) else entry.definition.id
        key = f"the {entry.kind} {key}"
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
    if found.get("version") != VERSION:
        raise _FormatError(
            f"line 1: found version {shown(found.get('version'))}, allowed: {VERSION}; it may be "
            "of a newer fmnist"
        )
    header = _validated(Header, line, 1)
    if header.semantics != TRAINING_SEMANTICS:
        raise _FormatError(
            f"line 1: its runs were trained by semantics {header.semantics}, in which the same "
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
        problems = problems_of(error, model)
        texts = [_described(problem) for problem in problems[:_SHOWN_PROBLEMS]]
        raise _FormatError(f"line {number}: {'; '.join(texts)}") from None


def _described(problem: Problem) -> str:
    """A problem in one short line, in which the file's own keys are harmless too."""
    text = printable(str(problem)).replace("\n", "\\n")
    if len(text) > _SHOWN_CHARACTERS:
        return f"{text[: _SHOWN_CHARACTERS // 2]} ... {text[-_SHOWN_CHARACTERS // 2 :]}"
    return text


def _json(line: bytes) -> Any:
    """A line as plain values, held to what pydantic's parser is lenient about."""
    try:
        return json.loads(
            line.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError):
        raise _FormatError("not JSON in UTF-8") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _FormatError("a key stands twice in one object")
    return found


def _refuse_constant(constant: str) -> Any:
    raise _FormatError(f"found {constant}, which JSON has no word for")
