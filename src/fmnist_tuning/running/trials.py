"""The trials of one search, while it goes on: which is next, and which of them end early."""

from collections.abc import Mapping, Sequence

from fmnist_tuning.errors import ConfigError
from fmnist_tuning.metrics import ACCURACY, EpochMetrics, late_mean
from fmnist_tuning.running import events
from fmnist_tuning.sweeps.proposing import Trial, is_pruned, next_decision, propose
from fmnist_tuning.sweeps.runs import PlannedRun, runs_of
from fmnist_tuning.sweeps.sweep import Sweep, search_of

Happened = events.TrainingEvent | events.ClusterEvent


class Trials:
    """A search that has up to `window` trials at a time.

    A trial is proposed by the results of those that are `window` or more before it, and nothing
    else: which of the others is done by then depends on the machine. So the same search with the
    same window proposes the same trials, whether or not it is interrupted. What is pruned is
    decided by the same results.
    """

    def __init__(self, sweep: Sweep, data_digest: str, window: int) -> None:
        self.search = search_of(sweep)
        self.sweep = sweep  # with the trials so far as its arms
        self.exhausted = False  # the space has no further trial
        self._digest = data_digest
        self._window = window
        self._runs: dict[str, int] = {}  # the trials' numbers, from 0, by fingerprint
        self._curves: dict[str, list[float]] = {}
        self._over: dict[str, Trial] = {}
        self._judged: dict[str, int] = {}  # after how many epochs it was decided last
        self.adopt(sweep)

    def proposal(self) -> Sweep | None:
        """The search with its next trial; None while that waits for others, or there is none."""
        arms = self.sweep.arms
        awaited = [*self._runs][: max(len(arms) - self._window + 1, 0)]
        if self.exhausted or not self.sweep.to_come or not self._over.keys() >= {*awaited}:
            return None
        trials = [
            self._over[mark] if mark in awaited else Trial(arm.overrides, "running")
            for mark, arm in zip(self._runs, arms, strict=True)
        ]
        try:
            settings = propose(self.search, self.sweep.fixed, trials, [arm.config for arm in arms])
        except ConfigError:  # what can be tried at all was found when the file was read
            self.exhausted = True
            return None
        arm = {"name": f"trial {len(arms) + 1}", **settings}
        return self.sweep.changed(arms=(*self.sweep.listed, arm))

    def as_searched(self) -> Sweep:
        """The search for its finalists: one whose space has no further trial has all."""
        every = len(self.sweep.arms)
        if not self.exhausted:
            return self.sweep
        least = {"trials": every, "finalists": min(self.search.finalists, every)}
        return self.sweep.changed(search=self.search.model_copy(update=least))

    def adopt(self, sweep: Sweep) -> list[PlannedRun]:
        """Go on with the search as the study has it; returns the runs of its new trials."""
        runs = runs_of(sweep, self._digest)
        new = [run for run in runs if run.fingerprint not in self._runs]
        self.sweep = sweep
        self._runs = {run.fingerprint: number for number, run in enumerate(runs)}
        return new

    def learn(self, run: PlannedRun, metrics: Mapping[str, float], curve: Sequence[float]) -> None:
        """Take note of a trial that has ended before, or elsewhere."""
        self._curves[run.fingerprint] = [*curve]
        value = metrics.get(self.search.metric)
        if value is None and ACCURACY in metrics:  # an older fmnist trained it to its end
            value = late_mean(curve)
        self._end(run, value)

    def turn(self, run: PlannedRun) -> int | None:
        """How many epochs to train until it is decided whether a trial goes on; None for all."""
        done = len(self._curve(run))
        decision = next_decision(self.search, done, run.config.epochs)
        return decision and decision - done

    def judged(self, event: Happened) -> Happened | events.Pruned:
        """What has happened to a trial: the event, or that the trial is pruned here."""
        match event:
            case events.Resumed(run, history):
                self._curves[run.fingerprint] = [self._of_epoch(epoch) for epoch in history]
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
                self._over[run.fingerprint] = Trial(run.arm.overrides, "failed")
        if isinstance(event, events.Resumed | events.Paused) and self._is_pruned(event.run):
            self._end(event.run, None)
            epochs = len(self._curve(event.run))
            reason = f"pruned by {self.search.prune} after epoch {epochs}"
            return events.Pruned(event.run, epochs, reason)
        return event

    def _is_pruned(self, run: PlannedRun) -> bool:
        curve, number = self._curve(run), self._runs.get(run.fingerprint)
        done = len(curve)
        again = self._judged.get(run.fingerprint) == done
        if number is None or again or not done:
            return False
        if next_decision(self.search, done - 1, run.config.epochs) != done:
            return False
        self._judged[run.fingerprint] = done
        known = [*self._runs][: max(number - self._window + 1, 0)]
        others = {self._runs[mark]: self._over[mark] for mark in known if mark in self._over}
        return is_pruned(self.search, run.config.epochs, number, curve, others)

    def _end(self, run: PlannedRun, value: float | None) -> None:
        curve = tuple(self._curve(run))
        self._over[run.fingerprint] = Trial(
            run.arm.overrides, "pruned" if value is None else "complete", value, curve
        )

    def _curve(self, run: PlannedRun) -> list[float]:
        return self._curves.setdefault(run.fingerprint, [])

    def _of_epoch(self, epoch: EpochMetrics) -> float:
        return epoch.metrics()[self.search.curve]
