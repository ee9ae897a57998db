"""Canonical ids: which work has which, kept in DynamoDB.

Two items say the same thing from both sides, and are only ever written together, each on condition that it is new:

    pk = source#<xml:id>          canonical_id, owner (key of the file), minted_at
    pk = canonical#<canonical id> source_identifier

So no identifier can get two canonical ids and no canonical id two identifiers, whatever else is minting.

An identifier belongs to the file that claimed it first. To give it to another (the file was moved, or the wrong one
of two was first), remove the attribute `owner` of its item: the next file that claims it becomes its owner, and the
canonical id stays.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from botocore.exceptions import BotoCoreError, ClientError

from winnow.core.contract import now

LETTERS = "abcdefghjkmnpqrstuvwxyz"
ALPHABET = LETTERS + "23456789"
"""Without i, l, o, 0 and 1, which people misread."""
CANONICAL_ID_CHARS = 8
"""23 · 31⁷ ids, 6·10¹¹: among a million works a new one is taken already with a chance of 2 in a million, and drawn again."""

MAX_KEYS_PER_READ = 100
"""DynamoDB's limit for BatchGetItem."""
MAX_CLAIMS_PER_WRITE = 50
"""DynamoDB's limit for a transaction is 100 actions; a claim takes two."""
PAUSES_SECONDS = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6)
"""Before each go at what others hold at the same moment; random between none and this."""

_CONTENTION = {"None", "ConditionalCheckFailed", "TransactionConflict"}
_THROTTLING = {
    "InternalServerError",
    "ProvisionedThroughputExceededException",
    "RequestLimitExceeded",
    "ServiceUnavailable",
    "ThrottlingException",
    "TransactionInProgressException",
}
_THROTTLED_IN_TRANSACTION = {"ProvisionedThroughputExceeded", "ThrottlingError"}

T = TypeVar("T")


class TableBusy(Exception):
    """Others kept us from reading or writing for as long as `PAUSES_SECONDS` lets us try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentifierClaim:
    """A file's wish for the canonical id of its identifier."""

    source_identifier: str
    owner: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Identifier:
    """An identifier that has its canonical id."""

    canonical_id: str
    owner: str | None
    """None once an operator has released it."""


def new_canonical_id() -> str:
    """Random, so that a neighbour's cannot be guessed; starts with a letter, so that it can be an XML id and a file name."""
    return secrets.choice(LETTERS) + "".join(secrets.choice(ALPHABET) for _ in range(CANONICAL_ID_CHARS - 1))


def is_outage(error: Exception) -> bool:
    """Whether an error is the table's and would meet every record alike, rather than one of them."""
    if isinstance(error, ClientError):
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        reasons = {str(reason.get("Code")) for reason in error.response.get("CancellationReasons", ())}
        return (
            status >= 500
            or error.response["Error"]["Code"] in _THROTTLING
            or bool(reasons & _THROTTLED_IN_TRANSACTION)
        )
    return isinstance(error, (BotoCoreError, TableBusy))


class IdentifierTable:
    """The table, for one batch of claims at a time."""

    def __init__(self, dynamodb: Any, name: str, new_id: Callable[[], str] = new_canonical_id) -> None:
        self._dynamodb = dynamodb
        self._name = name
        self._new_id = new_id

    def claim(self, claims: Sequence[IdentifierClaim]) -> dict[str, Identifier]:
        """The identifiers of all claims by source identifier, old or minted now.

        The first of several claims to one new identifier gets it. Whether a claim won is for the caller to see, in
        `owner`. Doing it again changes nothing.

        Raises:
            TableBusy, ClientError, BotoCoreError: the table could not be read or written; what was minted stays.
        """
        first: dict[str, IdentifierClaim] = {}
        for claim in claims:
            first.setdefault(claim.source_identifier, claim)
        found = self._read(list(first))
        missing = [claim for name, claim in first.items() if name not in found]
        for chunk in _chunks(missing, MAX_CLAIMS_PER_WRITE):
            found |= self._mint(chunk)
        for name, identifier in found.items():
            if identifier.owner is None:
                found[name] = self._adopt(first[name])
        return found

    def _read(self, names: Sequence[str]) -> dict[str, Identifier]:
        found: dict[str, Identifier] = {}
        for chunk in _chunks(names, MAX_KEYS_PER_READ):
            keys: list[Any] = [_source_key(name) for name in chunk]
            for _ in _goes():
                # Consistent: a stale miss would only be found out by a transaction, at twice the price.
                request = {self._name: {"Keys": keys, "ConsistentRead": True}}
                answer = self._dynamodb.batch_get_item(RequestItems=request)
                for item in answer["Responses"].get(self._name, ()):
                    found[item["source_identifier"]["S"]] = _identifier(item)
                keys = answer.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
                if not keys:
                    break
            else:
                raise TableBusy(
                    f"{self._name} left {len(keys)} of {len(chunk)} keys unread after {len(PAUSES_SECONDS)} goes"
                )
        return found

    def _mint(self, claims: Sequence[IdentifierClaim]) -> dict[str, Identifier]:
        """Mint all or, as far as others were faster, take what they minted."""
        found: dict[str, Identifier] = {}
        pending = list(claims)
        for _ in _goes():
            minted = {
                claim.source_identifier: Identifier(canonical_id=self._new_id(), owner=claim.owner)
                for claim in pending
            }
            try:
                self._write(minted)
            except ClientError as error:
                if not _is_contention(error):
                    raise
                # One refusal undoes the whole transaction. A claim that was refused over an identifier finds it in the table
                # now; one that drew a taken canonical id draws again; the rest were refused only with them.
                found |= self._read([claim.source_identifier for claim in pending])
                pending = [claim for claim in pending if claim.source_identifier not in found]
                if not pending:
                    return found
            else:
                return found | minted
        raise TableBusy(f"{self._name} refused {len(pending)} new identifiers {len(PAUSES_SECONDS)} times")

    def _write(self, minted: Mapping[str, Identifier]) -> None:
        minted_at = now()
        actions = []
        for name, identifier in minted.items():
            source_item = _source_key(name) | {
                "source_identifier": {"S": name},
                "canonical_id": {"S": identifier.canonical_id},
                "owner": {"S": identifier.owner},
                "minted_at": {"S": minted_at},
            }
            canonical_item = {
                "pk": {"S": f"canonical#{identifier.canonical_id}"},
                "source_identifier": {"S": name},
            }
            actions += [self._put_new(source_item), self._put_new(canonical_item)]
        self._dynamodb.transact_write_items(TransactItems=actions)

    def _put_new(self, item: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "Put": {"TableName": self._name, "Item": item, "ConditionExpression": "attribute_not_exists(pk)"}
        }

    def _adopt(self, claim: IdentifierClaim) -> Identifier:
        """Make the file the owner of a released identifier, unless another is faster."""
        try:
            answer = self._dynamodb.update_item(
                TableName=self._name,
                Key=_source_key(claim.source_identifier),
                UpdateExpression="SET #owner = :owner",
                ConditionExpression="attribute_exists(pk) AND attribute_not_exists(#owner)",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": claim.owner}},
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise
            return self._read([claim.source_identifier])[claim.source_identifier]
        return _identifier(answer["Attributes"])


def _source_key(name: str) -> dict[str, Any]:
    return {"pk": {"S": f"source#{name}"}}


def _identifier(item: Mapping[str, Any]) -> Identifier:
    return Identifier(canonical_id=item["canonical_id"]["S"], owner=item.get("owner", {}).get("S"))


def _is_contention(error: ClientError) -> bool:
    response: Mapping[str, Any] = error.response
    return response["Error"]["Code"] == "TransactionCanceledException" and all(
        reason.get("Code") in _CONTENTION for reason in response.get("CancellationReasons", ())
    )


def _goes() -> Iterator[int]:
    for number, pause in enumerate(PAUSES_SECONDS):
        time.sleep(random.uniform(0, pause))  # noqa: S311 (jitter, no secret)
        yield number


def _chunks(items: Iterable[T], size: int) -> Iterator[list[T]]:
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
