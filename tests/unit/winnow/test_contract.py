from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.core.contract import (
    RUN_ID,
    InlineRecord,
    Order,
    Pointer,
    Policy,
    SourceFormat,
    StageInput,
    attempt_execution_name,
    check_run_id,
    new_run_id,
    now,
    record_id_problem,
    ulid,
)
from winnow.core.errors import StageInputError, shorten

POINTER = {"bucket": "source", "key": "changes.ndjson"}


@pytest.mark.parametrize(
    ("event", "field", "value", "remedy"),
    [
        (None, "input", "None", 'must be an object with "records"'),
        (["a"], "input", "['a']", 'must be an object with "records"'),
        ({}, "records", "None", "give a list of ids or a pointer"),
        ({"records": None}, "records", "None", "give a list of ids or a pointer"),
        ({"records": []}, "records", "[]", 'an empty list is not "all"; point to a list in S3 instead'),
        ({"records": "all"}, "records", "'all'", "must be a list of ids or a pointer"),
        ({"records": 7}, "records", "7", "must be a list of ids or a pointer"),
        ({"records": ["a", 7]}, "records[1]", "7", "a record id must be a string"),
        ({"records": ["a", None]}, "records[1]", "None", "a record id must be a string"),
        ({"records": ["a", ["b"]]}, "records[1]", "['b']", "a record id must be a string"),
        ({"records": ["a", ""]}, "records[1]", "''", "must not be empty"),
        ({"records": ["a\nb"]}, "records[0]", r"'a\nb'", "line breaks; strip them"),
        ({"records": ["a\x00"]}, "records[0]", r"'a\x00'", "control characters"),
        ({"records": ["a\u2028b"]}, "records[0]", r"'a\u2028b'", "line breaks"),
        ({"records": ["\ud800"]}, "records[0]", r"'\ud800'", "control characters"),
        ({"records": ["x" * 1025]}, "records[0]", "'xxx", "at most 1024 bytes; hash the long part"),
        ({"records": ["é" * 513]}, "records[0]", "'ééé", "at most 1024 bytes; hash the long part"),
        ({"records": [{"data": 1}]}, "records[0].id", "{'data': 1}", 'give every record an "id"'),
        ({"records": [{"id": 5}]}, "records[0]", "5", "a record id must be a string"),
        ({"records": {"key": "k"}}, "records.bucket", "None", "must be a non-empty string"),
        ({"records": {"bucket": "b"}}, "records.key", "None", "must be a non-empty string"),
        ({"records": {"bucket": "", "key": "k"}}, "records.bucket", "''", "must be a non-empty string"),
        ({"records": {"bucket": "b", "key": 7}}, "records.key", "7", "must be a non-empty string"),
        ({"records": {**POINTER, "prefix": "x"}}, "records.prefix", "'x'", "unknown field; remove it"),
        (
            {"records": {**POINTER, "format": "csv"}},
            "records.format",
            "'csv'",
            "one of ndjson, parquet, successes",
        ),
        ({"records": {**POINTER, "format": 7}}, "records.format", "7", "non-empty string or left out"),
        (
            {"records": {**POINTER, "id_column": ""}},
            "records.id_column",
            "''",
            "non-empty string or left out",
        ),
        ({"records": {**POINTER, "only": ["a"]}}, "records.only", "['a']", 'must be {"bucket", "key"}'),
        ({"records": {**POINTER, "only": {"bucket": "b"}}}, "records.only.key", "None", "non-empty string"),
        ({"records": ["a"], "only": []}, "only", "[]", 'an empty list is not "all"; leave the field out'),
        ({"records": ["a"], "only": [7]}, "only[0]", "7", "a record id must be a string"),
        ({"records": ["a"], "only": "a"}, "only", "'a'", 'must be {"bucket", "key"}'),
        ({"records": ["a"], "record": ["a"]}, "record", "['a']", "unknown field; remove it"),
        ({"records": ["a"], "run_id": "a b"}, "run_id", "'a b'", "leave it out for a new one"),
        ({"records": ["a"], "run_id": ""}, "run_id", "''", "leave it out for a new one"),
        ({"records": ["a"], "run_id": "../x"}, "run_id", "'../x'", "letters, digits"),
        ({"records": ["a"], "run_id": "x" * 65}, "run_id", "'xxx", "at most 64"),
        ({"records": ["a"], "run_id": 7}, "run_id", "7", "letters, digits"),
        ({"records": ["a"], "try_count": -1}, "try_count", "-1", "must be a whole number from 0 to 19"),
        ({"records": ["a"], "try_count": 20}, "try_count", "20", "must be a whole number from 0 to 19"),
        ({"records": ["a"], "try_count": "0"}, "try_count", "'0'", "must be a whole number from 0 to 19"),
        ({"records": ["a"], "try_count": True}, "try_count", "True", "must be a whole number from 0 to 19"),
        ({"records": ["a"], "try_count": 1.5}, "try_count", "1.5", "must be a whole number from 0 to 19"),
    ],
)
def test_malformed_input_is_refused_in_one_line_with_field_value_and_remedy(
    event: object, field: str, value: str, remedy: str
) -> None:
    with pytest.raises(StageInputError) as refused:
        StageInput.from_event(event)
    line = str(refused.value)
    assert refused.value.field == field
    assert line.startswith(f"{field}: ")
    assert value in line
    assert remedy in line
    assert "\n" not in line
    assert len(line) < 400


@pytest.mark.parametrize(
    "identifier",
    ["a", "a/b/../c", "..", "/", "with space", "Ünïcødé", "ⲕⲟⲡ", "👩‍👩‍👧", "a'b\"c", "%2e%2e", "x" * 1024, "é" * 512,
     "👍" * 256, "{}", "<script>", "­soft", "﻿bom"],
)  # fmt: skip
def test_any_printable_text_up_to_1024_bytes_can_be_a_record_id(identifier: str) -> None:
    assert record_id_problem(identifier) is None
    assert StageInput.from_event({"records": [identifier]}).records == (InlineRecord(id=identifier),)


@pytest.mark.parametrize(
    ("item", "data"),
    [
        ("a", None),
        ({"id": "a"}, None),
        ({"id": "a", "data": [1]}, [1]),
        ({"id": "a", "data": None, "other": 1}, None),
        ({"id": "a", "title": "t"}, {"id": "a", "title": "t"}),
    ],
)
def test_an_inline_record_carries_its_data_or_else_all_its_fields(item: Any, data: Any) -> None:
    (record,) = StageInput.from_event({"records": [item]}).records  # type: ignore[misc]
    assert (record.id, record.data) == ("a", data)


def test_defaults_are_a_fresh_run_and_the_first_try() -> None:
    made = StageInput.from_event({"records": POINTER})
    assert len(made.run_id) == 26
    assert made.try_count == 0
    assert made.only is None
    assert made.records == Pointer(bucket="source", key="changes.ndjson")


def test_step_functions_own_field_is_let_through() -> None:
    StageInput.from_event({"records": ["a"], "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn:…"})


def test_a_pointer_survives_the_wire() -> None:
    pointer = Pointer(
        bucket="b",
        key="k",
        format=SourceFormat.PARQUET,
        id_column="work",
        only=Pointer(bucket="b", key="only"),
    )
    assert Pointer.from_event(pointer.to_payload(), "records") == pointer
    assert str(pointer) == "s3://b/k"


def test_an_order_survives_the_wire() -> None:
    order = Order(
        run_id="r",
        pipeline="p",
        stage="s",
        attempt=3,
        try_count=2,
        count=9,
        plan=Pointer(bucket="b", key="k"),
        policy=Policy(max_tries=7, spend_tries_first=True, backoff_seconds=1, max_backoff_seconds=2),
    )
    assert Order.from_event(order.to_payload()) == order


def test_a_policy_without_a_single_try_is_refused() -> None:
    with pytest.raises(StageInputError, match=r"policy.max_tries: must be at least 1, got: 0"):
        Policy.from_event({"max_tries": 0})


def test_a_ulid_is_26_characters_ascends_with_time_and_has_no_lookalikes() -> None:
    early, late = ulid(1_000, b"\xff" * 10), ulid(1_001, b"\0" * 10)
    assert early < late
    assert len(early) == len(late) == 26
    assert not set("ILOU") & set(early + late + new_run_id())
    assert ulid(0, b"\0" * 10) == "0" * 26
    assert ulid(2**48 - 1, b"\xff" * 10) == "7" + "Z" * 25


def test_run_ids_differ() -> None:
    assert len({new_run_id() for _ in range(1000)}) == 1000


def test_now_is_utc_with_milliseconds() -> None:
    assert len(now()) == len("2026-11-20T12:00:00.000Z")
    assert now().endswith("Z")


def test_a_long_value_is_quoted_in_part() -> None:
    assert shorten("a") == "'a'"
    assert len(shorten("x" * 10_000)) == 120
    assert os.linesep not in shorten("a\nb")


# Names of executions

RUN_IDS = st.from_regex(RUN_ID, fullmatch=True)
ATTEMPTS = st.integers(min_value=1, max_value=10**9)


@given(RUN_IDS, ATTEMPTS, RUN_IDS, ATTEMPTS)
def test_attempts_of_runs_have_names_of_their_own_which_no_run_can_take(
    run_id: str, attempt: int, other_run_id: str, other_attempt: int
) -> None:
    name = attempt_execution_name(run_id, attempt)
    assert len(name) <= 80
    with pytest.raises(StageInputError):
        check_run_id(name)
    same = (run_id, attempt) == (other_run_id, other_attempt)
    assert (name == attempt_execution_name(other_run_id, other_attempt)) is same
