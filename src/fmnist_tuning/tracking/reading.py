"""Reading in bulk: runs page by page, and the histories of many runs at once."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import ViewType

from fmnist_tuning.tracking.runs import KIND

HistoryRow = tuple[str, int, str, float, int]
"""Run id, step, metric, value, and when it was logged, in ms."""

_PAGE: Final = 1_000  # MLflow's own limit to one answer of some servers
_HISTORY_RUNS: Final = 500  # databases limit how many ids a query may name
_HISTORY_VALUES: Final = 10_000_000
_READERS: Final = 8


def search(
    client: MlflowClient, experiment_id: str, kind: str, condition: str | None = None
) -> Iterator[Any]:
    """MLflow's runs of one `fmnist.kind`, those that were started last first."""
    query = f"tags.`{KIND}` = '{kind}'" + (f" and {condition}" if condition else "")
    token = None
    while True:
        page = client.search_runs(
            [experiment_id], query, ViewType.ACTIVE_ONLY, _PAGE, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def histories(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[HistoryRow]:
    """Every value of a metric in every one of the runs."""
    return [
        row
        for start in range(0, len(run_ids), _HISTORY_RUNS)
        for row in _histories(client, run_ids[start : start + _HISTORY_RUNS], metric)
    ]


def _histories(client: MlflowClient, run_ids: Sequence[str], metric: str) -> list[HistoryRow]:
    # Databases answer for many runs at once, by a method of MLflow's store that its client does
    # not pass on: fifteen times faster. Servers and the file store are asked run by run.
    bulk = getattr(client._tracking_client.store, "get_metric_history_bulk", None)  # noqa: SLF001
    if bulk is not None:
        found = ((m.run_id, m) for m in bulk(run_ids, metric, _HISTORY_VALUES))
    else:
        with ThreadPoolExecutor(_READERS) as pool:
            answers = pool.map(lambda run_id: client.get_metric_history(run_id, metric), run_ids)
            found = (
                (run_id, m)
                for run_id, history in zip(run_ids, list(answers), strict=True)
                for m in history
            )
    return [(run_id, m.step, metric, m.value, m.timestamp) for run_id, m in found]
