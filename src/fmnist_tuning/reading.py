"""What a person sees while a large study is read: how many runs have been read so far."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console

_FIRST: Final = 3.0  # seconds until the first line, so that short reads say nothing
_EVERY: Final = 10.0


class Reading:
    """Shows reads: a spinner on a terminal, plain lines elsewhere if a read takes long.

    `clock` tells seconds.
    """

    def __init__(self, out: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._out = out
        self._clock = clock
        self._spins = out.is_terminal and not out.is_dumb_terminal

    @contextmanager
    def __call__(self, what: str) -> Iterator[Callable[[int], None]]:
        """Show one read; the context is told how many of `what` have been read so far."""
        status = self._out.status(f"reading {what} ...") if self._spins else None
        next_line = self._clock() + _FIRST

        def count(read: int) -> None:
            nonlocal next_line
            if status is not None:
                status.update(f"reading {what}: {read:,} so far ...")
            elif self._clock() >= next_line:
                self._out.print(f"reading {what}: {read:,} so far", soft_wrap=True)
                next_line = self._clock() + _EVERY

        if status is None:
            yield count
        else:
            with status:
                yield count
