"""Reading many runs of a study, in pages, while somebody watches how many there are."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Final

from mlflow import MlflowClient
from mlflow.entities import ViewType

from fmnist_tuning.store.uris import translated

_PAGE: Final = 1_000  # some servers return no more in one answer
_LARGEST_PAGE: Final = 5_000  # takes some 400 MB while it is read
_HISTORY_RUNS: Final = 500  # databases limit how many ids a query may name
_HISTORY_VALUES: Final = 10_000_000
_READERS: Final = 8

HistoryRow = tuple[str, int, str, float, int]
"""Run id, step, metric, value, time of logging in ms since 1970."""

Watch = Callable[[str], AbstractContextManager[Callable[[int], None]]]
"""Shows a read that may take long. It is told what is read, and then how many are read so far."""


def unwatched(_: str) -> AbstractContextManager[Callable[[int], None]]:
    """Show nothing."""
    return nullcontext(lambda _: None)


def search(
    client: MlflowClient, uri: str, experiment: str, query: str, watch: Watch
) -> Iterator[Any]:
    """MLflow's runs that match a query, the newest first; `uri` is the client's store.

    Raises:
        TrackingError: When the store fails.
    """
    read, token = 0, None
    with watch("runs") as count:
        while True:
            with translated(uri):
                # A database sorts all runs again for each page, so a large study has larger ones.
                size = max(_PAGE, min(read // 4, _LARGEST_PAGE))
                page = client.search_runs(
                    [experiment], query, ViewType.ACTIVE_ONLY, size, page_token=token
                )
            yield from page
            read += len(page)
            count(read)
            token = page.token
            if not token:
                return


def histories(
    client: MlflowClient, uri: str, run_ids: Sequence[str], metric: str, watch: Watch
) -> list[HistoryRow]:
    """All values of a metric that some runs logged.

    Raises:
        TrackingError: When the store fails.
    """
    # Database stores can return the history of many runs in one call, which is fifteen times
    # faster. MLflow's client has no method for this, so we call the store itself. Servers and the
    # file store are asked run by run.
    bulk = getattr(client._tracking_client.store, "get_metric_history_bulk", None)  # noqa: SLF001
    rows: list[HistoryRow] = []
    with watch(f"histories of {metric}") as count, ThreadPoolExecutor(_READERS) as pool:
        for start in range(0, len(run_ids), _HISTORY_RUNS):
            ids = run_ids[start : start + _HISTORY_RUNS]
            with translated(uri):
                if bulk is not None:
                    found = [(m.run_id, m) for m in bulk(ids, metric, _HISTORY_VALUES)]
                else:
                    answers = pool.map(lambda id_: client.get_metric_history(id_, metric), ids)
                    found = [(id_, m) for id_, ms in zip(ids, answers, strict=True) for m in ms]
            rows += [(run_id, m.step, metric, m.value, m.timestamp) for run_id, m in found]
            count(start + len(ids))
    return rows
