"""MLflow's stores: which one is meant, whether it answers, and what it may print."""

import logging
import os
import re
import sqlite3
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import unquote

# People see our messages, not MLflow's start-up log and its warning about the file store (which
# MLflow refuses from 3.13 on unless this is set). Its usage reports stay off.
for _name, _value in {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server may be away for a minute. After that we report it; the checkpoints are kept.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "6",
}.items():
    os.environ.setdefault(_name, _value)
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

# ImportError means that a database's driver is not installed; UnicodeError, that the store cannot
# hold a text.
_FAILURES: Final = (
    *(MlflowException, SQLAlchemyError, CommandError, sqlite3.Error),
    *(OSError, ImportError, UnicodeError),
)
_SERVER_TIMEOUT_SECONDS: Final = 10
_SCHEMES: Final = r"file|https?|databricks(-uc)?|uc|(sqlite|postgresql|mysql|mssql)([+]\w+)?"
_MAX_NAME: Final = 200


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
            tracking_uri = mlflow.get_tracking_uri()
        finally:
            if kept is not None:
                os.environ["MLFLOW_TRACKING_URI"] = kept
    _check_uri(tracking_uri)
    place = local_path(tracking_uri)
    if place is None:
        return tracking_uri
    # MLflow caches stores by URI, so a relative path would stay the same in another directory.
    if is_file_store(tracking_uri):
        return place.absolute().as_uri()
    _, mark, options = tracking_uri.partition("?")
    return f"sqlite:///{place.absolute()}{mark}{options}"


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
    # A password may hold any sign but a space, so it ends at the last @.
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


def _check_uri(uri: str) -> None:
    """Refuse wrong URIs here, because MLflow would take them for the name of a folder."""
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
        with closing(sqlite3.connect(place)) as database:
            database.execute("PRAGMA schema_version")
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
    """Turn an error of MLflow into a `TrackingError`: one line that names the store."""
    try:
        yield
    except _FAILURES as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise TrackingError(
            f"the tracking store {public(uri)} failed: {public(lines[0])[:300]} (choose another "
            "with --tracking-uri)"
        ) from error
