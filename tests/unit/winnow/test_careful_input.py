"""A careful child is given what the worker would read, so that it takes whatever the worker takes."""

from __future__ import annotations

import io
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow import killers, table_workers
from tests.unit.winnow.gates import Memory, undecoded
from tests.unit.winnow.stages import DIED, KEYS, Stage
from winnow import Record
from winnow.batch.ndjson import NdjsonDecoder
from winnow.batch.opening import detect, open_source
from winnow.batch.rows import RowSpan, Source, UnreadableRow
from winnow.batch.selection import Selection, SelectionPart
from winnow.core.contract import Pointer
from winnow.core.ranges import Ranges
from winnow.runtime.careful import START_SECONDS, Child, Limits, run_carefully
from winnow.runtime.decorator import Worker
from winnow.runtime.engine import run
from winnow.runtime.sink import UndecodedRecord
from winnow.runtime.units import units

LIMITS = Limits(record_seconds=PATIENCE_SECONDS, memory_mb=2_048)
DECODE = NdjsonDecoder("id").decode


def carefully(worker: Worker, *lines: str) -> Memory:
    gate = Memory()
    records = [(n, UndecodedRecord(f"r{n}", DECODE, line)) for n, line in enumerate(lines)]
    run_carefully(worker.name, units(records, gate, worker.options.batch or 1), gate, worker.options, LIMITS)
    return gate


def line(n: int, data: str) -> str:
    return f'{{"id":"r{n}","data":{data}}}'


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def deepest() -> int:
    """How deep a list may be nested that this process decodes, with the test on its stack."""
    low, high = 100, 1_000_000
    while high - low > 1:
        middle = (low + high) // 2
        try:
            DECODE(line(0, nested(middle)))
        except RecursionError:
            high = middle
        else:
            low = middle
    return low


LINES = {
    "600 levels of nesting": lambda: nested(600),
    "as deep as the worker can read": lambda: nested(deepest()),
    "20 MB": lambda: json.dumps("x" * 20_000_000),
    "a lone surrogate": lambda: r'"\ud800"',
    "not a number": lambda: "NaN",
    "infinity": lambda: "-Infinity",
    "a number of 1,000 digits": lambda: "1" * 1_000,
    "a character that takes four bytes": lambda: '"👩"',
}


@pytest.mark.parametrize("data", LINES.values(), ids=LINES.keys())
def test_a_child_takes_what_the_worker_takes(data: Callable[[], str]) -> None:
    lines = [line(0, "null"), line(1, data()), line(2, "null")]
    ordinary = Memory()
    run(
        killers.describing.function,
        [(n, Record(*DECODE(each))) for n, each in enumerate(lines)],
        ordinary,
        killers.describing.options,
    )
    gate = carefully(killers.describing, *lines)
    assert gate.kinds == ordinary.kinds
    assert gate.done == ordinary.done


def test_a_deep_record_beside_a_killer_is_done_and_so_are_its_neighbours() -> None:
    stage = Stage(worker=killers.plain)
    lines = [line(n, "null") for n in range(4)]
    lines += [line(4, nested(600)), line(5, '"exit"'), line(6, "null")]
    stage.store.put("list", "\n".join(lines).encode())
    state = stage.settle(stage.plan({"bucket": "ledger", "key": "list"}), worker_error=DIED)
    while state["next"]:
        state = stage.attempt(stage.deeper(state))
    assert stage.failed_ids() == {"r5": "crashed"}
    assert sorted(i for i, _ in stage.outputs()) == ["r0", "r1", "r2", "r3", "r4", "r6"]


def test_a_row_that_a_child_cannot_decode_costs_only_itself() -> None:
    gate = carefully(killers.batches, line(0, "null"), "{broken", line(2, "null"), line(3, "null"))
    assert sorted(gate.done) == [0, 2, 3]
    assert gate.kinds == {1: "permanent"}
    assert gate.failures[1].record_id == "r1"
    assert gate.failures[1].error_type == "JSONDecodeError"


def test_a_batch_of_which_no_row_can_be_decoded_is_not_handed_over() -> None:
    gate = carefully(killers.joining, "{broken", "{broken")
    assert gate.kinds == {0: "permanent", 1: "permanent"}
    assert gate.done == {}
    assert gate.lies == 0


def test_the_time_of_a_record_begins_when_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    child = Child(killers.plain.name, Limits(record_seconds=PATIENCE_SECONDS, memory_mb=1_024))
    waits: list[float] = []
    read = Child._read

    def noted(self: Child, seconds: float) -> Any:
        waits.append(seconds)
        return read(self, seconds)

    monkeypatch.setattr(Child, "_read", noted)
    [(method, _)] = child.run(undecoded(None))
    child.close()
    assert method == "succeeded"
    assert waits == [START_SECONDS, PATIENCE_SECONDS]


# Tables


def table(count: int) -> pa.Table:
    what = [None, "exit", None, None, "kill", None][:count]
    at = [0, 0, 2**60, 0, 0, 0][:count]
    return pa.table(
        {
            "id": [f"r{n}" for n in range(count)],
            "what": pa.array(what, pa.string()),
            "at": pa.array(at, pa.int64()).view(pa.timestamp("us", tz="UTC")),
        }
    )


def body_of(rows: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(rows, sink)
    return sink.getvalue()


@pytest.mark.parametrize("made", [table_workers.plain, table_workers.joining], ids=["plain", "joining"])
def test_rows_of_a_table_go_to_children_and_come_back_as_rows(made: Worker) -> None:
    stage = Stage(worker=made)
    stage.store.put("list", body_of(table(6)))
    state = stage.settle(stage.plan({"bucket": "ledger", "key": "list"}), worker_error=DIED)
    while state["next"]:
        state = stage.attempt(stage.deeper(state))
    assert stage.failed_ids() == {"r1": "crashed", "r2": "permanent", "r4": "crashed"}
    [unreadable] = [each for each in stage.failures() if each["record_id"] == "r2"]
    assert unreadable["error_type"] == "UnreadableRow"
    assert unreadable["message"].startswith("row 3: column `at` has a value of type timestamp[us, tz=UTC]")
    assert unreadable["source"]["line"] == 3
    assert dict(stage.outputs()) == {
        each: {"title": each, "people": [{"name": "Ada"}], "at": datetime(1970, 1, 1, tzinfo=UTC)}
        for each in ("r0", "r3", "r5")
    }


# Every source


def of_ndjson() -> Source:
    return opened(line(0, '{"n": 0}').encode())


def of_parquet() -> Source:
    return opened(body_of(table(1)))


def of_successes() -> Source:
    return handed_on(killers.plain)


def of_successes_in_parquet() -> Source:
    return handed_on(table_workers.plain)


def of_a_selection() -> Source:
    stage = stage_of(killers.plain)
    part = SelectionPart(run_id=KEYS.run_id, stage=KEYS.stage, ordinals=Ranges.of([0]))
    stage.ledger.write_json("selection.json", Selection(parts=(part,)).to_json())
    return found(stage, "selection.json")


def opened(body: bytes) -> Source:
    stage = Stage()
    stage.store.put("list", body)
    return found(stage, "list")


def found(stage: Stage, key: str) -> Source:
    return open_source(stage.store, detect(stage.store, Pointer(bucket="ledger", key=key)))


def stage_of(made: Worker) -> Stage:
    stage = Stage(worker=made)
    stage.store.put("list", body_of(table(1)))
    stage.to_end(stage.plan({"bucket": "ledger", "key": "list"}))
    return stage


def handed_on(made: Worker) -> Source:
    return found(stage_of(made), KEYS.successes)


@pytest.mark.parametrize(
    "source",
    [of_ndjson, of_parquet, of_successes, of_successes_in_parquet, of_a_selection],
    ids=lambda make: make.__name__,
)
def test_rows_of_every_source_can_be_decoded_elsewhere(source: Callable[[], Source]) -> None:
    opened = source()
    [row] = [row for chunk in opened.chunks([RowSpan(0, 0, 1)]) for row in chunk.rows]
    decode, packed = pickle.loads(pickle.dumps((opened.decode, row)))
    name, data, *_ = opened.decode(row)
    assert name == "r0"
    assert data
    for _ in range(2):
        _, again = decode(packed)
        assert again == data
        again.clear()


def test_an_unreadable_row_is_unreadable_elsewhere_too() -> None:
    source = opened(body_of(table(3)))
    rows = [row for chunk in source.chunks([RowSpan(0, 0, 3)]) for row in chunk.rows]
    decode, row = pickle.loads(pickle.dumps((source.decode, rows[2])))
    for _ in range(2):
        with pytest.raises(UnreadableRow, match=r"^row 3: column `at` has a value of type"):
            decode(row)
