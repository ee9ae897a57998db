"""The columns of a Parquet version: found from the rows, since most workers return plain JSON."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import types

from winnow.core.errors import UnpublishableRows
from winnow.publish.documents import VersionColumn

ID = "id"
CANNOT_HOLD = (pa.ArrowException, ArithmeticError, TypeError, ValueError)
"""Raised by Arrow for values that no one type holds."""


class ColumnTypes:
    """Types of columns, wide enough for all rows that were added. A field that a row does not have is null in it."""

    def __init__(self) -> None:
        self._types: dict[str, pa.DataType] = {}
        self._seen: dict[str, str] = {}
        """Where a column's type comes from, in words."""

    def add_schema(self, schema: pa.Schema, where: str, *, without: Container[str] = (ID,)) -> None:
        """Columns whose types are known.

        Args:
            schema: of rows.
            where: whose it is, in words for an error.
            without: columns that are left out, that of the ids among them.

        Raises:
            UnpublishableRows: a column has another type there than before.
        """
        for field in schema:
            if field.name not in without:
                self._unite(field.name, field.type, where)

    def add(self, ids: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        """Columns of some rows. Raises `UnpublishableRows`: rows have values of types that no one column holds."""
        for name in dict.fromkeys(name for row in rows for name in row):
            values = [row.get(name) for row in rows]
            try:
                kind = pa.array(values).type
            except CANNOT_HOLD:
                kind = self._one_by_one(name, ids, values)
            if name not in self._types or self._types[name] != kind:
                first = next((i for i, value in zip(ids, values, strict=True) if value is not None), "")
                self._unite(name, kind, f"id {first!r}")

    def schema(self) -> pa.Schema:
        """The id first, then the columns in the order in which they came. Raises `UnpublishableRows`."""
        for name, kind in self._types.items():
            if _has_empty_struct(kind):
                raise UnpublishableRows(
                    f"column `{name}`: it holds objects without any field, which Parquet cannot hold; leave them out or set "
                    f"format='ndjson', got: {{}} ({self._seen[name]})"
                )
        return pa.schema(
            [pa.field(ID, pa.string(), nullable=False), *(pa.field(*each) for each in self._types.items())]
        )

    def _one_by_one(self, name: str, ids: Sequence[str], values: Sequence[Any]) -> pa.DataType:
        found, seen = self._types.get(name, pa.null()), self._seen.get(name, "")
        for identifier, value in zip(ids, values, strict=True):
            if value is None:
                continue
            try:
                kind = pa.array([value]).type
            except CANNOT_HOLD as error:
                raise _no_value(name, identifier, error) from error
            united = _united(found, kind)
            if united is None:
                raise _conflict(name, found, seen, kind, f"id {identifier!r}")
            if united != found:
                found, seen = united, f"id {identifier!r}"
        return found

    def _unite(self, name: str, kind: pa.DataType, where: str) -> None:
        before = self._types.get(name, pa.null())
        united = _united(before, kind)
        if united is None:
            raise _conflict(name, before, self._seen[name], kind, where)
        if name not in self._types or types.is_null(before):
            self._seen[name] = where
        self._types[name] = united


def table_of(schema: pa.Schema, ids: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table.

    Raises:
        UnpublishableRows: a value does not fit its column, such as a whole number above 2^53 in a column with fractions.
    """
    columns = [pa.array(ids, pa.string())]
    for field in list(schema)[1:]:
        values = [row.get(field.name) for row in rows]
        try:
            columns.append(pa.array(values, field.type))
        except CANNOT_HOLD as error:
            for identifier, value in zip(ids, values, strict=True):
                try:
                    pa.array([value], field.type)
                except CANNOT_HOLD as own:
                    raise _no_value(field.name, identifier, own) from own
            raise _no_value(field.name, ids[0], error) from error
    return pa.Table.from_arrays(columns, schema=schema)


def described(schema: pa.Schema) -> tuple[VersionColumn, ...]:
    """A schema as the manifest tells it."""
    return tuple(VersionColumn(name=field.name, type=str(field.type)) for field in schema)


def _united(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The type that holds both; None where none does."""
    if one == other:
        return one
    try:
        return pa.unify_schemas(
            [pa.schema([("x", one)]), pa.schema([("x", other)])], promote_options="permissive"
        )[0].type
    except pa.ArrowException:
        return None


def _conflict(name: str, one: object, where: str, other: object, there: str) -> UnpublishableRows:
    return UnpublishableRows(
        f"column `{name}`: all values must be of one type; correct the worker that returns them, or set format='ndjson', "
        f"got: {one} ({where}) and {other} ({there})"
    )


def _no_value(name: str, identifier: str, error: Exception) -> UnpublishableRows:
    return UnpublishableRows(
        f"column `{name}`: Parquet cannot hold a value; correct the worker that returns it, or set format='ndjson', "
        f"got: {error} (id {identifier!r})"
    )


def _has_empty_struct(kind: pa.DataType) -> bool:
    if types.is_struct(kind) and not kind.num_fields:
        return True
    inner: Iterable[pa.DataType] = (kind.field(number).type for number in range(kind.num_fields))
    return any(map(_has_empty_struct, inner))
