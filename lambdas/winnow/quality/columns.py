"""The columns of a candidate as DuckDB sees them, and what a rule asks of a row as SQL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from winnow.quality.facts import NotEvaluableError
from winnow.quality.rules import (
    Allowed,
    ColumnType,
    InRange,
    NullShare,
    Pattern,
    Rule,
    Sql,
    Value,
    moment,
    value_type,
)

MIXED = "JSON"
"""DuckDB's type of a column whose values are of several types."""
NEVER_SET = frozenset({"NULL", '"NULL"'})
"""Of a column that is null in every row, of a format that keeps no schema."""

INTEGERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "BIGNUM", "VARINT")
NUMBERS = ("FLOAT", "DOUBLE", "DECIMAL")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MAX_COLUMNS_SHOWN = 20


def column_type(duckdb_type: str) -> ColumnType | None:
    """The type as rules name it; None for one that they have no name for."""
    name = duckdb_type.upper()
    if name.endswith("]"):
        return ColumnType.LIST
    if name.startswith(("STRUCT", "MAP")):
        return ColumnType.OBJECT
    if name == "VARCHAR" or name.startswith("ENUM"):
        return ColumnType.TEXT
    if name.removeprefix("U") in INTEGERS:
        return ColumnType.INTEGER
    if name.startswith(NUMBERS):
        return ColumnType.NUMBER
    if name.startswith("TIMESTAMP"):
        return ColumnType.TIMESTAMP
    return {"BOOLEAN": ColumnType.BOOLEAN, "DATE": ColumnType.DATE}.get(name)


def quoted(name: str) -> str:
    """A name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: Value) -> str:
    """A value as SQL."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if "\0" in value:
            raise NotEvaluableError(
                "a value of the rule holds a NUL character, which no column can be compared with"
            )
        return "'" + value.replace("'", "''") + "'"
    return repr(value) if isinstance(value, int) else f"{value!r}::DOUBLE"


@dataclass(frozen=True, slots=True)
class Column:
    """A column, or a field within one."""

    name: str
    sql: str
    type: str
    """DuckDB's."""

    @property
    def is_never_set(self) -> bool:
        return self.type.upper() in NEVER_SET

    @property
    def seen_as(self) -> ColumnType | None:
        return column_type(self.type)

    def wrong_type(self, needed: str) -> NotEvaluableError:
        if self.type == MIXED:
            return NotEvaluableError(f"{self.name} has values of several types, and must be {needed}")
        return NotEvaluableError(f"{self.name} is of type {self.type}, and must be {needed}")

    def as_moment(self) -> str:
        """Microseconds since 1970, UTC; null where text is no date."""
        match self.seen_as:
            case ColumnType.TEXT:
                return f"epoch_us(try_cast({self.sql} AS TIMESTAMPTZ))"
            case ColumnType.DATE | ColumnType.TIMESTAMP:
                return f"epoch_us({self.sql}::TIMESTAMPTZ)"
            case _:
                raise self.wrong_type("a date, or text that is one")


def find_column(name: str, types: Mapping[str, str]) -> tuple[str, tuple[str, ...]]:
    """The column that a rule's `column` begins with, and the fields within it.

    Raises:
        NotEvaluableError: there is none.
    """
    if name in types:
        return name, ()
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        if (head := ".".join(parts[:length])) in types:
            return head, tuple(parts[length:])
    shown = ", ".join(list(types)[:MAX_COLUMNS_SHOWN]) or "none"
    more = f" and {len(types) - MAX_COLUMNS_SHOWN} more" if len(types) > MAX_COLUMNS_SHOWN else ""
    raise NotEvaluableError(f"there is no column {name}; there are: {shown}{more}")


def violation_sql(rule: Rule, column: Column | None) -> str:
    """A condition that is true of each row that violates a rule, and null or false of the others.

    Args:
        rule: a rule about single rows.
        column: that it is about; None for an expression.

    Raises:
        NotEvaluableError: the column is of a type that the rule says nothing about.
    """
    if isinstance(rule, Sql):
        return f"((\n{rule.expression}\n)::BOOLEAN IS NOT TRUE)"
    assert column is not None
    if isinstance(rule, NullShare):
        return f"({column.sql} IS NULL)"
    if column.is_never_set:
        return "false"
    match rule:
        case Allowed():
            return f"({_comparable(column, rule)} NOT IN ({', '.join(map(literal, rule.values))}))"
        case Pattern():
            if column.seen_as is not ColumnType.TEXT:
                raise column.wrong_type("text")
            # `s`: a dot is any character, as the text may have line ends.
            return f"(NOT regexp_full_match({column.sql}, {literal(rule.pattern)}, 's'))"
        case InRange():
            return _outside(rule, column)
        case _:
            raise TypeError(f"{type(rule).__name__} is not about single rows")


def _comparable(column: Column, rule: Allowed) -> str:
    kind = value_type(rule.values[0])
    seen = ColumnType.NUMBER if column.seen_as is ColumnType.INTEGER else column.seen_as
    if seen is not kind:
        raise column.wrong_type(f"of type {kind}, as the rule's values are")
    return column.sql


def _outside(rule: InRange, column: Column) -> str:
    if rule.is_of_dates:
        value, limits = column.as_moment(), [_microseconds(rule.minimum), _microseconds(rule.maximum)]
        # Text that is no date has no place in any range.
        broken = [f"({column.sql} IS NOT NULL AND {value} IS NULL)"]
    else:
        if column.seen_as not in (ColumnType.INTEGER, ColumnType.NUMBER):
            raise column.wrong_type("a number")
        value, limits = column.sql, [_number(rule.minimum), _number(rule.maximum)]
        broken = [f"isnan({column.sql})"] if column.type.upper() in ("FLOAT", "DOUBLE") else []
    for limit, sign in zip(limits, "<>", strict=True):
        if limit is not None:
            broken.append(f"{value} {sign} {limit}")
    return f"({' OR '.join(broken)})"


def _number(limit: float | str | None) -> str | None:
    return None if limit is None or isinstance(limit, str) else literal(limit)


def _microseconds(limit: float | str | None) -> str | None:
    if limit is None:
        return None
    return str((moment(limit) - EPOCH) // timedelta(microseconds=1))
