"""Which of the waiting trainings an idle worker gets, and how much of it. Pure."""

from collections.abc import Sequence

from fmnist_tuning.sweeps.runs import PlannedRun, work


class Schedule:
    """The trainings that wait for a worker, those with the most work left first.

    Runs are given out whole, but for the last ones: when more are left than workers, and fewer than
    two a worker, they are trained an epoch at a time in turn, so that the workers end together.
    Five equal trainings take two workers 2.5 times as long as one of them, not 3 times. What it
    cannot be shorter than is in R. McNaughton, Scheduling with deadlines and loss functions,
    Management Science 6 (1959); that the longest remaining work first comes to it, in M. Pinedo,
    Scheduling, "The makespan with preemptions".

    Args:
        runs: In the order in which they are trained where there is one worker.
        workers: How many train side by side.
        in_turns: Whether runs may be divided among workers. Where the workers share one GPU it
            has nothing to gain: the last run gets all of it.
    """

    def __init__(self, runs: Sequence[PlannedRun], workers: int, *, in_turns: bool) -> None:
        self._waiting = list(runs)
        self._workers = workers
        self._in_turns = in_turns
        self._trained: dict[str, int] = {}
        self._elsewhere: set[str] = set()

    def __len__(self) -> int:
        return len(self._waiting)

    def waiting(self) -> list[PlannedRun]:
        """Who is next, in this order; last, those that another command trains."""
        return sorted(self._waiting, key=lambda run: (self._is_elsewhere(run), -self._urgency(run)))

    def take(self, run: PlannedRun, at_work: int) -> int | None:
        """Give a run out.

        Args:
            run: One of those waiting.
            at_work: How many other runs are being trained.

        Returns:
            How many epochs to train before others have their turn; None for all.
        """
        self._drop(run)
        unfinished = at_work + 1 + sum(not self._is_elsewhere(other) for other in self._waiting)
        in_turns = self._in_turns and self._workers < unfinished < 2 * self._workers
        return 1 if in_turns else None

    def trained(self, run: PlannedRun, epochs: int) -> None:
        """Take note of how many epochs a run has behind it."""
        self._trained[run.fingerprint] = epochs

    def put_back(self, run: PlannedRun) -> None:
        """Let a run wait for its next turn."""
        self._waiting.append(run)

    def mark_elsewhere(self, run: PlannedRun) -> bool:
        """Take note that another command trains a run; whether that is news."""
        news = not self._is_elsewhere(run)
        self._elsewhere.add(run.fingerprint)
        return news

    def settle(self, run: PlannedRun) -> None:
        """Forget a run that another command has finished."""
        self._drop(run)

    def _drop(self, run: PlannedRun) -> None:
        self._waiting.remove(run)
        self._elsewhere.discard(run.fingerprint)

    def _is_elsewhere(self, run: PlannedRun) -> bool:
        return run.fingerprint in self._elsewhere

    def _urgency(self, run: PlannedRun) -> int:
        # Whatever is begun last should be short: else one worker trains on alone at the end.
        left = work(run.config, after=self._trained.get(run.fingerprint, 0))
        return left if self._workers > 1 else 0
