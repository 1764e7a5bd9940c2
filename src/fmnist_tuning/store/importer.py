"""Writing finished trainings of another study: each run completely or not at all."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import Final

from mlflow.entities import Metric, RunTag

from fmnist_tuning.store import records
from fmnist_tuning.store.records import EndStatus
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.store.uris import translated
from fmnist_tuning.sweeps.sweep import Sweep

HALF: Final = "import"
"""The kind of an imported run that is not complete yet. Nothing reads such runs; their real kind is
written last.
"""

HistoryValue = tuple[str, float, int, int]
"""Metric, value, time of logging in ms since 1970, step."""

_METRICS_A_CALL: Final = 900  # MLflow takes 1,000 entries, params and tags included
_TAGS_A_CALL: Final = 100


class Importer(Tracker):
    """Writes into one study; every method raises `TrackingError` if the store fails."""

    def clear_imports(self) -> None:
        """Delete the incomplete runs of an import that was killed."""
        with translated(self._study.uri):
            for run in list(self._study.search(HALF)):
                self._client.delete_run(run.info.run_id)

    def import_run(
        self,
        name: str,
        *,
        tags: Mapping[str, str],
        params: Mapping[str, str],
        history: Iterable[HistoryValue],
        started: int,
        ended: int,
        status: EndStatus = "FINISHED",
    ) -> None:
        """Write a training that has ended completely or not at all; times are in ms since 1970."""
        values = iter(history)
        with self._import("run", name, tags, (started, ended), status) as run_id:
            self._log_inputs(run_id, params, tags)
            while chunk := list(islice(values, _METRICS_A_CALL)):
                self._client.log_batch(run_id, metrics=[Metric(*value) for value in chunk])

    def import_sweep(
        self, sweep: Sweep, *, tags: Mapping[str, str], started: int, ended: int, status: EndStatus
    ) -> None:
        """Write a sweep that the study does not have, completely or not at all."""
        tags = {**tags, **records.definition_tags(sweep)}
        with self._import("sweep", sweep.id, tags, (started, ended), status) as run_id:
            self._log_definition(run_id, sweep)

    def redefine(self, run_id: str, sweep: Sweep) -> None:
        """Change the definition of a sweep that the study has."""
        tags = [RunTag(key, value) for key, value in records.definition_tags(sweep).items()]
        with translated(self._study.uri):
            self._log_definition(run_id, sweep)
            # The first tag holds the number of tags, so it is written last.
            for end in range(len(tags), 0, -_TAGS_A_CALL):
                self._client.log_batch(run_id, tags=tags[max(end - _TAGS_A_CALL, 0) : end])

    @contextmanager
    def _import(
        self, kind: str, name: str, tags: Mapping[str, str], times: tuple[int, int], end: EndStatus
    ) -> Iterator[str]:
        started, ended = times
        tags = {**tags, records.KIND: HALF}
        with translated(self._study.uri):
            run = self._client.create_run(self._study.experiment_id, started, tags, run_name=name)
            yield run.info.run_id
            self._client.set_terminated(run.info.run_id, end, ended)
            self._client.set_tag(run.info.run_id, records.KIND, kind)
