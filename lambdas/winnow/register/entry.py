"""The failure register: what failed, how often, and what became of it. The rules, without the table.

An entry is one record in one stage of one pipeline. It opens when the record fails. It is resolved when the record later succeeds
in the same stage, in any run. The functions here are pure, so registering a stage run twice, late, or again from the ledger gives
the same register.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

    from winnow.settlement.failure_records import FailureRecord

MAX_HISTORY = 50
"""Occurrences kept one by one; an entry must stay far below DynamoDB's 400 KB. The count goes on."""
MAX_TEXT_CHARS = 2_000
"""Of a traceback in the register; the ledger has the whole."""


class Status(StrEnum):
    """The state of a failure."""

    OPEN = "open"
    REPLAYING = "replaying"
    """A replay holds it until its lease ends."""
    RESOLVED = "resolved"
    WAIVED = "waived"
    """An operator accepted it: counted, not alerted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Occurrence:
    """The record failed in one run."""

    run_id: str
    at: str
    kind: str
    error_type: str
    message: str
    fingerprint: str
    tries: int
    code_version: str

    @classmethod
    def of_failure(cls, failure: FailureRecord) -> Self:
        """From a failure record of the ledger."""
        return cls(
            run_id=failure.run_id,
            at=failure.last_seen,
            kind=failure.kind.value,
            error_type=failure.error_type,
            message=failure.message,
            fingerprint=failure.fingerprint,
            tries=failure.tries,
            code_version=failure.code_version,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """A replay's hold on an entry."""

    replay_id: str
    """Also the id of the replay's run."""
    until: str
    """When the lease ends. After this the replay is certainly dead, and another may hold the entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiver:
    """An operator's decision to accept a failure."""

    reason: str
    at: str
    fingerprint: str
    """Of the failure that was waived. The waiver does not cover a record that fails differently."""
    until: str = ""
    """When the waiver ends; empty if it does not."""

    def covers(self, fingerprint: str, at: str) -> bool:
        return self.fingerprint == fingerprint and (not self.until or at < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """The record succeeded."""

    run_id: str
    at: str
    """When the record was done at the earliest, as far as the journal tells."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """The list that the run read: `bucket`, `key`, and `modified`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopening:
    """An operator's decision that a failure counts again, whether it was waived or resolved."""

    reason: str
    at: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A failure and what became of it."""

    pipeline: str
    stage: str
    record_id: str
    status: Status
    last: Occurrence
    """The newest occurrence: the entry's kind, reason and fingerprint."""
    traceback: str
    ordinal: int
    """The record's place in the batch of the run in which it failed last. Run and ordinal lead to its input."""
    source: Mapping[str, Any]
    first_seen: str
    occurrences: int
    history: tuple[Occurrence, ...]
    """Newest last, `last` included."""
    alerted: str = ""
    """Fingerprint of the last failure that an alert named."""
    told_by: str = ""
    """Run whose alert named it last, so that registering this run again gives the same alert."""
    hold: Hold | None = None
    waiver: Waiver | None = None
    resolution: Resolution | None = None
    reopening: Reopening | None = None
    """The last one; kept whatever comes after it. None where there was none, or one before reasons were kept."""
    version: int = 0
    """Grows with every change; a change is written only over the version it was made from."""

    @property
    def last_seen(self) -> str:
        return self.last.at

    def held(self, now: str) -> bool:
        """Whether a replay has it at the moment."""
        return self.status is Status.REPLAYING and self.hold is not None and now < self.hold.until

    def waived(self, now: str) -> bool:
        return (
            self.status is Status.WAIVED
            and self.waiver is not None
            and self.waiver.covers(self.last.fingerprint, now)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """The result of registering one failure."""

    entry: Entry
    is_new: bool
    """No alert has named it yet: it is new, or fails differently, or failed again after it was resolved."""
    changed: bool
    """Whether there is something to write."""


def note_failure(found: Entry | None, failure: FailureRecord) -> Noted:
    """Register one failure record.

    Args:
        found: the record's entry, if there is one.
        failure: a failure record, as the ledger has it.
    """
    seen = Occurrence.of_failure(failure)
    if found is None:
        return Noted(entry=_first(failure, seen), is_new=True, changed=True)
    if _noted_before(found, seen):
        return Noted(entry=found, is_new=found.told_by == seen.run_id, changed=False)
    entry = replace(
        found,
        occurrences=found.occurrences + 1,
        first_seen=min(found.first_seen, failure.first_seen),
        history=_chronicle(*found.history, seen),
        version=found.version + 1,
    )
    outcome = (failure.source, seen.at)
    if _is_before(outcome, (found.source, found.last_seen)):  # it counts, but does not change the state
        return Noted(entry=entry, is_new=False, changed=True)
    entry = replace(
        entry,
        last=seen,
        traceback=str(failure.traceback)[:MAX_TEXT_CHARS],
        ordinal=failure.ordinal,
        source=failure.source,
    )
    if found.resolution and _is_before(outcome, (found.resolution.source, found.resolution.at)):
        return Noted(entry=entry, is_new=False, changed=True)
    entry = _after_failing(entry, seen)
    if not _is_new(found, entry):
        return Noted(entry=entry, is_new=False, changed=True)
    return Noted(
        entry=replace(entry, alerted=seen.fingerprint, told_by=seen.run_id), is_new=True, changed=True
    )


def _noted_before(found: Entry, seen: Occurrence) -> bool:
    """Whether the run is in the history, or was before the history was cut."""
    if any(each.run_id == seen.run_id for each in found.history):
        return True
    return found.occurrences > len(found.history) and seen.at < found.history[0].at


def _is_new(found: Entry, entry: Entry) -> bool:
    """Whether an alert has to name a record that failed again.

    Args:
        found: its entry before.
        entry: its entry now.
    """
    if entry.waiver:  # it still covers the failure, otherwise it would be gone
        return False
    ran_out = found.waiver is not None  # the operator set an end, to be told again then
    return ran_out or found.status is Status.RESOLVED or found.alerted != entry.last.fingerprint


def _first(failure: FailureRecord, seen: Occurrence) -> Entry:
    return Entry(
        pipeline=failure.pipeline,
        stage=failure.stage,
        record_id=failure.record_id,
        status=Status.OPEN,
        last=seen,
        traceback=str(failure.traceback)[:MAX_TEXT_CHARS],
        ordinal=failure.ordinal,
        source=failure.source,
        first_seen=failure.first_seen,
        occurrences=1,
        history=(seen,),
        alerted=seen.fingerprint,
        told_by=seen.run_id,
        version=1,
    )


def _chronicle(*occurrences: Occurrence) -> tuple[Occurrence, ...]:
    return tuple(sorted(occurrences, key=lambda each: (each.at, each.run_id)))[-MAX_HISTORY:]


def _after_failing(entry: Entry, seen: Occurrence) -> Entry:
    """The status of an entry whose record has just failed again."""
    waiver = entry.waiver if entry.waiver and entry.waiver.covers(seen.fingerprint, seen.at) else None
    entry = replace(entry, waiver=waiver)
    if entry.held(seen.at) and entry.hold and entry.hold.replay_id != seen.run_id:
        return entry  # another run was given the record; the replay goes on
    status = Status.WAIVED if waiver else Status.OPEN
    return replace(entry, status=status, hold=None, resolution=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Success:
    """A record succeeded in a run."""

    run_id: str
    at: str
    """When it was done at the earliest, as far as the journal tells: ISO 8601, UTC."""
    source: Mapping[str, Any] = field(default_factory=dict)
    """The list that the run read: `bucket`, `key`, and `modified`, when that version of it was written; empty if it has no versions."""

    def is_newer_than(self, failure: Entry) -> bool:
        """Whether the record succeeded as it is now, rather than as it was before it failed.

        It has to be done after the failure was seen. Where a run had begun by then, and may have read the record before, it is
        not known, and the failure stays.
        """
        return not _is_before((self.source, self.at), (failure.source, failure.last_seen))


def _is_before(one: tuple[Mapping[str, Any], str], other: tuple[Mapping[str, Any], str]) -> bool:
    """Whether an outcome is older than another; each is given as the list that was read, and the moment.

    Two versions of one list decide by themselves, because S3's clock is one clock. Else the moments decide.
    """
    (source, at), (other_source, other_at) = one, other
    same_list = all(source.get(name) == other_source.get(name) for name in ("bucket", "key"))
    read, other_read = source.get("modified"), other_source.get("modified")
    if same_list and read and other_read and read != other_read:
        return bool(read < other_read)
    return at < other_at


def note_success(found: Entry, success: Success) -> Entry | None:
    """Resolve an entry whose record succeeded; None if the entry does not change."""
    resolved_before = found.status is Status.RESOLVED or found.last.run_id == success.run_id
    if resolved_before or not success.is_newer_than(found):
        return None
    return replace(
        found,
        status=Status.RESOLVED,
        hold=None,
        waiver=None,
        resolution=Resolution(run_id=success.run_id, at=success.at, source=success.source),
        version=found.version + 1,
    )


class Refused(Exception):
    """An entry cannot be changed as asked; the message says why, in a few words."""


def hold(found: Entry, *, replay_id: str, now: str, until: str) -> Entry:
    """Take an entry for a replay.

    Raises:
        Refused: another replay holds it, or it is resolved.
    """
    if found.status is Status.RESOLVED:
        raise Refused("already resolved")
    if found.held(now) and found.hold and found.hold.replay_id != replay_id:
        raise Refused(f"held by replay {found.hold.replay_id}")
    return replace(
        found, status=Status.REPLAYING, hold=Hold(replay_id=replay_id, until=until), version=found.version + 1
    )


def release(found: Entry, *, replay_id: str) -> Entry | None:
    """End the hold of a replay that has ended without settling the record; None if the replay does not hold the entry."""
    if found.status is not Status.REPLAYING or not found.hold or found.hold.replay_id != replay_id:
        return None
    status = Status.WAIVED if found.waiver else Status.OPEN
    return replace(found, status=status, hold=None, version=found.version + 1)


def waive(found: Entry, *, reason: str, now: str, until: str = "") -> Entry:
    """Accept a failure as it is.

    Raises:
        Refused: it is resolved, or a replay has it.
    """
    if found.status is Status.RESOLVED:
        raise Refused("already resolved")
    if found.held(now) and found.hold:
        raise Refused(f"held by replay {found.hold.replay_id}")
    waiver = Waiver(reason=reason, at=now, until=until, fingerprint=found.last.fingerprint)
    return replace(found, status=Status.WAIVED, hold=None, waiver=waiver, version=found.version + 1)


def reopen(found: Entry, *, reason: str, now: str) -> Entry:
    """Open an entry again, whether waived or resolved.

    Raises:
        Refused: it is open, or a replay has it.
    """
    if found.status is Status.OPEN:
        raise Refused("open already")
    if found.held(now) and found.hold:
        raise Refused(f"held by replay {found.hold.replay_id}")
    return replace(
        found,
        status=Status.OPEN,
        hold=None,
        waiver=None,
        resolution=None,
        reopening=Reopening(reason=reason, at=now),
        version=found.version + 1,
    )
