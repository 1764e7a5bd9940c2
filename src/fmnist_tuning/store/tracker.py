"""Writing into a study: trainings while they run, and runs that are imported."""

import getpass
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Final

import yaml
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.store import records
from fmnist_tuning.store.page import dataset
from fmnist_tuning.store.records import EndStatus
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.uris import translated
from fmnist_tuning.sweeps.finished import FinishedRun
from fmnist_tuning.sweeps.looks import continued
from fmnist_tuning.sweeps.sweep import Sweep

HALF: Final = "import"
"""The kind of an imported run that is not complete yet. Nothing reads such runs; their real kind is
written last.
"""

HistoryValue = tuple[str, float, int, int]
"""Metric, value, time of logging in ms since 1970, step."""

_METRICS_A_CALL: Final = 900  # MLflow takes 1,000 entries, params and tags included
_TAGS_A_CALL: Final = 100


class Tracker:
    """Writes into one study; every method raises `TrackingError` if the store fails."""

    def __init__(self, study: Study) -> None:
        self._study = study
        self._client = study.client

    def begin_sweep(self, sweep: Sweep, data_digest: str, owner: str = "") -> str:
        """Create the sweep's own MLflow run, or open it again, and write the sweep's definition.

        The artefact `sweep.yaml` is for people. Programs read the same from tags, because artefacts
        are lost when the folder of the store moves. Returns the id of the run.
        """
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
            if run is None:
                run_id = self._create(sweep.id, tags)
            else:
                run_id = run.info.run_id
                if records.REASON in run.data.tags:
                    self._client.delete_tag(run_id, records.REASON)
                self._client.update_run(run_id, status="RUNNING")
                self._client.log_batch(run_id, tags=_run_tags(tags))
            self._log_definition(run_id, sweep)
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
        joined = ", ".join(sweeps)
        own = {records.KIND: "run", records.FINGERPRINT: fingerprint, records.SWEEPS: joined}
        with translated(self._study.uri):
            run_id = self._create(name, {**own, **records.sweep_tags(sweeps), **tags})
            self._log_inputs(run_id, params, tags)
        return run_id

    def take_up(self, run_id: str, tags: Mapping[str, str]) -> set[int]:
        """Mark a broken run as RUNNING again; returns the epochs that have metrics."""
        with translated(self._study.uri):
            known = self._client.get_run(run_id).data.tags
            for tag in {records.REASON, records.NOTE} & known.keys():
                self._client.delete_tag(run_id, tag)
            self._client.log_batch(run_id, tags=_run_tags(tags))
            self._client.update_run(run_id, status="RUNNING")
            history = self._client.get_metric_history(run_id, "val_loss")
            return {metric.step for metric in history}

    def log_epoch(self, run_id: str, epoch: EpochMetrics) -> None:
        """Write the metrics of one epoch in a single call; the epoch is the step."""
        self._log(run_id, epoch.metrics(), epoch.epoch)

    def finish_run(
        self, run_id: str, metrics: Mapping[str, float], weights: Path | None = None
    ) -> None:
        """Write the final metrics, store the file `weights.pt`, and mark the run FINISHED.

        The SHA-256 of the weights becomes a tag, so that they can be checked when they are read.
        """
        if weights is not None:
            self.log_files(run_id, None, [weights])
            with translated(self._study.uri):
                digest = records.content_digest(weights.read_bytes())
                self._client.set_tag(run_id, records.WEIGHTS_DIGEST, digest)
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

    def is_deleted(self, run_id: str) -> bool:
        """Whether somebody has deleted a run, for example on MLflow's page."""
        with translated(self._study.uri):
            try:
                return bool(self._client.get_run(run_id).info.lifecycle_stage == "deleted")
            except MlflowException as error:
                if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                    return True
                raise

    def delete(self, run_id: str) -> None:
        """Move a run to MLflow's trash."""
        with translated(self._study.uri):
            self._client.delete_run(run_id)

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
    ) -> None:
        """Write a finished training completely or not at all; times are in ms since 1970."""
        values = iter(history)
        with self._import("run", name, tags, (started, ended), "FINISHED") as run_id:
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

    def _create(self, name: str, tags: Mapping[str, str]) -> str:
        tags = {**_context_tags(), **_clipped(tags)}
        run = self._client.create_run(self._study.experiment_id, run_name=name, tags=tags)
        return str(run.info.run_id)

    def _log(self, run_id: str, metrics: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        with translated(self._study.uri):
            self._client.log_batch(
                run_id, metrics=[Metric(key, value, now, step) for key, value in metrics.items()]
            )

    def _log_inputs(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        self._client.log_batch(run_id, params=[Param(k, v) for k, v in params.items()])
        if digest := tags.get(records.DATA):
            self._client.log_inputs(run_id, datasets=[dataset(digest)])

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


@cache
def _context_tags() -> dict[str, str]:
    """The user, the program, and the git commit of the current folder, in MLflow's own tags.

    MLflow itself looks at the repository of the program, and an installed program has none. The
    user's files decide a study.
    """
    tags = {"mlflow.source.name": "fmnist run", "mlflow.source.type": "LOCAL"}
    try:
        tags[records.USER] = getpass.getuser()
    except (KeyError, OSError, ImportError):  # a container's user without a name
        tags[records.USER] = "unknown"
    commit = _git("rev-parse", "HEAD")
    if commit:
        tags["mlflow.source.git.commit"] = commit
        tags["mlflow.source.git.dirty"] = str(bool(_git("status", "--porcelain"))).lower()
    return tags


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
