"""MLflow's stores: which one is meant, whether it answers, and what it may print."""

import logging
import os
import re
import sqlite3
import tempfile
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, unquote

# People see our messages, not MLflow's start-up log and its warning about the file store (which
# MLflow refuses from 3.13 on unless this is set). Its usage reports stay off.
for _name, _value in {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",  # it shows one if tqdm is installed
    "GIT_PYTHON_REFRESH": "quiet",
    # A server may be away for a minute or two. After that we report it; the checkpoints are kept.
    # MLflow asks again after 2, 4, 8, ... 64 seconds.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "7",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "PGCONNECT_TIMEOUT": "10",  # PostgreSQL's own default is to wait for ever
}.items():
    os.environ.setdefault(_name, _value)
try:
    Path.home()
except RuntimeError:
    # A container's user without an account has no home; MLflow's import needs one.
    os.environ["HOME"] = tempfile.gettempdir()
warnings.filterwarnings("ignore", module=r"(mlflow|alembic|sqlalchemy|google|pydantic)\b.*")

import mlflow  # noqa: E402  reads these variables on import

# MLflow sets log levels on import, and Alembic logs on import.
for _noisy in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking.file_store"):
    logging.getLogger(_noisy).setLevel(logging.CRITICAL)
# When a store fails it logs a traceback. The user gets our error instead.
logging.getLogger().addHandler(logging.NullHandler())

from alembic.util import CommandError  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from fmnist_tuning.errors import TrackingError  # noqa: E402
from fmnist_tuning.interruption import check, shielded  # noqa: E402
from fmnist_tuning.store import databases, sqlite  # noqa: E402
from fmnist_tuning.text import user_path  # noqa: E402

# ImportError means that a database's driver is not installed; UnicodeError, that the store cannot
# hold a text.
_FAILURES: Final = (
    *(MlflowException, SQLAlchemyError, CommandError, sqlite3.Error),
    *(OSError, ImportError, UnicodeError),
)
_SERVER_TIMEOUT_SECONDS: Final = 10
_SCHEMES: Final = r"file|https?|databricks(-uc)?|uc|(sqlite|postgresql|mysql|mssql)([+]\w+)?"
_MAX_NAME: Final = 200
_LOCK_SECONDS: Final = 20.0  # how long a locked database is waited for, unless its URI says it
_DATABASES: Final = (".db", ".sqlite", ".sqlite3")


def resolve(tracking_uri: str | None, *, environment: bool = True) -> str:
    """The URI of the user's store, with an absolute path if it is a local one.

    `tracking_uri` comes first, then (with `environment`) `MLFLOW_TRACKING_URI`, then MLflow's own
    default. Raises `TrackingError` if the result is not the URI of a store.
    """
    if tracking_uri is None and environment:
        tracking_uri = os.environ.get("MLFLOW_TRACKING_URI") or None
    if tracking_uri is None:
        kept = os.environ.pop("MLFLOW_TRACKING_URI", None)
        try:
            tracking_uri = _default()
        finally:
            if kept is not None:
                os.environ["MLFLOW_TRACKING_URI"] = kept
    _check_uri(tracking_uri)
    place = local_path(tracking_uri)
    if place is None:
        return tracking_uri
    # MLflow caches stores by URI, so a relative path would stay the same in another directory.
    # Locks and checkpoints are beside the database, whatever link leads to it.
    place = user_path(place).resolve()
    if is_file_store(tracking_uri):
        _check_folder(tracking_uri, place)
        return place.as_uri()
    if found := re.search(r"[?]|%[0-9A-Fa-f]{2}", str(place)):
        raise TrackingError(
            f"{place.parent}: found {found[0]} in the folder's name, which means something else in "
            "the address of a database; rename the folder, or name another store with "
            "--tracking-uri"
        )
    _, mark, options = tracking_uri.partition("?")
    return f"sqlite:///{place}{mark}{options}"


def existing(tracking_uri: str | None) -> str | None:
    """The URI of the user's store, which must answer; None if a local store does not exist yet."""
    uri = resolve(tracking_uri)
    place = local_path(uri)
    with translated(uri):
        if place is not None and not place.exists():
            return None
        check_reachable(uri)
    return uri


def is_file_store(uri: str) -> bool:
    """Whether a URI names a folder: MLflow's older kind of store."""
    return "://" not in uri or uri.startswith("file:")


def local_path(uri: str) -> Path | None:
    """The file or folder of a local store; None for servers."""
    if uri.startswith("sqlite:///"):
        return Path(uri.removeprefix("sqlite:///").partition("?")[0])
    if uri.startswith("file:"):
        return Path(unquote(re.sub(r"^file:(//)?", "", uri)))
    if is_file_store(uri):
        return Path(uri)
    return None


def state_folder(uri: str) -> Path:
    """The folder for checkpoints and locks: beside a local store, else in the current directory."""
    place = local_path(uri)
    return (Path() if place is None else place.parent).absolute() / ".fmnist"


def artifact_location(uri: str, name: str) -> str | None:
    """The folder for a study's artefacts: `mlruns` beside a local database; else the store decides.

    If a server made the database, its default would be an address that only this server can use.
    """
    place = local_path(uri)
    if place is None or is_file_store(uri):
        return None
    folder = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return (place.absolute().parent / "mlruns" / folder).as_uri()


def public(text: str) -> str:
    """A text without the passwords of the addresses in it, to be shown."""
    # A password may hold any sign but a space, so it ends at the last @. A token may stand alone.
    text = re.sub(r"(https?://)[^/\s:@]+@", r"\1***@", text)
    text = re.sub(r"(://[^/\s:]*):\S*@", r"\1:***@", text)
    return re.sub(r"([?&]password=)[^&\s]*", r"\1***", text)


def check_name(name: str) -> None:
    """Raise `TrackingError` for a study's name that some stores or terminals cannot handle."""
    if not 1 <= len(name) <= _MAX_NAME or not name.isprintable() or name != name.strip():
        found = ascii(name) if len(name) <= _MAX_NAME else f"{len(name):,} characters"
        raise TrackingError(
            f"--experiment: found {found}, allowed: 1 to {_MAX_NAME} printable characters without "
            "spaces around them"
        )


def _default() -> str:
    """MLflow's own default; it encodes the path of a database, and does not decode it again."""
    uri = str(mlflow.get_tracking_uri())
    if not uri.startswith("sqlite:"):
        return uri
    # Relative, so that nothing in the name of the current folder counts as a part of the URI.
    return f"sqlite:///{Path(unquote(uri)).name}"


def _check_folder(uri: str, place: Path) -> None:
    """Refuse what was meant for a database and would become a folder."""
    there = False
    with suppress(OSError):  # the name is too long for a file
        there = place.is_file()
    if there or place.suffix in _DATABASES:
        name = uri.removeprefix("file:")
        raise TrackingError(
            f"--tracking-uri (or MLFLOW_TRACKING_URI): found {uri!r}, which names a folder of "
            f"runs; a database is sqlite:///{name}"
        )


def _meant(uri: str) -> str | None:
    """The address that was meant, if a scheme or its slashes were left out."""
    if uri[:1] in {'"', "'"}:
        return uri.strip("\"'")
    if found := re.fullmatch(r"(https?):/*([^/].*)", uri):
        return None if uri.startswith(f"{found[1]}://") else f"{found[1]}://{found[2]}"
    if re.fullmatch(r"(//)?(\[[0-9A-Fa-f:.]+\]|[\w.-]+):[0-9]{1,5}(/.*)?", uri):
        return f"http://{uri.removeprefix('//')}"
    return None


def _check_uri(uri: str) -> None:
    """Refuse wrong URIs here, because MLflow would take them for the name of a folder."""
    if meant := _meant(uri):
        raise TrackingError(
            f"--tracking-uri (or MLFLOW_TRACKING_URI): found {ascii(public(uri))[:200]}; did you "
            f"mean {public(meant)[:200]}?"
        )
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", uri)
    known = scheme is None or re.fullmatch(_SCHEMES, scheme[1])
    in_memory = uri.startswith("sqlite:") and not re.match(r"sqlite:///[^:?]", uri)
    if not known or in_memory or not uri.strip() or not uri.isprintable():
        found = ascii(public(uri))[:200]
        raise TrackingError(
            f"--tracking-uri (or MLFLOW_TRACKING_URI): found {found}, allowed: a folder, "
            "sqlite:///FILE, http://HOST:PORT, or a database that MLflow knows, such as "
            "postgresql://USER@HOST/NAME"
        )


def check_reachable(uri: str) -> None:
    """Try a store once, and raise `TrackingError` if it fails; MLflow would retry for minutes."""
    place = local_path(uri)
    if place is not None and not is_file_store(uri):
        folder = place.absolute().parent
        if not folder.is_dir():
            raise TrackingError(
                f"the tracking store {public(uri)}: the folder {folder} does not exist; make it, "
                "or name another store with --tracking-uri"
            )
        waits = parse_qs(uri.partition("?")[2]).get("timeout", [""])[-1]
        sqlite.prepare(place, float(waits) if waits.isdecimal() else _LOCK_SECONDS)
    if databases.is_database_server(uri):
        databases.check_answers(uri, public(uri))
    if not uri.startswith(("http://", "https://")):
        return
    try:
        with urllib.request.urlopen(  # noqa: S310  the scheme was just checked
            re.sub(r"//\S*@", "//", f"{uri.rstrip('/')}/health"), timeout=_SERVER_TIMEOUT_SECONDS
        ):
            pass
    except urllib.error.HTTPError:
        pass  # it answers; the first real call will show if we have access
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"no MLflow server answers at {public(uri)} ({reason}); start it with `mlflow server`, "
            "or name another store with --tracking-uri"
        ) from None


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn an error of MLflow into a `TrackingError`: one line that names the store.

    A call to a server can be interrupted, because it may wait for minutes; one to a database not.
    """
    server = uri.startswith(("http://", "https://"))
    try:
        with nullcontext() if server else shielded():
            yield
    except _FAILURES as error:
        check()  # whoever asked for an end while the store was awaited gets that
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise TrackingError(
            f"the tracking store {public(uri)} failed: {public(lines[0])[:300]} (choose another "
            "with --tracking-uri)"
        ) from error
