"""A study: one MLflow experiment, opened and read.

Its runs are flat: one MLflow run a training (kind `run`), and one a sweep (kind `sweep`) that holds
the sweep's definition. They are written by `store.tracker`.
"""

import shlex
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.store.records import (
    FINGERPRINT,
    KIND,
    TrackedRun,
    TrackedSweep,
    UnfinishedRun,
    has_result,
    tracked_run,
    tracked_sweep,
    unfinished_run,
)
from fmnist_tuning.store.uris import (
    artifact_location,
    check_name,
    check_reachable,
    is_file_store,
    local_path,
    public,
    resolve,
    state_folder,
    translated,
)
from fmnist_tuning.sweeps.sweep import Sweep

DEFAULT_STUDY: Final = "fashion_mnist_cnn_tuning"

# Of MLflow's two ways to show an experiment, the one with the curves of trainings.
_STUDY_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}

_PAGE: Final = 1_000  # MLflow's own limit to one answer of some servers
_HISTORY_RUNS: Final = 500  # databases limit how many ids a query may name
_HISTORY_VALUES: Final = 10_000_000
_READERS: Final = 8

HistoryRow = tuple[str, int, str, float, int]
"""Run id, step, metric, value, and when it was logged, in ms."""


class Study:
    """One MLflow experiment, open for reading; every method raises `TrackingError` when it fails.

    Args:
        client: Bound to the store.
        uri: The store's tracking URI.
        name: The experiment's name.
        experiment_id: Its id.
    """

    def __init__(self, client: MlflowClient, uri: str, name: str, experiment_id: str) -> None:
        self.client = client
        self.uri = uri
        self.name = name
        self.experiment_id = experiment_id

    @classmethod
    def open(cls, name: str = DEFAULT_STUDY, tracking_uri: str | None = None) -> "Study":
        """Open a study, and create the store and the experiment where they are missing.

        Args:
            name: The experiment's name.
            tracking_uri: The store; without it `MLFLOW_TRACKING_URI`, then MLflow's own default in
                the current directory.

        Raises:
            TrackingError: When the store cannot be opened.
        """
        check_name(name)
        uri = resolve(tracking_uri)
        with translated(uri):
            check_reachable(uri)
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                try:
                    client.create_experiment(
                        name, artifact_location=artifact_location(uri, name), tags=_STUDY_TAGS
                    )
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                experiment = client.get_experiment_by_name(name)
        if experiment.lifecycle_stage != "active":
            raise TrackingError(
                f"the study {name} was deleted in {public(uri)}; bring it back with `mlflow "
                f"experiments restore --experiment-id {experiment.experiment_id}`, or choose "
                "another name with --experiment"
            )
        return cls(client, uri, name, experiment.experiment_id)

    @classmethod
    def find(cls, name: str = DEFAULT_STUDY, tracking_uri: str | None = None) -> "Study | None":
        """Open a study without creating anything; None where there is no such study.

        Raises:
            TrackingError: When there is a store that cannot be read.
        """
        check_name(name)
        uri = resolve(tracking_uri)
        place = local_path(uri)
        with translated(uri):
            if place is not None and not place.exists():
                return None
            check_reachable(uri)
            client = MlflowClient(tracking_uri=uri)
            experiment = client.get_experiment_by_name(name)
        if experiment is None or experiment.lifecycle_stage != "active":
            return None
        return cls(client, uri, name, experiment.experiment_id)

    @classmethod
    def existing(cls, name: str = DEFAULT_STUDY, tracking_uri: str | None = None) -> "Study":
        """Open a study that must be there.

        Raises:
            TrackingError: When it is not, or the store cannot be read.
        """
        study = cls.find(name, tracking_uri)
        if study is None:
            raise TrackingError(
                f"there is no study {name} in {public(resolve(tracking_uri))}; `fmnist run` makes "
                "one, and --experiment and --tracking-uri name others"
            )
        return study

    @property
    def place(self) -> str:
        """The study's store, for people: without the password that its URI may hold."""
        return public(self.uri)

    def browse_hint(self) -> str:
        """The command, or the address, that shows this study in a browser."""
        page = (
            f"#/experiments/{self.experiment_id}/runs"
            "?compareRunsMode=CHART&workflowType=machine_learning"
        )
        if self.uri.startswith(("http://", "https://")):
            return f"open {self.place.rstrip('/')}/{page}"
        # `make run` leaves the environment, and its commands, off the PATH.
        installed = Path(sys.executable).with_name("mlflow")
        command = "mlflow ui" if shutil.which("mlflow") else f"{installed} ui"
        if self.uri != resolve(None, environment=False):
            command += f" --backend-store-uri {shlex.quote(self.place)}"
        if is_file_store(self.uri):
            command = f"MLFLOW_ALLOW_FILE_STORE=true {command}"
        return f"{command}   then open http://127.0.0.1:5000/{page}"

    def finished_runs(self) -> dict[str, TrackedRun]:
        """The finished trainings by fingerprint; of several, the one that ended last."""
        return self._finished("status = 'FINISHED'")

    def finished_run(self, fingerprint: str) -> TrackedRun | None:
        """The finished training with this fingerprint that ended last, if any."""
        return self._finished(f"status = 'FINISHED' and {_with(fingerprint)}").get(fingerprint)

    def unfinished_runs(self, fingerprint: str | None = None) -> list[UnfinishedRun]:
        """Trainings (with this fingerprint) that are not finished, the newest first."""
        condition = "status != 'FINISHED'" + (f" and {_with(fingerprint)}" if fingerprint else "")
        return [unfinished_run(run) for run in self.search("run", condition)]

    def running(self) -> list[UnfinishedRun]:
        """Trainings and sweeps that the store takes to be at work."""
        return [
            unfinished_run(run)
            for kind in ("run", "sweep")
            for run in self.search(kind, "status = 'RUNNING'")
        ]

    def sweeps(self) -> list[TrackedSweep]:
        """Every sweep that was ever run, in the order of their ids."""
        found = [tracked_sweep(run) for run in self.search("sweep")]
        return sorted(found, key=lambda sweep: sweep.sweep)

    def definitions(self, ids: Collection[str]) -> dict[str, Sweep]:
        """Of these sweeps, those that were ever run, as they were run last.

        Raises:
            TrackingError: When one of them cannot be read.
        """
        return {s.sweep: s.definition.get() for s in self.sweeps() if s.sweep in ids}

    def curves(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Per-epoch metrics of many runs at once.

        Returns:
            A row a value: `run_id`, `epoch`, `metric`, `value`. Of several values for one epoch,
            the one that was logged last.
        """
        return self.history(dict.fromkeys(metrics, run_ids)).drop(columns="logged")

    def history(self, run_ids: Mapping[str, Sequence[str]]) -> pd.DataFrame:
        """The same, of other runs for each metric, with `logged`: when, in ms since 1970."""
        rows: list[HistoryRow] = []
        with translated(self.uri):
            for metric, having in run_ids.items():
                rows += self._histories(having, metric)
        frame = pd.DataFrame(rows, columns=["run_id", "epoch", "metric", "value", "logged"])
        frame = frame.sort_values(["logged"], kind="stable")
        latest = frame.drop_duplicates(["run_id", "epoch", "metric"], keep="last")
        return latest.sort_values(["run_id", "metric", "epoch"], ignore_index=True)

    @property
    def state_folder(self) -> Path:
        """Where the commands on this study keep checkpoints and locks."""
        return state_folder(self.uri)

    @property
    def local(self) -> bool:
        """Whether it lies in files of this machine."""
        return local_path(self.uri) is not None

    def search(self, kind: str, condition: str | None = None) -> Iterator[Any]:
        """MLflow's own runs of one `fmnist.kind`, those that were started last first."""
        query = f"tags.`{KIND}` = '{kind}'" + (f" and {condition}" if condition else "")
        token = None
        while True:
            with translated(self.uri):
                page = self.client.search_runs(
                    [self.experiment_id], query, ViewType.ACTIVE_ONLY, _PAGE, page_token=token
                )
            yield from page
            token = page.token
            if not token:
                return

    def _finished(self, condition: str) -> dict[str, TrackedRun]:
        found = [tracked_run(run) for run in self.search("run", condition)]
        found = [run for run in found if has_result(run.metrics)]
        return {run.fingerprint: run for run in sorted(found, key=lambda run: run.ended)}

    def _histories(self, run_ids: Sequence[str], metric: str) -> list[HistoryRow]:
        """Every value of a metric in every one of the runs."""
        # Databases answer for many runs at once, by a method of MLflow's store that its client
        # does not pass on: fifteen times faster. Servers and the file store are asked run by run.
        store = self.client._tracking_client.store  # noqa: SLF001
        bulk = getattr(store, "get_metric_history_bulk", None)
        if bulk is not None:
            found = [
                (m.run_id, m)
                for start in range(0, len(run_ids), _HISTORY_RUNS)
                for m in bulk(run_ids[start : start + _HISTORY_RUNS], metric, _HISTORY_VALUES)
            ]
        else:
            with ThreadPoolExecutor(_READERS) as pool:
                answers = pool.map(lambda id_: self.client.get_metric_history(id_, metric), run_ids)
                found = [
                    (run_id, m)
                    for run_id, history in zip(run_ids, answers, strict=True)
                    for m in history
                ]
        return [(run_id, m.step, metric, m.value, m.timestamp) for run_id, m in found]


def _with(fingerprint: str) -> str:
    return f"tags.`{FINGERPRINT}` = '{fingerprint}'"
