"""Nothing that a row holds is out of a worker's reach: what lies beside `data` is in `record.fields`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.winnow.cases import CASES, needs_cases
from tests.unit.winnow.stages import Stage
from winnow import PermanentError, Record, Retry, worker
from winnow.core.contract import Policy
from winnow.testing import run_worker

EVENT = {"specversion": "1.0", "id": "e1", "type": "added", "source": "/lib", "data": {"isbn": "1"}}
REST = {"specversion": "1.0", "type": "added", "source": "/lib"}


@worker
def both(record: Record) -> dict[str, Any]:
    return {"data": record.data, "fields": dict(record.fields)}


def rows(*given: dict[str, Any], id_column: str | None = None) -> dict[str, Any]:
    stage = Stage(worker=both, policy=Policy(backoff_seconds=0))
    stage.store.objects["source", "list"] = "".join(json.dumps(row) + "\n" for row in given).encode()
    named = {"id_column": id_column} if id_column else {}
    stage.to_end(stage.plan({"bucket": "source", "key": "list", **named}))
    return dict(stage.outputs())


@pytest.mark.parametrize("data", [{"isbn": "1"}, None, 0, []])
def test_a_cloud_event_is_there_whole(data: Any) -> None:
    row = EVENT | {"data": data}
    told = {"data": data, "fields": REST}
    assert rows(row) == {"e1": told}
    assert run_worker(both, [row]).outputs == {"e1": told}


def test_a_row_without_data_is_the_data_itself() -> None:
    row = {"id": "a", "title": "x"}
    assert rows(row) == {"a": {"data": row, "fields": {}}}
    assert rows({"id": "a", "data": 1}) == {"a": {"data": 1, "fields": {}}}


def test_the_id_field_is_no_field_whatever_its_name() -> None:
    row = {"key": "a", "data": 1, "id": "another"}
    assert rows(row, id_column="key") == {"a": {"data": 1, "fields": {"id": "another"}}}


def test_fields_are_as_they_were_read_each_time_they_are_handed_over() -> None:
    @worker(retry=Retry(on=(ConnectionError,), attempts=2, wait_seconds=0))
    def spoil(record: Record) -> dict[str, Any]:
        found = dict(record.fields)
        record.fields.clear()  # type: ignore[attr-defined]
        seen.append(record.id)
        if len(seen) == 1:
            raise ConnectionError("again")
        return found

    seen: list[str] = []
    assert run_worker(spoil, [EVENT]).outputs == {"e1": REST}
    assert seen == ["e1", "e1"]


def test_a_batch_that_falls_back_to_single_records_keeps_them() -> None:
    @worker(batch=5)
    def spoil(records: list[Record]) -> list[dict[str, Any]]:
        found = [dict(record.fields) for record in records]
        for record in records:
            record.fields.clear()  # type: ignore[attr-defined]
        if any(not each for each in found):
            raise PermanentError("no type")
        return found

    result = run_worker(spoil, [EVENT, EVENT | {"id": "e2"}, {"id": "plain", "data": 1}])
    assert result.outputs == {"e1": REST, "e2": REST}


def test_a_record_that_a_test_makes_may_have_them() -> None:
    assert Record("a", 1).fields == {}
    assert Record("a", 1, {"type": "t"}).fields == {"type": "t"}


@needs_cases
def test_the_feed_of_cloud_events() -> None:
    given = [json.loads(line) for line in (CASES / "cloudevents.ndjson").read_text().splitlines()]
    assert {i: each["fields"]["type"] for i, each in rows(*given).items()} == {
        row["id"]: row["type"] for row in given
    }
