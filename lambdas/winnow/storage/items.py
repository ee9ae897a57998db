"""Items of a DynamoDB table with the keys `pk` and `sk`, changed under conditions; TTL in `expires_at`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from winnow.core.errors import WinnowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    Item = dict[str, Any]

DAY_SECONDS = 86_400
BATCH = 100
"""Items that DynamoDB reads in one request."""
READS_OF_A_BATCH = 10
"""Requests for what DynamoDB left out of a batch because of its own limits, before it counts as an error."""


class ItemsUnavailable(WinnowError):
    """DynamoDB left items out of its answers again and again: it is throttling."""


class Items:
    """The items of one table."""

    def __init__(self, table: str, dynamodb: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._table = table
        self._dynamodb = dynamodb
        self._clock = clock

    def expiry(self, seconds: int) -> Item:
        """The attribute by which DynamoDB deletes an item, some time after so many seconds."""
        return {"expires_at": number(int(self._clock()) + seconds)}

    def get(self, key: Item) -> Item | None:
        item: Item | None = self._dynamodb.get_item(TableName=self._table, Key=key, ConsistentRead=True).get(
            "Item"
        )
        return item

    def get_many(self, keys: Sequence[Item]) -> Iterator[Item]:
        """Those of some items that exist, in any order.

        Args:
            keys: of the items, each once.

        Raises:
            ItemsUnavailable: DynamoDB does not answer for all of them.
        """
        for start in range(0, len(keys), BATCH):
            left: Any = {self._table: {"Keys": list(keys[start : start + BATCH]), "ConsistentRead": True}}
            for _ in range(READS_OF_A_BATCH):
                answer = self._dynamodb.batch_get_item(RequestItems=left)
                yield from answer["Responses"].get(self._table, ())
                left = answer.get("UnprocessedKeys")
                if not left:
                    break
            else:
                raise ItemsUnavailable(
                    f"table {self._table} did not give all of {BATCH} items; it is throttling"
                )

    def put(
        self,
        item: Item,
        condition: str,
        *,
        names: Mapping[str, str] | None = None,
        values: Item | None = None,
    ) -> Item | None:
        """Put an item if a condition holds; else returns the item that stands in the way."""
        while True:
            try:
                self._dynamodb.put_item(
                    TableName=self._table,
                    Item=item,
                    ConditionExpression=condition,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                    **_placeholders(names, values),
                )
            except ClientError as error:
                if not _condition_failed(error):
                    raise
                answer: Mapping[str, Any] = error.response
                standing: Item | None = answer.get("Item") or self.get({"pk": item["pk"], "sk": item["sk"]})
                if standing:
                    return standing
                continue  # it was deleted in this very moment, so the way may be free now
            return None

    def replace(self, item: Item) -> None:
        """Put an item, whatever is there."""
        self._dynamodb.put_item(TableName=self._table, Item=item)

    def update(self, key: Item, expression: str, *, condition: str, values: Item) -> Item | None:
        """Change an item if a condition holds; returns it as it is then, or None where the condition does not hold."""
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key=key,
                UpdateExpression=expression,
                ConditionExpression=condition,
                ExpressionAttributeValues=values,
                ReturnValues="ALL_NEW",
            )
        except ClientError as error:
            if _condition_failed(error):
                return None
            raise
        changed: Item = answer["Attributes"]
        return changed

    def delete(
        self,
        key: Item,
        condition: str,
        *,
        names: Mapping[str, str] | None = None,
        values: Item | None = None,
    ) -> bool:
        """Delete an item if a condition holds; False where it does not."""
        try:
            self._dynamodb.delete_item(
                TableName=self._table, Key=key, ConditionExpression=condition, **_placeholders(names, values)
            )
        except ClientError as error:
            if _condition_failed(error):
                return False
            raise
        return True


def key_of(pk: str, sk: str) -> Item:
    return texts(pk=pk, sk=sk)


def texts(**values: str) -> Item:
    return {name: {"S": value} for name, value in values.items()}


def number(value: float) -> Item:
    return {"N": str(value)}


def _placeholders(names: Mapping[str, str] | None, values: Item | None) -> Item:
    placeholders = {"ExpressionAttributeNames": names, "ExpressionAttributeValues": values}
    return {name: value for name, value in placeholders.items() if value}


def _condition_failed(error: ClientError) -> bool:
    return bool(error.response["Error"]["Code"] == "ConditionalCheckFailedException")
