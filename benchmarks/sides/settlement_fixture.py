"""A stage run of many records of which one in a hundred failed: as Winnow's journal, and as two lists of ids."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterable
from pathlib import Path

from benchmarks.disk import DiskStore
from benchmarks.sides.common import RUN, STAGE, record_id
from winnow.batch.plan import Plan
from winnow.batch.rows import SourceRef
from winnow.core.contract import Kind, Pointer, SourceFormat, now
from winnow.core.ranges import Ranges
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import Segment, Stop
from winnow.runtime.recorder import FLUSH_FAILURES
from winnow.storage.ledger import Ledger

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FAILED_SHARE = 0.01
LIST_PIECE = 100_000
FRAME = 'File "/var/task/bench/worker.py", line 12, in work\n  answer = ask(record)'


def main(arguments: list[str]) -> None:
    """Arguments: folder, number of records."""
    folder, count = Path(arguments[0]), int(arguments[1])
    failed = sorted(random.Random(1).sample(range(count), max(1, int(count * FAILED_SHARE))))
    write_journal(Ledger(DiskStore(folder)), count, failed)
    write_lists(folder, count, frozenset(failed))
    print("{}")


def write_journal(ledger: Ledger, count: int, failed: list[int]) -> None:
    """What a worker leaves that goes through the batch in order: a segment whenever so many failures came together."""
    plan = Plan(
        run_id=RUN,
        pipeline="bench",
        stage=STAGE,
        batch_id="B1",
        digest="digest",
        count=count,
        source=SourceRef(Pointer(bucket=ledger.bucket, key="input.ndjson"), SourceFormat.NDJSON, None),
        dropped=Ranges.empty(),
        duplicates=0,
        superseded=0,
        conflicts=0,
        rejected=Ranges.empty(),
        subset=False,
        numbered_ids=False,
        lost_upstream=0,
        created_at=now(),
    )
    ledger.write_json(plan.keys.plan, plan.to_json())
    start = 0
    for sequence, first in enumerate(range(0, len(failed), FLUSH_FAILURES)):
        part = failed[first : first + FLUSH_FAILURES]
        is_last = first + FLUSH_FAILURES >= len(failed)
        stop = count if is_last else part[-1] + 1
        _write_segment(ledger, plan, sequence, start, stop, part, is_last=is_last)
        start = stop


def _write_segment(
    ledger: Ledger, plan: Plan, sequence: int, start: int, stop: int, failed: list[int], *, is_last: bool
) -> None:
    keys = plan.keys.attempt(0)
    failures_key = keys.failures("bench", sequence)
    write_reports(ledger, failures_key, plan.stage, map(_report, failed))
    ordinals = Ranges.of(failed)
    segment = Segment(
        batch=plan.digest,
        invocation="bench",
        sequence=sequence,
        succeeded=Ranges.span(start, stop) - ordinals,
        skipped=Ranges.empty(),
        failed={Kind.TRANSIENT: ordinals},
        failures_key=failures_key,
        horizon=plan.count,
        stop=Stop.END if is_last else None,
        written_at=now(),
    )
    ledger.write_json(keys.segment("bench", sequence), segment.to_json())


def _report(ordinal: int) -> FailureReport:
    return FailureReport(
        ordinal=ordinal,
        record_id=record_id(ordinal),
        kind=Kind.TRANSIENT,
        error_type="TimeoutError",
        message=f"{record_id(ordinal)}: no answer within 5 s",
        traceback=FRAME,
        source_bucket="disk",
        source_key="input.ndjson",
        source_line=ordinal + 1,
        code_version="bench",
    )


def write_lists(folder: Path, count: int, failed: frozenset[int]) -> None:
    """All ids, and the ids of those that are done, a line each, compressed with zstd."""
    _write_list(folder / "all.zst", range(count))
    _write_list(folder / "done.zst", (number for number in range(count) if number not in failed))


def _write_list(path: Path, numbers: Iterable[int]) -> None:
    with zstd.open(path, "wt", level=3) as file:
        file.writelines(f"{record_id(number)}\n" for number in numbers)
