"""The words of a settlement: why a stage failed as a whole, and the reason for records that no worker reported."""

from __future__ import annotations

from dataclasses import replace

from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.journal.reports import one_line
from winnow.journal.segment import Stop
from winnow.settlement.ended_attempt import EndedAttempt
from winnow.settlement.settlement import NOT_JOURNALED, DefaultReason

MAX_CAUSE_CHARS = 2_000
"""The cause travels in a state (law 7), whatever the worker raised."""


def default_reason(attempt: EndedAttempt) -> DefaultReason:
    """The reason for outstanding records that no report explains."""
    if attempt.stop is Stop.DEPENDENCY:
        message = one_line(f"not tried any more: {attempt.evidence.cause}")
        return DefaultReason(kind=Kind.TRANSIENT, error_type="DependencyDown", message=message)
    message = NOT_JOURNALED.message
    if attempt.recursion_error is not None:
        message = f"{message}: the execution of the attempt ended early ({attempt.recursion_error})"
    elif not attempt.lived:
        message = f"{message}: the worker died ({attempt.end.error})"
    elif attempt.end.error:
        message = f"not done: the worker failed as a whole ({attempt.end})"
    return replace(NOT_JOURNALED, message=message)


def cause_of_total_failure(attempt: EndedAttempt, *, outstanding: Ranges, permanent: Ranges) -> str:
    """Why a stage has no success, in one line."""
    plan = attempt.plan
    why = _why_nothing_succeeded(attempt, rejected=len(permanent) if permanent == outstanding else 0)
    none = f"stage {plan.stage} of run {plan.run_id}: none of {plan.count} records succeeded"
    return one_line(f"{none}; {why}", MAX_CAUSE_CHARS)


def cause_of_early_end(attempt: EndedAttempt) -> str:
    """Why the tries that were left could not be made."""
    return f"the execution of a deeper attempt ended early ({attempt.recursion_error})"


def _why_nothing_succeeded(attempt: EndedAttempt, *, rejected: int) -> str:
    stop, said, end = attempt.stop, attempt.evidence.cause, attempt.end
    if rejected:
        return f"all {rejected} that failed were rejected as permanent: look at the records or at the worker's rules"
    if attempt.recursion_died:
        return cause_of_early_end(attempt)
    if stop in (Stop.DEPENDENCY, Stop.USED_UP) or (stop is Stop.ERROR and said):
        return said
    if end.error:
        return f"the worker failed with {end}"
    if stop is Stop.TIME:
        return "the worker ran out of time before the first was done: give it more, or less work per record"
    return "most likely its environment: a dependency, a permission, a configuration"
