"""A record that is handed over again is as it was read, whatever the worker changed in it before."""

from __future__ import annotations

import io
import threading
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.pace import margin
from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow import killers
from tests.unit.winnow.gates import Memory, undecoded
from tests.unit.winnow.stages import Stage
from winnow import Output, Record, Retry, worker
from winnow.batch.rows import TableRow
from winnow.batch.successes import SuccessesSource
from winnow.journal.successes import SuccessManifest
from winnow.runtime.careful import Limits, run_carefully
from winnow.runtime.units import units
from winnow.testing import BatchResult, MemoryStore, run_worker

AMOUNTS = [1.0, 2.0, 3.0, -4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]
ROWS: list[dict[str, Any]] = [
    {"id": f"r{n}", "data": {"amount": amount, "parts": [{"n": n}]}} for n, amount in enumerate(AMOUNTS)
]
GOOD = {f"r{n}": amount for n, amount in enumerate(AMOUNTS) if amount > 0}


def to_cents(record: Record) -> dict[str, Any]:
    """Changes the record in every way there is before it may fail."""
    record.data["amount"] *= 100
    record.data["parts"][0]["n"] += 1
    amount, parts = record.data.pop("amount"), record.data.pop("parts")
    record.data["late"] = True
    if amount < 0:
        raise ValueError("a negative amount")
    return {"cents": amount, "n": parts[0]["n"]}


def assert_once(result: BatchResult) -> None:
    assert {name: each["cents"] for name, each in result.outputs.items()} == {
        name: amount * 100 for name, amount in GOOD.items()
    }
    assert {name: each["n"] for name, each in result.outputs.items()} == {
        name: int(name[1:]) + 1 for name in GOOD
    }
    assert set(result.failures) == {"r3"}
    assert result.failures["r3"].error_type == "ValueError"


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 10},
        {"batch": 4},
        {"batch": 4, "concurrency": 3},
        {"batch": 10, "retry": Retry(on=(ValueError,), wait_seconds=0)},
        {"batch": 4, "concurrency": 2, "record_timeout": PATIENCE_SECONDS},
    ],
    ids=str,
)
def test_of_a_batch_that_raises_every_record_is_as_it_was_read(options: dict[str, Any]) -> None:
    @worker(**options)
    def convert(records: list[Record]) -> list[Any]:
        made = []
        while records:  # the list is the function's own
            made.append(to_cents(records.pop(0)))
        return made

    assert_once(run_worker(convert, ROWS))


def test_near_the_failure_a_record_is_as_it_was_read() -> None:
    calls: list[Any] = []

    @worker(retry=Retry(on=(ConnectionError,), wait_seconds=0))
    def flaky(record: Record) -> dict[str, Any]:
        record.data["amount"] += 1
        record.warn("odd")
        calls.append(record.data["amount"])
        if len(calls) < 3:
            raise ConnectionError("refused")
        return {"amount": record.data["amount"]}

    result = run_worker(flaky, ROWS[:1])
    assert calls == [2.0, 2.0, 2.0]
    assert result.outputs == {"r0": {"amount": 2.0}}
    assert result.warnings == 1


SCHEMA = pa.schema([("amount", pa.float64()), ("parts", pa.list_(pa.struct([("n", pa.int64())])))])


def test_a_row_of_a_table_is_read_anew() -> None:
    rows = TableRow.all_of(pa.Table.from_pylist([row["data"] for row in ROWS], schema=SCHEMA).slice(2, 5))
    for number, row in enumerate(rows, start=2):
        for _ in range(3):
            values = row.read()
            assert values == {"amount": AMOUNTS[number], "parts": [{"n": number}]}
            values["parts"][0]["n"] = 99
            values.pop("amount")


def test_of_a_batch_from_parquet_every_record_is_as_it_was_read() -> None:
    @worker(batch=10)
    def convert(records: list[Record]) -> list[Any]:
        return [to_cents(record) for record in records]

    sink = io.BytesIO()
    flat = [{"id": row["id"], **row["data"]} for row in ROWS]
    pq.write_table(pa.Table.from_pylist(flat, schema=SCHEMA.insert(0, pa.field("id", pa.string()))), sink)
    stage = Stage(worker=convert)
    stage.store.put("list.parquet", sink.getvalue())
    stage.to_end(stage.plan({"bucket": "ledger", "key": "list.parquet"}))
    assert set(stage.failed_ids()) == {"r3"}
    assert sorted(data["cents"] for *_, data in stage.outputs()) == [100 * amount for amount in GOOD.values()]


def test_a_row_that_a_stage_wrote_as_parquet_is_decoded_anew() -> None:
    source = SuccessesSource(
        MemoryStore("ledger"),
        SuccessManifest(run_id="r", stage="s", records=0, lines=0, lost_in_run=0, entries=()),
    )
    rows = [{"record_id": row["id"], "from": row["id"], **row["data"]} for row in ROWS]
    for number, row in enumerate(TableRow.all_of(pa.Table.from_pylist(rows))):
        for _ in range(3):
            identifier, data = source.decode(row)
            assert (identifier, data) == (ROWS[number]["id"], ROWS[number]["data"])
            data["parts"].clear()


def test_what_was_in_hand_beside_a_record_that_hung_is_as_it_was_read() -> None:
    over = threading.Event()

    @worker(batch=10, concurrency=2, record_timeout=margin(0.2))
    def convert(records: list[Record]) -> list[Any]:
        made = []
        for record in records:
            if record.id == "r3":
                over.wait(PATIENCE_SECONDS)
                return []
            made.append(to_cents(record))
        return made

    result = run_worker(convert, ROWS, max_tries=1)
    over.set()
    assert {name: each["cents"] for name, each in result.outputs.items()} == {
        name: amount * 100 for name, amount in GOOD.items()
    }
    assert result.failures["r3"].error_type == "RecordTimeout"


@pytest.mark.parametrize("killer", ["exit", "raise"])
def test_in_a_careful_child_every_record_is_as_it_was_read(killer: str) -> None:
    gate = Memory()
    records = undecoded(*({"n": 0, "what": killer if n == 2 else None, "seen": []} for n in range(8)))
    made = killers.changing
    work = units(records, gate, made.options.batch or 1)
    run_carefully(
        made.name, work, gate, made.options, Limits(record_seconds=PATIENCE_SECONDS, memory_mb=1024)
    )
    assert sorted(gate.done) == [0, 1, 3, 4, 5, 6, 7]
    assert {lines[0].body for lines in gate.done.values()} == {
        killers.changing.options.outputs.line(f"r{n}", f"r{n}", {"n": 1, "seen": 1}) for n in gate.done
    }


def test_its_id_cannot_be_changed() -> None:
    @worker
    def normalise(record: Record) -> dict[str, Any]:
        record.id = record.id.strip().lower()
        return {}

    result = run_worker(normalise, ["A"], max_tries=1)
    assert set(result.failures) == {"A"}
    assert result.failures["A"].message.startswith("record.id cannot be changed; return Output(data, id=…)")


def test_an_output_may_have_another_id() -> None:
    @worker
    def normalise(record: Record) -> Output:
        return Output({}, id=record.id.lower())

    assert set(run_worker(normalise, ["A"]).outputs) == {"a"}
