"""Sweeps that a study and a file both have: what the study's definition of them becomes."""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pydantic import ValidationError

from fmnist_tuning.errors import ExchangeError
from fmnist_tuning.store.records import TrackedSweep
from fmnist_tuning.sweeps.looks import continued
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.transfer.entries import SweepEntry


def redefined_by(
    entries: Sequence[SweepEntry], present: Mapping[str, TrackedSweep]
) -> list[tuple[TrackedSweep, Sweep]]:
    """The sweeps of the study that get more seeds, with their new definitions."""
    redefined, problems = [], []
    for entry in entries:
        if tracked := present.get(entry.definition.id):
            try:
                if merged := _merged(tracked, entry):
                    redefined.append((tracked, merged))
            except _Contradiction as contradiction:
                problems.append(f"{tracked.sweep}: {contradiction}")
    if problems:
        raise ExchangeError(
            "the file contradicts the study, nothing was imported; --experiment names another "
            "study for it:\n" + "\n".join(problems)
        )
    return redefined


_SEARCHED: Final = {"search", "listed"}
_GROWING: Final = {"seeds", "looks", "arm_seeds", "max_seeds"}


class _Contradiction(Exception):  # noqa: N818  neither of the two definitions is an error
    pass


def _merged(tracked: TrackedSweep, entry: SweepEntry) -> Sweep | None:
    """The sweep with the seeds of both, or None if the study has all of them."""
    mine, theirs = tracked.definition.parsed, entry.definition
    if mine is None:
        raise _Contradiction(
            "the study's definition cannot be read; `fmnist run` on its file repairs it"
        )
    if _is_another_choice(mine, theirs):  # the finalists of a search that has gone on since
        further = max(mine, theirs, key=_trials_chosen_from)
        return None if further is mine else further
    if tracked.data_digest != entry.data:
        raise _Contradiction(
            f"run on data {tracked.data_digest} in the study, on {entry.data} in the file"
        )
    growing = _GROWING | (_SEARCHED if _is_one_search(mine, theirs) else set())
    differing = [
        field.alias or key
        for key, field in Sweep.model_fields.items()
        if key not in growing and _text(mine, key) != _text(theirs, key)
    ]
    if differing:
        raise _Contradiction(f"another {', '.join(differing)} in the study than in the file")
    seeds = tuple(sorted({*mine.seeds, *theirs.seeds}))
    if set(seeds) in (set(mine.seeds), set(theirs.seeds)):  # in the order of the one that has all
        seeds = max(mine.seeds, theirs.seeds, key=len)
    further = max(mine, theirs, key=_trials)
    try:
        merged = mine.changed(seeds=seeds, search=further.search, arms=further.listed)
        merged = continued(continued(merged, mine), theirs)
    except ValidationError:
        raise _Contradiction(f"{len(seeds)} seeds together, more than a sweep may have") from None
    return None if merged == mine else merged


def _is_another_choice(one: Sweep, other: Sweep) -> bool:
    """Whether both are finalists of a search, which had more trials for one of them."""
    if one.combine is None or other.combine is None:
        return False
    both = one.combine.trials and other.combine.trials
    differ = one.combine.trials != other.combine.trials
    return bool(both) and differ and one.combine.sources == other.combine.sources


def _trials(sweep: Sweep) -> tuple[int, int]:
    """How many trials a search has, and may have."""
    return len(sweep.listed), sweep.search.trials if sweep.search else 0


def _trials_chosen_from(sweep: Sweep) -> int:
    return (sweep.combine.trials or 0) if sweep.combine else 0


def _is_one_search(one: Sweep, other: Sweep) -> bool:
    """Whether one of them is the other with further trials."""
    shared = min(len(one.listed), len(other.listed))
    alike = one.search is not None and one.search.same_space(other.search)
    return alike and one.listed[:shared] == other.listed[:shared]


def _text(sweep: Sweep, key: str) -> str:
    # Texts are compared: the order of a grid decides the order of its arms, and 1 is not 1.0.
    return json.dumps(sweep.model_dump(mode="json", include={key}))
