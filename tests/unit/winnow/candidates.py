"""Candidates for the quality gate, on disk: rows cut into parts, as Parquet or as ndjson."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd

from winnow.quality.database import Database
from winnow.quality.engine import Examination, RowSource
from winnow.quality.facts import CandidateFacts, RunCounts
from winnow.quality.result import RuleResult
from winnow.quality.rules import Rule

BEGAN = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORMATS = ("parquet", "ndjson")
Row = Mapping[str, Any]


def facts(rows: int, **known: Any) -> CandidateFacts:
    """Of a second version over a first one of 100 rows, unless told otherwise."""
    values: dict[str, Any] = {
        "changed": 0,
        "removed": 0,
        "base": 1,
        "base_rows": 100,
        "began": BEGAN,
        "run": RunCounts(records_in=100, failed=0),
    }
    return CandidateFacts(rows=rows, **{**values, **known})


def write_parts(
    folder: Path, form: str, parts: Sequence[Sequence[Row]], schema: pa.Schema | None = None
) -> RowSource:
    """Write parts; a Parquet part has the given schema, or the one that Arrow finds in all rows."""
    schema = schema or pa.Table.from_pylist([dict(row) for part in parts for row in part]).schema
    keys = []
    for number, rows in enumerate(parts):
        path = folder / f"{len(list(folder.iterdir())):05d}-{number}.{form}"
        if form == "parquet":
            pq.write_table(
                pa.Table.from_pylist([dict(row) for row in rows], schema), path, compression="zstd"
            )
        else:
            lines = "".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
            path.write_bytes(zstd.compress(lines.encode()))
        keys.append(str(path))
    return RowSource(format=form, keys=keys, fetch=_copy)


def _copy(key: str, path: Path) -> None:
    shutil.copy(key, path)


def examine(
    rules: Sequence[Rule],
    source: RowSource,
    known: CandidateFacts,
    others: Mapping[str, RowSource] | None = None,
    *,
    memory_mb: int = 512,
) -> tuple[tuple[RuleResult, ...], list[tuple[str, str]]]:
    """The results, and the ids that violate a rule, each with the rule's name."""
    known_others = others or {}
    with TemporaryDirectory() as folder, closing(Database(Path(folder), memory_mb=memory_mb)) as database:
        examination = Examination(
            rules,
            rows=source,
            facts=known,
            others=lambda rule: known_others.get(rule.publication),
            database=database,
        )
        examination.measure()
        violating = [(rule.name, identifier) for rule, identifier in examination.violating_ids()]
        return examination.results(), violating


def judge(
    rule: Rule, form: str, *parts: Sequence[Row], schema: pa.Schema | None = None, **known: Any
) -> RuleResult:
    """The result of one rule over parts in one format."""
    with TemporaryDirectory() as folder:
        source = write_parts(Path(folder), form, parts, schema)
        (result,), _ = examine([rule], source, facts(sum(map(len, parts)), **known))
        return result
