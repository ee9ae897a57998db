"""Whether the worker's process is fit for another try.

Lambda hands the next try to the same process if it can. A connection that `setup` made and that has died, or descriptors that
a worker never closed, would fail it again for the same reason.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

from winnow.journal.reports import leaves_of

USED_UP = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOSPC})
"""Of an `OSError`: no descriptors left, no space left on the disk."""
USED_UP_MESSAGES = ("can't start new thread", "Event loop is closed")
"""Of a `RuntimeError`."""
MAX_LINKS = 10
"""Errors of a chain that are looked at."""
SICK_FAILURES = 3
"""Transient failures in a row at the end of a try that mean more than a record or two that fail."""


def is_used_up(error: BaseException) -> bool:
    """Whether an error, or one that it came from, says that the process has run out of something that only a new process has."""
    alone = error.__cause__ is None and error.__context__ is None
    if alone and not isinstance(error, OSError | RuntimeError | BaseExceptionGroup):
        return False  # most failures: a million of them are looked at
    return any(_says_so(each) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    link: BaseException | None = error
    for _ in range(MAX_LINKS):
        if link is None:
            return
        yield from leaves_of(link)
        link = link.__cause__ or link.__context__


def _says_so(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in USED_UP
    return isinstance(error, RuntimeError) and bool(error.args) and error.args[0] in USED_UP_MESSAGES


class ProcessState:
    """What a worker's process has been through: whether `setup` is to run, and whether to leave the process."""

    def __init__(self, setup: Callable[[], object] | None) -> None:
        self._setup = setup
        self._prepared = False
        self._prepared_again = False
        self.leaving = ""
        """Why the process is to end after this invocation; empty if it is not."""

    def prepare(self) -> None:
        """Run setup, unless it has run in this process and the last try ended well. What it raises passes through."""
        if not self._prepared:
            if self._setup:
                self._setup()
            self._prepared = True

    def end_try(self, *, failed_in_a_row: int, used_up: bool) -> None:
        """A try has ended, and all that it got done is journaled.

        Args:
            failed_in_a_row: transient failures with which it ended.
            used_up: an error said that the process has run out of something.
        """
        if used_up:
            self.leaving = "the process has used up its descriptors, its disk or its threads"
        elif self._prepared_again and failed_in_a_row >= SICK_FAILURES:
            self.leaving = f"{failed_in_a_row} records in a row failed again after setup had run again"
        self._prepared_again = failed_in_a_row > 0
        self._prepared = self._prepared and not self._prepared_again
