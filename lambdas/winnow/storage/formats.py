"""Formats of a stage's output segments: ndjson by default, Parquet where a worker asks for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from winnow.core.errors import StageInputError, WinnowError
from winnow.core.record import Delete
from winnow.storage.jsonlines import dumps
from winnow.storage.ledger import compress

if TYPE_CHECKING:
    import pyarrow as pa


class UnusableOutput(WinnowError):
    """What a worker's function returned cannot be written: permanent, since it would return the same again."""


class OutputFormat(Protocol):
    """How output lines are kept until, and written in, a segment."""

    suffix: str

    def line(self, identifier: str, origin: str | Sequence[str], data: Any) -> Any:
        """Check and encode one output. Raises `UnusableOutput`."""

    def size(self, line: Any) -> int:
        """Bytes that a line takes, about."""

    def body(self, lines: list[Any]) -> bytes:
        """A segment's object."""


class NdjsonOutput:
    """Lines `{"id", "from", "data"}`, gzipped; that of a deletion has null as its data, and `"deleted": true`."""

    suffix = "ndjson.gz"

    def line(self, identifier: str, origin: str | Sequence[str], data: Any) -> bytes:
        if type(data) is Delete:
            return dumps({"id": identifier, "from": origin, "data": None, "deleted": True}).encode()
        try:
            return dumps({"id": identifier, "from": origin, "data": data}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise UnusableOutput(
                f"the output is not JSON: {error}; return dicts, lists, strings, numbers"
            ) from error

    def size(self, line: Any) -> int:
        return len(line)

    def body(self, lines: list[Any]) -> bytes:
        return compress(b"\n".join([*lines, b""]))


DELETED_COLUMN = "record_deleted"
"""Of a segment in Parquet: true in the line of a deletion. Segments without one have no such column."""


class ParquetOutput:
    """A Parquet file with a column `record_id`, a column `from`, and the columns of the given schema.

    One with a deletion has a column `record_deleted`, too, and in it all columns of the schema may be null.
    """

    suffix = "parquet"

    def __init__(self, schema: pa.Schema) -> None:
        """`schema` is of the data that the function returns, as a dict a row.

        Raises:
            ValueError: rows of it cannot be written, or not be read again.
        """
        import pyarrow as pa  # noqa: PLC0415  only workers that write Parquet carry it

        taken = {"record_id", "from", DELETED_COLUMN} & set(schema.names)
        if taken:
            raise ValueError(
                f"the schema must not have a column of Winnow's own, got: {', '.join(sorted(taken))}"
            )
        if problem := schema_problem(schema):
            raise ValueError(f"the schema {problem}")
        self.data_schema = schema
        self.schema = pa.schema(
            [pa.field("record_id", pa.string(), nullable=False), pa.field("from", pa.string()), *schema]
        )
        try:
            self.body([])
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"the schema cannot be written as Parquet: {error}") from error
        self._times = [
            (number, field.name) for number, field in enumerate(self.schema) if _holds_time(field.type)
        ]
        """Columns that can hold what Python cannot read, for instance a date of the year 20024."""

    def line(self, identifier: str, origin: str | Sequence[str], data: Any) -> dict[str, Any]:
        import pyarrow as pa  # noqa: PLC0415

        if type(data) is Delete:
            origin = origin if isinstance(origin, str) else dumps(list(origin))
            return {"record_id": identifier, "from": origin, DELETED_COLUMN: True}
        if not isinstance(data, dict) or set(data) - set(self.data_schema.names):
            raise UnusableOutput(
                f"the output must be a dict with no other keys than {', '.join(self.data_schema.names)}"
            )
        row = {
            "record_id": identifier,
            "from": origin if isinstance(origin, str) else dumps(list(origin)),
            **data,
        }
        try:
            batch = pa.RecordBatch.from_pylist([row], self.schema)
            batch.validate()
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise UnusableOutput(f"the output does not fit the schema: {error}") from error
        for number, name in self._times:
            if _is_plain_time(data.get(name)):
                continue
            try:
                batch.column(number).to_pylist()
            except (pa.ArrowException, ValueError, OverflowError) as error:
                raise UnusableOutput(
                    f"the output does not fit the schema: the next stage could not read `{name}` ({error})"
                ) from error
        for field, column in zip(self.schema, batch.columns, strict=True):
            # Arrow itself would only notice while it writes the whole segment.
            if name := _missing(field, column):
                raise UnusableOutput(f"the output does not fit the schema: `{name}` must not be null")
        return row

    def size(self, line: Any) -> int:
        return _size(line)

    def body(self, lines: list[Any]) -> bytes:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415

        has_deletions = any(DELETED_COLUMN in line for line in lines)
        schema = self._schema_with_deletions() if has_deletions else self.schema
        sink = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_pylist(lines, schema), sink, compression="zstd", row_group_size=50_000)
        written: bytes = sink.getvalue().to_pybytes()
        return written

    def _schema_with_deletions(self) -> pa.Schema:
        import pyarrow as pa  # noqa: PLC0415

        fields = [field if field.name == "record_id" else field.with_nullable(True) for field in self.schema]
        return pa.schema([*fields, pa.field(DELETED_COLUMN, pa.bool_())])


NUMBER_BYTES = 32
"""That a number in a list takes in memory, with its place in the list."""
CONTAINER_BYTES = 64


def _size(value: Any) -> int:
    """Bytes that a value takes in memory, about. The values of a list have one type: Arrow has looked at each."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return CONTAINER_BYTES + sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], int | float):
            return CONTAINER_BYTES + NUMBER_BYTES * len(value)
        return CONTAINER_BYTES + sum(map(_size, value))
    return max(NUMBER_BYTES, getattr(value, "nbytes", 0))  # an array of numpy tells its own


def _is_plain_time(value: Any) -> bool:
    """Whether a value certainly comes back from Parquet; in the first and last year a time zone may lead out of Python's range."""
    return (
        value is None
        or type(value) is timedelta
        or (type(value) in (date, datetime) and 1 < value.year < 9999)
    )


def _holds_time(kind: Any) -> bool:
    from pyarrow import types  # noqa: PLC0415

    return bool(types.is_temporal(kind)) or any(map(_holds_time, _inner_types(kind)))


def _inner_types(kind: Any) -> list[Any]:
    from pyarrow import types  # noqa: PLC0415

    if types.is_dictionary(kind):
        return [kind.value_type]
    return [kind.field(number).type for number in range(kind.num_fields)]


def _missing(field: Any, column: Any) -> str | None:
    """The name of a field, or of one within it, that has a null though its schema does not allow one."""
    from pyarrow import types  # noqa: PLC0415

    if not field.nullable and column.null_count:
        return str(field.name)
    inner: Iterator[Any]
    if types.is_struct(field.type):
        there = column.drop_null()
        inner = ((field.type.field(n), there.field(n)) for n in range(field.type.num_fields))
    elif types.is_list(field.type) or types.is_large_list(field.type) or types.is_fixed_size_list(field.type):
        inner = iter([(field.type.value_field, column.flatten())])
    else:
        return None
    return next((name for name in (_missing(*each) for each in inner) if name), None)


def open_parquet(body: bytes, name: str) -> Any:
    """A Parquet file in memory, as pyarrow's `ParquetFile`.

    Raises:
        StageInputError: it is none, or this Lambda was deployed without pyarrow.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise StageInputError(
            "records", name, "is Parquet, and this Lambda has no pyarrow; set parquet_input on the stage"
        ) from error
    try:
        return pq.ParquetFile(pa.BufferReader(body))
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(name, error) from error


def parquet_batches(file: Any, name: str, **options: Any) -> Iterator[Any]:
    """A Parquet file's rows, some at a time.

    Raises:
        StageInputError: it is damaged.
    """
    import pyarrow as pa  # noqa: PLC0415

    try:
        yield from file.iter_batches(**options)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(name, error) from error


def _no_parquet(name: str, error: Exception) -> StageInputError:
    problem = f"cannot be read as Parquet ({error})"
    if "decrypt" in str(error):
        problem = "is encrypted Parquet; write it without encryption"
    return StageInputError("records", name, problem)


def schema_problem(schema: Any) -> str | None:
    """Why no row of a pyarrow schema can be read, with the remedy; None if rows can be read."""
    repeated = [name for name, count in Counter(schema.names).items() if count > 1]
    if repeated:
        return f"has more than one column called `{repeated[0]}`; give each a name of its own"
    for field in schema:
        if kind := _never_read(field.type):
            return (
                f"has a column `{field.name}` with values of type {kind}, which cannot be read; "
                "write them as another type, times in UTC, or leave the column out"
            )
    return None


def _never_read(kind: Any) -> Any | None:
    """A type within a type, or itself, of which no value can be read, for instance times in an unknown time zone; found by trying."""
    import pyarrow as pa  # noqa: PLC0415
    from pyarrow import types  # noqa: PLC0415

    inner = _inner_types(kind)
    if types.is_struct(kind) and len({field.name for field in kind}) < len(inner):
        return kind
    if inner:
        return next(filter(None, map(_never_read, inner)), None)
    try:
        zeros = pa.py_buffer(bytes(kind.bit_width // 8 + 1))
    except ValueError:  # text or bytes
        return None
    try:
        pa.Array.from_buffers(kind, 1, [None, zeros]).to_pylist()
    except (pa.ArrowException, LookupError, TypeError, ValueError):
        return kind
    return None


def is_text(kind: Any) -> bool:
    """Whether a column of a pyarrow type can hold ids."""
    from pyarrow import types  # noqa: PLC0415

    if types.is_dictionary(kind):
        kind = kind.value_type
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


NDJSON = NdjsonOutput()
