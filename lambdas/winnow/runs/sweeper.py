"""Closes the runs whose end no event told of.

EventBridge delivers "Step Functions Execution Status Change" as best it can, so once in a while the event of a run never comes. Nobody
would prove that run, tell of its failure, or let go of what it holds.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from typing import TYPE_CHECKING, Any, Protocol

from winnow.core.errors import StageInputError, WinnowError
from winnow.metrics.watch import Metric, get_logger
from winnow.runs.closer import closed_mark
from winnow.runs.run_ended import RunEnded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from winnow.metrics.watch import Watch
    from winnow.storage.executions import EndedExecution
    from winnow.storage.state_table import StateTable

LOOK_BACK = timedelta(days=3)
"""A long weekend without the sweep costs nothing."""
LEAVE_TO_EVENT = timedelta(minutes=10)
"""The event comes within seconds. Lambda's own retries of a closing that failed take three minutes."""


def leave_to_event(seconds: object) -> timedelta:
    """For how long after its end a run is left to its event; None for the time that is meant to be.

    Raises:
        StageInputError: it is no number of seconds.
    """
    if seconds is None:
        return LEAVE_TO_EVENT
    if type(seconds) is not int or not 0 <= seconds <= LOOK_BACK.total_seconds():
        raise StageInputError(
            "older_than_seconds", seconds, f"must be a whole number from 0 to {LOOK_BACK.total_seconds():.0f}"
        )
    return timedelta(seconds=seconds)


class SweepIncomplete(WinnowError):
    """Some runs could not be closed. Raised once for each, so that the function's alarm tells of it, and not every hour."""


class EndedExecutions(Protocol):
    """What a sweep asks of Step Functions."""

    def ended(self, *, since: datetime) -> Iterable[EndedExecution]:
        """Executions that have ended since a moment, in no order."""

    def describe(self, execution: str) -> Mapping[str, Any]:
        """What DescribeExecution answers."""


@dataclass(slots=True)
class Sweep:
    """What a sweep did, in runs."""

    closed: int = 0
    failed: int = 0
    left: int = 0
    """Left to the next sweep, as the time was over."""

    def to_payload(self) -> dict[str, Any]:
        return {"closed": self.closed, "failed": self.failed, "left": self.left}


class Sweeper:
    """Sweeps one pipeline."""

    def __init__(
        self,
        *,
        executions: EndedExecutions,
        state: StateTable,
        close: Callable[[RunEnded], object],
        watch: Watch,
        leave_to_event: timedelta = LEAVE_TO_EVENT,
        deadline: float = inf,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """`close` closes a run, idempotently, and raises where it did not close it wholly.

        After `deadline`, by `time.monotonic`, no further run is begun.
        """
        self._executions = executions
        self._state = state
        self._close = close
        self._watch = watch
        self._leave_to_event = leave_to_event
        self._deadline = deadline
        self._clock = clock

    def sweep(self) -> Sweep:
        """Close what has ended and was not closed, in the order in which it ended.

        A run that a sweep has begun to close before comes after all others: it may be the one at which that sweep was killed. So that
        it hinders those of its kind only now and then, they come in another order each time.

        Raises:
            SweepIncomplete: a run could not be closed, and no sweep has said so before; all others were.
        """
        done = Sweep()
        news: list[str] = []
        unclosed = self._unclosed()
        for position, execution in enumerate(unclosed):
            if time.monotonic() >= self._deadline:
                done.left = len(unclosed) - position
                get_logger().warning("sweep: its time is over", left=done.left)
                break
            self._state.mark(execution.arn, _begun_mark(execution))
            try:
                self._close(RunEnded.from_description(self._executions.describe(execution.arn)))
            except Exception as error:  # noqa: BLE001  one run that cannot be closed does not stop the others
                get_logger().exception(
                    "sweep: a run was not closed", execution=execution.arn, error=str(error)
                )
                done.failed += 1
                if self._state.mark(execution.arn, f"sweep failed {execution.redrives}"):
                    news.append(f"{execution.arn}: {error}")
            else:
                get_logger().warning("sweep: closed a run late", execution=execution.arn)
                done.closed += 1
                self._watch.count(Metric.RUN_SWEPT)
        if news:
            raise SweepIncomplete(f"the sweep could not close {len(news)} runs: {'; '.join(news)}")
        return done

    def _unclosed(self) -> list[EndedExecution]:
        """Ended runs that are not marked as closed, in the order in which to close them."""
        now = self._clock()
        unclosed = [
            each
            for each in self._executions.ended(since=now - LOOK_BACK)
            if each.stopped <= now - self._leave_to_event
            and not self._state.is_marked(each.arn, closed_mark(each.redrives))
        ]
        begun = {each.arn for each in unclosed if self._state.is_marked(each.arn, _begun_mark(each))}
        return sorted(
            (each for each in unclosed if each.arn not in begun), key=lambda each: (each.stopped, each.arn)
        ) + sorted((each for each in unclosed if each.arn in begun), key=lambda each: _lot(each.arn, at=now))


def _lot(arn: str, *, at: datetime) -> bytes:
    """Another for each moment."""
    return hashlib.blake2b(f"{at.isoformat()} {arn}".encode()).digest()


def _begun_mark(execution: EndedExecution) -> str:
    return f"sweep begun {execution.redrives}"
