"""The items of windows and of upload claims, and the queue of windows: DynamoDB, SQS, and their doubles, make the same promises."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws

from tests.unit.winnow.arrivals import Clock, state_table
from winnow.core.errors import StageInputError
from winnow.storage import arrival_windows
from winnow.storage.arrival_windows import (
    WINDOW_TTL_SECONDS,
    ClosedWindow,
    DynamoArrivalWindows,
    Window,
    WindowIsBeingClosed,
)
from winnow.storage.items import BATCH, Items, ItemsUnavailable, key_of
from winnow.storage.upload_claims import UPLOAD_TTL_SECONDS, DynamoUploadClaims, Upload
from winnow.storage.window_queue import MAX_DELAY_SECONDS, SqsWindowQueue, message_body, window_of
from winnow.testing import MemoryArrivalWindows, MemoryUploadClaims

if TYPE_CHECKING:
    from collections.abc import Iterator

    from winnow.storage.arrival_windows import ArrivalWindows
    from winnow.storage.upload_claims import UploadClaims

RUN = "01KB0A1V0000000000000000AA"
A = Window(run_id="A", closes_at=1_000.5)
B = Window(run_id="B", closes_at=2_000.0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def dynamodb() -> Iterator[Any]:
    with mock_aws():
        yield state_table()


@pytest.fixture(params=["dynamodb", "memory"])
def windows(request: pytest.FixtureRequest, clock: Clock) -> ArrivalWindows:
    if request.param == "memory":
        return MemoryArrivalWindows(clock=clock)
    dynamodb = request.getfixturevalue("dynamodb")
    return DynamoArrivalWindows("state", dynamodb, pipeline="catalogue", clock=clock)


@pytest.fixture(params=["dynamodb", "memory"])
def uploads(request: pytest.FixtureRequest, clock: Clock) -> UploadClaims:
    if request.param == "memory":
        return MemoryUploadClaims(clock=clock)
    return DynamoUploadClaims("state", request.getfixturevalue("dynamodb"), clock=clock)


class TestCurrent:
    def test_there_is_none_at_first(self, windows: ArrivalWindows) -> None:
        assert windows.current() is None

    def test_of_two_that_open_the_first_one_is_current(self, windows: ArrivalWindows) -> None:
        assert windows.make_current(A, previous=None)
        assert not windows.make_current(B, previous=None)
        assert windows.current() == A

    def test_one_of_two_takes_the_place_of_the_one_before(self, windows: ArrivalWindows) -> None:
        windows.make_current(A, previous=None)
        c = Window(run_id="C", closes_at=3_000.0)
        assert windows.make_current(B, previous=A)
        assert not windows.make_current(c, previous=A)
        assert windows.current() == B

    def test_a_request_that_was_sent_twice_succeeds(self, windows: ArrivalWindows) -> None:
        windows.make_current(A, previous=None)
        assert windows.make_current(A, previous=None)
        assert windows.make_current(B, previous=A)
        assert windows.make_current(B, previous=A)


class TestWindows:
    def test_takes_chunks_and_counts_their_objects(self, windows: ArrivalWindows) -> None:
        windows.create("A")
        assert windows.add("A", "c1", 3) == 3
        assert windows.add("A", "c2", 4) == 7
        assert windows.add("A", "c1", 3) == 10
        closed = windows.close("A", closer="x", until=0)
        assert closed == ClosedWindow(run_id="A", chunks=("c1", "c2"), is_done=False)

    def test_one_that_does_not_exist_takes_nothing(self, windows: ArrivalWindows) -> None:
        assert windows.add("A", "c1", 3) is None
        assert windows.close("A", closer="x", until=0) is None

    def test_one_that_is_made_twice_keeps_what_it_has(self, windows: ArrivalWindows) -> None:
        windows.create("A")
        windows.add("A", "c1", 3)
        windows.create("A")
        assert windows.add("A", "c2", 1) == 4

    def test_one_that_is_closed_takes_nothing(self, windows: ArrivalWindows) -> None:
        windows.create("A")
        windows.close("A", closer="x", until=0)
        assert windows.add("A", "c1", 3) is None

    @pytest.mark.parametrize(("limit", "takes"), [("MAX_OBJECTS", 3), ("MAX_CHUNKS", 1)])
    def test_one_that_is_full_takes_nothing(
        self, windows: ArrivalWindows, monkeypatch: pytest.MonkeyPatch, limit: str, takes: int
    ) -> None:
        monkeypatch.setattr(arrival_windows, limit, takes)
        windows.create("A")
        assert windows.add("A", "c1", 3) == 3
        assert windows.add("A", "c2", 1) is None

    def test_is_closed_by_one_at_a_time(self, windows: ArrivalWindows, clock: Clock) -> None:
        windows.create("A")
        windows.close("A", closer="x", until=clock() + 150)
        assert windows.close("A", closer="x", until=clock() + 150), "the same request, sent again"
        with pytest.raises(WindowIsBeingClosed):
            windows.close("A", closer="y", until=clock() + 150)
        clock.now += 151
        assert windows.close("A", closer="y", until=clock() + 150)

    def test_says_that_nothing_is_left_to_do(self, windows: ArrivalWindows, clock: Clock) -> None:
        windows.create("A")
        windows.close("A", closer="x", until=clock() + 150)
        windows.finish("A")
        again = windows.close("A", closer="y", until=clock() + 150)
        assert again
        assert again.is_done

    def test_law_7_its_item_stays_far_below_what_dynamodb_takes(self, dynamodb: Any, clock: Clock) -> None:
        """And so does what each addition costs, which is the size of the item."""
        windows = DynamoArrivalWindows("state", dynamodb, pipeline="catalogue", clock=clock)
        windows.create("A")
        (item,) = dynamodb.scan(TableName="state")["Items"]
        almost = [{"S": f"{number:032}"} for number in range(arrival_windows.MAX_CHUNKS - 1)]
        dynamodb.put_item(TableName="state", Item={**item, "chunks": {"L": almost}})
        assert windows.add("A", "f" * 32, 1)
        assert windows.add("A", "one more", 1) is None
        (item,) = dynamodb.scan(TableName="state")["Items"]
        assert len(json.dumps(item)) < 100_000

    def test_expires(self, dynamodb: Any, clock: Clock) -> None:
        windows = DynamoArrivalWindows("state", dynamodb, pipeline="catalogue", clock=clock)
        windows.create("A")
        windows.make_current(A, previous=None)
        expected = {"N": str(int(clock()) + WINDOW_TTL_SECONDS)}
        assert [item["expires_at"] for item in dynamodb.scan(TableName="state")["Items"]] == [expected] * 2


class TestUploads:
    def test_are_found_by_their_content(self, uploads: UploadClaims) -> None:
        mine = [Upload("source", f"🦔 {number}.xml", "e1") for number in range(2 * BATCH + 1)]
        for upload in mine[:-1]:
            uploads.claim(upload, RUN)
        others = [Upload("source", "🦔 0.xml", "e2"), Upload("other", "🦔 0.xml", "e1")]
        assert uploads.claimed([*mine, *others]) == dict.fromkeys(mine[:-1], RUN)
        assert uploads.claimed([]) == {}

    def test_a_lease_lasts_until_its_time(self, uploads: UploadClaims, clock: Clock) -> None:
        assert uploads.hold(RUN, until=clock() + 10)
        assert not uploads.withdraw(RUN)
        clock.now += 11
        assert uploads.withdraw(RUN)
        assert not uploads.hold(RUN, until=clock() + 10)
        assert uploads.withdraw(RUN)

    def test_a_lease_is_made_longer(self, uploads: UploadClaims, clock: Clock) -> None:
        uploads.hold(RUN, until=clock() + 10)
        uploads.hold(RUN, until=clock() + 100)
        clock.now += 11
        assert not uploads.withdraw(RUN)

    def test_a_run_that_never_had_a_lease_holds_nothing(self, uploads: UploadClaims) -> None:
        assert uploads.withdraw(RUN)

    def test_a_run_that_is_given_up_holds_nothing(self, uploads: UploadClaims, clock: Clock) -> None:
        uploads.hold(RUN, until=clock() + 10)
        uploads.give_up(RUN)
        assert uploads.withdraw(RUN)
        assert not uploads.hold(RUN, until=clock() + 10)

    def test_expire(self, dynamodb: Any, clock: Clock) -> None:
        uploads = DynamoUploadClaims("state", dynamodb, clock=clock)
        uploads.hold(RUN, until=clock() + 10)
        uploads.claim(Upload("source", "a", "e"), RUN)
        expected = {"N": str(int(clock()) + UPLOAD_TTL_SECONDS)}
        assert [item["expires_at"] for item in dynamodb.scan(TableName="state")["Items"]] == [expected] * 2


class Throttling:
    """DynamoDB that gives one item of a batch at a time, and leaves the others for another request."""

    def __init__(self, gives: int) -> None:
        self.left = gives

    def batch_get_item(self, *, RequestItems: dict[str, Any]) -> dict[str, Any]:  # noqa: N803  boto3's name
        keys = RequestItems["state"]["Keys"]
        taken = min(self.left, 1)
        self.left -= taken
        rest = keys[taken:]
        unprocessed = {"state": {"Keys": rest, "ConsistentRead": True}} if rest else {}
        return {"Responses": {"state": keys[:taken]}, "UnprocessedKeys": unprocessed}


def test_what_dynamodb_leaves_out_of_a_batch_is_read_again() -> None:
    keys = [key_of(str(number), "x") for number in range(3)]
    assert list(Items("state", Throttling(3)).get_many(keys)) == keys
    with pytest.raises(ItemsUnavailable, match="throttling"):
        list(Items("state", Throttling(2)).get_many(keys))


def test_an_error_that_is_no_conflict_passes_through(dynamodb: Any) -> None:
    missing = DynamoArrivalWindows("no-such-table", dynamodb, pipeline="catalogue")
    with pytest.raises(ClientError, match="ResourceNotFound"):
        missing.add("A", "c1", 1)


class TestQueue:
    def test_holds_a_message_back_until_its_window_is_over(self) -> None:
        with mock_aws():
            sqs: Any = botocore.session.get_session().create_client(
                "sqs", region_name="eu-west-1", aws_access_key_id="x", aws_secret_access_key="x"
            )
            url = sqs.create_queue(QueueName="windows")["QueueUrl"]
            queue = SqsWindowQueue(url, sqs)
            queue.send(RUN, delay_seconds=MAX_DELAY_SECONDS)
            assert "Messages" not in sqs.receive_message(QueueUrl=url)
            queue.send(RUN, delay_seconds=0)
            (message,) = sqs.receive_message(QueueUrl=url)["Messages"]
            assert window_of(message["Body"]) == RUN

    @pytest.mark.parametrize("body", ["?", "null", "[]", "{}", '{"window": 1}', message_body("../../x")])
    def test_refuses_what_names_no_window(self, body: str) -> None:
        with pytest.raises(StageInputError, match="body"):
            window_of(body)
