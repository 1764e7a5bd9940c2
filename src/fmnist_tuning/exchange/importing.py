"""From the entries of a file into a store."""

from collections.abc import Sequence
from dataclasses import dataclass

from fmnist_tuning.exchange.entries import Entry, RunEntry
from fmnist_tuning.exchange.merging import Additions, additions
from fmnist_tuning.tracking import Importer, Study


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import.

    Attributes:
        study: Where it went.
        runs: How many runs the study did not have.
        runs_there: How many it had.
        sweeps: How many sweeps it did not have.
        sweeps_extended: How many got more seeds.
        sweeps_there: How many it had just so.
    """

    study: Study
    runs: int
    runs_there: int
    sweeps: int
    sweeps_extended: int
    sweeps_there: int

    def __str__(self) -> str:
        return (
            f"{self.study.name} in {self.study.uri}: {self.runs} runs added, {self.runs_there} "
            f"were there; {self.sweeps} sweeps added, {self.sweeps_extended} got more seeds, "
            f"{self.sweeps_there} were there"
        )


def import_study(entries: Sequence[Entry], name: str, tracking_uri: str | None = None) -> Imported:
    """Add to a study what it lacks; the study and its store are made where they are missing.

    Every contradiction is found before anything is written. Killed half-way and run again, it
    goes on with what is left: a run counts only once all of it is there.

    Args:
        entries: A file's.
        name: The study.
        tracking_uri: Its store, resolved as `Study.open` does.

    Raises:
        ExchangeError: When a sweep of the file contradicts one of the study.
        TrackingError: When the store fails.
    """
    study = Study.find(name, tracking_uri)
    missing = additions(
        entries,
        study.finished_runs() if study else {},
        study.sweeps() if study else [],
    )
    study = study or Study.open(name, tracking_uri)
    _write(study, missing)
    runs = sum(isinstance(entry, RunEntry) for entry in entries)
    return Imported(
        study=study,
        runs=len(missing.runs),
        runs_there=runs - len(missing.runs),
        sweeps=len(missing.sweeps),
        sweeps_extended=len(missing.redefined),
        sweeps_there=len(entries) - runs - len(missing.sweeps) - len(missing.redefined),
    )


def _write(study: Study, missing: Additions) -> None:
    """Runs first: a sweep whose runs are still to come would read as one that lacks them."""
    importer = Importer(study)
    importer.clear()
    for run in missing.runs:
        importer.add_run(
            run.name,
            fingerprint=run.fingerprint,
            data_digest=run.data,
            sweeps=run.sweeps,
            params=run.config.params(),
            tags=run.tags,
            history=(
                (metric, value, logged.at, logged.step)
                for logged in run.history
                for metric, value in logged.values.items()
            ),
            started=run.started,
            ended=run.ended,
        )
    for tracked, sweeps in missing.tagged:
        study.add_sweeps(tracked, sweeps)
    for sweep in missing.sweeps:
        importer.add_sweep(
            sweep.definition,
            data_digest=sweep.data,
            tags=sweep.tags,
            started=sweep.started,
            ended=sweep.ended,
            status=sweep.status,
        )
    for present, definition in missing.redefined:
        importer.redefine(present, definition)
