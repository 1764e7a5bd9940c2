"""Which of several machines trains a run that they begin at the same moment.

Commands that share a folder have a lock for this (`locks.RunLocks.deciding`). On a server they
have nothing in common but MLflow, which offers one thing that only the first one can do: a
parameter of a run is written once, and another value for it is refused. So a run with parameters
is *claimed*, and a rival can close an open run to its command by writing `GIVEN_UP` first.

A command that wants to train

1. makes its own run, which is open;
2. looks at all runs of this fingerprint. It gives up if one of them is claimed, or finished, or
   open with a lower id. It closes every other open run, and gives up if one of them turns out to
   be claimed;
3. writes the parameters of its own run, and gives up if somebody has closed it. Else it trains.

Two commands never both train. Each makes its run before it looks, so of two commands at least the
one that made its run later sees the other's run; let it be B, which sees A's. If A has claimed, B
gives up. If A is open, B gives up or closes A's run, and then either A's step 3 fails or A was
faster and B gives up. More commands are pairs of two. Nothing here depends on clocks or on how
long a step takes, so a command may also stand still between any two steps.

Somebody trains: of the runs that are open together, nobody but a newcomer closes the one with the
lowest id. A command that dies before its step 3 leaves an open run; its heartbeat tells, as for
every other run, and the next command closes it.

Writing one's own mark before reading the others' is from E. W. Dijkstra, Solution of a problem in
concurrent programming control, CACM 8 (1965). That a register which only the first writer can set
is enough to decide among any number of processes is from M. Herlihy, Wait-free synchronization,
ACM TOPLAS 13 (1991). What a step has written must be seen by the next reader, as is true for one
database; copies of a database that lag behind do not give this.
"""

from collections.abc import Collection, Mapping
from typing import Protocol

from fmnist_tuning.store import records
from fmnist_tuning.store.records import EndStatus, UnfinishedRun
from fmnist_tuning.sweeps.runs import PlannedRun


class _Readable(Protocol):
    """What a contest asks of a `store.study.Study`."""

    def attempts(self, fingerprint: str) -> tuple[list[UnfinishedRun], bool]: ...


class _Writable(Protocol):
    """What a contest asks of a `store.tracker.Tracker`."""

    def announce_run(
        self, name: str, *, sweeps: Mapping[str, str], fingerprint: str, tags: Mapping[str, str]
    ) -> str: ...

    def claim_run(
        self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]
    ) -> bool: ...

    def close_run(self, run_id: str, key: str) -> bool: ...

    def end_run(self, run_id: str, status: EndStatus, reason: str | None = None) -> None: ...

    def delete(self, run_id: str) -> None: ...


class Contest:
    """One command's part in contests for the runs of a study."""

    def __init__(self, study: _Readable, tracker: _Writable, *, force: bool) -> None:
        self._study = study
        self._tracker = tracker
        self._force = force

    def start(
        self,
        run: PlannedRun,
        users: Mapping[str, str],
        tags: Mapping[str, str],
        dead: Collection[UnfinishedRun],
    ) -> str | None:
        """Start a run if no other command does; returns its MLflow id, or None.

        `dead` are runs of the same fingerprint whose commands are known to have ended.
        """
        own = self._tracker.announce_run(
            run.short_name, sweeps=users, fingerprint=run.fingerprint, tags=tags
        )
        if self._first(own, run, tags[records.OWNER], dead) and self._tracker.claim_run(
            own, run.config.params(), tags
        ):
            return own
        self.give_up(own)
        return None

    def give_up(self, own: str) -> None:
        """Let nobody wait for a run that this command does not train."""
        self._tracker.end_run(own, "KILLED", "another command trains it")
        self._tracker.delete(own)

    def _first(
        self, own: str, run: PlannedRun, owner: str, dead: Collection[UnfinishedRun]
    ) -> bool:
        running, finished = self._study.attempts(run.fingerprint)
        if finished and not self._force:
            return False
        known = {(other.run_id, other.owner) for other in dead}  # unless one was taken up since
        others = [other for other in running if other.run_id != own]
        rivals = [other for other in others if (other.run_id, other.owner) not in known]
        for other in rivals:
            if other.owner == owner:  # a lost answer of the server: it was asked twice to make one
                self._tracker.delete(other.run_id)
            elif other.claim == "claimed" or (other.claim == "open" and other.run_id < own):
                return False
        key = next(iter(run.config.params()))
        still_open = [other for other in others if other.claim == "open" and other.owner != owner]
        return all(self._tracker.close_run(other.run_id, key) for other in still_open)
