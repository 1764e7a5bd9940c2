"""Writing into a study: trainings while they run, and their sweeps."""

import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.store import records
from fmnist_tuning.store.context import context_tags, user
from fmnist_tuning.store.page import dataset
from fmnist_tuning.store.records import EndStatus
from fmnist_tuning.store.uris import translated
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.looks import continued
from fmnist_tuning.sweeps.runs import DEFAULT_DATASET
from fmnist_tuning.sweeps.sweep import Sweep

if TYPE_CHECKING:
    from fmnist_tuning.store.study import Study


class Tracker:
    """Writes into one study; every method raises `TrackingError` if the store fails."""

    def __init__(self, study: "Study") -> None:
        self._study = study
        self._client = study.client

    def begin_sweep(self, sweep: Sweep, data_digest: str, owner: str = "") -> str:
        """Create the sweep's own MLflow run, or open it again, and write the sweep's definition.

        The artefact `sweep.yaml` is for people. Programs read the same from tags, because artefacts
        are lost when the folder of the store moves. Returns the id of the run.
        """
        while (run_id := self._opened_sweep(sweep, data_digest, owner)) is None:
            pass  # another machine has made it meanwhile
        return run_id

    def _opened_sweep(self, sweep: Sweep, data_digest: str, owner: str) -> str | None:
        """The sweep's run, new or open again; None if it was deleted in favour of another one."""
        run = self._study.sweep_run(sweep.id)
        if run is not None:  # another command may have extended it since this one was planned
            sweep = continued(sweep, records.definition_of(sweep.id, run.data.tags).parsed)
        tags = {
            records.KIND: "sweep",
            records.DATA: data_digest,
            **({records.OWNER: owner} if owner else {}),
            **records.definition_tags(sweep),
            records.NOTE: f"{sweep.title}. {sweep.hypothesis}".strip(),
        }
        with translated(self._study.uri):
            run_id = self._create(sweep.id, tags) if run is None else str(run.info.run_id)
            if run is None and not self._study.local and not self._stays(run_id, sweep.id):
                return None
            try:
                if run is not None:
                    if records.REASON in run.data.tags:
                        self._drop_tag(run_id, records.REASON)
                    self._client.update_run(run_id, status="RUNNING")
                    self._client.log_batch(run_id, tags=_run_tags(tags))
                self._log_definition(run_id, sweep)
            except MlflowException:
                if self._study.local or not self.is_deleted(run_id):
                    raise
                return None
        return run_id

    def start_run(
        self,
        name: str,
        *,
        sweeps: Mapping[str, str],
        fingerprint: str,
        params: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> str:
        """Create the MLflow run of one training; returns its id.

        `sweeps` has the run's arm in each sweep that uses it, by the sweep's id.
        """
        run_id = self.announce_run(name, sweeps=sweeps, fingerprint=fingerprint, tags=tags)
        with translated(self._study.uri):
            self._log_inputs(run_id, params, tags)
        return run_id

    def announce_run(
        self, name: str, *, sweeps: Mapping[str, str], fingerprint: str, tags: Mapping[str, str]
    ) -> str:
        """Create the MLflow run of a training that others may train as well; returns its id."""
        joined = ", ".join(sweeps)
        own = {records.KIND: "run", records.FINGERPRINT: fingerprint, records.SWEEPS: joined}
        with translated(self._study.uri):
            return self._create(name, {**own, **records.sweep_tags(sweeps), **tags})

    def claim_run(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> bool:
        """Write the parameters of an announced run; False if another command has closed it."""
        with translated(self._study.uri):
            try:
                self._log_inputs(run_id, params, tags)
            except MlflowException:
                if records.GIVEN_UP not in self._client.get_run(run_id).data.params.values():
                    raise
                return False
        return True

    def close_run(self, run_id: str, key: str) -> bool:
        """Close another command's announced run; False if that command was faster."""
        with translated(self._study.uri):
            try:
                self._client.log_param(run_id, key, records.GIVEN_UP)
            except MlflowException:
                found = self._client.get_run(run_id)
                there = found.data.params.get(key)
                if there is None and found.info.lifecycle_stage != "deleted":
                    raise
                return there in {None, records.GIVEN_UP}
        return True

    def take_up(self, run_id: str, tags: Mapping[str, str]) -> set[int]:
        """Mark a broken run as RUNNING again; returns the epochs that have metrics."""
        with translated(self._study.uri):
            known = self._client.get_run(run_id).data.tags
            for tag in {records.REASON, records.NOTE, records.PRUNED} & known.keys():
                self._drop_tag(run_id, tag)
            self._client.log_batch(run_id, tags=_run_tags(tags))
            self._client.update_run(run_id, status="RUNNING")
            history = self._client.get_metric_history(run_id, "val_loss")
            return {metric.step for metric in history}

    def log_epoch(self, run_id: str, epoch: EpochMetrics) -> None:
        """Write the metrics of one epoch in a single call; the epoch is the step."""
        self._log(run_id, epoch.metrics(), epoch.epoch)

    def keep_network(self, run_id: str, weights: Path) -> None:
        """Store the file `weights.pt` of a run that is about to finish.

        The SHA-256 of the weights becomes a tag, so that they can be checked when they are read.
        """
        self.log_files(run_id, None, [weights])
        with translated(self._study.uri):
            digest = records.content_digest(weights.read_bytes())
            self._client.set_tag(run_id, records.WEIGHTS_DIGEST, digest)

    def finish_run(self, run_id: str, metrics: Mapping[str, float]) -> None:
        """Write the final metrics, and mark the run FINISHED."""
        # MLflow's page draws metrics that have only step 0 as bars, one for each run.
        self._log(run_id, metrics, step=0)
        self.end_run(run_id, "FINISHED")

    def end_run(self, run_id: str, status: EndStatus, reason: str | None = None) -> None:
        """Mark a run as ended, with the reason if it did not finish."""
        with translated(self._study.uri):
            if reason is not None:
                note = {records.REASON: reason, records.NOTE: f"{status}: {reason}"}
                self._client.log_batch(run_id, tags=_run_tags(note))
            self._client.set_terminated(run_id, status)

    def prune_run(self, run_id: str, epochs: int, reason: str) -> None:
        """Mark a trial as ended after so many epochs, because it was not worth going on."""
        self.tag(run_id, records.PRUNED, str(epochs))
        self.end_run(run_id, "KILLED", reason)

    def is_over(self, run_id: str) -> bool:
        """Whether a run has finished or was deleted; not if this store has none of that id."""
        with translated(self._study.uri):
            try:
                info = self._client.get_run(run_id).info
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return False
                raise
        return bool(info.status == "FINISHED" or info.lifecycle_stage == "deleted")

    def is_deleted(self, run_id: str) -> bool:
        """Whether somebody has deleted a run, for example on MLflow's page."""
        with translated(self._study.uri):
            try:
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "deleted")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return True
                raise

    def holds(self, run_id: str, owner: str) -> bool:
        """Whether a run is still RUNNING for this command: no other has taken it for dead."""
        with translated(self._study.uri):
            run = self._client.get_run(run_id)
        return bool(run.info.status == "RUNNING" and run.data.tags.get(records.OWNER) == owner)

    def delete(self, run_id: str) -> None:
        """Move a run to MLflow's trash, if it is not there."""
        with translated(self._study.uri):
            try:
                self._client.delete_run(run_id)
            except MlflowException:  # asked twice, because the first answer was lost
                if not self.is_deleted(run_id):
                    raise

    def beat(self, run_id: str) -> None:
        """Show that a command is working on a run."""
        with translated(self._study.uri):
            self._client.set_tag(run_id, records.HEARTBEAT, f"{time.time():.0f}")

    def tag(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        with translated(self._study.uri):
            self._client.set_tag(run_id, key, value[: records.TAG_CHARACTERS])

    def add_sweeps(self, run: FinishedRun, sweeps: Mapping[str, str]) -> None:
        """Note in a finished run's tags that sweeps use it, and as which of their arms."""
        if set(sweeps) <= set(run.sweeps):
            return
        with translated(self._study.uri):
            # Another command may have added its sweeps since `run` was read.
            tags = self._client.get_run(run.run_id).data.tags
            joined = dict.fromkeys([*records.sweeps_of(tags), *sweeps])
            noted = {**records.sweep_tags(sweeps), records.SWEEPS: ", ".join(joined)}
            self._client.log_batch(run.run_id, tags=_run_tags(noted))

    def log_files(self, run_id: str, folder: str | None, files: Sequence[Path]) -> None:
        """Store files as artefacts of a run, in a folder if one is given."""
        with translated(self._study.uri):
            for file in files:
                self._client.log_artifact(run_id, str(file), folder)

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        tags = {records.USER: user(), **context_tags(), **_clipped(tags)}
        run = self._client.create_run(self._study.experiment_id, run_name=name, tags=tags)
        return str(run.info.run_id)

    def _drop_tag(self, run_id: str, tag: str) -> None:
        try:
            self._client.delete_tag(run_id, tag)
        except MlflowException:  # asked twice, because the first answer was lost
            if tag in self._client.get_run(run_id).data.tags:
                raise

    def _log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        with translated(self._study.uri):
            self._client.log_batch(
                run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()]
            )

    def _stays(self, own: str, sweep: str) -> bool:
        """Whether a sweep's new run is the one to keep, if other machines made theirs meanwhile.

        Whoever sees several keeps the one with the lowest id. The last one that looks sees all. A
        command whose run was deleted opens the other one, as after any deletion.
        """
        known: list[str] = [run.info.run_id for run in self._study.search("sweep")
                 if run.info.run_name == sweep]  # fmt: skip
        for run_id in sorted(known)[1:]:
            self.delete(run_id)
        return not known or own == min(known)

    def _log_inputs(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self._client.log_batch(run_id, params=[Param(k, v) for k, v in params.items()])
        if digest := tags.get(records.DATA):
            inputs = [dataset(params.get("dataset", DEFAULT_DATASET), digest)]
            try:
                self._client.log_inputs(run_id, datasets=inputs)
            except MlflowException:
                # MLflow looks for the data set and then makes it. If two runs do that at the same
                # moment, it fails for one of them, and the second time it finds the data set.
                self._client.log_inputs(run_id, datasets=inputs)

    def _log_definition(self, run_id: str, sweep: Sweep) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "sweep.yaml"
            text = yaml.safe_dump(sweep.definition(), sort_keys=False, allow_unicode=True)
            path.write_text(text, encoding="utf-8")
            self._client.log_artifact(run_id, str(path))


def _run_tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in _clipped(tags).items()]


def _clipped(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags cut to a length that every store can keep."""
    return {key: value[: records.TAG_CHARACTERS] for key, value in tags.items()}
