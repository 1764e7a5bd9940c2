"""What a file would add to a study, decided before anything is written. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from fmnist_tuning.config import SweepConfig
from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.exchange.entries import Entry, RunEntry, SweepEntry
from fmnist_tuning.tracking import TrackedRun, TrackedSweep


@dataclass(frozen=True, slots=True)
class Additions:
    """What a study lacks.

    Attributes:
        runs: To be written.
        tagged: Finished runs of the study, with sweeps of the file that use them too.
        sweeps: To be written.
        redefined: Sweeps of the study that get more seeds.
    """

    runs: tuple[RunEntry, ...]
    tagged: tuple[tuple[TrackedRun, tuple[str, ...]], ...]
    sweeps: tuple[SweepEntry, ...]
    redefined: tuple[tuple[TrackedSweep, SweepConfig], ...]


def additions(
    entries: Iterable[Entry],
    finished: Mapping[str, TrackedRun],
    present: Sequence[TrackedSweep],
) -> Additions:
    """Compare a file with a study.

    A run that the study has finished stays as it is. A sweep that both have must be the same but
    for its seeds, of which the union is taken: each of two machines may have trained some of them.

    Args:
        entries: The file's.
        finished: The study's finished runs by fingerprint.
        present: The study's sweeps.

    Raises:
        ExchangeError: Naming every sweep whose definitions contradict each other.
    """
    by_id = {sweep.sweep: sweep for sweep in present}
    runs, tagged, sweeps, redefined, problems = [], [], [], [], []
    for entry in entries:
        if isinstance(entry, RunEntry):
            there = finished.get(entry.fingerprint)
            if there is None:
                runs.append(entry)
            elif not set(entry.sweeps) <= set(there.sweeps):
                tagged.append((there, entry.sweeps))
        elif entry.definition.sweep not in by_id:
            sweeps.append(entry)
        else:
            tracked = by_id[entry.definition.sweep]
            try:
                merged = _merged(tracked, entry)
            except _Contradiction as contradiction:
                problems.append(f"{tracked.sweep}: {contradiction}")
                continue
            if merged is not None:
                redefined.append((tracked, merged))
    if problems:
        raise ExchangeError(
            "the file contradicts the study, nothing was imported; --experiment names another "
            "study for it:\n" + "\n".join(problems)
        )
    return Additions(tuple(runs), tuple(tagged), tuple(sweeps), tuple(redefined))


class _Contradiction(Exception):  # noqa: N818  two definitions, neither of them an error
    pass


def _merged(tracked: TrackedSweep, entry: SweepEntry) -> SweepConfig | None:
    """The sweep with the seeds of both, or None where the study has all of them."""
    try:
        mine = SweepConfig.model_validate_json(tracked.definition)
    except ValidationError:
        raise _Contradiction(
            "the study's definition cannot be read; `fmnist run` on its file mends it"
        ) from None
    if tracked.data_digest != entry.data:
        raise _Contradiction(
            f"run on data {tracked.data_digest} in the study, on {entry.data} in the file"
        )
    theirs = entry.definition
    differing = [key for key in SweepConfig.model_fields if _text(mine, key) != _text(theirs, key)]
    if set(differing) - {"seeds"}:
        found = ", ".join(key for key in differing if key != "seeds")
        raise _Contradiction(f"another {found} in the study than in the file")
    if set(theirs.seeds) <= set(mine.seeds):
        return None
    if set(mine.seeds) <= set(theirs.seeds):
        return theirs
    seeds = tuple(sorted({*mine.seeds, *theirs.seeds}))
    try:
        return SweepConfig.model_validate({**mine.model_dump(by_alias=True), "seeds": seeds})
    except ValidationError:
        raise _Contradiction(f"{len(seeds)} seeds together, more than a sweep may have") from None


def _text(sweep: SweepConfig, key: str) -> str:
    # As text, for the order of a grid's axes and values is the order of its arms, and 1 is not 1.0.
    return json.dumps(sweep.model_dump(mode="json", include={key}))
