from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.winnow.stages import Stage, journal
from winnow.batch.lines import _unzstd
from winnow.batch.opening import detect, open_source
from winnow.batch.rows import RowSpan, Source, Unreadable, runs_of
from winnow.core.contract import Pointer, SourceFormat
from winnow.core.errors import ObjectForbidden, SourceChanged, StageInputError
from winnow.core.ranges import Ranges
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.storage.ledger import MAX_UNPACKED_BYTES, gunzip
from winnow.storage.store import Head
from winnow.testing import MemoryStore

ROWS = [{"id": f"r{n}", "data": {"n": n}} for n in range(7)]
NDJSON = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)


def opened(body: bytes, **pointer: Any) -> Source:
    store = MemoryStore("source")
    store.put("list", body)
    return open_source(store, detect(store, Pointer(bucket="source", key="list", **pointer)))


def ids(source: Source) -> list[str | Unreadable | None]:
    return [i for some in source.ids() for i in some]


def rows(source: Source, *runs: RowSpan) -> list[tuple[int, str, Any, int]]:
    """`(ordinal, id, data, line)` of what lies in some runs."""
    return [
        (chunk.ordinal + n, *source.decode(row), chunk.line + n)
        for chunk in source.chunks(runs)
        for n, row in enumerate(chunk.rows)
    ]


def parquet(table: pa.Table, **options: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


PACKED = {
    "plain": NDJSON,
    "no newline at the end": NDJSON[:-1],
    "CRLF": NDJSON.replace(b"\n", b"\r\n"),
    "byte order mark": b"\xef\xbb\xbf" + NDJSON,
    "gzip": gzip.compress(NDJSON),
    "gzip of several members": b"".join(
        gzip.compress(line + b"\n") for line in NDJSON.splitlines()
    ),
    "gzip of members that part within a line": gzip.compress(NDJSON[:31]) + gzip.compress(NDJSON[31:]),
    "gzip with an empty member": gzip.compress(b"") + gzip.compress(NDJSON) + gzip.compress(b""),
    "zstd": zstd.compress(NDJSON),
    "zstd of several frames": zstd.compress(NDJSON[:31]) + zstd.compress(NDJSON[31:]),
    "gzip with a byte order mark and CRLF": gzip.compress(b"\xef\xbb\xbf" + NDJSON.replace(b"\n", b"\r\n")),
}  # fmt: skip


@pytest.mark.parametrize("body", PACKED.values(), ids=PACKED.keys())
def test_reads_ndjson_however_it_is_packed(body: bytes) -> None:
    source = opened(body)
    assert ids(source) == [row["id"] for row in ROWS]
    assert rows(source, RowSpan(2, 2, 3)) == [(n, f"r{n}", {"n": n}, n + 1) for n in (2, 3, 4)]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_refuses_a_list_that_was_cut_short(pack: Any) -> None:
    """Half a gzip file decompresses without an error to half the records: the other half would be lost in silence."""
    body = pack(b"".join(json.dumps({"id": str(n * 7919 % 99_991)}).encode() + b"\n" for n in range(5_000)))
    for length in (len(body) - 1, len(body) // 2, 20):
        with pytest.raises(
            StageInputError, match=r"records: cannot be decompressed .*; write it again, got:"
        ):
            ids(opened(body[:length]))


def test_refuses_a_list_that_is_damaged() -> None:
    body = bytearray(gzip.compress(NDJSON * 50))
    body[len(body) // 2] ^= 0xFF
    with pytest.raises(StageInputError, match="records: cannot be decompressed"):
        ids(opened(bytes(body)))


@pytest.mark.parametrize(("pack", "unpack"), [(gzip.compress, gunzip), (zstd.compress, _unzstd)])
def test_unpacks_a_little_at_a_time(pack: Any, unpack: Any) -> None:
    pieces = [len(piece) for piece in unpack(iter([pack(b"\n" * 40_000_000)]))]
    assert sum(pieces) == 40_000_000
    assert max(pieces) <= MAX_UNPACKED_BYTES


@given(st.binary(max_size=300), st.lists(st.integers(1, 40), max_size=20))
def test_unpacks_gzip_wherever_the_network_parts_it(body: bytes, cuts: list[int]) -> None:
    packed = gzip.compress(body[:100]) + gzip.compress(body[100:])

    def pieces() -> Iterator[bytes]:
        rest = packed
        for cut in cuts:
            yield rest[:cut]
            rest = rest[cut:]
        yield rest

    assert b"".join(gunzip(pieces())) == body


def test_an_empty_object_has_no_rows() -> None:
    for body in (b"", gzip.compress(b""), zstd.compress(b""), b"\n", b"\r\n  \n"):
        assert [i for i in ids(opened(body)) if i is not None] == []


def test_each_unreadable_line_costs_only_itself_and_is_named_by_its_number() -> None:
    body = b"\n".join([
        b'{"id": "a"}',
        b"{not json",
        b'{"name": "no id"}',
        b"",
        b'{"id": "\xff\xfe"}',
        b'"just an id"',
        b"[1, 2]",
        b"42",
        b"null",
        b'{"id": "b"} trailing',
        b"[" * 100_000,
        b'{"id": "c"}',
    ])  # fmt: skip
    found = ids(opened(body))
    assert [i for i in found if isinstance(i, str)] == ["a", "just an id", "c"]
    assert found[3] is None
    problems = {i.line: i.problem for i in found if isinstance(i, Unreadable)}
    assert sorted(problems) == [2, 3, 5, 7, 8, 9, 10, 11]
    remedies = "; write one JSON document per line", "; save the list as UTF-8"
    assert all(problems[n].endswith(remedies) for n in (2, 5, 10, 11))
    assert all(
        problems[n] == 'has no "id"; give every record one, or name the field that holds it (id_column)'
        for n in (3, 7, 8, 9)
    )


def test_a_line_longer_than_a_piece_of_the_object_is_one_line() -> None:
    big = json.dumps({"id": "big", "data": "x" * 3_000_000}).encode()
    assert ids(opened(b'"a"\n' + big + b'\n"b"')) == ["a", "big", "b"]


def test_reads_the_id_from_the_field_that_is_named() -> None:
    source = opened(b'{"record_id": "a", "id": "not this"}\n', id_column="record_id")
    assert ids(source) == ["a"]
    assert rows(source, RowSpan(0, 0, 1)) == [(0, "a", {"record_id": "a", "id": "not this"}, 1)]


def test_gives_an_id_that_is_no_string_as_it_is() -> None:
    found: list[Any] = [*ids(opened(b'{"id": 5}\n{"id": ["a"]}\n{"id": {"a": 1}}\n{"id": false}\n'))]
    assert found == [5, ["a"], {"a": 1}, False]


def test_an_id_that_is_null_is_a_row_without_an_id_and_not_a_blank_line() -> None:
    assert ids(opened(b'{"id": null}\n')) == [
        Unreadable(1, 'has no "id"; give every record one, or name the field that holds it (id_column)')
    ]


# Parquet


def test_reads_parquet_by_its_content() -> None:
    table = pa.table({"id": [f"r{n}" for n in range(5_000)], "n": range(5_000)})
    source = opened(parquet(table, row_group_size=700))
    assert ids(source) == [f"r{n}" for n in range(5_000)]
    assert rows(source, RowSpan(1, 10, 2), RowSpan(4_999, 4_000, 1)) == [
        (10, "r1", {"id": "r1", "n": 1}, 2),
        (11, "r2", {"id": "r2", "n": 2}, 3),
        (4_000, "r4999", {"id": "r4999", "n": 4_999}, 5_000),
    ]


@pytest.mark.parametrize(
    "column",
    [
        pa.array(["a", "b"], pa.string()),
        pa.array(["a", "b"], pa.large_string()),
        pa.array(["a", "b"]).dictionary_encode(),
        pa.array(["a", "b"], pa.string_view()),
    ],
    ids=str,
)
def test_takes_ids_from_any_column_of_text(column: Any) -> None:
    assert ids(opened(parquet(pa.table({"work": column})), id_column="work")) == ["a", "b"]


def test_a_parquet_row_without_an_id_costs_only_itself() -> None:
    found = ids(opened(parquet(pa.table({"id": ["a", None, "c"]}))))
    assert found == ["a", Unreadable(2, 'has no "id"; give every row one'), "c"]


@pytest.mark.parametrize(
    ("table", "field", "words"),
    [
        (pa.table({"work": ["a"], "n": [1]}), "records.id_column", r"is no column of .* \(it has work, n\), got: 'id'"),
        (pa.table({"id": [1, 2]}), "records.id_column", "is a column of int64 in .*; ids are text, got: 'id'"),
    ],
)  # fmt: skip
def test_a_parquet_file_without_a_column_of_ids_is_refused(table: Any, field: str, words: str) -> None:
    with pytest.raises(StageInputError, match=words) as refused:
        ids(opened(parquet(table)))
    assert refused.value.field == field


def test_a_damaged_parquet_file_is_refused() -> None:
    whole = bytearray(parquet(pa.table({"id": [f"r{n}" for n in range(1_000)]}), compression="gzip"))
    for damaged in (b"PAR1", bytes(whole[:-9]), bytes(whole[:200] + b"\0" * 60 + whole[260:])):
        with pytest.raises(StageInputError, match="records: cannot be read as Parquet"):
            ids(opened(damaged))


def test_a_format_that_is_named_is_believed() -> None:
    with pytest.raises(StageInputError, match="records: cannot be read as Parquet"):
        ids(opened(NDJSON, format=SourceFormat.PARQUET))
    with pytest.raises(StageInputError, match="records: is no list of successes that a stage wrote"):
        ids(opened(NDJSON, format=SourceFormat.SUCCESSES))


# What may change or be missing


def test_a_missing_object_is_refused_by_name() -> None:
    with pytest.raises(
        StageInputError, match="records: does not exist; check bucket and key, got: 's3://source/none'"
    ):
        detect(MemoryStore("source"), Pointer(bucket="source", key="none"))


def test_an_object_that_cannot_be_seen_is_refused_with_what_to_do() -> None:
    class Closed(MemoryStore):
        def head(self, key: str, *, bucket: str | None = None) -> Head:
            raise ObjectForbidden(f"{bucket} {key}")

    with pytest.raises(
        StageInputError, match=r"records: may not be read by this pipeline; .*, got: 's3://b/k'"
    ):
        detect(Closed("source"), Pointer(bucket="b", key="k"))


@pytest.mark.parametrize("body", [NDJSON, parquet(pa.table({"id": ["a"]}))], ids=["ndjson", "parquet"])
def test_a_source_that_changed_since_it_was_looked_at_is_not_read(body: bytes) -> None:
    store = MemoryStore("source")
    store.put("list", body)
    ref = detect(store, Pointer(bucket="source", key="list"))
    store.put("list", body + b" ")
    with pytest.raises(SourceChanged):
        ids(open_source(store, ref))


# Rows and ordinals


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 40)))
def test_finds_the_row_of_every_ordinal_however_many_rows_were_dropped(
    dropped: set[int], wanted: set[int]
) -> None:
    kept = [row for row in range(100) if row not in dropped]
    runs = list(runs_of(Ranges.of(wanted), Ranges.of(dropped)))
    found = {run.ordinal + n: run.row + n for run in runs for n in range(run.length)}
    assert found == {ordinal: kept[ordinal] for ordinal in wanted}
    assert all(run.length > 0 for run in runs)
    assert [run.row for run in runs] == sorted(run.row for run in runs)


@given(st.sets(st.integers(0, 40)), st.sets(st.integers(0, 19)), st.sampled_from(["ndjson", "parquet"]))
def test_reads_exactly_the_rows_it_is_asked_for(dropped: set[int], wanted: set[int], form: str) -> None:
    names = [f"r{n}" for n in range(61)]
    body = (
        parquet(pa.table({"id": names}))
        if form == "parquet"
        else b"".join(json.dumps(name).encode() + b"\n" for name in names)
    )
    kept = [row for row in range(61) if row not in dropped]
    found = rows(opened(body), *runs_of(Ranges.of(wanted), Ranges.of(dropped)))
    assert [(ordinal, name, line) for ordinal, name, _, line in found] == [
        (ordinal, f"r{kept[ordinal]}", kept[ordinal] + 1) for ordinal in sorted(wanted)
    ]


# What an upstream stage succeeded in


def manifest(store: MemoryStore, *entries: SuccessEntry) -> Source:
    made = SuccessManifest(run_id="r", stage="s", records=1, lines=1, lost_in_run=0, entries=entries)
    store.put("successes.json", json.dumps(made.to_json(), separators=(",", ":")).encode())
    return open_source(store, detect(store, Pointer(bucket=store.bucket, key="successes.json")))


def test_reads_an_upstream_stages_successes_segment_by_segment() -> None:
    stage = Stage()
    stage.plan([f"r{n}" for n in range(9)])
    first = journal(stage, succeeded=[0, 1, 2]).outputs
    second = journal(stage, sequence=1, succeeded=[5, 6, 7]).outputs
    assert first
    assert second
    source = manifest(
        stage.store,
        SuccessEntry.of(first, lines=3),
        SuccessEntry.of(second, lines=2, accept=Ranges.of([5, 7])),
    )
    assert ids(source) == ["out-0", "out-1", "out-2", "out-5", "out-7"]
    assert rows(source, RowSpan(1, 1, 4)) == [
        (1, "out-1", {"by": "INV1"}, 2),
        (2, "out-2", {"by": "INV1"}, 3),
        (3, "out-5", {"by": "INV1"}, 1),
        (4, "out-7", {"by": "INV1"}, 3),
    ]


def test_reads_only_the_segments_that_hold_what_is_asked_for() -> None:
    stage = Stage()
    stage.plan([f"r{n}" for n in range(9)])
    written = [journal(stage, sequence=n, succeeded=[2 * n, 2 * n + 1]).outputs for n in range(3)]
    source = manifest(stage.store, *(SuccessEntry.of(one, lines=2) for one in written if one))
    for one in written[:2]:
        assert one
        del stage.store.objects[stage.store.bucket, one.key]
    assert [i for _, i, _, _ in rows(source, RowSpan(4, 4, 1))] == ["out-4"]


def test_successes_of_another_ledger_are_refused() -> None:
    store = MemoryStore("ledger")
    made = SuccessManifest(run_id="r", stage="s", records=0, lines=0, lost_in_run=0, entries=())
    store.objects["elsewhere", "successes.json"] = json.dumps(made.to_json(), separators=(",", ":")).encode()
    with pytest.raises(StageInputError, match=r"records.bucket: successes are read from the ledger, ledger"):
        open_source(store, detect(store, Pointer(bucket="elsewhere", key="successes.json")))


def test_gzip_is_told_by_its_first_bytes_and_not_by_its_name() -> None:
    store = MemoryStore("source")
    store.put("list.ndjson.gz", NDJSON)
    source = open_source(store, detect(store, Pointer(bucket="source", key="list.ndjson.gz")))
    assert ids(source) == [row["id"] for row in ROWS]
    assert zlib.crc32(NDJSON)
