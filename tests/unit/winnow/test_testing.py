"""What a user writes tests with."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from winnow import Output, PermanentError, Record, Skip, worker
from winnow.core.errors import StageInputError
from winnow.testing import run_worker


@worker
def transform(record: Record) -> Any:
    if record.data == "deleted":
        return Skip("deleted upstream")
    if record.data == "odd":
        record.warn("unknown country code")
    if record.data == "bad":
        raise PermanentError("no identifier")
    return {"title": record.data}


def test_runs_a_worker_over_records_and_says_what_became_of_each() -> None:
    result = run_worker(
        transform,
        [
            {"id": "a", "data": "fine"},
            {"id": "b", "data": "bad"},
            {"id": "c", "data": "odd"},
            {"id": "d", "data": "deleted"},
            "e",
        ],
    )
    assert result.verdict == "EXHAUSTED"
    assert result.outputs == {"a": {"title": "fine"}, "c": {"title": "odd"}, "e": {"title": None}}
    assert result.lineage == {"a": "a", "c": "c", "e": "e"}
    assert result.skipped == 1
    assert result.warnings == 1
    assert result.tries == 1
    assert result.cause == ""
    failure = result.failures["b"]
    assert (failure.kind, failure.error_type, failure.message, failure.tries) == (
        "permanent",
        "PermanentError",
        "no identifier",
        1,
    )
    assert result.counts["in"] == 5


def test_tries_again_as_a_stage_does() -> None:
    calls = Counter[str]()

    @worker
    def flaky(record: Record) -> str:
        calls[record.id] += 1
        if record.id == "b" and calls["b"] < 3:
            raise ConnectionError("refused")
        return record.id

    result = run_worker(flaky, ["a", "b"])
    assert result.verdict == "COMPLETE"
    assert result.tries == 3
    assert run_worker(flaky, ["a", "b"], max_tries=1).verdict == "COMPLETE"


def test_joined_outputs_name_all_they_came_from() -> None:
    @worker(batch=10)
    def join(records: list[Record]) -> list[Output]:
        return [Output(len(records), id="all", sources=records)]

    result = run_worker(join, ["a", "b"])
    assert result.outputs == {"all": 2}
    assert result.lineage == {"all": ["a", "b"]}


def test_what_setup_raised_is_the_cause() -> None:
    def connect() -> None:
        raise KeyError("TABLE")

    @worker(setup=connect)
    def never(record: Record) -> None: ...

    result = run_worker(never, ["a"])
    assert result.verdict == "TOTAL_FAILURE"
    assert "KeyError: 'TABLE'" in result.cause
    assert result.failures["a"].kind == "missing"


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(3)


def test_an_error_that_exits_when_asked_for_its_words_is_contained() -> None:
    def connect() -> None:
        raise Leaving

    @worker(setup=connect)
    def never(record: Record) -> None: ...

    assert "Leaving" in run_worker(never, ["a"]).cause

    @worker
    def leave(record: Record) -> dict[str, int]:
        if record.id == "b":
            raise Leaving
        return {"n": 1}

    result = run_worker(leave, ["a", "b"])
    assert result.outputs == {"a": {"n": 1}}
    assert result.failures["b"].error_type == "Leaving"


@pytest.mark.parametrize("records", [[], [""], [{"data": 1}]])
def test_records_that_cannot_be_a_batch_are_refused(records: list[Any]) -> None:
    with pytest.raises(StageInputError):
        run_worker(transform, records)


def test_records_may_come_from_an_iterator() -> None:
    assert run_worker(transform, (str(n) for n in range(3))).counts["succeeded"] == 3
