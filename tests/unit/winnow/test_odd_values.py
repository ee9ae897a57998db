"""One value that cannot be read costs its record, and no other, in whatever way it is odd."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from tests.unit.winnow.stages import KEYS, STAGE, Stage
from winnow import Record, worker
from winnow.core.errors import StageInputError
from winnow.core.keys import StageKeys
from winnow.storage.formats import ParquetOutput

LIST = {"bucket": "ledger", "key": "list.parquet"}
COUNT = 3_000
ODD = 2_500
"""The 0-based number of the odd row: not in the first piece that is read."""


def of_numbers(kind: Any, odd: int) -> pa.Array:
    """A column of a type that is a number in memory, with one odd value."""
    numbers = [0] * COUNT
    numbers[ODD] = odd
    return pa.array(numbers, pa.int64()).cast(pa.int32() if kind == pa.date32() else pa.int64()).view(kind)


def of_bytes(odd: bytes = b"caf\xe9") -> pa.Array:
    """A column of text, one of them in Latin-1."""
    texts = [b"text %d" % n for n in range(COUNT)]
    texts[ODD] = odd
    return pa.array(texts, pa.binary()).view(pa.string())


YEAR_20024 = 569_750_000_000_000
"""In milliseconds since 1970."""

COLUMNS = {
    "a timestamp of the year 20024": (of_numbers(pa.timestamp("ms"), YEAR_20024), "date value out of range"),
    "a time of day with a time zone": (of_numbers(pa.timestamp("ms", "UTC"), YEAR_20024), "out of range"),
    "a day after the year 9999": (of_numbers(pa.date32(), 3_000_000), "date value out of range"),
    "a day before the year 1": (of_numbers(pa.date32(), -800_000), "date value out of range"),
    "a timestamp with odd nanoseconds": (of_numbers(pa.timestamp("ns"), 1_001), "not safely convertible"),
    "a duration with odd nanoseconds": (of_numbers(pa.duration("ns"), 1_001), "not safely convertible"),
    "a time of day with odd nanoseconds": (of_numbers(pa.time64("ns"), 1_001), "not safely convertible"),
    "Latin-1": (of_bytes(), "can't decode byte 0xe9 in position 3: unexpected end of data); write it in UTF-8"),
    "Latin-1 in a dictionary": (of_bytes().dictionary_encode(), "can't decode byte 0xe9 in position 3"),
    "Latin-1 in a list": (
        pa.ListArray.from_arrays(pa.array(range(COUNT + 1), pa.int32()), of_bytes()),
        "can't decode byte 0xe9 in position 3",
    ),
    "a timestamp in a struct": (
        pa.StructArray.from_arrays([of_numbers(pa.timestamp("ms"), YEAR_20024)], ["at"]),
        "date value out of range",
    ),
}  # fmt: skip
every_odd_column = pytest.mark.parametrize(("column", "words"), COLUMNS.values(), ids=COLUMNS.keys())


@worker
def echo(record: Record) -> dict[str, Any]:
    return {"id": record.id}


def put(stage: Stage, table: pa.Table, **options: Any) -> None:
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    stage.store.put(LIST["key"], sink.getvalue())


def table_of(column: pa.Array) -> pa.Table:
    return pa.table({"id": [f"r{n}" for n in range(COUNT)], "odd": column})


def all_but_one(stage: Stage) -> dict[str, Any]:
    """Check that one record failed for good, and return its failure."""
    [failure] = stage.failures()
    assert failure["record_id"] == f"r{ODD}"
    assert failure["kind"] == "permanent"
    assert failure["error_type"] == "UnreadableRow"
    assert [i for i, _ in stage.outputs()] == [f"r{n}" for n in range(COUNT) if n != ODD]
    return failure


@every_odd_column
def test_one_odd_value_costs_its_record_alone(column: pa.Array, words: str) -> None:
    stage = Stage(worker=echo)
    put(stage, table_of(column))
    state = stage.to_end(stage.plan(LIST))
    failure = all_but_one(stage)
    assert failure["message"].startswith(
        f"row {ODD + 1}: column `odd` has a value of type {stage_type(stage)} that cannot be read ("
    )
    assert words in failure["message"]
    assert "pandas" not in failure["message"]
    assert failure["source"] == {"bucket": "ledger", "key": "list.parquet", "line": ODD + 1}
    assert failure["tries"] == 1
    assert state["verdict"] == "EXHAUSTED"


def stage_type(stage: Stage) -> str:
    body = stage.store.get(LIST["key"]).body
    return str(pq.ParquetFile(io.BytesIO(body)).schema_arrow.field("odd").type)


def test_one_odd_value_that_a_stage_handed_on_costs_its_record_alone() -> None:
    """As an earlier version of Winnow wrote it, which did not look."""
    form = ParquetOutput(pa.schema([pa.field("odd", pa.timestamp("ms"))]))
    form._times = []
    above = Stage(
        worker=worker(outputs=form)(lambda record: {"odd": YEAR_20024 if record.id == f"r{ODD}" else 0})
    )
    above.to_end(above.plan([f"r{n}" for n in range(COUNT)]))
    manifest = above.ledger.read_json(KEYS.successes)
    below = Stage(worker=echo)
    below.store.objects.update(above.store.objects)
    below.ledger.write_json("upstream.json", manifest)
    order = below.plan({"bucket": "ledger", "key": "upstream.json"}, run_id="BELOW")
    assert below.invoke(order) == {"succeeded": COUNT - 1, "skipped": 0, "failed": 1, "stopped": "end"}
    [report] = read_reports(below, "BELOW")
    assert report["record_id"] == f"r{ODD}"
    assert report["message"].startswith(f"row {ODD + 1}: column `odd` has a value of type timestamp[ms]")


def read_reports(stage: Stage, run_id: str) -> list[dict[str, Any]]:
    keys = stage.store.keys(StageKeys(run_id, STAGE).attempts)
    return [json.loads(line) for key in keys if "/failures/" in key for line in stage.ledger.read_lines(key)]


def test_every_row_may_be_odd_and_the_batch_is_looked_into_once(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(worker=echo)
    put(stage, table_of(pa.array([1_001] * COUNT, pa.int64()).view(pa.timestamp("ns"))))
    order = stage.plan(LIST)
    read: list[str] = []
    get = type(stage.store).get

    def noted(self: Any, key: str, **options: Any) -> Any:
        read.append(key)
        return get(self, key, **options)

    monkeypatch.setattr(type(stage.store), "get", noted)
    assert stage.invoke(order)["failed"] == COUNT
    assert read.count(stage.the_plan.block_key(0)) == 1


# Ids


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "as a dictionary"])
def test_an_id_that_is_not_utf_8_costs_its_record_alone(*, encoded: bool) -> None:
    names = of_bytes()
    stage = Stage(worker=echo)
    put(stage, pa.table({"id": names.dictionary_encode() if encoded else names, "n": range(COUNT)}))
    stage.to_end(stage.plan(LIST))
    [failure] = stage.failures()
    assert failure["kind"] == "permanent"
    assert failure["message"] == (
        f"line {ODD + 1} has, as its id, a value of type {names.dictionary_encode().type if encoded else 'string'} "
        "that cannot be read ('utf-8' codec can't decode byte 0xe9 in position 3: unexpected end of data); write it in UTF-8"
    )
    assert [i for i, _ in stage.outputs()] == [f"text {n}" for n in range(COUNT) if n != ODD]


# What can never be read

MARS = pa.timestamp("us", tz="Mars/Olympus")


def nowhere(kind: Any) -> pa.Table:
    return pa.schema([pa.field("id", pa.string()), pa.field("seen", kind)]).empty_table()


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        (
            nowhere(MARS),
            r"has a column `seen` with values of type timestamp\[us, tz=Mars/Olympus\], which cannot be read; write them",
        ),
        (nowhere(pa.list_(MARS)), "has a column `seen`"),
        (nowhere(pa.struct([pa.field("at", MARS)])), "has a column `seen`"),
        (nowhere(pa.map_(pa.string(), pa.list_(MARS))), "has a column `seen`"),
        (nowhere(pa.struct([pa.field("x", pa.int8()), pa.field("x", pa.int8())])), "has a column `seen`"),
        (
            pa.table([pa.array(["a"]), pa.array(["b"])], names=["id", "id"]),
            "has more than one column called `id`; give each a name of its own",
        ),
        (
            pa.table([pa.array(["a"])] * 3, names=["id", "title", "title"]),
            "has more than one column called `title`; give each a name of its own",
        ),
    ],
)
def test_columns_that_can_never_be_read_are_refused_by_plan(table: pa.Table, problem: str) -> None:
    stage = Stage()
    put(stage, table)
    with pytest.raises(StageInputError, match=rf"^records: {problem}.*, got: 's3://ledger/list.parquet'$"):
        stage.plan(LIST)


class Keys(pe.KmsClient):  # type: ignore[misc]  # pyarrow has no types
    """Keeps no secret."""

    def __init__(self, _config: Any) -> None:
        super().__init__()

    def wrap_key(self, key: bytes, _master: str) -> bytes:
        return base64.b64encode(key)


@pytest.mark.parametrize(("whole", "columns"), [(True, ["id"]), (False, ["id"]), (False, ["n"])])
def test_an_encrypted_file_is_refused_by_plan(*, whole: bool, columns: list[str]) -> None:
    config = pe.EncryptionConfiguration(
        footer_key="f", column_keys={"k": columns}, plaintext_footer=not whole
    )
    secrets = pe.CryptoFactory(Keys).file_encryption_properties(pe.KmsConnectionConfig(), config)
    stage = Stage()
    put(stage, pa.table({"id": ["a"], "n": [1]}), encryption_properties=secrets)
    with pytest.raises(StageInputError, match="records: is encrypted Parquet; write it without encryption"):
        stage.plan(LIST)
