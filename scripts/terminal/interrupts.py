"""Ctrl-C ends every command with exit code 130 and one line, from its first moment to its last.

Imports next to nothing: it is in force before a command's own imports, which take a second.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from scripts.terminal.exit_codes import ExitCode

STDERR = 2
"""Its descriptor: what Python has for it may be in any state when a signal comes."""


def leave_at_once() -> None:
    """From here on Ctrl-C ends the process where it stands: nothing is open yet that has to be closed.

    Not where it is ignored, as shells do for background jobs.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # the launcher had it wait until here


@contextmanager
def closing_first() -> Iterator[None]:
    """Within it Ctrl-C raises `KeyboardInterrupt`, so that what is open is closed; then the process ends as always.

    Raises:
        SystemExit: in place of a `KeyboardInterrupt`.
    """
    leaves_at_once = signal.getsignal(signal.SIGINT) is _leave
    if leaves_at_once:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        _tell()
        raise SystemExit(ExitCode.INTERRUPTED) from None
    finally:
        if leaves_at_once:
            signal.signal(signal.SIGINT, _leave)


def _leave(*_: object) -> NoReturn:
    _tell()
    # Not sys.exit: an import that is interrupted may take the exception for an error of its own.
    os._exit(ExitCode.INTERRUPTED)


def _tell() -> None:
    with suppress(OSError):  # a terminal that is gone is told nothing
        os.write(STDERR, (b"\n" if os.isatty(STDERR) else b"") + b"winnow: interrupted\n")
