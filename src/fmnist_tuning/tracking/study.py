"""The only door to MLflow: runs are written and read here, by explicit client and ids.

A study is one MLflow experiment. Its runs are flat: one MLflow run a training (kind `run`), and one
a sweep (kind `sweep`) that holds the sweep's definition.
"""

import shlex
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException

from fmnist_tuning.config import SweepConfig
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.records import EpochMetrics, RunOutcome
from fmnist_tuning.tracking.provenance import context_tags
from fmnist_tuning.tracking.reading import HistoryRow, histories, search
from fmnist_tuning.tracking.runs import (
    DATA,
    FINGERPRINT,
    HEARTBEAT,
    KIND,
    OWNER,
    REASON,
    SWEEPS,
    WEIGHTS_DIGEST,
    OpenRun,
    TrackedRun,
    TrackedSweep,
    clipped,
    content_digest,
    definition_of,
    definition_tags,
    has_result,
    log_definition,
    open_run,
    run_tags,
    tracked_run,
    tracked_sweep,
)
from fmnist_tuning.tracking.stores import (
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

DEFAULT_STUDY: Final = "fashion_mnist_cnn_tuning"

# Of MLflow's two ways to show an experiment, the one with the curves of trainings.
_STUDY_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}

EndStatus = Literal["FINISHED", "FAILED", "KILLED"]


class Study:
    """One MLflow experiment, open for reading and writing.

    Args:
        client: Bound to the store.
        uri: The store's tracking URI.
        name: The experiment's name.
        experiment_id: Its id.
    """

    def __init__(self, client: MlflowClient, uri: str, name: str, experiment_id: str) -> None:
        self._client = client
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

    @staticmethod
    def resolve(tracking_uri: str | None = None) -> str:
        """The store that is meant, for people: without the password that its URI may hold."""
        return public(resolve(tracking_uri))

    @property
    def place(self) -> str:
        """The study's store, for people in the same way."""
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
        found = [tracked_run(run) for run in self._search("run", "status = 'FINISHED'")]
        found = [run for run in found if has_result(run.metrics)]
        return {run.fingerprint: run for run in sorted(found, key=lambda run: run.ended)}

    def unfinished(self) -> int:
        """How many trainings are under way, or failed, or were interrupted."""
        return sum(1 for _ in self._search("run", "status != 'FINISHED'"))

    def definition(self, sweep: str) -> str | None:
        """The JSON that `begin_sweep` wrote of a sweep, or None where it never ran."""
        run = self._sweep_run(sweep)
        return None if run is None else definition_of(run)

    def sweeps(self) -> list[TrackedSweep]:
        """Every sweep that was ever run, in the order of their ids."""
        found = [tracked_sweep(run) for run in self._search("sweep")]
        return sorted(found, key=lambda sweep: sweep.sweep)

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
                rows += histories(self._client, having, metric)
        frame = pd.DataFrame(rows, columns=["run_id", "epoch", "metric", "value", "logged"])
        frame = frame.sort_values(["logged"], kind="stable")
        latest = frame.drop_duplicates(["run_id", "epoch", "metric"], keep="last")
        return latest.sort_values(["run_id", "metric", "epoch"], ignore_index=True)

    def log_files(self, run_id: str, folder: str | None, files: Sequence[Path]) -> None:
        """Put files among a run's artefacts, under a folder or without one.

        Raises:
            TrackingError: When the artefacts' place cannot be written.
        """
        with translated(self.uri):
            for file in files:
                self._client.log_artifact(run_id, str(file), folder)

    def begin_sweep(self, sweep: SweepConfig, data_digest: str, owner: str = "") -> str:
        """Open the sweep's MLflow run, again if it exists, and write what the sweep is.

        The definition is kept as YAML in the artefact `sweep.yaml`, for people, and as JSON in
        tags, because a store's artefacts are lost when its folder moves, and its tags are not.

        Args:
            sweep: With its arms decided.
            data_digest: Digest of the data it runs on.
            owner: The command that runs it.

        Returns:
            The MLflow run's id.
        """
        tags = {
            KIND: "sweep",
            DATA: data_digest,
            **({OWNER: owner} if owner else {}),
            **definition_tags(sweep),
            "mlflow.note.content": f"{sweep.title}. {sweep.hypothesis}".strip(),
        }
        with translated(self.uri):
            run = self._sweep_run(sweep.sweep)
            if run is None:
                run_id = self._create(sweep.sweep, tags)
            else:
                run_id = run.info.run_id
                self._client.update_run(run_id, status="RUNNING")
                self._client.log_batch(run_id, tags=run_tags(tags))
            log_definition(self._client, run_id, sweep)
        return run_id

    def start_run(
        self,
        name: str,
        *,
        sweeps: Sequence[str],
        fingerprint: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Open an MLflow run for one training; returns its id."""
        own = {KIND: "run", FINGERPRINT: fingerprint, SWEEPS: ", ".join(sweeps)}
        with translated(self.uri):
            run_id = self._create(name, {**own, **tags})
            self._client.log_batch(run_id, params=[Param(k, v) for k, v in params.items()])
        return run_id

    def log_epoch(self, run_id: str, epoch: EpochMetrics) -> None:
        """Write one epoch's metrics, at the epoch as step, in a single call."""
        self._log(run_id, epoch.metrics(), epoch.epoch)

    def finish_run(self, run_id: str, outcome: RunOutcome, weights: Path | None = None) -> None:
        """Write the outcome, keep the network, and mark the run FINISHED.

        Args:
            run_id: MLflow's id.
            outcome: What it is judged by.
            weights: The file of the trained network, named `weights.pt`; its SHA-256 becomes a tag,
                by which the network is known wherever it turns up again.
        """
        if weights is not None:
            self.log_files(run_id, None, [weights])
            with translated(self.uri):
                digest = content_digest(weights.read_bytes())
                self._client.set_tag(run_id, WEIGHTS_DIGEST, digest)
        # At step 0 alone, which MLflow's page draws as bars, one a run.
        self._log(run_id, outcome.metrics(), step=0)
        self.end_run(run_id, "FINISHED")

    def end_run(self, run_id: str, status: EndStatus, reason: str | None = None) -> None:
        """Mark a run ended, with the reason where it did not finish."""
        with translated(self.uri):
            if reason is not None:
                note = {REASON: reason, "mlflow.note.content": f"{status}: {reason}"}
                self._client.log_batch(run_id, tags=run_tags(note))
            self._client.set_terminated(run_id, status)

    @property
    def state_folder(self) -> Path:
        """Where the commands on this study keep checkpoints and locks."""
        return state_folder(self.uri)

    @property
    def local(self) -> bool:
        """Whether it lies in files of this machine."""
        return local_path(self.uri) is not None

    def finished_run(self, fingerprint: str) -> TrackedRun | None:
        """The finished training with this fingerprint that ended last, if any."""
        found = [
            tracked_run(run)
            for run in self._search("run", f"status = 'FINISHED' and {_with(fingerprint)}")
        ]
        found = [run for run in found if has_result(run.metrics)]
        return max(found, key=lambda run: run.ended, default=None)

    def open_runs(self, fingerprint: str) -> list[OpenRun]:
        """Trainings with this fingerprint that are not finished, the newest first."""
        return [
            open_run(run)
            for run in self._search("run", _with(fingerprint))
            if run.info.status != "FINISHED"
        ]

    def running(self) -> list[OpenRun]:
        """Trainings and sweeps that the store takes to be at work."""
        return [
            open_run(run)
            for kind in ("run", "sweep")
            for run in self._search(kind, "status = 'RUNNING'")
        ]

    def take_up(self, run_id: str, tags: Mapping[str, str]) -> set[int]:
        """Mark a broken run as RUNNING again; returns the epochs that it has metrics of."""
        with translated(self.uri):
            known = self._client.get_run(run_id).data.tags
            for tag in (REASON, "mlflow.note.content"):
                if tag in known:
                    self._client.delete_tag(run_id, tag)
            self._client.log_batch(run_id, tags=run_tags(tags))
            self._client.update_run(run_id, status="RUNNING")
            history = self._client.get_metric_history(run_id, "val_loss")
            return {metric.step for metric in history}

    def beat(self, run_id: str) -> None:
        """Show that somebody is at work on a run."""
        with translated(self.uri):
            self._client.set_tag(run_id, HEARTBEAT, f"{time.time():.0f}")

    def add_sweeps(self, run: TrackedRun, sweeps: Sequence[str]) -> None:
        """Tag a finished run with sweeps that use it too."""
        joined = tuple(dict.fromkeys([*run.sweeps, *sweeps]))
        if joined != run.sweeps:
            with translated(self.uri):
                self._client.set_tag(run.run_id, SWEEPS, ", ".join(joined))

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        run = self._client.create_run(
            self.experiment_id, run_name=name, tags={**context_tags(), **clipped(tags)}
        )
        run_id: str = run.info.run_id
        return run_id

    def _log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        with translated(self.uri):
            self._client.log_batch(
                run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()]
            )

    def _sweep_run(self, sweep: str) -> Any:
        runs = (r for r in self._search("sweep") if r.info.run_name == sweep)
        return next(runs, None)

    def _search(self, kind: str, condition: str | None = None) -> Iterator[Any]:
        with translated(self.uri):
            yield from search(self._client, self.experiment_id, kind, condition)


def _with(fingerprint: str) -> str:
    return f"tags.`{FINGERPRINT}` = '{fingerprint}'"
