"""Locks, by which several commands on one study know which runs are being trained.

A command holds a lock on a file of its own for as long as it lives, and its runs name that file.
The operating system releases the lock however the command ends; a clock or a process id would not
be as certain. On a server, a command may live on another machine: there the heartbeat tells.
"""

import contextlib
import errno
import re
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.store.records import UnfinishedRun

HEARTBEAT_SECONDS: Final = 20.0
_NO_LOCKS: Final = (
    "this file system has no locks (flock), by which commands know of each other; keep the store "
    "on another one, or use an `mlflow server` and work in a folder that has locks"
)
_SILENT_SECONDS: Final = 3 * HEARTBEAT_SECONDS


class RunLocks:
    """This command's lock, and its view of the locks of other commands.

    The folder is next to the study. If `local`, every command on this study uses it.

    Raises:
        FmnistError: When the folder cannot be written.
    """

    def __init__(
        self, folder: Path, *, local: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.owner = uuid.uuid4().hex
        self._folder = folder
        self._local = local
        self._clock = clock
        self._heard: dict[str, tuple[str, float]] = {}
        self._listened = clock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._own = FileLock(self._lock_of(self.owner))
            self._own.acquire()
        except NotImplementedError:
            raise FmnistError(f"{folder}: {_NO_LOCKS}") from None
        except OSError as error:
            if error.errno in {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}:
                raise FmnistError(f"{folder}: {_NO_LOCKS}") from None
            raise FmnistError(
                f"{folder}: cannot be written ({error.strerror}); checkpoints and locks go there"
            ) from None
        # Only one command at a time may look up a run and make it its own.
        self.deciding = FileLock(folder / "claims.lock")

    def alive(self, run: UnfinishedRun) -> bool:
        """True unless it is certain that no command is working on the run."""
        if not re.fullmatch("[0-9a-f]{32}", run.owner):
            return False
        if run.owner == self.owner:
            return True
        lock = self._lock_of(run.owner)
        if lock.exists():
            return self._held(lock)
        return not self._local and not self._silent(run)

    def listen(self) -> None:
        """Say, every few seconds, that heartbeats can be heard now.

        While this command waits for a store that is away, or its machine sleeps, it hears nobody:
        that time is not the others' silence.
        """
        now = self._clock()
        if now - self._listened > HEARTBEAT_SECONDS:
            self._heard.clear()
        self._listened = now

    def close(self, *, unfinished: bool = False) -> None:
        """Release the lock.

        If the store still names this command's runs as running (`unfinished`), the lock's file
        stays, so that the next command sees that nobody holds it.
        """
        if not unfinished:
            with contextlib.suppress(OSError):
                self._lock_of(self.owner).unlink(missing_ok=True)
        self._own.release()

    def _lock_of(self, owner: str) -> Path:
        return self._folder / f"{owner}.lock"

    @staticmethod
    def _held(path: Path) -> bool:
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return True
        path.unlink(missing_ok=True)  # its command was killed
        lock.release()
        return False

    def _silent(self, run: UnfinishedRun) -> bool:
        """Whether its heartbeat is old, by our own clock, which may differ from theirs."""
        self.listen()
        now = self._clock()
        sign = f"{run.owner} {run.heartbeat}"  # a run that is taken up is heard from then on
        last, since = self._heard.setdefault(run.run_id, (sign, now))
        if last != sign:
            self._heard[run.run_id] = (sign, now)
            return False
        return now - since > _SILENT_SECONDS
