"""The exit codes that `winnow run`, `winnow verify` and `winnow replay run --watch` have in common."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, as a shell sees it; docs/operating.md has the table."""

    DONE = 0
    """The run succeeded and lost no record. `verify`: also a run that is still under way and adds up so far."""
    FAILED = 1
    """The run failed, timed out or was aborted. `verify`: also a ledger that does not add up."""
    REFUSED = 2
    """The arguments are wrong; nothing was started. `verify`: also no such run or record."""
    LOST_RECORDS = 3
    """The run succeeded, but lost records, each by name."""
    INTERRUPTED = 130
    """Ctrl-C; a run that was started goes on."""
