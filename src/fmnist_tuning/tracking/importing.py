"""Writing runs that were measured elsewhere: whole, or not there for any reader."""

from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Final, Literal

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag

from fmnist_tuning.config import SweepConfig
from fmnist_tuning.tracking.reading import search
from fmnist_tuning.tracking.runs import (
    DATA,
    FINGERPRINT,
    KIND,
    SWEEPS,
    TrackedSweep,
    definition_tags,
    log_definition,
)
from fmnist_tuning.tracking.stores import translated
from fmnist_tuning.tracking.study import EndStatus, Study

HALF: Final = "import"
"""The kind of a run that is not all there yet. Nothing reads such runs; the last thing written is
the kind they are to have.
"""

_METRICS: Final = 900  # MLflow takes 1,000 entries a call, params and tags among them
_TAGS: Final = 100

HistoryValue = tuple[str, float, int, int]
"""Metric, value, when it was logged in ms, step."""


class Importer:
    """Writes into one study.

    Args:
        study: Open.

    Raises:
        TrackingError: From every method, when the store fails.
    """

    def __init__(self, study: Study) -> None:
        self._uri = study.uri
        self._experiment_id = study.experiment_id
        self._client = MlflowClient(tracking_uri=study.uri)

    def clear(self) -> None:
        """Delete what an import that was killed left half written."""
        with translated(self._uri):
            for run in list(search(self._client, self._experiment_id, HALF)):
                self._client.delete_run(run.info.run_id)

    def add_run(
        self,
        name: str,
        *,
        fingerprint: str,
        data_digest: str,
        sweeps: Iterable[str],
        params: Mapping[str, str],
        tags: Mapping[str, str],
        history: Iterable[HistoryValue],
        started: int,
        ended: int,
    ) -> None:
        """Write a finished training, with times in ms since 1970 and nobody's tags but its own."""
        own = {FINGERPRINT: fingerprint, SWEEPS: ", ".join(sweeps), DATA: data_digest}

        def fill(run_id: str) -> None:
            self._client.log_batch(run_id, params=[Param(k, v) for k, v in params.items()])
            values = iter(history)
            while chunk := list(islice(values, _METRICS)):
                self._client.log_batch(run_id, metrics=[Metric(*value) for value in chunk])

        self._add(
            "run", name, {**tags, **own}, fill, started=started, ended=ended, status="FINISHED"
        )

    def add_sweep(
        self,
        sweep: SweepConfig,
        *,
        data_digest: str,
        tags: Mapping[str, str],
        started: int,
        ended: int,
        status: EndStatus,
    ) -> None:
        """Write a sweep that the study does not have."""
        own = {DATA: data_digest, **definition_tags(sweep)}

        def fill(run_id: str) -> None:
            log_definition(self._client, run_id, sweep)

        self._add(
            "sweep", sweep.sweep, {**tags, **own}, fill, started=started, ended=ended, status=status
        )

    def redefine(self, present: TrackedSweep, sweep: SweepConfig) -> None:
        """Give a sweep that the study has another definition."""
        tags = [RunTag(key, value) for key, value in definition_tags(sweep).items()]
        with translated(self._uri):
            log_definition(self._client, present.run_id, sweep)
            # The first tag says how many there are, and so comes last.
            for end in range(len(tags), 0, -_TAGS):
                self._client.log_batch(present.run_id, tags=tags[max(end - _TAGS, 0) : end])

    def _add(
        self,
        kind: Literal["run", "sweep"],
        name: str,
        tags: Mapping[str, str],
        fill: Callable[[str], None],
        *,
        started: int,
        ended: int,
        status: EndStatus,
    ) -> None:
        with translated(self._uri):
            run = self._client.create_run(
                self._experiment_id, started, {**tags, KIND: HALF}, run_name=name
            )
            fill(run.info.run_id)
            self._client.set_terminated(run.info.run_id, status, ended)
            self._client.set_tag(run.info.run_id, KIND, kind)
