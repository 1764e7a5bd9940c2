"""Every value that was logged for a metric of many runs."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from mlflow import MlflowClient

from fmnist_tuning.store.uris import translated

_RUNS: Final = 500  # databases limit how many ids a query may name
_VALUES: Final = 10_000_000
_READERS: Final = 8

HistoryRow = tuple[str, int, str, float, int]
"""Run id, step, metric, value, time of logging in ms since 1970."""


def values_of(
    client: MlflowClient, uri: str, run_ids: Sequence[str], metric: str
) -> list[HistoryRow]:
    """The history of one metric in the runs of a store; raises `TrackingError` if it fails."""
    # Database stores can return the history of many runs in one call, which is fifteen times
    # faster. MLflow's client has no method for this, so we call the store itself. Servers and
    # the file store are asked run by run.
    store = client._tracking_client.store  # noqa: SLF001
    bulk = getattr(store, "get_metric_history_bulk", None)
    if bulk is not None:
        starts = range(0, len(run_ids), _RUNS)
        chunks = [run_ids[start : start + _RUNS] for start in starts]
        found = []
        for ids in chunks:
            with translated(uri):
                found += [(m.run_id, m) for m in bulk(ids, metric, _VALUES)]
    else:
        with translated(uri), ThreadPoolExecutor(_READERS) as pool:
            answers = pool.map(lambda id_: client.get_metric_history(id_, metric), run_ids)
            found = [(id_, m) for id_, ms in zip(run_ids, answers, strict=True) for m in ms]
    return [(run_id, m.step, metric, m.value, m.timestamp) for run_id, m in found]
