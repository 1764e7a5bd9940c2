"""A study: one MLflow experiment, opened and read.

Every training is an MLflow run of the kind `run`, and every sweep one of the kind `sweep`, which
holds its definition. None is nested, so that MLflow's page draws all curves together.
`store.tracker` writes them.
"""

import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import pandas as pd
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from fmnist_tuning import DEFAULT_STUDY
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import LATE, late_mean
from fmnist_tuning.store import bulk, columns, mounts, records, uris
from fmnist_tuning.store.bulk import Watch, unwatched
from fmnist_tuning.store.databases import client_of
from fmnist_tuning.store.moved import follow
from fmnist_tuning.store.page import SHARE_KEY, VIEW, view
from fmnist_tuning.store.records import TrackedRun, TrackedSweep, UnfinishedRun
from fmnist_tuning.store.uris import public, resolve, translated
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.text import by_number, command_name

PrunedKey = tuple[str, str]
"""A search's id, and a fingerprint."""

# MLflow can show an experiment in two ways; this one has the curves of trainings.
_STUDY_TAGS: Final = {"mlflow.experimentKind": "custom_model_development"}

# A sweep's own run has no curves.
_TRAININGS: Final = f"tags.`{records.KIND}` = 'run'"

_NAMED: Final = 20


@dataclass(frozen=True, eq=False, slots=True)
class Study:
    """One MLflow experiment, open for reading; every method raises `TrackingError` if it fails."""

    client: MlflowClient
    uri: str
    name: str
    experiment_id: str
    watch: Watch = unwatched  # shows reads that may take long

    @classmethod
    def open(cls, name: str = DEFAULT_STUDY, tracking_uri: str | None = None) -> "Study":
        """Open a study; create the store and the experiment if they do not exist."""
        uris.check_name(name)
        uri = resolve(tracking_uri)
        with translated(uri):
            uris.check_reachable(uri)
            client = client_of(uri)
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                try:
                    tags = {**_STUDY_TAGS, VIEW: view(_TRAININGS)}
                    client.create_experiment(name, uris.artifact_location(uri, name), tags)
                except MlflowException as error:
                    if error.error_code != "RESOURCE_ALREADY_EXISTS":
                        raise
                experiment = client.get_experiment_by_name(name)
        _check_active(experiment, uri)
        _follow(client, experiment, uri, writing=True)
        if VIEW not in experiment.tags:  # made by an older version
            with translated(uri):
                client.set_experiment_tag(experiment.experiment_id, VIEW, view(_TRAININGS))
        return cls(client, uri, name, experiment.experiment_id)

    @classmethod
    def find(
        cls,
        name: str = DEFAULT_STUDY,
        tracking_uri: str | None = None,
        *,
        writing: bool = False,
    ) -> "Study | None":
        """Open a study without creating anything; None if there is no such study.

        `writing` says that artefacts will be written, beside the store if it was moved.
        """
        uris.check_name(name)
        uri = uris.existing(tracking_uri)
        if uri is None:
            return None
        with translated(uri):
            client = client_of(uri)
            experiment = client.get_experiment_by_name(name)
        if experiment is None:
            return None
        _check_active(experiment, uri)
        _follow(client, experiment, uri, writing=writing)
        return cls(client, uri, name, experiment.experiment_id)

    @classmethod
    def existing(
        cls,
        name: str = DEFAULT_STUDY,
        tracking_uri: str | None = None,
        *,
        writing: bool = False,
    ) -> "Study":
        """Open a study that must exist; `writing` as in `find`."""
        study = cls.find(name, tracking_uri, writing=writing)
        if study is None:
            others = cls._names(tracking_uri)
            there = f"it has {', '.join(others)}" if others else "it has none"
            raise TrackingError(
                f"there is no study {name} in {public(resolve(tracking_uri))} ({there}); `fmnist "
                "run` makes one, --study names another, and --tracking-uri another store"
            )
        return study

    @staticmethod
    def _names(tracking_uri: str | None) -> list[str]:
        """The studies of a store, the newest first."""
        uri = uris.existing(tracking_uri)
        if uri is None:
            return []
        with translated(uri):
            found = client_of(uri).search_experiments(max_results=_NAMED)
        return [experiment.name for experiment in found if experiment.name != "Default"]

    @property
    def place(self) -> str:
        """The URI of the study's store without its password, to be shown."""
        return public(self.uri)

    def browse_hint(self) -> str:
        """The command or the address that shows this study in a browser."""
        page = (
            f"#/experiments/{self.experiment_id}/runs"
            f"?compareRunsMode=CHART&viewStateShareKey={SHARE_KEY}&workflowType=machine_learning"
        )
        if self.uri.startswith(("http://", "https://")):
            return f"open {self.place.rstrip('/')}/{page}"
        command = f"{command_name('mlflow')} ui"
        if self.uri != resolve(None, environment=False):
            command += f" --backend-store-uri {shlex.quote(self.place)}"
        if uris.is_file_store(self.uri):
            command = f"MLFLOW_ALLOW_FILE_STORE=true {command}"
        return f"{command}   then open http://127.0.0.1:5000/{page}"

    def finished_runs(self) -> dict[str, TrackedRun]:
        """The finished trainings by fingerprint; if several share one, the one that ended last."""
        tag = (records.KIND, "run")
        found = columns.finished_runs(self.client, self.uri, self.experiment_id, tag, self.watch)
        return _latest(self.search("run", "status = 'FINISHED'") if found is None else found)

    def finished_run(self, fingerprint: str) -> TrackedRun | None:
        """The finished training with this fingerprint; if there are several, the last one."""
        condition = f"status = 'FINISHED' and {_with(fingerprint)}"
        return _latest(self.search("run", condition)).get(fingerprint)

    def pruned_runs(self, fingerprint: str | None = None) -> dict[PrunedKey, TrackedRun]:
        """The trials that searches have ended early, or those with this fingerprint.

        By the search's id and the fingerprint: another search may train the same run to its end.
        """
        condition = f"status = 'KILLED' and tags.`{records.PRUNED}` LIKE '%'"
        condition += f" and {_with(fingerprint)}" if fingerprint else ""
        found = [records.tracked_run(run) for run in self.search("run", condition)]
        return {(sweep, run.fingerprint): run for run in reversed(found) for sweep in run.sweeps}

    def unfinished_runs(self, fingerprint: str | None = None) -> list[UnfinishedRun]:
        """All unfinished trainings, or those with this fingerprint, the newest first."""
        condition = "status != 'FINISHED'" + (f" and {_with(fingerprint)}" if fingerprint else "")
        return [records.unfinished_run(run) for run in self.search("run", condition)]

    def attempts(self, fingerprint: str) -> tuple[list[UnfinishedRun], bool]:
        """The RUNNING trainings with this fingerprint, and whether one has finished, at one time.

        Two questions would miss a run that finishes between them.
        """
        found = [*self.search("run", _with(fingerprint))]
        running = [records.unfinished_run(run) for run in found if run.info.status == "RUNNING"]
        ended = [run for run in found if run.info.status == "FINISHED"]
        return running, any(records.has_result(run.data.metrics) for run in ended)

    def running(self) -> list[UnfinishedRun]:
        """Trainings and sweeps with the status RUNNING; some of their commands may have died."""
        found = [
            run for kind in ("run", "sweep") for run in self.search(kind, "status = 'RUNNING'")
        ]
        return [records.unfinished_run(run) for run in found]

    def sweeps(self) -> list[TrackedSweep]:
        """Every sweep that was ever run, in the order of their ids: 9 comes before 10."""
        found = self._sweep_runs()
        return [records.tracked_sweep(found[id_]) for id_ in sorted(found, key=by_number)]

    def definitions(self, ids: Collection[str]) -> dict[str, Sweep]:
        """The definitions of these sweeps, as last run; sweeps that never ran are left out."""
        known = self.sweeps() if ids else []
        return {found.sweep: found.definition.get() for found in known if found.sweep in ids}

    def sweep_run(self, sweep: str) -> Any:
        """MLflow's run of a sweep, or None if it was never run."""
        return self._sweep_runs().get(sweep)

    def curves(self, run_ids: Sequence[str], metrics: Sequence[str]) -> pd.DataFrame:
        """Per-epoch metrics of many runs: columns `run_id`, `epoch`, `metric`, `value`.

        If several values were logged for an epoch (its run was resumed), the last one is returned.
        """
        return self.history(dict.fromkeys(metrics, run_ids)).drop(columns="logged")

    def history(self, run_ids: Mapping[str, Sequence[str]]) -> pd.DataFrame:
        """Like `curves`, but with the runs of each metric, and `logged` in ms since 1970."""
        rows: list[bulk.HistoryRow] = []
        for metric, having in run_ids.items():
            rows += bulk.histories(self.client, self.uri, having, metric, self.watch)
        frame = pd.DataFrame(rows, columns=["run_id", "epoch", "metric", "value", "logged"])
        frame = frame.sort_values(["logged"], kind="stable")
        latest = frame.drop_duplicates(["run_id", "epoch", "metric"], keep="last")
        return latest.sort_values(["run_id", "metric", "epoch"], ignore_index=True)

    def with_late_means(self, runs: Mapping[str, TrackedRun]) -> dict[str, TrackedRun]:
        """The runs with the means over their last epochs, also if an older fmnist trained them."""
        lacking = [run.run_id for run in runs.values() if not run.metrics.keys() >= LATE.keys()]
        curves = self.curves(lacking, [*LATE.values()])
        values = curves.groupby(["run_id", "metric"])["value"].apply(list).to_dict()
        means = {
            id_: {k: late_mean(values[id_, m]) for k, m in LATE.items() if (id_, m) in values}
            for id_ in lacking
        }
        return {
            fingerprint: replace(run, metrics={**means.get(run.run_id, {}), **run.metrics})
            for fingerprint, run in runs.items()
        }

    @property
    def state_folder(self) -> Path:
        """The folder for checkpoints and locks."""
        return uris.state_folder(self.uri)

    @property
    def local(self) -> bool:
        """Whether the store is a file or folder on this machine."""
        return uris.local_path(self.uri) is not None

    @property
    def caution(self) -> str | None:
        """A warning if the study's store or its locks are on a network disk."""
        return mounts.caution(self.state_folder.parent, store=self.place if self.local else None)

    def search(self, kind: str, condition: str | None = None) -> Iterator[Any]:
        """MLflow's own runs of one `fmnist.kind`, the newest first."""
        query = f"tags.`{records.KIND}` = '{kind}'" + (f" and {condition}" if condition else "")
        return bulk.search(self.client, self.uri, self.experiment_id, query, self.watch)

    def _sweep_runs(self) -> dict[str, Any]:
        # Two commands of an older fmnist could make two runs of one sweep: the newest counts.
        return {run.info.run_name: run for run in reversed([*self.search("sweep")])}


def _latest(runs: Iterable[Any]) -> dict[str, TrackedRun]:
    """The results among MLflow's runs, by fingerprint; of several, the one that ended last."""
    found = [records.tracked_run(run) for run in runs]
    replaced = {run.tags.get(records.RETRAINS) for run in found}
    # Clocks can be set back, so a run that says which one it replaces comes after that.
    found.sort(key=lambda run: (run.run_id not in replaced, run.ended))
    return {run.fingerprint: run for run in found if records.has_result(run.metrics)}


def _check_active(experiment: Any, uri: str) -> None:
    if experiment.lifecycle_stage != "active":
        store = shlex.quote(public(uri))
        raise TrackingError(
            f"the study {experiment.name} was deleted in {public(uri)}; bring it back with "
            f"`MLFLOW_TRACKING_URI={store} mlflow experiments restore --experiment-id "
            f"{experiment.experiment_id}`, or choose another name with --study"
        )


def _follow(client: MlflowClient, experiment: Any, uri: str, *, writing: bool) -> None:
    place = uris.local_path(uri)
    if place is not None and not uris.is_file_store(uri):
        with translated(uri):
            follow(client, experiment.artifact_location, place, writing=writing)


def _with(fingerprint: str) -> str:
    return f"tags.`{records.FINGERPRINT}` = '{fingerprint}'"
