"""A project that was moved or copied: MLflow keeps the places of artefacts as absolute paths."""

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from mlflow import MlflowClient
from mlflow.store.model_registry.dbmodels.models import SqlModelVersion
from mlflow.store.tracking.dbmodels.models import SqlExperiment, SqlLoggedModel, SqlRun

_ARTIFACTS: Final = "mlruns"


def follow(client: MlflowClient, location: str, database: Path, *, writing: bool) -> None:
    """Let the artefacts of an experiment be those beside the database.

    `location` is where they should be. If that is another project's folder `mlruns/NAME`, and the
    database's own folder has it too, the paths in the database that lead into the other `mlruns`
    are changed, for each study whose folder is here. If the other project is gone and this command
    writes, the experiment's own paths are changed in any case, or new files would make the other
    project's folders again. Artefacts that are kept anywhere else stay there.
    """
    old = _path(location)
    if old is None or old.parent.name != _ARTIFACTS or old.parent.parent == database.parent:
        return
    new = database.parent / _ARTIFACTS / old.name
    if new.exists() or (writing and not old.parent.exists()):
        _rewrite(client, old, new)


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
            places = {place for (place,) in session.query(column).distinct() if place}
            for before in places:
                path = _path(before)
                if path is None or not path.is_relative_to(old.parent):
                    continue
                moved = new.parent / path.relative_to(old.parent)
                study = new.parent / path.relative_to(old.parent).parts[0]
                if study.exists() or path.is_relative_to(old):
                    after = moved.as_uri() if before.startswith("file:") else str(moved)
                    rows = session.query(column.class_).filter(column == before)
                    rows.update({column: after}, synchronize_session=False)
