"""DuckDB, opened so that it stays within its memory, spills to one folder, and reads nothing but that folder."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from winnow.quality.columns import Column, find_column, literal, quoted
from winnow.quality.facts import NotEvaluableError
from winnow.quality.structure import NOTHING, Structure, is_never_set, sql_type

MEMORY_MB = 512
"""Of DuckDB's own buffers; more spills. Ten million rows then take less than 1 GB of process memory."""
THREADS = 2
"""More would take more memory, and a function of 2 GB has little more than one processor."""
MAX_ERROR_CHARS = 300

ENVIRONMENT_ERRORS = (duckdb.OutOfMemoryException, duckdb.IOException, duckdb.InternalException)
"""Of the machine rather than of a rule: whoever gets one tries again, and judges nothing."""
EXPRESSION_CLASSES = {
    "SUBQUERY": "must look at one row at a time, without SELECT",
    "STAR": "must name its columns, without *",
    "WINDOW": "must look at one row at a time, without OVER",
    "PARAMETER": "must be without parameters",
}


class Database:
    """A database of its own in a folder, and the part of a version that is being looked at as its view `part`."""

    def __init__(self, folder: Path, *, memory_mb: int = MEMORY_MB) -> None:
        self.folder = folder
        self._connection = duckdb.connect(
            str(folder / "gate.duckdb"),
            config={
                "memory_limit": f"{memory_mb}MB",
                "threads": str(THREADS),
                "temp_directory": str(folder / "spilled"),
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
            },
        )
        self.execute("SET TimeZone = 'UTC'")
        self.execute(f"SET allowed_directories = [{literal(str(folder))}]")
        self.execute("SET enable_external_access = false")
        self.execute("SET lock_configuration = true")

    def close(self) -> None:
        self._connection.close()

    def execute(self, sql: str, parameters: list[Any] | None = None) -> duckdb.DuckDBPyConnection:
        return self._connection.execute(sql, parameters)

    def row(self, sql: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
        """The one row of a query's answer."""
        found = self.execute(sql, parameters).fetchone()
        assert found is not None
        return found

    def number(self, sql: str) -> int:
        return int(self.row(sql)[0])

    def structure_of(self, path: Path) -> Structure:
        """The shape of an ndjson part."""
        text = self.row(
            f"SELECT json_group_structure(json) FROM read_json_objects({literal(str(path))}, format = 'newline_delimited')"
        )[0]
        return NOTHING if text is None else json.loads(text)

    def show(self, path: Path, structure: Structure) -> None:
        """Make a file the view `part`. A Parquet file, unless there is a structure to read it by."""
        if structure is None:
            source = f"read_parquet({literal(str(path))})"
        else:
            types = ", ".join(
                f"{quoted(name)}: {literal(sql_type(inner))}" for name, inner in structure.items()
            )
            source = f"read_json({literal(str(path))}, format = 'newline_delimited', columns = {{{types}}})"
        self.execute(f"CREATE OR REPLACE TEMP VIEW part AS SELECT * FROM {source}")

    def types(self) -> dict[str, str]:
        """Types of the part's columns, by name."""
        return {row[0]: row[1] for row in self.execute("DESCRIBE part").fetchall()}

    def column(self, name: str, types: Mapping[str, str], structure: Structure) -> Column:
        """The part's column that a rule names.

        Raises:
            NotEvaluableError: there is none.
        """
        head, fields = find_column(name, types)
        sql, found = quoted(head), types[head]
        for field in fields:
            sql = f"struct_extract({sql}, {literal(field)})"
        if fields:
            try:
                found = str(
                    self.row(f"SELECT any_value(column_type) FROM (DESCRIBE SELECT {sql} FROM part)")[0]
                )
            except duckdb.Error:
                raise NotEvaluableError(
                    f"{head} has no field {'.'.join(fields)}; it is of type {types[head]}"
                ) from None
        if structure is not None and is_never_set(structure, (head, *fields)):
            found = NOTHING
        return Column(name=name, sql=sql, type=found)

    def check_expression(self, expression: str) -> None:
        """Refuse SQL that is no single expression over one row.

        Raises:
            NotEvaluableError: with what is wrong with it.
        """
        nodes = self._parsed(f"(\n{expression}\n)")
        if len(nodes) != 1 or nodes[0]["type"] != "SELECT_NODE" or len(nodes[0]["select_list"]) != 1:
            raise NotEvaluableError("the expression must be one expression")
        if nodes[0]["from_table"]["type"] != "EMPTY":
            raise NotEvaluableError("the expression must be one expression, without FROM")
        for name in _classes(nodes[0]["select_list"]):
            if name in EXPRESSION_CLASSES:
                raise NotEvaluableError(f"the expression {EXPRESSION_CLASSES[name]}")
        self._parsed(expression)  # alone, too: its parentheses must not close those that it is put into

    def _parsed(self, selected: str) -> list[dict[str, Any]]:
        answer = json.loads(self.row("SELECT json_serialize_sql(?)", [f"SELECT {selected}"])[0])
        if answer.get("error"):
            raise NotEvaluableError(
                f"the expression is not SQL: {one_line(str(answer.get('error_message')))}"
            )
        return [statement["node"] for statement in answer["statements"]]


def _classes(value: object) -> Iterator[str]:
    """Classes of all expressions within a serialised one."""
    if isinstance(value, dict):
        if isinstance(value.get("class"), str):
            yield value["class"]
        for inner in value.values():
            yield from _classes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _classes(inner)


@contextmanager
def judging() -> Iterator[None]:
    """Turn what DuckDB says against a query into why a rule cannot be evaluated; what is the machine's fault passes through."""
    try:
        yield
    except ENVIRONMENT_ERRORS:
        raise
    except duckdb.Error as error:
        raise NotEvaluableError(one_line(str(error))) from error


def one_line(text: str) -> str:
    """The first sentence of one of DuckDB's messages, which draw the query below it."""
    line = " ".join(text.split("\n\n", maxsplit=1)[0].split())
    return line if len(line) <= MAX_ERROR_CHARS else line[: MAX_ERROR_CHARS - 1] + "…"
