"""The outputs of a run's last stage, as rows of a data set."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from winnow.batch.rows import RowSpan, TableRow
from winnow.batch.successes import SuccessesSource
from winnow.core.errors import DamagedDocument, UnpublishableRows
from winnow.core.record import Delete
from winnow.publish.laying_over import Made, same
from winnow.publish.sorting import Sorter
from winnow.storage.formats import DELETED_COLUMN

if TYPE_CHECKING:
    from pathlib import Path

    from winnow.journal.successes import SuccessManifest
    from winnow.publish.columns import ColumnTypes
    from winnow.storage.store import ObjectStore

OWN_COLUMNS = frozenset({"id", "record_id", "from", DELETED_COLUMN})
"""Of a segment in Parquet: Winnow's, and the user's `id`, which is that of the output."""
DELETION = b""
"""A deletion as the sorter holds it."""


def made_by(
    store: ObjectStore, successes: SuccessManifest, columns: ColumnTypes | None, scratch: Path
) -> Iterator[Made]:
    """What a stage made, in order of id.

    Args:
        store: the ledger's.
        successes: of the stage.
        columns: is told the columns, before the first row is given; None where nobody wants to know.
        scratch: a folder for what memory does not hold.

    Raises:
        UnpublishableRows: rows cannot be one data set.
        DamagedDocument: an output segment is not the one that was written.
    """
    sorter = Sorter(scratch)
    lines = 0
    for ids, values in _chunks(store, successes, columns):
        lines += len(ids)
        for identifier, row in zip(ids, values, strict=True):
            sorter.add(identifier, DELETION if row is None else pickle.dumps(row, pickle.HIGHEST_PROTOCOL))
    if lines != successes.lines:
        raise DamagedDocument(
            f"stage {successes.stage} of run {successes.run_id} made {successes.lines} outputs, but its segments have {lines}; "
            "start a new run"
        )
    return _distinct(sorter.sorted())


Chunk = tuple[list[str], list[dict[str, Any] | None]]


def _chunks(store: ObjectStore, successes: SuccessManifest, columns: ColumnTypes | None) -> Iterator[Chunk]:
    source = SuccessesSource(store, successes)
    told: set[Any] = set()
    for chunk in source.chunks([RowSpan(0, 0, successes.lines)]):
        ids: list[str] = []
        values: list[dict[str, Any] | None] = []
        schema = chunk.rows[0].schema if isinstance(chunk.rows[0], TableRow) else None
        for row in chunk.rows:
            identifier, data = source.decode(row)
            ids.append(identifier)
            values.append(None if isinstance(data, Delete) else _row(identifier, data))
        if columns and schema is not None:
            if schema not in told:
                told.add(schema)
                columns.add_schema(schema, f"the outputs of stage {successes.stage}", without=OWN_COLUMNS)
        elif columns:
            there = [(i, row) for i, row in zip(ids, values, strict=True) if row is not None]
            columns.add([i for i, _ in there], [row for _, row in there])
        yield ids, values


def _row(identifier: str, data: Any) -> dict[str, Any]:
    """An output's data as a row without its id: its fields, or one field `data` where it is no object."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        return {"data": data}
    own = data.pop("id", identifier)
    if own != identifier:
        raise UnpublishableRows(
            f"column `id`: it holds the output's id, so a field of the data must not differ; give it another name, or return "
            f"Output(data, id=…), got: {own!r} (id {identifier!r})"
        )
    return data


def _distinct(rows: Iterator[tuple[str, bytes]]) -> Iterator[Made]:
    before: Made | None = None
    for identifier, payload in rows:
        values = pickle.loads(payload) if payload else None  # noqa: S301  ours
        made = Made(identifier, values, len(payload))
        if before and before.id == identifier:
            if not same(before.values, values):
                raise UnpublishableRows(
                    f"id: each output must have an id of its own; two differ, got: {identifier!r} twice"
                )
            continue
        if before:
            yield before
        before = made
    if before:
        yield before
