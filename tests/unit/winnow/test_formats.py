from __future__ import annotations

import json
import tracemalloc
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


# What the next stage can read

TIMES: dict[str, tuple[Any, Any, Any]] = {
    "milliseconds": (pa.timestamp("ms"), 569_750_000_000_000, 253_402_300_799_999),
    "milliseconds with a time zone": (pa.timestamp("ms", "Asia/Tokyo"), 569_750_000_000_000, 0),
    "nanoseconds": (pa.timestamp("ns"), 1_001, 1_000),
    "the last moment in UTC": (
        pa.timestamp("us", "Asia/Tokyo"),
        datetime.max.replace(tzinfo=UTC),
        datetime(1, 1, 1, tzinfo=UTC),
    ),
    "a day": (pa.date32(), 3_000_000, 2_932_896),
    "a day before the year 1": (pa.date32(), -800_000, -719_162),
    "a duration": (pa.duration("ns"), 1_001, 1_000),
    "a time of day": (pa.time64("ns"), 1_001, 1_000),
    "a list": (pa.list_(pa.timestamp("ms")), [0, 569_750_000_000_000], [0]),
    "a struct": (pa.struct([pa.field("at", pa.date32())]), {"at": 3_000_000}, {"at": 0}),
    "a map": (pa.map_(pa.string(), pa.date32()), [("at", 3_000_000)], [("at", 0)]),
}


@pytest.mark.parametrize(("kind", "odd", "good"), TIMES.values(), ids=TIMES.keys())
def test_a_value_that_the_next_stage_could_not_read_is_refused(kind: Any, odd: Any, good: Any) -> None:
    form = ParquetOutput(pa.schema([pa.field("n", pa.int8()), pa.field("when", kind)]))
    body = form.body([form.line("a", "r", {"n": 1, "when": good}), form.line("b", "r", {"n": 2})])
    assert [row["n"] for row in open_parquet(body, "name").read().to_pylist()] == [1, 2]
    with pytest.raises(
        UnusableOutput,
        match=r"the output does not fit the schema: the next stage could not read `when` \(.+\)",
    ):
        form.line("c", "r", {"n": 3, "when": odd})


MARS = pa.timestamp("us", tz="Mars/Olympus")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        (pa.schema([("seen", MARS)]), "has a column `seen` with values of type timestamp.* cannot be read"),
        (pa.schema([("seen", pa.list_(pa.struct([("at", MARS)])))]), "has a column `seen`"),
        (pa.schema([("a", pa.int8()), ("a", pa.int8())]), "has more than one column called `a`"),
        (pa.schema([("a", pa.month_day_nano_interval())]), "cannot be written as Parquet: Unhandled type"),
        (pa.schema([("a", pa.struct([]))]), "cannot be written as Parquet: Cannot write struct"),
        (pa.schema([("a", pa.dictionary(pa.int8(), pa.date32()))]), "cannot be written as Parquet"),
    ],
    ids=str,
)
def test_a_schema_that_no_stage_could_read_is_refused(schema: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=f"^the schema {problem}"):
        ParquetOutput(schema)


def test_every_type_that_can_be_read_may_be_written() -> None:
    kinds = [
        pa.null(), pa.bool_(), pa.uint64(), pa.float16(), pa.decimal128(5, 2), pa.decimal256(60, 2), pa.large_string(),
        pa.string_view(), pa.binary(), pa.binary(4), pa.time32("s"), pa.date64(), pa.duration("s"),
        pa.timestamp("ns", "Europe/London"), pa.timestamp("us", "+02:00"), pa.list_(pa.float32(), 3),
        pa.map_(pa.string(), pa.list_(pa.int8())), pa.dictionary(pa.int8(), pa.string()), pa.uuid(),
    ]  # fmt: skip
    form = ParquetOutput(pa.schema([pa.field(str(n), kind) for n, kind in enumerate(kinds)]))
    assert form.line("a", "r", {})["record_id"] == "a"


# What rows cost


def vector(n: int) -> list[float]:
    return [n + i / 7 for i in range(1_536)]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (pa.list_(pa.float32()), vector),
        (pa.list_(pa.list_(pa.float64())), lambda n: [vector(n), vector(n + 1)]),
        (pa.struct([pa.field("v", pa.list_(pa.float32()))]), lambda n: {"v": vector(n)}),
        (
            pa.list_(pa.struct([pa.field("name", pa.string())])),
            lambda n: [{"name": f"{n} {i}" * 99} for i in range(9)],
        ),
        (pa.list_(pa.string()), lambda n: [f"{n} {i} {'x' * 200}" for i in range(200)]),
        (pa.binary(), lambda n: b"%d" % n * 5_000),
    ],
    ids=["vector", "two vectors", "a vector in a struct", "structs", "texts", "bytes"],
)
def test_a_row_counts_about_what_it_holds(kind: Any, value: Any) -> None:
    form = ParquetOutput(pa.schema([pa.field("value", kind)]))
    tracemalloc.start()
    rows = [form.line("a", "r", {"value": value(n)}) for n in range(50)]
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.5 < sum(map(form.size, rows)) / held < 2.5


def test_a_view_counts_what_it_shows() -> None:
    form = ParquetOutput(pa.schema([pa.field("value", pa.binary())]))
    assert form.size(form.line("a", "r", {"value": memoryview(bytes(5_000))})) > 5_000
