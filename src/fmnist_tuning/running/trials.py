"""The trials of one search, while it goes on: which is next, and which of them end early."""

from collections.abc import Mapping, Sequence

from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.running import events
from fmnist_tuning.sweeps.proposing import Trial, is_pruned, next_decision, propose
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.search import Search
from fmnist_tuning.sweeps.sweep import Sweep


class Trials:
    """A search that has up to `window` trials at a time.

    A trial is proposed by the results of those that are `window` or more before it, and nothing
    else: which of the others is done by then depends on the machine. So the same search with the
    same window proposes the same trials, whether or not it is interrupted. What is pruned is
    decided by the same results.
    """

    def __init__(self, sweep: Sweep, data_digest: str, window: int) -> None:
        assert sweep.search is not None  # noqa: S101  the caller has asked
        self.search: Search = sweep.search
        self.sweep = sweep  # with the trials so far as its arms
        self._digest = data_digest
        self._window = window
        self._numbers: dict[str, int] = {}  # by fingerprint, from 0
        self._curves: dict[int, list[float]] = {}
        self._over: dict[int, Trial] = {}
        self.adopt(sweep)

    def proposal(self) -> Sweep | None:
        """The search with its next trial; None while that waits for others, or there is none.

        Raises:
            ConfigError: When the space has no further trial.
        """
        number = len(self.sweep.arms)
        awaited = range(number - self._window + 1)
        if not self.sweep.to_come or any(other not in self._over for other in awaited):
            return None
        trials = [
            self._over[other] if other in awaited else Trial(arm.overrides, "running")
            for other, arm in enumerate(self.sweep.arms)
        ]
        tried = [arm.config for arm in self.sweep.arms]
        settings = propose(self.search, self.sweep.fixed, trials, tried)
        arm = {"name": f"trial {number + 1}", **settings}
        return self.sweep.changed(arms=(*self.sweep.listed, arm))

    def adopt(self, sweep: Sweep) -> list[PlannedRun]:
        """Go on with the search as the study has it; returns the runs of its new trials."""
        self.sweep = sweep
        new = [run for run in runs_of(sweep, self._digest) if run.fingerprint not in self._numbers]
        for run in new:
            self._numbers[run.fingerprint] = len(self._numbers)
        return new

    def learn(self, run: PlannedRun, metrics: Mapping[str, float], curve: Sequence[float]) -> None:
        """Take note of a trial that has ended before, or elsewhere."""
        self._curves[self._number(run)] = [*curve]
        self._end(run, metrics.get(self.search.metric))

    def turn(self, run: PlannedRun) -> int | None:
        """How many epochs to train until it is decided whether a trial goes on; None for all."""
        done = len(self._curve(run))
        decision = next_decision(self.search, done)
        return decision and decision - done

    def judged(
        self, event: events.TrainingEvent | events.ClusterEvent
    ) -> events.TrainingEvent | events.ClusterEvent:
        """What has happened to a trial: the event, or that the trial is pruned here."""
        match event:
            case events.Resumed(run, history):
                self._curves[self._number(run)] = [self._of_epoch(epoch) for epoch in history]
            case events.Restarted(run):
                self._curve(run).clear()
            case events.EpochEnded(run, epoch):
                self._curve(run).append(self._of_epoch(epoch))
            case events.Finished(run, metrics):
                self._end(run, metrics[self.search.metric])
            case events.Failed(run, reason) if event.diverged:
                self._end(run, None)
                return events.Pruned(run, len(self._curve(run)), reason)
            case events.Failed(run):
                self._over[self._number(run)] = Trial(run.arm.overrides, "failed")
        if isinstance(event, events.Resumed | events.Paused) and self._is_pruned(event.run):
            self._end(event.run, None)
            epochs = len(self._curve(event.run))
            reason = f"pruned by {self.search.prune} after epoch {epochs}"
            return events.Pruned(event.run, epochs, reason)
        return event

    def _is_pruned(self, run: PlannedRun) -> bool:
        number, curve = self._number(run), self._curve(run)
        if not curve or next_decision(self.search, len(curve) - 1) != len(curve):
            return False
        known = range(number - self._window + 1)
        others = {other: trial for other, trial in self._over.items() if other in known}
        return is_pruned(self.search, run.config.epochs, number, curve, others)

    def _end(self, run: PlannedRun, value: float | None) -> None:
        curve = tuple(self._curve(run))
        self._over[self._number(run)] = Trial(
            run.arm.overrides, "pruned" if value is None else "complete", value, curve
        )

    def _number(self, run: PlannedRun) -> int:
        return self._numbers[run.fingerprint]

    def _curve(self, run: PlannedRun) -> list[float]:
        return self._curves.setdefault(self._number(run), [])

    def _of_epoch(self, epoch: EpochMetrics) -> float:
        return epoch.metrics()[self.search.curve]
