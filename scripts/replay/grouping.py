"""Failures by cause, as `winnow replay list` shows them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scripts.replay.criteria import status_of
from winnow.register.entry import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from winnow.register.item import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Failures of one stage with one fingerprint: most likely one cause, so one fix."""

    stage: str
    fingerprint: str
    count: int
    kind: str
    error_type: str
    message: str
    """Of the one that failed last; so is the example."""
    example_id: str
    first_seen: str
    last_seen: str
    statuses: dict[str, int]
    new_code: int
    """Permanent ones whose stage has other code now than when they failed."""

    def to_json(self) -> dict[str, Any]:
        return {
            "stage": self.stage,
            "fingerprint": self.fingerprint,
            "count": self.count,
            "kind": self.kind,
            "error_type": self.error_type,
            "message": self.message,
            "example_id": self.example_id,
            "first_seen": self.first_seen,
            "last_seen": self.last_seen,
            "statuses": self.statuses,
            "new_code": self.new_code,
        }


def group(entries: Iterable[Summary], *, now: str, is_new_code: Callable[[Summary], bool]) -> list[Group]:
    """By stage in the order given and within a stage by count, largest first."""
    by_cause: dict[tuple[str, str], list[Summary]] = {}
    for entry in entries:
        by_cause.setdefault((entry.stage, entry.fingerprint), []).append(entry)
    order = {stage: number for number, stage in enumerate(dict.fromkeys(stage for stage, _ in by_cause))}
    groups = [_group(some, now, is_new_code) for some in by_cause.values()]
    return sorted(groups, key=lambda each: (order[each.stage], -each.count, each.fingerprint))


def _group(entries: list[Summary], now: str, is_new_code: Callable[[Summary], bool]) -> Group:
    newest = max(entries, key=lambda entry: (entry.last_seen, entry.record_id))
    statuses = Counter(status_of(entry, now).value for entry in entries)
    return Group(
        stage=newest.stage,
        fingerprint=newest.fingerprint,
        count=len(entries),
        kind=newest.kind,
        error_type=newest.error_type,
        message=newest.message,
        example_id=newest.record_id,
        first_seen=min(entry.first_seen for entry in entries),
        last_seen=newest.last_seen,
        statuses={status.value: statuses[status.value] for status in Status if statuses[status.value]},
        new_code=sum(map(is_worth_replaying(now, is_new_code), entries)),
    )


def is_worth_replaying(now: str, is_new_code: Callable[[Summary], bool]) -> Callable[[Summary], bool]:
    """Whether an entry is open, and new code is the reason to try it again."""
    return lambda entry: status_of(entry, now) is Status.OPEN and is_new_code(entry)
