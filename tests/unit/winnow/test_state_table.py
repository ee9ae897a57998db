from __future__ import annotations

from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from winnow.storage.state_table import EVENT_TTL_SECONDS, Claim, DynamoStateTable, Holder
from winnow.testing import MemoryStateTable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from winnow.storage.state_table import StateTable

NOW = 1_800_000_000.0
A = Holder(run_id="A", execution="arn:a")
B = Holder(run_id="B", execution="arn:b")


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        made: Any = botocore.session.get_session().create_client(
            "dynamodb", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
        )
        made.create_table(
            TableName="state",
            KeySchema=[
                {"AttributeName": "pk", "KeyType": "HASH"},
                {"AttributeName": "sk", "KeyType": "RANGE"},
            ],
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "S"},
            ],
            BillingMode="PAY_PER_REQUEST",
        )
        yield made


@pytest.fixture(params=["dynamodb", "memory"])
def table(request: pytest.FixtureRequest) -> StateTable:
    if request.param == "memory":
        return MemoryStateTable()
    return DynamoStateTable("state", request.getfixturevalue("dynamodb"), clock=lambda: NOW)


class TestLock:
    def test_one_run_holds_it(self, table: StateTable) -> None:
        assert table.acquire_lock("catalogue", A) is None
        assert table.acquire_lock("catalogue", B) == A

    def test_its_holder_may_ask_again(self, table: StateTable) -> None:
        table.acquire_lock("catalogue", A)
        assert table.acquire_lock("catalogue", A) is None

    def test_is_free_after_release(self, table: StateTable) -> None:
        table.acquire_lock("catalogue", A)
        assert table.release_lock("catalogue", A.execution)
        assert table.acquire_lock("catalogue", B) is None

    def test_only_its_holder_releases_it(self, table: StateTable) -> None:
        table.acquire_lock("catalogue", A)
        assert not table.release_lock("catalogue", B.execution)
        assert table.acquire_lock("catalogue", B) == A

    def test_releasing_nothing_is_harmless(self, table: StateTable) -> None:
        assert not table.release_lock("catalogue", A.execution)

    def test_one_of_two_takes_it_over_from_a_holder_that_is_gone(self, table: StateTable) -> None:
        table.acquire_lock("catalogue", A)
        c = Holder(run_id="C", execution="arn:c")
        assert table.take_over_lock("catalogue", B, previous=A)
        assert not table.take_over_lock("catalogue", c, previous=A)
        assert table.acquire_lock("catalogue", c) == B


class TestClaims:
    FIRST = Claim(run_id="A", lease_until=NOW + 60.5)
    SECOND = Claim(run_id="B", lease_until=NOW + 90)

    def test_the_first_claim_stands(self, table: StateTable) -> None:
        assert table.claim("event", self.FIRST) == self.FIRST
        assert table.claim("event", self.SECOND) == self.FIRST
        assert table.claim("another", self.SECOND) == self.SECOND

    def test_one_of_two_takes_over_a_claim(self, table: StateTable) -> None:
        table.claim("event", self.FIRST)
        assert table.take_over_claim("event", self.SECOND, previous=self.FIRST)
        assert not table.take_over_claim("event", Claim(run_id="C", lease_until=0), previous=self.FIRST)
        assert table.claim("event", self.FIRST) == self.SECOND

    def test_a_claim_whose_lease_was_made_longer_is_not_taken_over(self, table: StateTable) -> None:
        table.claim("event", self.FIRST)
        longer = Claim(run_id="A", lease_until=NOW + 600)
        assert table.take_over_claim("event", longer, previous=self.FIRST)
        assert not table.take_over_claim("event", self.SECOND, previous=self.FIRST)
        assert table.find_claim("event") == longer

    def test_nobody_has_claimed_an_event_that_is_new(self, table: StateTable) -> None:
        assert table.find_claim("event") is None

    def test_takes_event_ids_of_any_length_and_script(self, table: StateTable) -> None:
        long = "🦔" * 2_000
        assert table.claim(long, self.FIRST) == self.FIRST
        assert table.claim(long + "x", self.SECOND) == self.SECOND

    def test_claims_expire_when_nothing_can_be_delivered_again(self, dynamodb: Any) -> None:
        DynamoStateTable("state", dynamodb, clock=lambda: NOW).claim("event", self.FIRST)
        (item,) = dynamodb.scan(TableName="state")["Items"]
        assert item["expires_at"] == {"N": str(int(NOW) + EVENT_TTL_SECONDS)}
        assert item["pk"]["S"].startswith("event#")


class TestRuns:
    def test_an_execution_keeps_the_first_run_id_it_was_given(self, table: StateTable) -> None:
        assert table.find_run("arn:x") is None
        assert table.run_of("arn:x", "A") == "A"
        assert table.run_of("arn:x", "B") == "A"
        assert table.find_run("arn:x") == "A"


class TestMarks:
    def test_are_made_once(self, table: StateTable) -> None:
        assert not table.is_marked("A", "failed")
        assert table.mark("A", "failed")
        assert not table.mark("A", "failed")
        assert table.is_marked("A", "failed")
        assert not table.is_marked("A", "conservation")


class FlakyDynamo:
    """Says that a condition failed without naming the item in the way; then there is none."""

    def __init__(self) -> None:
        self.puts = 0

    def put_item(self, **_: Any) -> None:
        self.puts += 1
        if self.puts == 1:
            raise ClientError(
                {"Error": {"Code": "ConditionalCheckFailedException", "Message": ""}}, "PutItem"
            )

    def get_item(self, **_: Any) -> dict[str, Any]:
        return {}


def test_asks_again_when_the_holder_let_go_in_that_moment() -> None:
    assert DynamoStateTable("state", FlakyDynamo()).acquire_lock("catalogue", A) is None


def test_other_errors_pass_through(dynamodb: Any) -> None:
    missing = DynamoStateTable("no-such-table", dynamodb)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        missing.acquire_lock("catalogue", A)
    with pytest.raises(ClientError, match="ResourceNotFound"):
        missing.release_lock("catalogue", "arn:a")
