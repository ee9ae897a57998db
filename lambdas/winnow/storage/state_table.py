"""The state of a pipeline between runs: who holds the schedule's lock, which events were taken, what was alerted.

Every change is conditional, so that two Lambdas that do the same thing at the same time cannot both believe they did it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from winnow.storage.items import DAY_SECONDS, Items, key_of, number, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from winnow.storage.items import Item

EVENT_TTL_SECONDS = 14 * DAY_SECONDS
"""SQS keeps a message for at most 14 days and EventBridge retries for one: later than that nothing is delivered again.
Less than the 90 days for which Step Functions remembers an execution, which is what a claim is checked against."""
RUN_TTL_SECONDS = 400 * DAY_SECONDS
"""A Standard execution may run for a year."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A run, and the execution of the pipeline that is it."""

    run_id: str
    execution: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Who has taken an event on, and until when it may still be about to start the run."""

    run_id: str
    lease_until: float
    """Unix time at which the claiming Lambda is dead for certain."""


class StateTable(Protocol):
    """One pipeline's state."""

    def acquire_lock(self, pipeline: str, holder: Holder) -> Holder | None:
        """Take the lock that scheduled runs hold; None when taken (or held already), else who has it."""

    def take_over_lock(self, pipeline: str, holder: Holder, *, previous: Holder) -> bool:
        """Take the lock from a holder that is gone; False when it changed hands meanwhile."""

    def release_lock(self, pipeline: str, execution: str) -> bool:
        """Give the lock back; False when the execution did not hold it."""

    def claim(self, event_id: str, claim: Claim) -> Claim:
        """Claim an event; returns the claim that counts, which is this one or an earlier one."""

    def take_over_claim(self, event_id: str, claim: Claim, *, previous: Claim) -> bool:
        """Replace a claim whose Lambda died, or make its lease longer; False if it is not the previous one any more."""

    def find_claim(self, event_id: str) -> Claim | None:
        """The claim on an event, if there is one."""

    def run_of(self, execution: str, candidate: str) -> str:
        """The run id of an execution whose name is none: the first candidate ever proposed."""

    def find_run(self, execution: str) -> str | None:
        """The run id given by `run_of`, if one was."""

    def mark(self, run_id: str, what: str) -> bool:
        """Note that something was done for a run; False when it had been noted before."""

    def is_marked(self, run_id: str, what: str) -> bool:
        """Whether `mark` was called."""


def take_lock(
    state: StateTable, lock: str, holder: Holder, *, is_running: Callable[[Holder], bool]
) -> Holder | None:
    """Take a lock, from its holder too where that one no longer runs; None when taken, else who has it."""
    while standing := state.acquire_lock(lock, holder):
        if is_running(standing):
            return standing
        if state.take_over_lock(lock, holder, previous=standing):
            return None
    return None


class DynamoStateTable:
    """The state in DynamoDB."""

    def __init__(self, table: str, dynamodb: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._items = Items(table, dynamodb, clock=clock)

    def acquire_lock(self, pipeline: str, holder: Holder) -> Holder | None:
        standing = self._items.put(
            {**_lock_key(pipeline), **texts(run_id=holder.run_id, execution=holder.execution)},
            "attribute_not_exists(pk) OR #execution = :execution",
            names={"#execution": "execution"},
            values=texts(**{":execution": holder.execution}),
        )
        return None if standing is None else _holder(standing)

    def take_over_lock(self, pipeline: str, holder: Holder, *, previous: Holder) -> bool:
        standing = self._items.put(
            {**_lock_key(pipeline), **texts(run_id=holder.run_id, execution=holder.execution)},
            "attribute_not_exists(pk) OR #execution = :previous",
            names={"#execution": "execution"},
            values=texts(**{":previous": previous.execution}),
        )
        return standing is None

    def release_lock(self, pipeline: str, execution: str) -> bool:
        return self._items.delete(
            _lock_key(pipeline),
            "#execution = :execution",
            names={"#execution": "execution"},
            values=texts(**{":execution": execution}),
        )

    def claim(self, event_id: str, claim: Claim) -> Claim:
        standing = self._items.put(self._claim_item(event_id, claim), "attribute_not_exists(pk)")
        return claim if standing is None else _claim(standing)

    def take_over_claim(self, event_id: str, claim: Claim, *, previous: Claim) -> bool:
        # The lease, too: whoever made it longer meanwhile is alive.
        standing = self._items.put(
            self._claim_item(event_id, claim),
            "attribute_not_exists(pk) OR (run_id = :previous AND lease_until = :lease_until)",
            values={
                **texts(**{":previous": previous.run_id}),
                ":lease_until": number(previous.lease_until),
            },
        )
        # The client sends a request again whose answer got lost; then the claim is there already.
        return standing is None or _claim(standing) == claim

    def find_claim(self, event_id: str) -> Claim | None:
        found = self._items.get(_event_key(event_id))
        return None if found is None else _claim(found)

    def run_of(self, execution: str, candidate: str) -> str:
        item = {
            **_execution_key(execution),
            **texts(run_id=candidate),
            **self._items.expiry(RUN_TTL_SECONDS),
        }
        standing = self._items.put(item, "attribute_not_exists(pk)")
        return candidate if standing is None else str(standing["run_id"]["S"])

    def find_run(self, execution: str) -> str | None:
        found = self._items.get(_execution_key(execution))
        return None if found is None else str(found["run_id"]["S"])

    def mark(self, run_id: str, what: str) -> bool:
        item = {**_mark_key(run_id, what), **self._items.expiry(RUN_TTL_SECONDS)}
        return self._items.put(item, "attribute_not_exists(pk)") is None

    def is_marked(self, run_id: str, what: str) -> bool:
        return self._items.get(_mark_key(run_id, what)) is not None

    def _claim_item(self, event_id: str, claim: Claim) -> Item:
        return {
            **_event_key(event_id),
            **texts(run_id=claim.run_id),
            "lease_until": number(claim.lease_until),
            **self._items.expiry(EVENT_TTL_SECONDS),
        }


def _lock_key(pipeline: str) -> Item:
    return key_of(f"lock#{pipeline}", "run")


def _event_key(event_id: str) -> Item:
    # Event ids may hold object keys of 1,024 bytes; a partition key takes 2,048, and a digest is always short enough.
    return key_of(f"event#{hashlib.blake2b(event_id.encode(), digest_size=20).hexdigest()}", "claim")


def _execution_key(execution: str) -> Item:
    return key_of(f"execution#{execution}", "run")


def _mark_key(run_id: str, what: str) -> Item:
    return key_of(f"alert#{run_id}", what)


def _holder(item: Item) -> Holder:
    return Holder(run_id=item["run_id"]["S"], execution=item["execution"]["S"])


def _claim(item: Item) -> Claim:
    return Claim(run_id=item["run_id"]["S"], lease_until=float(item["lease_until"]["N"]))
