"""How the register's table stores an entry: the item, what the index shows of it, and the partition that it is in."""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from winnow.register.entry import Entry, Hold, Occurrence, Reopening, Resolution, Status, Waiver

PARTITIONS = 16
"""Partition keys of a stage, so that no partition of the table, which takes 1,000 write units a second, has all of its failures.

How fast the table is as a whole is another matter: a new one on demand takes 4,000 units a second (`winnow.register.pace`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An entry as the index has it: enough to list, group and choose."""

    pipeline: str
    stage: str
    record_id: str
    status: Status
    kind: str
    error_type: str
    message: str
    fingerprint: str
    first_seen: str
    last_seen: str
    occurrences: int
    run_id: str
    """In which it failed last."""
    ordinal: int
    code_version: str
    tries: int
    replay_id: str
    held_until: str

    def held(self, now: str) -> bool:
        return self.status is Status.REPLAYING and now < self.held_until

    @classmethod
    def of_entry(cls, entry: Entry) -> Self:
        return cls(
            pipeline=entry.pipeline,
            stage=entry.stage,
            record_id=entry.record_id,
            status=entry.status,
            kind=entry.last.kind,
            error_type=entry.last.error_type,
            message=entry.last.message,
            fingerprint=entry.last.fingerprint,
            first_seen=entry.first_seen,
            last_seen=entry.last.at,
            occurrences=entry.occurrences,
            run_id=entry.last.run_id,
            ordinal=entry.ordinal,
            code_version=entry.last.code_version,
            tries=entry.last.tries,
            replay_id=entry.hold.replay_id if entry.hold else "",
            held_until=entry.hold.until if entry.hold else "",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class UnresolvedEntry:
    """An entry that is not resolved: as much of it as resolving or releasing it takes."""

    record_id: str
    status: Status
    first_seen: str
    replay_id: str


UNRESOLVED_ATTRIBUTES = ("sk", "status", "first_seen", "replay_id")


SUMMARY_ATTRIBUTES = (
    *(
        "status",
        "kind",
        "error_type",
        "message",
        "fingerprint",
        "first_seen",
        "last_seen",
        "occurrences",
        "run_id",
    ),
    *("ordinal", "code_version", "tries", "replay_id", "held_until"),
)
"""What the index carries besides its keys."""


def partition(pipeline: str, stage: str, record_id: str) -> str:
    """The partition key of a record's entry."""
    return _partition(pipeline, stage, zlib.crc32(record_id.encode("utf-8", "surrogatepass")) % PARTITIONS)


def partitions(pipeline: str, stage: str) -> list[str]:
    """The partition keys of a stage's entries."""
    return [_partition(pipeline, stage, number) for number in range(PARTITIONS)]


def _partition(pipeline: str, stage: str, number: int) -> str:
    return f"{pipeline}#{stage}#{number:02d}"


NUMBERS = frozenset({"occurrences", "ordinal", "tries"})


def item_of(entry: Entry) -> dict[str, Any]:
    summary = Summary.of_entry(entry)
    where = partition(entry.pipeline, entry.stage, entry.record_id)
    rest = {
        "history": [_plain(each) for each in entry.history],
        "traceback": entry.traceback,
        "source": dict(entry.source),
        "alerted": entry.alerted,
        "told_by": entry.told_by,
        "waiver": _plain(entry.waiver) if entry.waiver else None,
        "resolution": _plain(entry.resolution) if entry.resolution else None,
        "reopening": _plain(entry.reopening) if entry.reopening else None,
    }
    item: dict[str, Any] = {
        "pk": {"S": where},
        "sk": {"S": entry.record_id},
        "version": {"N": str(entry.version)},
        "rest": {"S": json.dumps(rest, ensure_ascii=False)},
    }
    for name in SUMMARY_ATTRIBUTES:
        item[name] = {"N" if name in NUMBERS else "S": str(getattr(summary, name))}
    if entry.status is not Status.RESOLVED:
        item["owed"] = {"S": where}
    return item


def _plain(value: Occurrence | Waiver | Resolution | Reopening) -> dict[str, Any]:
    """As `asdict`, which copies deeply and takes ten times as long."""
    return {field: getattr(value, field) for field in value.__slots__}


def _fields(item: Mapping[str, Any]) -> dict[str, Any]:
    pipeline, stage, _ = item["pk"]["S"].rsplit("#", 2)
    fields: dict[str, Any] = {"pipeline": pipeline, "stage": stage, "record_id": item["sk"]["S"]}
    for name in SUMMARY_ATTRIBUTES:
        fields[name] = int(item[name]["N"]) if name in NUMBERS else item[name]["S"]
    fields["status"] = Status(fields["status"])
    return fields


def summary_of(item: Mapping[str, Any]) -> Summary:
    return Summary(**_fields(item))


def unresolved_of(item: Mapping[str, Any]) -> UnresolvedEntry:
    return UnresolvedEntry(
        record_id=item["sk"]["S"],
        status=Status(item["status"]["S"]),
        first_seen=item["first_seen"]["S"],
        replay_id=item["replay_id"]["S"],
    )


def entry_of(item: Mapping[str, Any]) -> Entry:
    fields = _fields(item)
    rest = json.loads(item["rest"]["S"])
    history = tuple(Occurrence(**each) for each in rest["history"])
    last = Occurrence(
        run_id=fields["run_id"],
        at=fields["last_seen"],
        kind=fields["kind"],
        error_type=fields["error_type"],
        message=fields["message"],
        fingerprint=fields["fingerprint"],
        tries=fields["tries"],
        code_version=fields["code_version"],
    )
    return Entry(
        pipeline=fields["pipeline"],
        stage=fields["stage"],
        record_id=fields["record_id"],
        status=fields["status"],
        last=last,
        traceback=rest["traceback"],
        ordinal=fields["ordinal"],
        source=rest["source"],
        first_seen=fields["first_seen"],
        occurrences=fields["occurrences"],
        history=history,
        alerted=rest["alerted"],
        told_by=rest["told_by"],
        hold=Hold(replay_id=fields["replay_id"], until=fields["held_until"]) if fields["replay_id"] else None,
        waiver=Waiver(**rest["waiver"]) if rest["waiver"] else None,
        resolution=Resolution(**rest["resolution"]) if rest["resolution"] else None,
        reopening=Reopening(**reopening) if (reopening := rest.get("reopening")) else None,
        version=int(item["version"]["N"]),
    )
