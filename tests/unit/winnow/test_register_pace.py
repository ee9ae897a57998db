"""The register goes as fast as its table: slower when it is throttled, then faster again, and nothing is lost."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.winnow.registers import TABLE
from tests.unit.winnow.test_register import failure
from tests.unit.winnow.throttled_dynamodb import ThrottledDynamoDB
from winnow.register.entry import note_failure
from winnow.register.pace import Pace
from winnow.register.table import BATCH, FRUITLESS, LANES, RegisterTable, RegisterUnavailable

if TYPE_CHECKING:
    from winnow.register.entry import Entry

WHERE = ("catalogue", "adapt")


def table_on(dynamodb: ThrottledDynamoDB) -> RegisterTable:
    return RegisterTable(TABLE, dynamodb, sleep=dynamodb.sleep, clock=dynamodb.clock)


def fail(table: RegisterTable, count: int, **options: Any) -> int:
    return table.apply(*WHERE, [f"r{n}" for n in range(count)], failed, **options)


def failed(record_id: str, found: Entry | None) -> Entry | None:
    noted = note_failure(found, failure(record_id=record_id))
    return noted.entry if noted.changed else None


@pytest.mark.parametrize(("count", "units"), [(12_000, 4_000), (2_000, 200), (200, 10)])
def test_all_failures_are_registered_at_about_the_speed_that_the_table_allows(count: int, units: int) -> None:
    dynamodb = ThrottledDynamoDB(units)
    assert fail(table_on(dynamodb), count) == count
    assert len(dynamodb.items) == count
    assert {item["version"]["N"] for item in dynamodb.items.values()} == {"1"}
    assert dynamodb.throttled, "the table was asked for more than it allows"
    assert dynamodb.now < 3 * (2 * count / units)
    assert dynamodb.throttled < 4 * len(dynamodb.sizes)


def test_a_table_that_is_not_throttled_is_written_in_whole_batches() -> None:
    dynamodb = ThrottledDynamoDB(1e9)
    assert fail(table_on(dynamodb), 20 * BATCH) == 20 * BATCH
    assert dynamodb.sizes == [BATCH] * 20


def test_batches_grow_again_when_the_table_has_grown() -> None:
    dynamodb = ThrottledDynamoDB(300)
    table = table_on(dynamodb)

    def grow(record_id: str, found: Entry | None) -> Entry | None:
        if len(dynamodb.items) > 1_000:
            dynamodb.units_per_second = 1e9
        return failed(record_id, found)

    assert table.apply(*WHERE, [f"r{n}" for n in range(6_000)], grow) == 6_000
    assert min(dynamodb.sizes) < BATCH
    assert sum(size == BATCH for size in dynamodb.sizes[-20:]) > 10
    assert dynamodb.now < 60, "at 300 units a second all of it would have taken"


def test_what_there_is_no_time_for_is_refused_and_registered_later() -> None:
    dynamodb = ThrottledDynamoDB(20)
    with pytest.raises(
        RegisterUnavailable, match="no time left to change more entries of the failure register"
    ):
        fail(table_on(dynamodb), 1_000, deadline=30.0)
    assert 30 <= dynamodb.now < 32
    before = len(dynamodb.items)
    assert 0 < before < 1_000
    dynamodb.units_per_second = 1e9
    assert fail(table_on(dynamodb), 1_000) == 1_000 - before
    assert {item["version"]["N"] for item in dynamodb.items.values()} == {"1"}


def test_a_table_that_lets_nothing_through_is_given_up() -> None:
    dynamodb = ThrottledDynamoDB(0)
    with pytest.raises(RegisterUnavailable, match="the failure register cannot be changed"):
        fail(table_on(dynamodb), 2_000)
    assert not dynamodb.items
    assert FRUITLESS <= dynamodb.throttled <= FRUITLESS * LANES


def test_entries_that_were_left_unread_are_read_and_changed_later() -> None:
    dynamodb = ThrottledDynamoDB(1e9, keys_per_read=30)
    assert fail(table_on(dynamodb), 1_000) == 1_000
    assert len(dynamodb.items) == 1_000


def test_throttling_costs_no_entry_its_attempts_at_a_conflict() -> None:
    dynamodb = ThrottledDynamoDB(50)
    rival = table_on(ThrottledDynamoDB(1e9))
    rival._dynamodb.items = dynamodb.items
    disturbed: set[str] = set()
    lock = threading.Lock()

    def disturb(record_id: str, found: Entry | None) -> Entry | None:
        with lock:
            first = record_id not in disturbed
            disturbed.add(record_id)
        if first and record_id.endswith("7"):
            rival.apply(
                *WHERE, [record_id], lambda i, _: note_failure(None, failure("R0", record_id=i)).entry
            )
        return failed(record_id, found)

    assert table_on(dynamodb).apply(*WHERE, [f"r{n}" for n in range(300)], disturb) == 300
    versions = {i: item["version"]["N"] for i, item in dynamodb.items.items()}
    assert versions == {f"r{n}": "2" if n % 10 == 7 else "1" for n in range(300)}


class TestPace:
    def test_is_halved_once_for_what_was_in_progress_together(self) -> None:
        pace = Pace(800)
        assert [pace.throttled(0) for _ in range(8)] == [True] + [False] * 7
        assert (pace.limit, pace.fruitless) == (400, 1)
        assert pace.throttled(1)
        assert pace.limit == 200

    def test_never_stands_still(self) -> None:
        pace = Pace(800)
        for number in range(50):
            pace.throttled(number)
        assert pace.limit == 1

    def test_grows_up_to_what_it_was_and_no_further(self) -> None:
        pace = Pace(800)
        pace.throttled(0)
        pace.went_well(100)
        assert (pace.limit, pace.fruitless) == (410, 0)
        pace.went_well(100_000)
        assert pace.limit == 800
