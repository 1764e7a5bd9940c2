"""The files that a training keeps on this machine: its checkpoint, and its network at the end."""

import shutil
from collections.abc import Callable
from pathlib import Path

from fmnist_tuning.errors import TrackingError
from fmnist_tuning.store import records


class KeptFiles:
    """Where the files of each run are, by its MLflow id.

    Raises `TrackingError` for an id that is none, because the store may come from anywhere.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self._folder = folder
        self._store = store

    def checkpoint(self, run_id: str) -> Path:
        """The file of a run's checkpoint."""
        if not run_id.isalnum():
            raise TrackingError(f"{self._store}: found the run id {run_id!r}, not one of MLflow")
        return self._folder / f"{run_id}.pt"

    def weights(self, run_id: str) -> Path:
        """The file of a run's network, until the store has it."""
        return self.checkpoint(run_id).with_suffix("") / records.WEIGHTS

    def clear(self, is_over: Callable[[str], bool]) -> None:
        """Delete the files of runs that are over: another machine may have finished them."""
        for path in self._folder.glob("*.pt"):
            if path.stem.isalnum() and is_over(path.stem):
                self.drop(path.stem)

    def drop(self, run_id: str) -> None:
        """Delete both."""
        path = self.checkpoint(run_id)
        shutil.rmtree(self.weights(run_id).parent, ignore_errors=True)
        # A process that was killed may have left half-written files.
        for leftover in (path, *path.parent.glob(f".{path.name}.*")):
            leftover.unlink(missing_ok=True)
