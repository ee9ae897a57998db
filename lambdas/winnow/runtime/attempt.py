"""One invocation of a worker: what is outstanding, run through the engine, journaled as it goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from winnow.batch.plan import read_plan
from winnow.core.contract import Kind, Order, new_run_id
from winnow.core.errors import EveryRecordFailed
from winnow.core.keys import StageKeys
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.journal.reports import FailureReport, one_line, words_of
from winnow.journal.segment import Stop
from winnow.metrics.watch import Metric, Watch, get_logger
from winnow.runtime.careful import Limits, run_carefully
from winnow.runtime.deadline import Deadline
from winnow.runtime.engine import run
from winnow.runtime.flusher import JournalUnavailable
from winnow.runtime.options import Options
from winnow.runtime.outstanding import OutstandingWork
from winnow.runtime.process_state import ProcessState
from winnow.runtime.record_reader import RecordReader
from winnow.runtime.recorder import Observer, Recorder, RecorderSettings
from winnow.runtime.segment_writer import SegmentWriter
from winnow.runtime.units import units
from winnow.settlement.settlement import read_settlement
from winnow.storage.ledger import Ledger

LOGGED = 100
"""Failures and warnings, each, that an invocation logs: a log line may cost as much as a record."""


class Runnable(Protocol):
    """The part of a worker that an attempt uses."""

    name: str
    """A careful child finds the worker by it: `module:attribute`."""
    function: Callable[[Any], Any]
    options: Options

    process: ProcessState


def run_attempt(
    worker: Runnable, event: Any, context: Any, *, ledger: Ledger, watch: Watch, code_version: str
) -> dict[str, Any]:
    """Process what an order asks for, as far as time allows.

    Returns:
        Counts of this invocation, and why it stopped. For logs only: the journal is the evidence.

    Raises:
        EveryRecordFailed: no record succeeded in the first attempt, and not all failed permanently.
        JournalUnavailable: what was done could not be journaled.
        Exception: raised by setup or by reading the input; the environment's fault, not a record's.
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
    work = OutstandingWork.of(plan, before, evidence)
    if work.again:
        watch.count(Metric.RETRIED, len(work.ordinals))
    options = worker.options
    reader = RecordReader(ledger, plan, read_again=bool(options.batch or options.retry))
    recorder = Recorder(
        SegmentWriter(
            ledger,
            plan,
            keys,
            invocation=new_run_id(),
            form=options.outputs,
            deadline=deadline,
            code_version=code_version,
        ),
        RecorderSettings(
            flush_seconds=options.flush_seconds,
            horizon=work.horizon,
            give_up_after=options.give_up_after,
            code_version=code_version,
        ),
        _Log(reader),
    )
    try:
        if work.careful:
            limits = Limits.of(
                options, timeout_seconds=seconds, memory_mb=int(getattr(context, "memory_limit_in_mb", 128))
            )
            taken = units(reader.undecoded(*work.parts), recorder, options.batch or 1)
            run_carefully(worker.name, taken, recorder, options, limits)
        else:
            worker.process.prepare()
            items = reader.items(recorder.report, *work.parts)
            run(worker.function, items, recorder, options, recorder.streak)
    except BaseException as error:
        recorder.request_stop(Stop.ERROR, one_line(f"{type(error).__name__}: {words_of(error)}"))
        try:
            recorder.close()
        except JournalUnavailable as second:
            get_logger().warning(str(second))  # the first error is the one to raise
        raise
    recorder.close()
    if not work.careful:
        used_up = recorder.stop is Stop.USED_UP
        worker.process.end_try(failed_in_a_row=recorder.failed_in_a_row, used_up=used_up)
    return _report(order, recorder, evidence)


class _Log(Observer):
    """The first failures and warnings of an invocation as log lines; all are in the ledger, the warnings as counts."""

    def __init__(self, reader: RecordReader) -> None:
        self._reader = reader
        self._failures = 0
        self._warnings = 0

    def locate(self, ordinal: int) -> dict[str, Any]:
        return self._reader.locate(ordinal)

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
            get_logger().warning(one_line(text), record_warning=True, **self._reader.locate(ordinal))
        elif self._warnings == LOGGED + 1:
            get_logger().warning("more records warned; all are counted in the stage's result")


def _report(order: Order, recorder: Recorder, evidence: Evidence) -> dict[str, Any]:
    totals = recorder.totals
    if (
        order.attempt == 0
        and recorder.stop is not Stop.USED_UP
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
