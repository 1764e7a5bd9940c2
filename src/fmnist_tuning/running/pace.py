"""How long a plan still takes: the plan's estimate at first, then what this command measures."""

from collections.abc import Iterable
from statistics import fmean, median

from fmnist_tuning.sweeps.cost import work
from fmnist_tuning.sweeps.plan import Plan
from fmnist_tuning.sweeps.runs import PlannedRun


class Pace:
    """The work that is left of a plan's trainings, and how fast it is done."""

    def __init__(self, plan: Plan) -> None:
        known = [row.seconds / work(row.run.config) for row in plan.trainings if row.seconds]
        self._expected = median(known) if known else None  # seconds for a unit of work
        self._left = {row.run.fingerprint: float(work(row.run.config)) for row in plan.trainings}
        each = fmean(self._left.values()) if self._left else 0.0
        self._later = plan.pending_runs * each  # of what is not chosen or proposed yet
        self._measured: list[tuple[float, float]] = []  # work and seconds of each epoch

    def begin(self, runs: Iterable[PlannedRun]) -> None:
        """Count runs that are trained now, if they had not been chosen before."""
        new = [run for run in runs if run.fingerprint not in self._left]
        if new:
            self._left |= {run.fingerprint: float(work(run.config)) for run in new}
            self._later = 0.0

    def propose(self, run: PlannedRun) -> None:
        """Count the next trial of a search."""
        self._left[run.fingerprint] = float(work(run.config))
        self._later = max(self._later - work(run.config), 0.0)

    def advance(self, run: PlannedRun, epochs: int, seconds: float | None = None) -> None:
        """Count epochs of a run as done, in so many seconds if they were trained here."""
        part = work(run.config) * epochs / run.config.epochs
        self._left[run.fingerprint] = max(self._left.get(run.fingerprint, part) - part, 0.0)
        if seconds is not None:
            self._measured.append((part, seconds))

    def restart(self, run: PlannedRun) -> None:
        """Count a run as not begun."""
        self._left[run.fingerprint] = float(work(run.config))

    def end(self, run: PlannedRun) -> None:
        """Count a run as done."""
        self._left[run.fingerprint] = 0.0

    def seconds_left(self, workers: int) -> float | None:
        """Until the plan is done, with so many workers; None while nothing is known."""
        pace = self._expected
        if self._measured:
            pace = sum(s for _, s in self._measured) / sum(part for part, _ in self._measured)
        if pace is None:
            return None
        total = (sum(self._left.values()) + self._later) / max(workers, 1)
        return pace * max(total, *self._left.values(), 0.0)
