"""A project that was moved or copied: MLflow keeps the places of artefacts as absolute paths."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun
from sqlalchemy import func

_ARTIFACTS: Final = "mlruns"


def follow(client: MlflowClient, location: str, database: Path) -> bool:
    """Let the artefacts of a database be those beside it; return whether they were elsewhere.

    `location` is where an experiment's artefacts should be. If it is another project's folder
    `mlruns/NAME`, and the database's own folder has that too, every path of the database that
    begins with the other project's `mlruns` is changed. If the other project is gone, this is done
    too. Artefacts that are kept anywhere else stay there.
    """
    old = _path(location)
    if old is None or old.parent.name != _ARTIFACTS or old.parent.parent == database.parent:
        return False
    new = database.parent / _ARTIFACTS / old.name
    if old.exists() and not new.exists():
        return False
    _rewrite(client, old.parent, new.parent)
    return True


def _path(location: str) -> Path | None:
    if location.startswith("file:"):
        return Path(unquote(urlsplit(location).path))
    return Path(location) if location.startswith("/") else None


def _rewrite(client: MlflowClient, old: Path, new: Path) -> None:
    columns: tuple[Any, ...] = (
        *(SqlExperiment.artifact_location, SqlRun.artifact_uri, SqlLoggedModel.artifact_location),
        *(SqlModelVersion.source, SqlModelVersion.storage_location),
    )
    store = client._tracking_client.store  # noqa: SLF001  MLflow's client cannot change a path
    with store.ManagedSessionMaker() as session:
        for column in columns:
            for before, after in ((old.as_uri(), new.as_uri()), (str(old), str(new))):
                moved = after + func.substr(column, len(before) + 1)
                rows = session.query(column.class_).filter(
                    column.startswith(f"{before}/", autoescape=True)
                )
                rows.update({column: moved}, synchronize_session=False)
