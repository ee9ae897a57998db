from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from tests.unit.winnow.runs import Pipeline
from winnow import Delete, Output, Record, worker
from winnow.batch.opening import detect, open_source
from winnow.batch.rows import RowSpan
from winnow.core.contract import Pointer
from winnow.proof.prove import prove
from winnow.runtime.decorator import Worker
from winnow.settlement.result import StageResult
from winnow.storage.formats import ParquetOutput
from winnow.testing import run_worker

TABLE = ParquetOutput(
    pa.schema(
        [
            pa.field("title", pa.string(), nullable=False),
            pa.field("at", pa.struct([pa.field("year", pa.int64(), nullable=False)]), nullable=False),
        ]
    )
)


def weeded(record: Record) -> Any:
    """Deletes `old…`."""
    return Delete() if record.id.startswith("old") else {"title": record.id, "at": {"year": 1}}


seen: list[str] = []


def title(record: Record) -> Any:
    seen.append(record.id)
    return {"title": record.data["title"].upper(), "at": record.data["at"]}


def titles(records: Sequence[Record]) -> list[Any]:
    return [title(record) for record in records]


BOTH = pytest.mark.parametrize("options", [{}, {"outputs": TABLE}], ids=["ndjson", "parquet"])


def handed_on(pipeline: Pipeline, stage: str) -> dict[str, Any]:
    source = open_source(
        pipeline.ledger.store,
        detect(pipeline.ledger.store, Pointer(bucket="ledger", key=pipeline.keys(stage).successes)),
    )
    count = sum(len(ids) for ids in source.ids())
    return {
        found[0]: found[1]
        for chunk in source.chunks([RowSpan(0, 0, count)])
        for found in map(source.decode, chunk.rows)
    }


@BOTH
@pytest.mark.parametrize(
    "second",
    [
        lambda options: worker(**options)(title),
        lambda options: worker(concurrency=2, **options)(title),
        lambda options: worker(batch=2, **options)(titles),
        lambda options: worker(record_timeout=60, **options)(title),
    ],
    ids=["one by one", "in threads", "in batches", "with a limit of time"],
)
def test_a_deletion_passes_later_stages_untouched_without_their_workers(options: Any, second: Any) -> None:
    seen.clear()
    made: Worker = second(options)
    pipeline = Pipeline(stages={"weed": worker(**options)(weeded), "title": made, "again": made})
    pipeline.run({"records": ["a", "old1", "b", "old2", "old3"]})
    assert handed_on(pipeline, "again") == {
        "a": {"title": "A", "at": {"year": 1}},
        "b": {"title": "B", "at": {"year": 1}},
        "old1": Delete(),
        "old2": Delete(),
        "old3": Delete(),
    }
    assert sorted(seen) == ["a", "a", "b", "b"]
    for stage in pipeline.stages:
        counts = pipeline.ledger.read(pipeline.keys(stage).result, StageResult.from_json).counts
        assert (counts.records_in, counts.succeeded, counts.deleted, counts.skipped) == (5, 5, 3, 0)
    assert prove(pipeline.ledger, pipeline.keys("again").run_id, status="SUCCEEDED").all_problems == ()


@BOTH
def test_a_test_of_a_worker_shows_its_deletions(options: Any) -> None:
    result = run_worker(worker(**options)(weeded), ["a", "old"])
    assert result.deleted == {"old"}
    assert result.outputs == {"a": {"title": "a", "at": {"year": 1}}}
    assert result.lineage == {"a": "a", "old": "old"}
    assert (result.counts["succeeded"], result.counts["deleted"]) == (2, 1)


def test_a_record_may_delete_under_other_ids() -> None:
    @worker
    def weed(record: Record) -> Any:
        yield Output(Delete(), id=f"{record.id}/1")
        yield Output({"n": 2}, id=f"{record.id}/2")

    result = run_worker(weed, ["a"])
    assert result.deleted == {"a/1"}
    assert result.outputs == {"a/2": {"n": 2}}
    assert result.counts["deleted"] == 1


def test_records_may_join_in_a_deletion() -> None:
    @worker(batch=10)
    def weed(records: Sequence[Record]) -> Any:
        return [Output(Delete(), id="all", sources=records)]

    result = run_worker(weed, ["a", "b"])
    assert result.deleted == {"all"}
    assert result.outputs == {}
    assert (result.counts["succeeded"], result.counts["deleted"]) == (2, 2)


def test_a_deletion_of_an_id_that_is_taken_fails_and_is_not_counted() -> None:
    @worker
    def weed(record: Record) -> Any:
        return Output(Delete() if record.id == "b" else {"n": 1}, id="shared")

    result = run_worker(weed, ["a", "b"])
    assert result.outputs == {"shared": {"n": 1}}
    assert result.failures["b"].kind == "permanent"
    assert (result.counts["succeeded"], result.counts.get("deleted", 0)) == (1, 0)


def test_without_deletions_nothing_is_said_of_them() -> None:
    assert "deleted" not in run_worker(worker(weeded), ["a"]).counts


def test_a_schema_must_not_have_the_column_of_deletions() -> None:
    with pytest.raises(ValueError, match="must not have a column of Winnow's own, got: record_deleted"):
        ParquetOutput(pa.schema([pa.field("record_deleted", pa.bool_())]))
