from __future__ import annotations

import io
import pickle
import random
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.winnow.publications import DELETED, FAILS, Publication, numbered
from winnow import Output, Record, worker
from winnow.core import keys
from winnow.core.errors import (
    DamagedDocument,
    LedgerObjectMissing,
    PublishContended,
    PublishRefused,
    UnpublishableRows,
)
from winnow.handlers import build_version, publish
from winnow.publish import build
from winnow.publish.documents import Counts, Format, Mode
from winnow.publish.sorting import Sorter
from winnow.publish.writing import PartLimits
from winnow.published import read
from winnow.storage.formats import ParquetOutput
from winnow.storage.ledger import Ledger
from winnow.testing import FakeContext

BOTH = pytest.mark.parametrize("form", list(Format))


def rows_by_id(publication: Publication) -> dict[str, dict[str, Any]]:
    return {row.pop("id"): row for row in read("works", bucket=publication.store)}


# Deletions


@BOTH
def test_a_deletion_removes_the_row(form: Format) -> None:
    publication = Publication(form=form)
    publication.go("01", numbered({"a": 1, "b": 1, "c": 1}))
    publication.go("02", numbered({"a": DELETED, "unknown": DELETED, "b": 2}))
    assert publication.rows() == {"b": 2, "c": 1}
    counts = publication.set.need_manifest(2).counts
    assert counts == Counts(added=0, changed=1, unchanged=0, removed=1, kept=1)


@BOTH
def test_an_older_run_does_not_bring_a_deleted_row_back_and_a_newer_one_does(form: Format) -> None:
    publication = Publication(form=form)
    publication.go("01", numbered({"a": 1, "b": 1}))
    publication.go("03", numbered({"a": DELETED, "b": 3}))
    publication.go("02", numbered({"a": 2, "b": 2}))
    assert publication.rows() == {"b": 3}
    publication.go("04", numbered({"a": 4, "b": 4}))
    assert publication.rows() == {"a": 4, "b": 4}


def test_a_late_deletion_does_not_remove_a_newer_row() -> None:
    publication = Publication()
    publication.go("02", numbered({"a": 2}))
    publication.go("01", numbered({"a": DELETED, "b": 1}))
    assert publication.rows() == {"a": 2, "b": 1}


def test_a_snapshot_leaves_out_what_a_worker_deletes() -> None:
    publication = Publication(mode=Mode.REPLACE)
    publication.go("01", numbered({"a": 1, "b": 1}))
    publication.go("02", numbered({"a": DELETED, "b": 1}))
    assert publication.rows() == {"b": 1}


@BOTH
def test_every_row_may_be_deleted(form: Format) -> None:
    publication = Publication(form=form)
    publication.go("01", numbered({"a": 1}))
    publication.go("02", numbered({"a": DELETED}))
    assert publication.rows() == {}
    publication.go("03", numbered({"b": 3}))
    assert publication.rows() == {"b": 3}


# Parts


@BOTH
def test_a_version_is_cut_into_parts_of_which_each_is_in_order(form: Format) -> None:
    publication = Publication(form=form, limits=PartLimits(part_rows=10, group_rows=4))
    publication.go("01", numbered([f"{n:02d}" for n in range(25)]))
    manifest = publication.set.need_manifest(1)
    assert [file.rows for file in manifest.files] == [10, 10, 5]
    assert [file.rows for file in manifest.origins] == [10, 10, 5]
    for file in manifest.files:
        assert len(publication.store.get(file.key).body) == file.bytes
    assert publication.current.files == tuple(file.key for file in manifest.files)
    assert list(publication.rows()) == [f"{n:02d}" for n in range(25)]


@BOTH
def test_a_part_ends_where_it_has_enough_bytes(form: Format) -> None:
    publication = Publication(form=form, limits=PartLimits(part_bytes=1, group_rows=5))
    publication.go("01", {f"{n:02d}": {"n": random.Random(n).randbytes(50_000).hex()} for n in range(20)})
    sizes = [file.rows for file in publication.set.need_manifest(1).files]
    assert len(sizes) > 1
    assert all(size % 5 == 0 for size in sizes)


@BOTH
def test_a_group_ends_where_it_takes_much_memory(form: Format) -> None:
    publication = Publication(form=form, limits=PartLimits(group_bytes=1, part_bytes=1))
    publication.go("01", {f"{n:02d}": {"n": random.Random(n).randbytes(200_000).hex()} for n in range(4)})
    assert len(publication.set.need_manifest(1).files) >= 2


@BOTH
def test_a_version_that_is_built_again_is_the_same_byte_by_byte(form: Format) -> None:
    publication = Publication(form=form, limits=PartLimits(part_rows=3, group_rows=2))
    publication.go("01", numbered("abcdef"))
    run_id = publication.run("02", numbered({"b": 2, "x": 2, "c": DELETED}))
    publication.build(run_id)
    first = dict(publication.store.objects)
    for _, key in first:
        if key.startswith(publication.set.keys.version(2).prefix) and not key.endswith("claim.json"):
            publication.store.delete(key)
    publication.build(run_id)
    assert publication.store.objects == first


def test_parquet_has_the_users_columns_and_the_id_only() -> None:
    publication = Publication(form=Format.PARQUET)
    publication.go("01", {"a": {"title": "A", "year": 1999, "names": ["x"], "place": {"town": "Ely"}}})
    table = pq.read_table(io.BytesIO(publication.store.get(publication.current.files[0]).body))
    assert table.column_names == ["id", "title", "year", "names", "place"]
    assert [(column.name, column.type) for column in publication.set.need_manifest(1).schema or ()] == [
        ("id", "string"),
        ("title", "string"),
        ("year", "int64"),
        ("names", "list<item: string>"),
        ("place", "struct<town: string>"),
    ]


@pytest.mark.parametrize("sizes", [200, 10_000_000], ids=["on disk", "in memory"])
def test_more_rows_than_memory_holds_are_sorted_and_those_of_one_id_stay_in_order(
    sizes: int, tmp_path: Path
) -> None:
    sorter = Sorter(tmp_path, buffer_bytes=sizes * 10)
    rows = [(f"{random.Random(n).randrange(300):03d}", b"%d" % n) for n in range(1_000)]
    for row in rows:
        sorter.add(*row)
    assert list(sorter.sorted()) == sorted(rows, key=lambda row: row[0])
    assert bool(list(tmp_path.iterdir())) is (sizes == 200)


# Columns


def test_columns_are_those_of_all_rows_and_of_the_version_before() -> None:
    publication = Publication(form=Format.PARQUET)
    publication.go("01", {"a": {"x": 1, "deep": {"p": 1}}, "b": {"y": "text"}})
    publication.go("02", {"c": {"x": 1.5, "z": None, "deep": {"q": ["r"]}}})
    assert rows_by_id(publication) == {
        "a": {"x": 1.0, "y": None, "z": None, "deep": {"p": 1, "q": None}},
        "b": {"x": None, "y": "text", "z": None, "deep": None},
        "c": {"x": 1.5, "y": None, "z": None, "deep": {"p": None, "q": ["r"]}},
    }


def test_a_row_that_only_got_more_empty_columns_is_unchanged() -> None:
    publication = Publication(form=Format.PARQUET)
    publication.go("01", {"a": {"deep": {"p": 1}}, "b": {"deep": {"q": 1}}})
    publication.go("02", {"a": {"deep": {"p": 1}}, "c": {"more": 1}})
    assert publication.set.need_manifest(2).counts == Counts(added=1, unchanged=1, kept=1)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ({"a": {"x": 1}, "b": {"x": "one"}}, "column `x`: .* got: int64 (id 'a') and string (id 'b')"),
        ({"a": {"x": True}, "b": {"x": 1}}, "column `x`: .* got: bool (id 'a') and int64 (id 'b')"),
        ({"a": {"x": 2**70}}, "column `x`: Parquet cannot hold a value; .* (id 'a')"),
        ({"a": {"x": 2**53 + 1}, "b": {"x": 0.5}}, "column `x`: Parquet cannot hold a value; .* (id 'a')"),
        ({"a": {"x": {}}}, "column `x`: it holds objects without any field, .* got: {} (id 'a')"),
        ({"a": {"x": 1, "id": "other"}}, "column `id`: .* got: 'other' (id 'a')"),
    ],
)
def test_rows_that_cannot_be_one_table_are_named(records: dict[str, Any], message: str) -> None:
    publication = Publication(form=Format.PARQUET)
    run_id = publication.run("01", records)
    with pytest.raises(UnpublishableRows, match=message.replace("(", r"\(").replace(")", r"\)")):
        publication.build(run_id)
    assert publication.set.current() == (None, None)


def test_a_column_of_another_type_than_before_is_named_and_the_version_stays() -> None:
    publication = Publication(form=Format.PARQUET)
    publication.go("01", {"a": {"x": 1}})
    run_id = publication.run("02", {"b": {"x": "one"}})
    with pytest.raises(UnpublishableRows, match=r"column `x`: .* int64 \(version 1\) and string \(id 'b'\)"):
        publication.build(run_id)
    assert rows_by_id(publication) == {"a": {"x": 1}}


def test_a_snapshot_has_its_own_columns_and_types() -> None:
    publication = Publication(form=Format.PARQUET, mode=Mode.REPLACE)
    publication.go("01", {"a": {"x": 1, "old": 1}, "b": {"x": 1, "old": 1}})
    publication.go("02", {"a": {"x": "one"}, "b": {"x": "two"}})
    assert rows_by_id(publication) == {"a": {"x": "one"}, "b": {"x": "two"}}
    assert publication.set.need_manifest(2).counts == Counts(changed=2)


def test_a_number_in_place_of_a_truth_is_a_change() -> None:
    publication = Publication(form=Format.NDJSON)
    publication.go("01", {"a": {"x": True}, "b": {"x": 1}})
    publication.go("02", {"a": {"x": 1}, "b": {"x": 1.0}})
    assert publication.set.need_manifest(2).counts == Counts(changed=1, unchanged=1)


def test_ndjson_takes_values_of_any_type() -> None:
    publication = Publication(form=Format.NDJSON)
    publication.go("01", {"a": {"x": 1}, "b": {"x": "one"}, "c": {"x": {}}, "d": {"x": 2**70}})
    assert [row["x"] for row in read("works", bucket=publication.store)] == [1, "one", {}, 2**70]


@BOTH
def test_data_that_is_no_object_becomes_a_column(form: Format) -> None:
    publication = Publication(form=form)
    publication.go("01", {"a": "text", "b": "more"})
    assert rows_by_id(publication) == {"a": {"data": "text"}, "b": {"data": "more"}}


SCHEMA = pa.schema(
    [
        pa.field("day", pa.date32(), nullable=False),
        pa.field("price", pa.decimal128(9, 2)),
        pa.field("small", pa.int16()),
    ]
)


@worker(outputs=ParquetOutput(SCHEMA))
def typed(record: Record) -> dict[str, Any]:
    return {"day": date(2026, 11, len(record.id)), "price": Decimal("1.50"), "small": 3}


def test_the_types_of_a_workers_table_stay() -> None:
    publication = Publication(form=Format.PARQUET)
    publication.go("01", dict.fromkeys(["a", "bb"]), made_by=typed)
    publication.go("02", dict.fromkeys(["ccc"]), made_by=typed)
    schema = pq.read_schema(io.BytesIO(publication.store.get(publication.current.files[0]).body))
    assert [field.type for field in schema] == [pa.string(), *(field.type for field in SCHEMA)]
    assert rows_by_id(publication)["ccc"] == {"day": date(2026, 11, 3), "price": Decimal("1.50"), "small": 3}


def test_a_table_that_is_no_json_is_not_published_as_ndjson() -> None:
    publication = Publication(form=Format.NDJSON)
    run_id = publication.run("01", dict.fromkeys(["a"]), made_by=typed)
    with pytest.raises(UnpublishableRows, match=r"not JSON; .* set format='parquet', got: .* \(id 'a'\)"):
        publication.build(run_id)


@pytest.mark.parametrize(
    ("first", "then"), [(Format.NDJSON, Format.PARQUET), (Format.PARQUET, Format.NDJSON)]
)
def test_the_format_may_change_from_one_version_to_the_next(first: Format, then: Format) -> None:
    publication = Publication(form=first)
    publication.go("01", numbered({"a": 1, "b": 1}))
    publication.form = then
    publication.go("02", numbered({"b": 2, "c": 2}))
    assert publication.rows() == {"a": 1, "b": 2, "c": 2}
    assert publication.current.format is then


# Other runs, and damage


def test_a_run_gives_up_where_others_publish_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "MOST_CANDIDATES", 3)
    publication = Publication()
    slow = publication.run("01", numbered({"a": 1}))
    for day in ("02", "03", "04"):
        candidate = publication.build(slow).version
        publication.go(day, numbered({"b": 1}))
        assert publication.publish(candidate).again
    with pytest.raises(PublishContended, match="run run-01: 3 candidates were each overtaken by another run"):
        publication.build(slow)


def test_a_number_that_another_run_has_claimed_is_left_to_it() -> None:
    publication = Publication()
    first, second = publication.run("01", numbered({"a": 1})), publication.run("02", numbered({"b": 1}))
    assert publication.build(first).version == 1
    assert publication.build(second).version == 2
    assert publication.build(first).version == 1


@BOTH
@pytest.mark.parametrize("which", ["files", "origins"])
def test_a_damaged_file_of_the_version_before_is_named(form: Format, which: str) -> None:
    publication = Publication(form=form)
    publication.go("01", numbered({"a": 1}))
    [file] = getattr(publication.set.need_manifest(1), which)
    publication.store.put(file.key, publication.store.get(file.key).body[:-1])
    run_id = publication.run("02", numbered({"b": 1}))
    with pytest.raises(
        DamagedDocument, match=rf"{file.key} is damaged: its body is not the one that was written"
    ):
        publication.build(run_id)


def test_a_damaged_output_of_the_run_is_named() -> None:
    publication = Publication()
    run_id = publication.run("01", numbered({"a": 1}))
    [key] = [key for key in publication.ledger.store.keys("") if "/outputs/" in key and "ids" not in key]
    publication.ledger.store.put(key, publication.ledger.store.get(key).body[:-1])
    with pytest.raises(DamagedDocument, match=key):
        publication.build(run_id)


def test_outputs_that_are_missing_from_the_segments_are_told() -> None:
    publication = Publication()
    run_id = publication.run("01", numbered({"a": 1}))
    key = keys.StageKeys(run_id, "last").successes
    publication.ledger.write_json(key, {**publication.ledger.read_json(key), "lines": 2})
    with pytest.raises(DamagedDocument, match="run run-01 made 2 outputs, but its segments have 1"):
        publication.build(run_id)


@worker
def one_for_all(_record: Record) -> Output:
    return Output({"n": 1}, id="shared")


def test_outputs_that_are_the_same_are_one_row() -> None:
    publication = Publication()
    publication.go("01", numbered("ab"), made_by=one_for_all)
    assert publication.rows() == {"shared": 1}


def test_two_outputs_of_one_id_are_never_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """The settlement lets no such run come so far."""
    rows = [("a", pickle.dumps({"n": 1})), ("a", pickle.dumps({"n": 2}))]
    monkeypatch.setattr(Sorter, "sorted", lambda _self: iter(rows))
    publication = Publication()
    run_id = publication.run("01", numbered({"a": 1}))
    with pytest.raises(
        UnpublishableRows, match=r"id: each output must have an id of its own; .* got: 'a' twice"
    ):
        publication.build(run_id)


def test_a_run_that_is_unknown_publishes_nothing() -> None:
    with pytest.raises(LedgerObjectMissing):
        Publication().build("nobody")


def test_what_is_not_published_cannot_be_read() -> None:
    publication = Publication()
    with pytest.raises(
        PublishRefused, match=r"name: nothing is published under it in published; .*, got: 'works'"
    ):
        read("works", bucket=publication.store)
    with pytest.raises(
        ValueError, match=r"a publication's name must be lower-case letters, .* got: 'Works!'"
    ):
        read("Works!", bucket=publication.store)


def test_a_version_that_is_not_current_can_be_read() -> None:
    publication = Publication()
    publication.go("01", numbered({"a": 1}))
    publication.go("02", numbered({"a": 2, "b": FAILS}))
    assert publication.rows(version=1) == {"a": 1}


# Handlers


def test_the_handlers_build_and_publish(monkeypatch: pytest.MonkeyPatch) -> None:
    publication = Publication()
    run_id = publication.run("01", numbered({"a": 1}))
    for name, value in {
        "PIPELINE": "catalogue",
        "LEDGER_BUCKET": "ledger",
        "PUBLISHED_BUCKET": "published",
        "PUBLICATION": "works",
        "PUBLICATION_MODE": "merge",
        "PUBLICATION_FORMAT": "ndjson",
    }.items():
        monkeypatch.setenv(f"WINNOW_{name}", value)
    monkeypatch.setattr(Ledger, "of_bucket", lambda _bucket: publication.ledger)
    for module in (build_version, publish):
        monkeypatch.setattr(module, "published_store", lambda _bucket: publication.store)
    context: Any = FakeContext()
    built = build_version.handler({"run_id": run_id}, context)
    counts = {"added": 1, "changed": 0, "unchanged": 0, "removed": 0, "kept": 0}
    assert built == {"run_id": run_id, "version": 1, "base": None, "rows": 1, "counts": counts}
    done = publish.handler({"run_id": run_id, "version": 1}, context)
    assert done == {"version": 1, "reason": None, "again": False}
    assert publication.rows() == {"a": 1}
