"""Which of the waiting trainings an idle worker gets, and how many epochs of it. Pure."""

from collections.abc import Sequence

from fmnist_tuning.sweeps.cost import work
from fmnist_tuning.sweeps.runs import PlannedRun


class Schedule:
    """The trainings that wait for a worker, those with the most work left first.

    One worker trains them in the order given. Several workers get whole runs, but for the last
    ones: when more runs are left than workers, but fewer than two for each worker, the workers take
    turns, an epoch each, so that they end together. So two workers need for five equal trainings
    2.5 times as long as for one, not 3 times. The lower bound is in R. McNaughton, Scheduling with
    deadlines and loss functions, Management Science 6 (1959); that the longest remaining work first
    reaches it, in M. Pinedo, Scheduling, "The makespan with preemptions".

    Workers that share one GPU gain nothing by turns (`in_turns`): its last run has it to itself.
    """

    def __init__(self, runs: Sequence[PlannedRun], workers: int, *, in_turns: bool) -> None:
        self._waiting = list(runs)
        self.workers = workers  # nodes of a cluster come and go
        self._in_turns = in_turns
        self._trained: dict[str, int] = {}
        self._elsewhere: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[PlannedRun]:
        """The runs in the order in which they are next; those of another command come last."""
        return sorted(self._waiting, key=lambda run: (self._is_elsewhere(run), -self._urgency(run)))

    def take(self, run: PlannedRun, at_work: int) -> int | None:
        """Take a waiting run out, while `at_work` others are being trained.

        Returns:
            How many epochs to train before others have their turn; None for all.
        """
        self.settle(run)
        unfinished = at_work + 1 + sum(not self._is_elsewhere(other) for other in self._waiting)
        in_turns = self._in_turns and self.workers < unfinished < 2 * self.workers
        return 1 if in_turns else None

    def trained(self, run: PlannedRun, epochs: int) -> None:
        """Remember how many epochs a run has finished."""
        self._trained[run.fingerprint] = epochs

    def put_back(self, run: PlannedRun) -> None:
        """Let a run wait for its next turn, if it does not already."""
        if run not in self._waiting:
            self._waiting.append(run)

    def mark_elsewhere(self, run: PlannedRun) -> bool:
        """Remember that another command trains a run; return whether that is news."""
        news = not self._is_elsewhere(run)
        self._elsewhere.add(run.fingerprint)
        return news

    def settle(self, run: PlannedRun) -> None:
        """Forget a run that waits no more."""
        self._waiting.remove(run)
        self._elsewhere.discard(run.fingerprint)

    def _is_elsewhere(self, run: PlannedRun) -> bool:
        return run.fingerprint in self._elsewhere

    def _urgency(self, run: PlannedRun) -> int:
        # Short runs come last; else one worker would go on alone with a long one at the end.
        left = work(run.config, after=self._trained.get(run.fingerprint, 0))
        return left if self.workers > 1 else 0
