"""The state of a pipeline between runs: who holds the schedule's lock, which events were taken, what was alerted.

Every change is conditional, so that two Lambdas that do the same thing at the same time cannot both believe they did it.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

DAY_SECONDS = 86_400
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
        """Replace a claim whose Lambda died; False after a write conflict."""

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
    """The state in DynamoDB: `pk`, `sk`, TTL in `expires_at`."""

    def __init__(self, table: str, dynamodb: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._dynamodb = dynamodb
        self._clock = clock

    def acquire_lock(self, pipeline: str, holder: Holder) -> Holder | None:
        item = {**_lock_key(pipeline), **_texts(run_id=holder.run_id, execution=holder.execution)}
        standing = self._put(
            item,
            "attribute_not_exists(pk) OR #execution = :execution",
            {"#execution": "execution"},
            _texts(**{":execution": holder.execution}),
        )
        return None if standing is None else _holder(standing)

    def take_over_lock(self, pipeline: str, holder: Holder, *, previous: Holder) -> bool:
        item = {**_lock_key(pipeline), **_texts(run_id=holder.run_id, execution=holder.execution)}
        standing = self._put(
            item,
            "attribute_not_exists(pk) OR #execution = :previous",
            {"#execution": "execution"},
            _texts(**{":previous": previous.execution}),
        )
        return standing is None

    def release_lock(self, pipeline: str, execution: str) -> bool:
        try:
            self._dynamodb.delete_item(
                TableName=self._table,
                Key=_lock_key(pipeline),
                ConditionExpression="#execution = :execution",
                ExpressionAttributeNames={"#execution": "execution"},
                ExpressionAttributeValues=_texts(**{":execution": execution}),
            )
        except ClientError as error:
            if _condition_failed(error):
                return False
            raise
        return True

    def claim(self, event_id: str, claim: Claim) -> Claim:
        standing = self._put(self._claim_item(event_id, claim), "attribute_not_exists(pk)")
        return claim if standing is None else _claim(standing)

    def take_over_claim(self, event_id: str, claim: Claim, *, previous: Claim) -> bool:
        standing = self._put(
            self._claim_item(event_id, claim),
            "attribute_not_exists(pk) OR run_id = :previous",
            values=_texts(**{":previous": previous.run_id}),
        )
        return standing is None

    def run_of(self, execution: str, candidate: str) -> str:
        item = {**_execution_key(execution), **_texts(run_id=candidate), **self._expiry(RUN_TTL_SECONDS)}
        standing = self._put(item, "attribute_not_exists(pk)")
        return candidate if standing is None else str(standing["run_id"]["S"])

    def find_run(self, execution: str) -> str | None:
        found = self._get(_execution_key(execution))
        return None if found is None else str(found["run_id"]["S"])

    def mark(self, run_id: str, what: str) -> bool:
        return (
            self._put(
                {**_mark_key(run_id, what), **self._expiry(RUN_TTL_SECONDS)}, "attribute_not_exists(pk)"
            )
            is None
        )

    def is_marked(self, run_id: str, what: str) -> bool:
        return self._get(_mark_key(run_id, what)) is not None

    def _claim_item(self, event_id: str, claim: Claim) -> dict[str, Any]:
        return {
            **_event_key(event_id),
            **_texts(run_id=claim.run_id),
            "lease_until": {"N": str(claim.lease_until)},
            **self._expiry(EVENT_TTL_SECONDS),
        }

    def _expiry(self, seconds: int) -> dict[str, Any]:
        return {"expires_at": {"N": str(int(self._clock()) + seconds)}}

    def _get(self, key: dict[str, Any]) -> dict[str, Any] | None:
        item: dict[str, Any] | None = self._dynamodb.get_item(
            TableName=self._table, Key=key, ConsistentRead=True
        ).get("Item")
        return item

    def _put(
        self,
        item: dict[str, Any],
        condition: str,
        names: dict[str, str] | None = None,
        values: dict[str, Any] | None = None,
    ) -> dict[str, Any] | None:
        """Put an item if a condition holds; else returns the item that stands in the way."""
        placeholders = {"ExpressionAttributeNames": names, "ExpressionAttributeValues": values}
        while True:
            try:
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression=condition,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **{name: value for name, value in placeholders.items() if value},
                )
            except ClientError as error:
                if not _condition_failed(error):
                    raise
                answer: Mapping[str, Any] = error.response
                standing: dict[str, Any] | None = answer.get("Item") or self._get(_key_of(item))
                if standing:
                    return standing
                continue  # it was deleted in this very moment, so the way may be free now
            return None


def _key(pk: str, sk: str) -> dict[str, Any]:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


def _key_of(item: dict[str, Any]) -> dict[str, Any]:
    return {"pk": item["pk"], "sk": item["sk"]}


def _lock_key(pipeline: str) -> dict[str, Any]:
    return _key(f"lock#{pipeline}", "run")


def _event_key(event_id: str) -> dict[str, Any]:
    # Event ids may hold object keys of 1,024 bytes; a partition key takes 2,048, and a digest is always short enough.
    return _key(f"event#{hashlib.blake2b(event_id.encode(), digest_size=20).hexdigest()}", "claim")


def _execution_key(execution: str) -> dict[str, Any]:
    return _key(f"execution#{execution}", "run")


def _mark_key(run_id: str, what: str) -> dict[str, Any]:
    return _key(f"alert#{run_id}", what)


def _texts(**values: str) -> dict[str, Any]:
    return {name: {"S": value} for name, value in values.items()}


def _holder(item: dict[str, Any]) -> Holder:
    return Holder(run_id=item["run_id"]["S"], execution=item["execution"]["S"])


def _claim(item: dict[str, Any]) -> Claim:
    return Claim(run_id=item["run_id"]["S"], lease_until=float(item["lease_until"]["N"]))


def _condition_failed(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ConditionalCheckFailedException")
