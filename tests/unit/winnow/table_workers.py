"""Workers for tests of the careful attempt that read or write tables: real ones, that children import by name."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tests.unit.winnow.killers import behave
from winnow import Output, Record, worker
from winnow.storage.formats import ParquetOutput

SCHEMA = pa.schema(
    [
        pa.field("title", pa.string()),
        pa.field("people", pa.list_(pa.struct([pa.field("name", pa.string())]))),
        pa.field("at", pa.timestamp("us", tz="UTC")),
    ]
)


class Parsed(str):
    """A string as a parser gives it: it knows where it was found, and cannot be pickled."""

    __slots__ = ("where",)

    def __init__(self, text: str) -> None:
        self.where: Callable[[], str] = lambda: text


def row(record: Record) -> dict[str, Any]:
    """A row of `SCHEMA` that cannot be pickled."""
    behave(Record(record.id, record.data["what"]))
    person: defaultdict[str, Any] = defaultdict(lambda: None, name=Parsed("Ada"))
    return {"title": Parsed(record.id), "people": [person], "at": record.data["at"]}


@worker(outputs=ParquetOutput(SCHEMA))
def plain(record: Record) -> dict[str, Any]:
    return row(record)


@worker(batch=4, outputs=ParquetOutput(SCHEMA))
def joining(records: list[Record]) -> list[Output]:
    rows = [row(record) for record in records]
    return [Output(rows[0], sources=records)]
