"""A list is what it is, whatever its name: encodings and shapes that are read, and those that are refused as a whole."""

from __future__ import annotations

import bz2
import codecs
import gzip
import json
import lzma
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.winnow.cases import CASES, needs_cases
from tests.unit.winnow.stages import Stage
from winnow import Record, worker
from winnow.batch.lines import TooLong, read_rows, split_bounded
from winnow.batch.opening import detect, open_source
from winnow.batch.rows import MAX_ROW_BYTES
from winnow.core.contract import Pointer, Policy
from winnow.core.errors import StageInputError
from winnow.core.ranges import Ranges

SOURCE = {"bucket": "source", "key": "list"}
POINTER = Pointer(bucket="source", key="list")
ROWS = [{"id": f"r{n}", "title": f"tëxt 👍 {n}"} for n in range(30)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
ARRAY = json.dumps(ROWS, indent=1, ensure_ascii=False)


@worker
def same(record: Record) -> Any:
    return record.data


MIB = 1024 * 1024


def planned(body: bytes, **policy: Any) -> Stage:
    stage = Stage(worker=same, policy=Policy(**policy))
    stage.store.objects["source", "list"] = body
    stage.plan(SOURCE)
    return stage


def data_with_ids(stage: Stage) -> list[tuple[str, Any]]:
    """What a worker is given."""
    source = open_source(stage.store, stage.the_plan.source)
    runs = stage.the_plan.runs(stage.the_plan.everything - stage.the_plan.rejected)
    return [source.decode(row)[:2] for chunk in source.chunks(runs) for row in chunk.rows]


def data(stage: Stage) -> list[Any]:
    return [each for _, each in data_with_ids(stage)]


def reports(stage: Stage) -> dict[str, str]:
    found: dict[str, str] = {}
    for segment in stage.segments():
        assert segment
        assert segment.failures_key
        for line in stage.ledger.read_lines(segment.failures_key):
            report = json.loads(line)
            found[report["record_id"]] = report["message"]
    return found


@pytest.mark.parametrize(
    "body",
    [
        LINES.encode(),
        LINES.encode("utf-8-sig"),
        LINES.encode("utf-16"),
        codecs.BOM_UTF16_BE + LINES.encode("utf-16-be"),
        gzip.compress(LINES.encode("utf-16")),
        ARRAY.encode(),
        ARRAY.encode("utf-8-sig"),
        ARRAY.encode("utf-16"),
        gzip.compress(b"\n\n  " + ARRAY.encode()),
        json.dumps(ROWS, separators=(",", ":")).encode(),
    ],
    ids=["lines", "BOM", "UTF-16", "UTF-16 BE", "packed", "array", "array, BOM", "array, UTF-16", "blank start", "dense"],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 7, 1_000_000])
def test_reads_what_people_have(body: bytes, piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.testing.memory_store.STREAM_PIECE_BYTES", piece)
    stage = planned(body)
    assert stage.batch_ids() == [row["id"] for row in ROWS]
    assert data(stage) == ROWS


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (bz2.compress(LINES.encode()), "is compressed with bzip2; use gzip or zstd"),
        (lzma.compress(LINES.encode()), "is compressed with xz"),
        (b"PK\x03\x04 and more", "is compressed with zip"),
        (LINES.encode("utf-32"), "is UTF-32; write it as UTF-8"),
        (LINES.encode("utf-16-le"), "looks like UTF-16 or UTF-32 without a byte order mark"),
        (LINES.encode("utf-16-be"), "looks like UTF-16 or UTF-32 without a byte order mark"),
        (b"<!doctype html><title>503</title>", "looks like HTML or XML"),
        (b"Obj\x01\x04", "is Avro"),
        (b"[]", 'is an empty array, and that is not "all"'),
        (b" [ \n ] ", 'is an empty array, and that is not "all"'),
        (ARRAY.encode()[:-1], "is a JSON array that cannot be read: it ends within element 31"),
        (b'[{"id": "a"}', "it ends within element 2"),
        (b'[{"id": "a"}\n]\n[{"id": "b"}]', "there is '[' after element 1"),
        (b'[{"id": "a"} {"id": "b"}]', "there is '{' after element 1"),
        (b"[,]", "there is ',' where element 1 should be"),
        (b"id,title\n" + b"a,b\n" * 30, "31 of its 31 rows are no records (line 1 is not JSON"),
        (b'{"records": [\n' + b'  {"id": "a"},\n' * 30 + b"]}\n", "32 of its 32 rows are no records"),
        (
            b'{"key": "x"}\n' * 20,
            'line 1 has no "id"; give every record one, or name the field that holds it (id_column))',
        ),
    ],
)
def test_refuses_as_a_whole_what_is_no_list(body: bytes, problem: str) -> None:
    with pytest.raises(StageInputError) as refused:
        planned(body)
    assert problem in str(refused.value)
    assert str(refused.value).startswith("records: ")
    assert str(refused.value).endswith("got: 's3://source/list'")


def test_a_few_bad_rows_are_failures_of_these_rows_even_where_they_are_most_of_a_short_list() -> None:
    stage = planned(b'{"id": "a"}\n{broken\n{broken\n')
    assert list(reports(stage)) == [stage.the_plan.source.row_id(2), stage.the_plan.source.row_id(3)]


def test_lines_of_which_the_first_is_an_array_are_no_array() -> None:
    stage = planned(b'["no", "record"]\n{"id": "a"}\n{"id": "b"}\n')
    assert list(reports(stage)) == [stage.the_plan.source.row_id(1)]
    assert stage.the_plan.count == 3


def test_half_of_a_long_list_may_be_bad_and_not_more() -> None:
    good = "".join(json.dumps(f"r{n}") + "\n" for n in range(100)).encode()
    assert len(planned(good + b"{\n" * 100).the_plan.rejected) == 100
    with pytest.raises(StageInputError, match="101 of its 201 rows are no records"):
        planned(good + b"\n\n" + b"{\n" * 101)


def test_a_bad_element_of_an_array_costs_only_itself() -> None:
    elements = [
        '{"id": "a"}', '{"id": "b", bad}', '"c"', "5", '{"id": "d", "x": "]}"}', '{"id": "e", "x": [1, {"y": 2]}}',
        '{"id": "f"}',
    ]  # fmt: skip
    stage = planned(f"[{', '.join(elements)}]".encode())
    assert [i for n, i in enumerate(stage.batch_ids()) if n not in stage.the_plan.rejected] == [
        "a",
        "c",
        "d",
        "f",
    ]
    assert list(reports(stage)) == [stage.the_plan.source.row_id(n) for n in (2, 4, 6)]


def test_bytes_that_are_not_utf_8_cost_their_own_element() -> None:
    stage = planned(b'[{"id": "a"}, {"id": "b\xff"}, {"id": "c"}]')
    assert [i for n, i in enumerate(stage.batch_ids()) if n not in stage.the_plan.rejected] == ["a", "c"]


def test_half_a_character_of_utf_16_costs_its_own_line() -> None:
    stage = planned('"a"\n"b"\n"c'.encode("utf-16") + b"\x00")
    assert [i for n, i in enumerate(stage.batch_ids()) if n not in stage.the_plan.rejected] == ["a", "b"]


def test_a_lone_surrogate_of_utf_16_costs_its_own_line() -> None:
    stage = planned(codecs.BOM_UTF16_LE + '"a"\n"\ud800"\n"c"\n'.encode("utf-16-le", "surrogatepass"))
    assert [i for n, i in enumerate(stage.batch_ids()) if n not in stage.the_plan.rejected] == ["a", "c"]


# Long rows


def test_a_line_that_is_too_long_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.testing.memory_store.STREAM_PIECE_BYTES", 10_000)
    long, longer = b"y" * MIB, b"z" * (MIB + 1)
    body = b'"a"\n' + b'{"id": "long", "x": "' + long + b'"}\n' + b'"c"\n"' + longer + b'"'
    stage = planned(body, max_row_mb=1)
    bad = [stage.the_plan.source.row_id(2), stage.the_plan.source.row_id(4)]
    assert stage.batch_ids() == ["a", bad[0], "c", bad[1]]
    assert "line 2 is longer than 1,048,576 bytes; put large data into an object" in reports(stage)[bad[0]]
    assert [i for i, *_ in data_with_ids(stage)] == ["a", "c"]
    with pytest.raises(StageInputError, match="element 2 is longer than 1,048,576 characters"):
        planned(b'["a", "' + long + b'"]', max_row_mb=1)
    assert planned(body.replace(longer, b"z")).the_plan.rejected == Ranges.empty()


@given(
    st.lists(st.binary(max_size=12).map(lambda line: line.replace(b"\n", b"")), max_size=12),
    st.integers(1, 9),
)
def test_lines_are_cut_where_they_end_however_the_pieces_fall(lines: list[bytes], piece: int) -> None:
    body = b"".join(line + b"\n" for line in lines)
    pieces = (body[n : n + piece] for n in range(0, len(body), piece))
    found = [line for some in split_bounded(pieces, 8) for line in some]
    assert len(found) == len(lines)
    for line, given_line in zip(found, lines, strict=True):
        assert isinstance(line, TooLong) == (len(given_line) > 8)
        assert line[:8] == given_line[:8]


def test_memory_is_bounded_by_the_longest_row_and_not_by_the_line() -> None:
    def endless() -> Any:
        yield b'"a"\n'
        for _ in range(200):
            yield b"x" * 1024 * 1024

    longest = 0
    for rows in read_rows(endless(), POINTER, max_row_bytes=MAX_ROW_BYTES):
        longest = max(longest, *(len(row) for row in rows))
    assert longest <= MAX_ROW_BYTES


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4) | st.floats(allow_nan=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(JSON, min_size=1, max_size=8), st.sampled_from([None, 1]), st.integers(1, 30))
def test_an_array_is_cut_into_its_elements_however_the_pieces_fall(
    elements: list[Any], indent: int | None, piece: int
) -> None:
    body = json.dumps(elements, indent=indent, ensure_ascii=False).encode("utf-8", "surrogatepass")
    pieces = (body[n : n + piece] for n in range(0, len(body), piece))
    rows = [row for some in read_rows(pieces, POINTER, max_row_bytes=MAX_ROW_BYTES) for row in some]
    assert [json.loads(row) for row in rows] == elements


# Identity


def test_the_same_line_of_two_lists_is_two_failures_and_of_one_list_one() -> None:
    monday, tuesday = b'{"id": "a"}\n{"id": "b\n', b'{"id": "x"}\n{"id": "y\n'
    names = {next(iter(reports(planned(body)))) for body in (monday, tuesday, monday)}
    assert len(names) == 2
    assert all(name.startswith("s3://source/list:2@") for name in names)


def test_the_name_of_a_row_fits_a_record_id_however_long_or_odd_the_key() -> None:
    for key in ("k" * 1024, "é" * 512, "a\nb", "x\u202fy"):
        stage = Stage()
        stage.store.objects["source", key] = b'"a"\n{\n'
        stage.plan({"bucket": "source", "key": key})
        (name,) = reports(stage)
        assert len(name.encode()) <= 1024
        assert "\n" not in name


@needs_cases
class TestCases:
    def test_an_indented_array_of_two_hundred_records_is_a_list(self) -> None:
        stage = planned((CASES / "array.json").read_bytes())
        assert (stage.the_plan.count, stage.the_plan.rejected) == (200, stage.the_plan.dropped)

    def test_feeds_that_are_cut_off_in_the_same_line_are_told_apart(self) -> None:
        names = [
            set(reports(planned((CASES / f"{day}.ndjson").read_bytes()))) for day in ("monday", "tuesday")
        ]
        assert len(names[0] | names[1]) == 2


def test_a_list_is_detected_by_its_first_bytes() -> None:
    stage = Stage()
    stage.store.objects["source", "list"] = ARRAY.encode()
    assert detect(stage.store, POINTER).format == "ndjson"
