"""MLflow's stores: which one is meant, whether it answers, and what it may print."""

import logging
import os
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final
from urllib.parse import unquote

# What a person sees is ours to say: neither MLflow's start-up log nor its farewell to the file
# store, which it refuses from 3.13 on unless told otherwise. Its usage reports stay off.
for _name, _value in {
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_ALLOW_FILE_STORE": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
    # A server may be away for half a minute; after that we say so, and the checkpoints stand.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "5",
}.items():
    os.environ.setdefault(_name, _value)
warnings.filterwarnings("ignore", module=r"(mlflow|alembic|sqlalchemy|google|pydantic)\b.*")

import mlflow  # noqa: E402  after the environment that it reads

# MLflow sets levels of its own when it is imported, and Alembic speaks when it is.
for _noisy in ("alembic", "mlflow.store.db.utils", "mlflow.store.tracking.file_store"):
    logging.getLogger(_noisy).setLevel(logging.ERROR)

from alembic.util import CommandError  # noqa: E402
from mlflow.exceptions import MlflowException  # noqa: E402
from sqlalchemy.exc import SQLAlchemyError  # noqa: E402

from fmnist_tuning.errors import TrackingError  # noqa: E402

_SERVER_TIMEOUT_SECONDS: Final = 10


def resolve(tracking_uri: str | None, *, environment: bool = True) -> str:
    """The URI of the store that is meant, a local one's by its absolute path.

    Args:
        tracking_uri: What the user named, before anything else.
        environment: Let `MLFLOW_TRACKING_URI` come next, before MLflow's own default.
    """
    if tracking_uri:
        return _absolute(tracking_uri)
    if environment and os.environ.get("MLFLOW_TRACKING_URI"):
        return _absolute(os.environ["MLFLOW_TRACKING_URI"])
    kept = os.environ.pop("MLFLOW_TRACKING_URI", None)
    try:
        default: str = mlflow.get_tracking_uri()
    finally:
        if kept is not None:
            os.environ["MLFLOW_TRACKING_URI"] = kept
    return _absolute(default)


def _absolute(uri: str) -> str:
    """A local store's URI, free of the current directory: MLflow caches stores by their URIs."""
    place = local_path(uri)
    if place is None:
        return uri
    if is_file_store(uri):
        return place.absolute().as_uri()
    _, mark, options = uri.partition("?")
    return f"sqlite:///{place.absolute()}{mark}{options}"


def is_file_store(uri: str) -> bool:
    """Whether a URI names a folder in MLflow's old format."""
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
    """Where the commands on a store keep checkpoints and locks: beside it, or here for servers."""
    place = local_path(uri)
    return (Path() if place is None else place.parent).absolute() / ".fmnist"


def artifact_location(uri: str, name: str) -> str | None:
    """Where a local database's study keeps its artefacts: in `mlruns` beside it.

    Said outright, because a server that made the store would have put addresses of its own there,
    which nobody but that server can write to. Other stores know best themselves.
    """
    place = local_path(uri)
    if place is None or is_file_store(uri):
        return None
    folder = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    return (place.absolute().parent / "mlruns" / folder).as_uri()


def check_reachable(uri: str) -> None:
    """Ask a server once: MLflow itself would go on trying for minutes."""
    if not uri.startswith(("http://", "https://")):
        place = local_path(uri)
        if place is not None and uri.startswith("sqlite:") and not place.absolute().parent.is_dir():
            raise TrackingError(f"{uri}: the folder {place.absolute().parent} does not exist")
        return
    try:
        with urllib.request.urlopen(  # noqa: S310  the scheme was just checked
            f"{uri.rstrip('/')}/health", timeout=_SERVER_TIMEOUT_SECONDS
        ):
            pass
    except urllib.error.HTTPError:
        pass  # it answers; whether it lets us in, the first real call tells
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise TrackingError(
            f"no MLflow server answers at {uri} ({reason}); start it with `mlflow server`, or name "
            "another store with --tracking-uri"
        ) from None


@contextmanager
def translated(uri: str) -> Iterator[None]:
    """Turn what MLflow raises into one line that names the store."""
    try:
        yield
    except (MlflowException, SQLAlchemyError, CommandError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise TrackingError(
            f"the tracking store {uri} failed: {lines[0]} (choose another with --tracking-uri)"
        ) from error
