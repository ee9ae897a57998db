"""Rows of a list that repeat an id: the same content is a duplicate, other content a conflict, and nothing is dropped in silence."""

from __future__ import annotations

import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.unit.winnow.cases import CASES, needs_cases
from tests.unit.winnow.stages import Stage, outputs_of
from winnow import Record, worker
from winnow.core.contract import OnConflict, Policy
from winnow.core.keys import StageKeys
from winnow.core.repetitions import Repetitions
from winnow.journal.successes import SuccessManifest

SOURCE = {"bucket": "source", "key": "list"}
OLDER, OTHER, NEWER = (
    {"id": "u1", "title": "older"},
    {"id": "u2", "title": "x"},
    {"id": "u1", "title": "NEWER"},
)


@worker
def titles(record: Record) -> dict[str, Any]:
    return {"title": record.data["title"]}


def ndjson(rows: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


FORMS = {"ndjson": ndjson, "array": lambda rows: json.dumps(rows, indent=1).encode(), "parquet": parquet}


def run(rows: list[dict[str, Any]], on_conflict: OnConflict, form: str = "ndjson") -> Stage:
    stage = Stage(worker=titles, policy=Policy(backoff_seconds=0, on_conflict=on_conflict))
    stage.store.objects["source", "list"] = FORMS[form](rows)
    stage.to_end(stage.plan(SOURCE))
    return stage


def told(stage: Stage) -> tuple[int, int, int]:
    counts = stage.counts()
    return counts["duplicates"], counts["conflicts"], counts["superseded"]


@pytest.mark.parametrize("form", FORMS)
def test_a_later_row_with_other_content_fails_and_names_both_lines(form: str) -> None:
    stage = run([OLDER, OTHER, NEWER], OnConflict.FAIL, form)
    assert dict(stage.outputs()) == {"u1": {"title": "older"}, "u2": {"title": "x"}}
    (failure,) = stage.failures()
    assert (failure["kind"], failure["error_type"]) == ("permanent", "ConflictingRow")
    assert failure["message"].startswith("line 3 has the id of line 1, 'u1', and other content; ")
    assert failure["source"] == {"bucket": "source", "key": "list", "line": 3}
    assert failure["record_id"] == stage.the_plan.source.row_id(3)
    assert told(stage) == (0, 1, 0)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("on_conflict", "title"), [(OnConflict.FIRST, "older"), (OnConflict.LAST, "NEWER")])
def test_a_pipeline_may_take_the_first_or_the_last_and_counts_the_others(
    form: str, on_conflict: OnConflict, title: str
) -> None:
    stage = run([OLDER, OTHER, NEWER, OTHER], on_conflict, form)
    assert dict(stage.outputs()) == {"u1": {"title": title}, "u2": {"title": "x"}}
    assert stage.failures() == []
    assert told(stage) == (1, 0, 1)


@pytest.mark.parametrize("on_conflict", OnConflict)
def test_rows_with_the_same_content_are_duplicates_whatever_the_order_of_their_fields(
    on_conflict: OnConflict,
) -> None:
    stage = run([OLDER, dict(reversed(OLDER.items())), OTHER], on_conflict)
    assert dict(stage.outputs()) == {"u1": {"title": "older"}, "u2": {"title": "x"}}
    assert told(stage) == (1, 0, 0)


def test_a_conflicting_row_that_comes_twice_is_one_failure() -> None:
    assert told(run([OLDER, NEWER, NEWER, OLDER], OnConflict.FAIL)) == (2, 1, 0)


def test_the_last_row_counts_even_if_it_has_the_first_ones_content() -> None:
    stage = run([OLDER, NEWER, OTHER, OLDER], OnConflict.LAST)
    assert [i for i, _ in stage.outputs()] == ["u2", "u1"]
    assert told(stage) == (1, 0, 1)


def test_rows_too_deep_to_be_compared_field_by_field_are_compared_as_text() -> None:
    def row(value: int) -> bytes:
        return b'{"id": "a", "title": ' + b"[" * 900 + b"%d" % value + b"]" * 900 + b"}\n"

    stage = Stage(worker=titles)
    stage.store.objects["source", "list"] = row(1) + row(1) + row(2)
    stage.plan(SOURCE)
    assert (stage.the_plan.duplicates, stage.the_plan.conflicts) == (1, 1)


def test_the_batch_of_a_slow_plan_is_not_written_over_by_another() -> None:
    """V4: its source is overwritten while it sleeps, the retry plans the new list, and then the first wakes."""
    stage = Stage(worker=titles)
    stage.store.objects["source", "list"] = ndjson([OLDER, OTHER])
    woken = Stage(store=stage.store)
    put = stage.store.put
    slept = False

    def freeze(key: str, body: bytes, *, if_absent: bool = False) -> None:
        nonlocal slept
        if not slept and "/batch/" in key:
            slept = True
            stage.store.objects["source", "list"] = ndjson([NEWER]) + b"{broken\n"
            woken.plan(SOURCE)
        put(key, body, if_absent=if_absent)

    stage.store.put = freeze  # type: ignore[method-assign]
    order = stage.plan(SOURCE)
    plan = stage.the_plan
    assert (order.count, plan.count, len(stage.batch_ids())) == (2, 2, 2)
    assert stage.batch_ids() == ["u1", plan.source.row_id(2)]
    stage.to_end(order)
    assert stage.outputs() == [("u1", {"title": "NEWER"})]
    assert [failure["error_type"] for failure in stage.failures()] == ["UnreadableRow"]


def test_successes_are_counted_by_their_manifest() -> None:
    stage = run([OLDER, OTHER], OnConflict.FAIL)
    keys = StageKeys(stage.the_plan.run_id, stage.the_plan.stage)
    manifest = stage.ledger.read(keys.successes, SuccessManifest.from_json)
    assert len(outputs_of(stage.store, manifest)) == manifest.lines == 2


@needs_cases
def test_the_feed_that_repeats_an_id_with_newer_content() -> None:
    rows = [json.loads(line) for line in (CASES / "updates.ndjson").read_text().splitlines()]
    assert told(run(rows, OnConflict.FAIL)) == (0, 1, 0)


def test_repetitions_are_told_in_words() -> None:
    told = Repetitions(duplicates=1_200, superseded=1, conflicts=2, same_outputs=1)
    assert str(told) == "1,200 duplicates, 1 superseded row, 2 id conflicts, 1 repeated output"
    assert told
    assert not Repetitions()
    assert Repetitions.from_json(told.to_json()) == told
