from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from winnow.storage.formats import NDJSON, ParquetOutput, UnusableOutput, open_parquet
from winnow.storage.jsonlines import dumps, loads
from winnow.storage.ledger import decompress

SCHEMA = pa.schema(
    [
        pa.field("title", pa.string(), nullable=False),
        pa.field("pages", pa.int32()),
        pa.field("seen", pa.timestamp("us", tz="UTC")),
        pa.field("people", pa.list_(pa.struct([pa.field("name", pa.string(), nullable=False)]))),
    ]
)
GOOD: dict[str, Any] = {
    "title": "ü", "pages": 3, "seen": datetime(2026, 11, 20, tzinfo=UTC), "people": [{"name": "a"}],
}  # fmt: skip


def test_ndjson_lines_say_what_they_are_and_where_they_come_from() -> None:
    body = NDJSON.body([NDJSON.line("a", "r", {"x": "ü\n"}), NDJSON.line("b", ["r", "s"], None)])
    assert [json.loads(line) for line in decompress(body).splitlines()] == [
        {"id": "a", "from": "r", "data": {"x": "ü\n"}},
        {"id": "b", "from": ["r", "s"], "data": None},
    ]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_json_lines_are_json_and_one_line(value: Any) -> None:
    text = dumps(value)
    assert json.loads(text) == value == loads(text)
    assert loads(f" {text} \r") == value
    assert "\n" not in text


@pytest.mark.parametrize("line", ["", "{", '{"a": 1} x', "nul", '"a', "{'a': 1}"])
def test_what_is_no_json_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        loads(line)


def test_parquet_rows_come_back_with_their_ids() -> None:
    form = ParquetOutput(SCHEMA)
    rows = [
        form.line("a", "r", GOOD),
        form.line("b", ["r", "s"], {**GOOD, "pages": None, "people": None, "seen": None}),
    ]
    found = open_parquet(form.body(rows), "name").read().to_pylist()
    assert [(row["record_id"], row["from"], row["pages"]) for row in found] == [
        ("a", "r", 3),
        ("b", '["r","s"]', None),
    ]
    assert found[0]["people"] == [{"name": "a"}]
    assert form.size(rows[0]) > 0


@pytest.mark.parametrize(
    "data",
    [
        {**GOOD, "pages": "many"},
        {**GOOD, "pages": 2**40},
        {**GOOD, "title": 5},
        {**GOOD, "title": None},
        {key: value for key, value in GOOD.items() if key != "title"},
        {**GOOD, "people": [{"name": None}]},
        {**GOOD, "people": [{}]},
        {**GOOD, "people": [None, {"name": None}]},
        {**GOOD, "people": "a"},
        {**GOOD, "title": "\ud800"},
        {**GOOD, "seen": "yesterday"},
        {**GOOD, "seen": 10**30},
        {**GOOD, "unknown": 1},
        {},
        [],
        None,
        "text",
        5,
    ],
    ids=str,
)
def test_a_row_that_does_not_fit_is_refused_before_it_can_spoil_its_segment(data: Any) -> None:
    form = ParquetOutput(SCHEMA)
    good = form.line("a", "r", GOOD)
    with pytest.raises(UnusableOutput, match=r"the output (does not fit the schema: |must be a dict)"):
        form.body([good, form.line("b", "s", data)])


@pytest.mark.parametrize("data", [{**GOOD, "people": [None]}, {**GOOD, "people": []}, {"title": ""}], ids=str)
def test_a_row_that_fits_can_be_written(data: Any) -> None:
    form = ParquetOutput(SCHEMA)
    form.body([form.line("a", "r", data)])


def test_columns_of_winnows_own_are_refused() -> None:
    with pytest.raises(ValueError, match="must not have a column of Winnow's own, got: from, record_id"):
        ParquetOutput(pa.schema([("record_id", pa.string()), ("from", pa.string())]))
