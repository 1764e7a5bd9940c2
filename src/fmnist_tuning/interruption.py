"""Ctrl-C, SIGTERM and SIGHUP end a command, but not in the middle of a call to a database.

Python runs a signal's handler between any two instructions. If it raises while SQLAlchemy works,
a connection can stay open and lock the database for whatever this command still has to write. If it
raises while Python calls a finalizer, the exception is lost.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from fmnist_tuning.errors import Interrupted

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_asked = False  # once a signal has come
_shields = 0


def handle_signals() -> None:
    """Let a signal raise `Interrupted` in the main thread, and the same one again kill."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` sets it
            signal.signal(number, _interrupt)


@contextmanager
def shielded() -> Iterator[None]:
    """Hold `Interrupted` back until the end of the outermost such block. Main thread only."""
    global _shields  # noqa: PLW0603  the handler has no other way to know
    _shields += 1
    try:
        yield
    finally:
        _shields -= 1
    check()


def check() -> None:
    """Raise `Interrupted` if a signal has come, also if an earlier one was lost."""
    if _asked and not _shields:
        raise Interrupted


def ending() -> bool:
    """Whether a signal has come: what waits within a shield need not wait any longer."""
    return _asked


def _interrupt(number: int, _frame: object) -> None:
    global _asked  # noqa: PLW0603
    signal.signal(number, signal.SIG_DFL)  # the second time ends it at once; workers follow
    _asked = True
    if _shields and os.isatty(2):
        os.write(2, b"\nending after this call to the database; once more ends it at once\n")
    check()
