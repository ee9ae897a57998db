"""One invocation of a worker: what is still owed, run through the engine, journaled as it goes."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from winnow.batch.opening import open_source
from winnow.batch.plan import Plan, ids_of, read_plan
from winnow.batch.rows import Chunk
from winnow.core.contract import Kind, Order, new_run_id
from winnow.core.errors import EveryRecordFailed
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.core.record import Record
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.journal.reports import FailureReport, one_line, words_of
from winnow.journal.segment import Stop
from winnow.metrics.watch import Metric, Watch, get_logger
from winnow.runtime.careful import Limits, run_carefully
from winnow.runtime.deadline import Deadline
from winnow.runtime.engine import Options, run, units
from winnow.runtime.flusher import JournalUnavailable
from winnow.runtime.outcome import Item
from winnow.runtime.recorder import Observer, Recorder, RecorderSettings
from winnow.runtime.segment_writer import SegmentWriter
from winnow.settlement.settlement import FIRST_HORIZON, Settlement, read_settlement
from winnow.storage.ledger import Ledger

LOGGED = 100
"""Failures, and warnings, of one invocation that are logged: a log line costs as much as many a record."""


UNDECODABLE = (ValueError, KeyError, TypeError, RecursionError)
"""What decoding a row raises that Plan could read: nested too deep for the worker's stack, for instance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Owed:
    """What this invocation is to do."""

    ordinals: Ranges
    suspects: Ranges
    killers: Ranges
    careful: bool
    again: bool
    """An earlier invocation of the same attempt failed or died: Step Functions tried the worker once more."""
    horizon: int

    @classmethod
    def of(cls, plan: Plan, before: Settlement, evidence: Evidence) -> Owed:
        """Work it out from the settlement before and from what this attempt's journal already proves."""
        known_bad = evidence.failed.get(Kind.PERMANENT, Ranges.empty())
        ordinals = before.next - plan.rejected - evidence.done - known_bad
        again = bool(evidence.invocations)
        careful = before.careful or evidence.died
        killers = before.crashed | evidence.failed.get(Kind.CRASHED, Ranges.empty())
        suspects = before.suspects | killers
        if evidence.died:
            suspects = suspects | ordinals.within(0, evidence.horizon)
        horizon = evidence.horizon if again else ordinals.first(FIRST_HORIZON).stop
        return cls(
            ordinals=ordinals,
            suspects=suspects & ordinals,
            killers=killers & ordinals,
            careful=careful,
            again=again,
            horizon=plan.count if careful else horizon,
        )

    @property
    def parts(self) -> tuple[Ranges, ...]:
        """In what order: those that a death may be blamed on come last, and those that are known to kill or hang last of all."""
        return self.ordinals - self.suspects, self.suspects - self.killers, self.killers


class _Feed:
    """Records of the batch by ordinal, and where in the source each came from."""

    def __init__(self, ledger: Ledger, plan: Plan, *, read_again: bool) -> None:
        """`read_again`: the function may be given a record more than once, which then has to be as it was read."""
        self._ledger = ledger
        self._plan = plan
        self._read_again = read_again
        self._source = open_source(ledger.store, plan.source)
        self._chunks: list[tuple[int, int, str, str, int]] = []

    def items(self, report: Callable[[FailureReport], None], *parts: Ranges) -> Iterator[Item]:
        """The records of some ordinals, part after part; one that cannot be decoded is reported, and costs only itself."""
        decode, read_again = self._source.decode, self._read_again
        for part in parts:
            if not part:
                continue
            for chunk in self._source.chunks(self._plan.runs(part)):
                self._remember(chunk)
                ordinal = chunk.ordinal
                for row in chunk.rows:
                    try:
                        record = Record(*decode(row))
                    except UNDECODABLE as error:
                        report(self._undecodable(ordinal, error))
                    else:
                        if read_again:
                            record._as_read = partial(decode, row)  # noqa: SLF001  ours
                        yield ordinal, record
                    ordinal += 1

    def _undecodable(self, ordinal: int, error: Exception) -> FailureReport:
        ((_, record_id),) = ids_of(self._ledger, self._plan.keys, Ranges.of([ordinal]))
        return FailureReport.of_error(error, ordinal=ordinal, record_id=record_id, kind=Kind.PERMANENT)

    def _remember(self, chunk: Chunk) -> None:
        insort(self._chunks, (chunk.ordinal, len(chunk.rows), chunk.bucket, chunk.key, chunk.line))

    def locate(self, ordinal: int) -> dict[str, Any]:
        """Where a record came from, as fields of a failure report."""
        index = bisect_right(self._chunks, ordinal, key=lambda chunk: chunk[0]) - 1
        if index < 0:
            return {}
        first, length, bucket, key, line = self._chunks[index]
        if not first <= ordinal < first + length:
            return {}
        return {"source_bucket": bucket, "source_key": key, "source_line": line + ordinal - first}


class Runnable(Protocol):
    """What an attempt needs of a worker."""

    name: str
    """Where a careful child finds it."""
    function: Callable[[Any], Any]
    options: Options

    def prepare(self) -> None:
        """Run its setup, once per process."""


def run_attempt(
    worker: Runnable, event: Any, context: Any, *, ledger: Ledger, watch: Watch, code_version: str
) -> dict[str, Any]:
    """Do what an order says, as far as time allows.

    Returns:
        Counts of this invocation, and why it stopped. The journal is the evidence; this is only talk.

    Raises:
        EveryRecordFailed: first attempt, and all that are not permanent failures failed transiently.
        JournalUnavailable: what was done could not be recorded.
        Exception: whatever setup or reading the input raised; the environment's fault, no record's.
    """
    order = Order.from_event(event)
    watch.identify(run_id=order.run_id, stage=order.stage)
    seconds = context.get_remaining_time_in_millis() / 1000
    deadline = Deadline.of_worker(seconds)
    plan = read_plan(ledger, StageKeys(order.run_id, order.stage))
    before = read_settlement(ledger, plan, order.attempt - 1)
    if before is None:
        raise LookupError(
            f"attempt {order.attempt} was ordered before attempt {order.attempt - 1} was settled"
        )
    keys = plan.keys.attempt(order.attempt)
    evidence = fold(read_segments(ledger, keys), digest=plan.digest, order=before.next, ledger=ledger)
    owed = Owed.of(plan, before, evidence)
    if owed.again:
        watch.count(Metric.RETRIED, len(owed.ordinals))
    options = worker.options
    feed = _Feed(ledger, plan, read_again=bool(options.batch or options.retry))
    recorder = Recorder(
        SegmentWriter(ledger, plan, keys, invocation=new_run_id(), form=options.outputs, deadline=deadline),
        RecorderSettings(
            flush_seconds=options.flush_seconds,
            horizon=owed.horizon,
            give_up_after=options.give_up_after,
            code_version=code_version,
        ),
        _Log(feed),
    )
    items = feed.items(recorder.report, *owed.parts)
    try:
        if owed.careful:
            limits = Limits.of(
                options, timeout_seconds=seconds, memory_mb=int(getattr(context, "memory_limit_in_mb", 128))
            )
            run_carefully(worker.name, units(items, recorder, options.batch or 1), recorder, options, limits)
        else:
            worker.prepare()
            run(worker.function, items, recorder, options, recorder.streak)
    except BaseException as error:
        recorder.request_stop(Stop.ERROR, one_line(f"{type(error).__name__}: {words_of(error)}"))
        try:
            recorder.close()
        except JournalUnavailable as second:
            get_logger().warning(str(second))  # the first is the one to see
        raise
    recorder.close()
    return _report(order, recorder, evidence)


class _Log(Observer):
    """The first failures and warnings of an invocation as log lines; all are in the ledger, the warnings as counts."""

    def __init__(self, feed: _Feed) -> None:
        self._feed = feed
        self._failures = 0
        self._warnings = 0

    def locate(self, ordinal: int) -> dict[str, Any]:
        return self._feed.locate(ordinal)

    def failure(self, report: FailureReport) -> None:
        self._failures += 1
        if self._failures <= LOGGED:
            get_logger().warning(
                report.message,
                record_id=report.record_id,
                error_type=report.error_type,
                failure_kind=report.kind.value,
            )
        elif self._failures == LOGGED + 1:
            get_logger().warning("more records failed; all are in the ledger")

    def warning(self, ordinal: int, text: str) -> None:
        self._warnings += 1
        if self._warnings <= LOGGED:
            get_logger().warning(one_line(text), record_warning=True, **self._feed.locate(ordinal))
        elif self._warnings == LOGGED + 1:
            get_logger().warning("more records warned; all are counted in the stage's result")


def _report(order: Order, recorder: Recorder, evidence: Evidence) -> dict[str, Any]:
    totals = recorder.totals
    if (
        order.attempt == 0
        and totals.failed[Kind.TRANSIENT]
        and totals.failed[Kind.TRANSIENT] + totals.failed[Kind.PERMANENT] == totals.all_failed
        and not totals.done
        and not evidence.done
    ):
        why = recorder.cause or f"{totals.failed[Kind.TRANSIENT]} failed transiently"
        raise EveryRecordFailed(f"none of {totals.all_failed} records succeeded; {why}")
    return {
        "succeeded": totals.succeeded,
        "skipped": totals.skipped,
        "failed": totals.all_failed,
        "stopped": (recorder.stop or Stop.END).value,
    }
