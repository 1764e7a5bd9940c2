"""Many finished runs of a database, column by column.

MLflow's `search_runs` makes an object for each param, tag and metric of a run, some 55 of them. For
ten thousand runs that takes longer than everything else. Its database store knows the columns, so
they are read through it. If a newer MLflow names them otherwise, `search_runs` reads the runs.
"""

import math
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Final

from mlflow import MlflowClient

from fmnist_tuning.store.bulk import Watch
from fmnist_tuning.store.uris import translated

_CHUNK: Final = 500  # databases limit how many ids a query may name


def finished_runs(
    client: MlflowClient, uri: str, experiment: str, tag: tuple[str, str], watch: Watch
) -> Iterator[Any] | None:
    """The FINISHED runs with a tag (its key and value), in the order of `search_runs`.

    Each has the attributes of MLflow's run that `store.records` reads. None if this is not a
    database, or not one of an MLflow whose columns are known.

    Raises:
        TrackingError: When the store fails, while the runs are read.
    """
    try:
        from mlflow.store.tracking.dbmodels import models  # noqa: PLC0415  a server has none

        session = client._tracking_client.store.ManagedSessionMaker  # noqa: SLF001
        run, tags = models.SqlRun, models.SqlTag
        metrics, params = models.SqlLatestMetric, models.SqlParam
        info = (run.run_uuid, run.name, run.status, run.start_time, run.end_time)
        data = (
            (tags.run_uuid, tags.key, tags.value),
            (params.run_uuid, params.key, params.value),
            (metrics.run_uuid, metrics.key, metrics.value, metrics.is_nan),
        )
        chosen = (
            run.experiment_id == int(experiment),
            run.lifecycle_stage == "active",
            run.status == "FINISHED",
            tags.key == tag[0],
            tags.value == tag[1],
        )
        order = (run.start_time.desc(), run.run_uuid)
    except (ImportError, AttributeError):
        return None

    def read() -> Iterator[Any]:
        with watch("runs") as count:
            with translated(uri), session() as opened:
                joined = opened.query(*info).join(tags, tags.run_uuid == run.run_uuid)
                found = joined.filter(*chosen).order_by(*order).all()
            for start in range(0, len(found), _CHUNK):
                rows = found[start : start + _CHUNK]
                ids = [row[0] for row in rows]
                with translated(uri), session() as opened:
                    parts = [
                        opened.query(*columns).filter(columns[0].in_(ids)).all() for columns in data
                    ]
                yield from _runs(rows, *parts)
                count(start + len(rows))

    return read()


def _runs(rows: Any, tags: Any, params: Any, metrics: Any) -> Iterator[Any]:
    by_run: dict[str, Any] = {
        id_: SimpleNamespace(tags={}, params={}, metrics={}) for id_, *_ in rows
    }
    # The names are the same in every run.
    for id_, key, value in tags:
        by_run[id_].tags[sys.intern(key)] = value
    for id_, key, value in params:
        by_run[id_].params[sys.intern(key)] = value
    for id_, key, value, is_nan in metrics:
        by_run[id_].metrics[sys.intern(key)] = math.nan if is_nan else value
    for id_, name, status, started, ended in rows:
        data = by_run[id_]
        info = SimpleNamespace(
            run_id=id_,
            run_name=name or data.tags.get("mlflow.runName", ""),
            status=status,
            start_time=started,
            end_time=ended,
        )
        yield SimpleNamespace(info=info, data=data)
