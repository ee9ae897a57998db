"""The batch: Plan fixes it once, as an immutable list of distinct ids, and every attempt speaks of places in that list."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from winnow.batch.opening import detect, open_source
from winnow.batch.plan import BLOCK_IDS, Digest, Plan, find_plan, read_plan
from winnow.batch.rows import Source, Unreadable
from winnow.batch.successes import read_manifest
from winnow.core.contract import (
    Kind,
    Order,
    Pointer,
    Policy,
    SourceFormat,
    StageInput,
    Verdict,
    check_run_id,
    now,
    record_id_problem,
)
from winnow.core.errors import LedgerConflict, LedgerObjectMissing, StageInputError
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges, append
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import BY_PLAN, Segment
from winnow.planning.claim import claim_attempt
from winnow.planning.repeats import Repeats
from winnow.settlement.settlement import read_settlement
from winnow.storage.ledger import Ledger

REPORTS_PER_OBJECT = 5_000
"""Rejections are written down as they come up: a list may hold nothing else."""


def plan_stage(
    ledger: Ledger, stage_input: StageInput, *, pipeline: str, stage: str, policy: Policy, execution: str
) -> Order:
    """Fix the batch of a stage run and give the order for its first attempt.

    Run again by the same execution (Lambda was retried) it gives the same order; by another it refuses.

    Raises:
        StageInputError: the records cannot be had.
        DuplicateAttempt: another execution runs this stage of this run already.
    """
    keys = StageKeys(stage_input.run_id, stage)
    claim_attempt(ledger, keys, 0, execution)
    plan = find_plan(ledger, keys) or _fix(ledger, stage_input, keys, pipeline)
    return Order(
        run_id=plan.run_id,
        pipeline=pipeline,
        stage=stage,
        attempt=0,
        try_count=stage_input.try_count,
        count=plan.count,
        plan=Pointer(bucket=ledger.bucket, key=keys.plan),
        policy=policy,
    )


def continue_stage(
    ledger: Ledger, event: Mapping[str, Any], *, pipeline: str, stage: str, policy: Policy, execution: str
) -> Order:
    """The order for a deeper attempt, which Settle asked for.

    Raises:
        StageInputError: this is not what Settle made. An attempt that was started by hand would take a number that the run
            itself may come to, and be in its way then.
        DuplicateAttempt: another execution owns the attempt.
    """
    for name, wanted in (("run_id", str), ("attempt", int), ("try_count", int), ("plan", dict)):
        if type(event.get(name)) is not wanted:
            raise StageInputError(name, event.get(name), f'is wrong beside "plan"; {_BY_HAND}')
    if event["attempt"] < 1:
        raise StageInputError("attempt", event["attempt"], f'is wrong beside "plan"; {_BY_HAND}')
    keys = StageKeys(check_run_id(event["run_id"]), stage)
    attempt, try_count = event["attempt"], event["try_count"]
    plan = _planned(ledger, keys)
    before = read_settlement(ledger, plan, attempt - 1)
    if before is None or not before.next:
        raise StageInputError("attempt", attempt, f"attempt {attempt - 1} has not asked for it; {_BY_HAND}")
    asked = before.try_count + (before.verdict is Verdict.RETRY)
    if try_count != asked:
        raise StageInputError("try_count", try_count, f"is not what was asked for, {asked}; {_BY_HAND}")
    claim_attempt(ledger, keys, attempt, execution)
    return Order(
        run_id=keys.run_id,
        pipeline=pipeline,
        stage=stage,
        attempt=attempt,
        try_count=try_count,
        count=plan.count,
        plan=Pointer(bucket=ledger.bucket, key=keys.plan),
        policy=policy,
    )


_BY_HAND = 'a deeper attempt is not started by hand: start a stage with "records" only'


def _planned(ledger: Ledger, keys: StageKeys) -> Plan:
    try:
        return read_plan(ledger, keys)
    except LedgerObjectMissing as error:
        raise StageInputError("run_id", keys.run_id, f"no such run of this stage; {_BY_HAND}") from error


def _fix(ledger: Ledger, stage_input: StageInput, keys: StageKeys, pipeline: str) -> Plan:
    pointer = stage_input.records
    if not isinstance(pointer, Pointer):
        ledger.write_records(keys.input, (record.to_row() for record in pointer))
        pointer = Pointer(bucket=ledger.bucket, key=keys.input)
    ref = detect(ledger.store, pointer)
    lost = read_manifest(ledger.store, pointer).lost_in_run if ref.format is SourceFormat.SUCCESSES else 0
    if stage_input.only and pointer.only:
        raise StageInputError("only", str(pointer.only), "is given twice, here and in records.only; give one")
    only = _only(ledger, stage_input.only or pointer.only, keys)
    listing = _List(ledger, keys, only)
    listing.take(open_source(ledger.store, ref))
    plan = Plan(
        run_id=keys.run_id,
        pipeline=pipeline,
        stage=keys.stage,
        digest=listing.digest,
        count=listing.count,
        source=ref,
        dropped=listing.dropped,
        duplicates=listing.duplicates,
        rejected=listing.rejected,
        lost_upstream=lost,
        created_at=now(),
    )
    _journal_rejected(ledger, plan, listing.reports)
    try:
        ledger.write_json(keys.plan, plan.to_json(), if_absent=True)
    except LedgerConflict:  # a Plan that Step Functions had given up on was only slow
        return read_plan(ledger, keys)
    return plan


def _only(ledger: Ledger, only: Pointer | tuple[str, ...] | None, keys: StageKeys) -> frozenset[str] | None:
    if only is None:
        return None
    if isinstance(only, Pointer):
        try:
            wanted = frozenset(_asked_for(open_source(ledger.store, detect(ledger.store, only)), only))
        except StageInputError as error:
            raise error.under("only") from error
        if not wanted:
            raise StageInputError("only", str(only), 'holds no id, and that is not "all"')
        return wanted
    ledger.write_records(keys.only, only)
    return frozenset(only)


def _asked_for(source: Source, only: Pointer) -> Iterator[str]:
    """Ids of a subset. A row that is none is refused: whom it was to ask for would be forgotten in silence."""
    row = 0
    for ids in source.ids():
        for row, value in enumerate(ids, start=row + 1):  # noqa: B020  goes on counting
            if isinstance(value, Unreadable):
                raise StageInputError("records", str(only), f"line {value.line} {value.problem}")
            if value is None:
                continue
            problem = record_id_problem(value)
            if problem:
                raise StageInputError("records", str(only), f"line {row}: a record id {problem}")
            yield value


class _List:
    """The list of distinct ids while it is being made: blocks go to the ledger as they fill."""

    def __init__(self, ledger: Ledger, keys: StageKeys, only: frozenset[str] | None) -> None:
        self._ledger = ledger
        self._keys = keys
        self._only = only
        self._reset()

    def _reset(self) -> None:
        self._block: list[str] = []
        self._blocks = 0
        self._hash = Digest()
        self._dropped: list[int] = []
        """Flat intervals; so is the next."""
        self._rejected: list[int] = []
        self._unreported: list[FailureReport] = []
        self.reports: list[tuple[str, Ranges]] = []
        """Where the reasons of rejections are, and whom each object speaks of."""
        self.count = 0
        self.duplicates = 0

    def take(self, source: Source) -> None:
        """Read a source's ids. Twice only when some id comes up twice: then the second reading leaves repetitions out."""
        with Repeats() as repeats:
            self._pass(source, repeats, {})
            suspects = repeats.found()
        if suspects:
            self._reset()
            self._pass(source, None, {value: set() for value in suspects})
        self._ask_for_the_rest()
        while self._block:
            self._flush()
        self._report()

    def _pass(self, source: Source, repeats: Repeats | None, seen: dict[int, set[str]]) -> None:
        row = 0
        only = self._only
        self._asked = set(only) if only is not None else set()
        for ids in source.ids():
            plain = only is None and not seen and all(map(_is_plain, ids))
            if plain:
                self._block += ids  # type: ignore[arg-type]  # _is_plain let strings only through
                self.count += len(ids)
            else:
                for offset, value in enumerate(ids):
                    self._take_one(row + offset, value, seen)
            if repeats:
                repeats.add(value for value in ids if isinstance(value, str))
            row += len(ids)
            while len(self._block) >= BLOCK_IDS:
                self._flush()

    def _take_one(self, row: int, value: str | Unreadable | None, seen: dict[int, set[str]]) -> None:
        if value is None:
            append(self._dropped, row)
            return
        if isinstance(value, Unreadable):
            if self._only is None:
                self._reject(f"line {value.line}", "UnreadableRow", f"line {value.line} {value.problem}")
            else:
                append(self._dropped, row)
            return
        problem = record_id_problem(value)
        if problem:
            if self._only is None:
                shown = str(value).encode("ascii", "backslashreplace").decode()[:100]
                self._reject(
                    f"line {row + 1}",
                    "UnusableId",
                    f"line {row + 1}: the record id {problem}, got: {shown!r}",
                )
            else:
                append(self._dropped, row)
            return
        if self._only is not None and value not in self._only:
            append(self._dropped, row)
            return
        known = seen.get(hash(value))
        if known is not None:
            if value in known:
                append(self._dropped, row)
                self.duplicates += 1
                return
            known.add(value)
        self._asked.discard(value)
        self._block.append(value)
        self.count += 1

    def _reject(self, record_id: str, error_type: str, message: str) -> None:
        append(self._rejected, self.count)
        self._unreported.append(
            FailureReport(
                ordinal=self.count,
                record_id=record_id,
                kind=Kind.PERMANENT,
                error_type=error_type,
                message=message,
            )
        )
        self._block.append(record_id)
        self.count += 1
        if len(self._unreported) >= REPORTS_PER_OBJECT:
            self._report()

    def _report(self) -> None:
        if not self._unreported:
            return
        key = self._keys.attempt(0).failures(BY_PLAN, len(self.reports))
        write_reports(self._ledger, key, self._keys.stage, self._unreported)
        self.reports.append((key, Ranges.of(report.ordinal for report in self._unreported)))
        self._unreported.clear()

    def _ask_for_the_rest(self) -> None:
        for value in sorted(self._asked):
            self._reject(value, "NotInSource", "was asked for, but the source does not have it")

    def _flush(self) -> None:
        """Write one block: a full one, but for the last, because an ordinal's block is found by division."""
        ids, self._block = self._block[:BLOCK_IDS], self._block[BLOCK_IDS:]
        self._ledger.write_json(self._keys.batch(self._blocks), ids)
        self._hash.add(ids)
        self._blocks += 1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    @property
    def dropped(self) -> Ranges:
        return Ranges(self._dropped)

    @property
    def rejected(self) -> Ranges:
        return Ranges(self._rejected)


MAX_PLAIN_CHARS = 256
"""Shorter than this, no UTF-8 text exceeds the 1,024 bytes of a record id."""


def _is_plain(value: object) -> bool:
    """The quick way to know a good id: most are."""
    return type(value) is str and 0 < len(value) <= MAX_PLAIN_CHARS and value.isprintable()


def _journal_rejected(ledger: Ledger, plan: Plan, reports: list[tuple[str, Ranges]]) -> None:
    """What no worker is given failed permanently at attempt 0; Plan journals it like a worker would."""
    for sequence, (failures_key, rejected) in enumerate(reports):
        segment = Segment(
            batch=plan.digest,
            invocation=BY_PLAN,
            sequence=sequence,
            succeeded=Ranges.empty(),
            skipped=Ranges.empty(),
            failed={Kind.PERMANENT: rejected},
            failures_key=failures_key,
            written_at=now(),
        )
        ledger.write_json(plan.keys.attempt(0).segment(BY_PLAN, sequence), segment.to_json())
