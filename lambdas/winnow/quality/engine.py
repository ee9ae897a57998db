"""Evaluates rules over the rows of a version, a part at a time: what is on the disk is one part, and what DuckDB keeps beside it.

The first pass counts. Ids are looked for in a second one, which only a version that violates something needs. Uniqueness keeps a
hash of 64 bits per row; where two rows have the same, a pass over the parts compares the values themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from winnow.core.contract import iso
from winnow.quality.columns import EPOCH, quoted, violation_sql
from winnow.quality.database import Database, judging
from winnow.quality.expected import expected_of, percent
from winnow.quality.facts import (
    FACT_RULES,
    CandidateFacts,
    NotEvaluableError,
    is_above,
    judge_facts,
    not_evaluated,
)
from winnow.quality.result import MAX_FIRST_IDS, GateOutcome, RuleResult, outcome_of
from winnow.quality.rules import (
    ColumnRule,
    ColumnType,
    Fresh,
    NullShare,
    OfType,
    References,
    Rule,
    Sql,
    ToleratingRule,
    Unique,
)
from winnow.quality.structure import Structure, merged

if TYPE_CHECKING:
    from winnow.quality.columns import Column

ROWS_AT_ONCE = 10_000
"""Ids that are fetched from DuckDB at once."""
HOURS_TOLD_AS_DAYS = 72
ID = quoted("id")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowSource:
    """The rows of one version."""

    format: str
    """`parquet` or `ndjson`."""
    keys: Sequence[str]
    """Of its parts, in order; rows are sorted by id."""
    fetch: Callable[[str, Path], None]
    """Writes a part to a file."""

    @property
    def suffix(self) -> str:
        return "parquet" if self.format == "parquet" else "ndjson.zst"


Lookup = Callable[[References], RowSource | None]
"""Finds the rows of the current version of the publication that a rule refers to; None where it has none."""


@dataclass(slots=True)
class _Tally:
    """What is known of one rule so far."""

    rule: Rule
    number: int
    problem: str = ""
    """Why it cannot be evaluated."""
    violations: int = 0
    newest: int | None = None
    """Microseconds since 1970."""
    types: set[str] = field(default_factory=set)
    """Wrong ones."""
    first_ids: list[str] = field(default_factory=list)

    @property
    def counts_rows(self) -> bool:
        return isinstance(self.rule, ToleratingRule | NullShare | Sql | Unique)

    @property
    def table(self) -> str:
        return f"kept_{self.number}"


class Examination:
    """One evaluation of some rules over one version."""

    def __init__(
        self,
        rules: Iterable[Rule],
        *,
        rows: RowSource,
        facts: CandidateFacts,
        others: Lookup,
        database: Database,
    ) -> None:
        """Define what is evaluated.

        Args:
            rules: in the order of their results.
            rows: of the candidate.
            facts: its numbers.
            others: finds what `References` refers to.
            database: with a folder to itself.
        """
        self._rows = rows
        self._facts = facts
        self._others = others
        self._database = database
        self._tallies = [_Tally(rule, number) for number, rule in enumerate(rules)]
        self._of_rows = [tally for tally in self._tallies if not isinstance(tally.rule, FACT_RULES)]
        self._structure: Structure = None
        self._seen = 0

    def measure(self) -> None:
        """Count. To be called once, before anything else."""
        if not self._of_rows:
            return
        for tally in self._of_rows:
            self._try(tally, partial(self._prepare, tally))
        if not self._facts.rows:  # no row violates anything, and ndjson without rows has no columns
            return
        try:
            with judging():
                self._read_parts()
        except NotEvaluableError as error:
            self._give_up(f"the rows cannot be read: {error}")
            return
        for tally in self._of_rows:
            if isinstance(tally.rule, Unique) and not tally.problem:
                self._find_repeated(tally)
        self._compare_repeated()

    def _read_parts(self) -> None:
        self._structure = self._find_structure(self._rows)
        for _ in self._parts(self._rows):
            self._measure_part()
        if self._seen != self._facts.rows:
            raise NotEvaluableError(
                f"the parts have {self._seen:,}, and the manifest says {self._facts.rows:,}"
            )

    def _give_up(self, problem: str) -> None:
        for tally in self._of_rows:
            tally.problem = tally.problem or problem

    def violating_ids(self) -> Iterator[tuple[Rule, str]]:
        """Every id that violates a rule which is violated: by part and id, and at the end those of `Unique`. Notes each rule's first."""
        violated = [tally for tally in self._of_rows if tally.violations and self._is_violated(tally)]
        by_row = [tally for tally in violated if not isinstance(tally.rule, Unique)]
        if by_row:
            for _ in self._parts(self._rows):
                yield from self._ids_in_part(by_row, self._database.types())
        for tally in violated:
            if isinstance(tally.rule, Unique):
                yield from self._noted([tally], f"SELECT id, true FROM {tally.table}_repeated ORDER BY id")

    def _ids_in_part(self, by_row: Sequence[_Tally], types: Mapping[str, str]) -> Iterator[tuple[Rule, str]]:
        judged = [tally for tally in by_row if not isinstance(tally.rule, References)]
        if judged:
            # One look at the part for all of them.
            conditions = [self._condition(tally.rule, types) for tally in judged]
            yield from self._noted(
                judged,
                f"SELECT {ID}::VARCHAR, {', '.join(conditions)} FROM part WHERE {' OR '.join(conditions)} ORDER BY 1",
            )
        for tally in by_row:
            if isinstance(tally.rule, References):
                yield from self._noted(
                    [tally], f"SELECT id, true FROM ({self._unknown(tally, types)}) ORDER BY id"
                )

    def _condition(self, rule: Rule, types: Mapping[str, str]) -> str:
        return violation_sql(rule, self._column(rule.column, types) if isinstance(rule, ColumnRule) else None)

    def results(self) -> tuple[RuleResult, ...]:
        return tuple(self._result(tally) for tally in self._tallies)

    def _prepare(self, tally: _Tally) -> None:
        """Make what a rule keeps over all parts."""
        rule = tally.rule
        if isinstance(rule, Sql):
            self._database.check_expression(rule.expression)
        if isinstance(rule, Unique):
            self._database.execute(f"CREATE TABLE {tally.table} (hash UBIGINT)")
        if isinstance(rule, References):
            self._keep_ids(rule, tally.table)

    def _keep_ids(self, rule: References, table: str) -> None:
        other = self._others(rule)
        if other is None:
            raise NotEvaluableError(f"publication {rule.publication} has no current version")
        self._database.execute(f"CREATE TABLE {table} (id VARCHAR)")
        structure = {"id": "VARCHAR"} if other.format != "parquet" else None
        for _ in self._parts(other, structure):
            self._database.execute(f"INSERT INTO {table} SELECT {ID}::VARCHAR FROM part")

    def _find_structure(self, rows: RowSource) -> Structure:
        """The shape of ndjson parts; None where parts have a schema."""
        if rows.format == "parquet":
            return None
        found: Structure = {}
        for path in self._files(rows):
            found = merged(found, self._database.structure_of(path))
        if not isinstance(found, dict):
            raise NotEvaluableError("a line is not a JSON object")
        return found

    def _files(self, rows: RowSource) -> Iterator[Path]:
        """Each part on the disk, and only while it is being looked at."""
        path = self._database.folder / f"part.{rows.suffix}"
        for key in rows.keys:
            rows.fetch(key, path)
            try:
                yield path
            finally:
                path.unlink(missing_ok=True)

    def _parts(self, rows: RowSource, structure: Structure = None) -> Iterator[None]:
        """Each part in turn, as the view `part`."""
        for path in self._files(rows):
            self._database.show(path, self._structure if structure is None else structure)
            yield

    def _measure_part(self) -> None:
        types = self._database.types()
        if "id" not in types and self._rows.keys:
            raise NotEvaluableError("there is no column id")
        self._seen += self._database.number("SELECT count(*) FROM part")
        counted: list[tuple[_Tally, str]] = []
        for tally in self._of_rows:
            self._try(tally, partial(self._plan, tally, types, counted))
        self._count(counted)
        for tally in self._of_rows:
            self._try(tally, partial(self._take_part, tally, types))

    def _plan(self, tally: _Tally, types: Mapping[str, str], counted: list[tuple[_Tally, str]]) -> None:
        if query := self._aggregate(tally, types):
            counted.append((tally, query))

    def _aggregate(self, tally: _Tally, types: Mapping[str, str]) -> str:
        """What is computed of a rule by one look at the part; empty where that is nothing."""
        rule = tally.rule
        if isinstance(rule, Unique | References):
            return ""
        column = self._column(rule.column, types) if isinstance(rule, ColumnRule) else None
        if isinstance(rule, OfType):
            assert column is not None
            if not column.is_never_set and not _is_of_type(column, rule.type):
                tally.types.add(column.type)
            return ""
        if isinstance(rule, Fresh):
            assert column is not None
            return "" if column.is_never_set else f"max({column.as_moment()})"
        return f"count(*) FILTER (WHERE {violation_sql(rule, column)})"

    def _count(self, counted: list[tuple[_Tally, str]]) -> None:
        """Compute all in one query; where that fails, one at a time, so that one rule's SQL is not another's problem."""
        if not counted:
            return
        try:
            with judging():
                found = self._database.row(f"SELECT {', '.join(query for _, query in counted)} FROM part")
        except NotEvaluableError as error:
            if len(counted) == 1:
                counted[0][0].problem = str(error)
                return
            for each in counted:
                self._count([each])
            return
        for (tally, _), value in zip(counted, found, strict=True):
            if isinstance(tally.rule, Fresh):
                known = [each for each in (tally.newest, value) if each is not None]
                tally.newest = max(known, default=None)
            else:
                tally.violations += value

    def _take_part(self, tally: _Tally, types: Mapping[str, str]) -> None:
        rule = tally.rule
        if isinstance(rule, References):
            tally.violations += self._database.number(f"SELECT count(*) FROM ({self._unknown(tally, types)})")
        elif isinstance(rule, Unique):
            columns = self._unique_columns(rule, types)
            self._database.execute(
                f"INSERT INTO {tally.table} SELECT hash({', '.join(columns)}) FROM part WHERE {_all_set(columns)}"
            )

    def _unique_columns(self, rule: Unique, types: Mapping[str, str]) -> list[str]:
        return [self._column(name, types).sql for name in rule.columns]

    def _column(self, name: str, types: Mapping[str, str]) -> Column:
        return self._database.column(name, types, self._structure)

    def _unknown(self, tally: _Tally, types: Mapping[str, str]) -> str:
        """A query for the ids of the part that refer to what is not there."""
        assert isinstance(tally.rule, References)
        column = self._column(tally.rule.column, types)
        if not column.is_never_set and column.seen_as not in (ColumnType.TEXT, ColumnType.INTEGER):
            raise column.wrong_type("text or an integer, as ids are")
        return (
            f"SELECT id FROM (SELECT {ID}::VARCHAR AS id, {column.sql}::VARCHAR AS value FROM part) seen "
            f"ANTI JOIN {tally.table} kept ON seen.value = kept.id WHERE seen.value IS NOT NULL"
        )

    def _find_repeated(self, tally: _Tally) -> None:
        """Keep the hashes that more than one row has."""
        self._database.execute(
            f"CREATE TABLE {tally.table}_hashes AS SELECT hash FROM {tally.table} GROUP BY hash HAVING count(*) > 1"
        )
        self._database.execute(f"DROP TABLE {tally.table}")

    def _compare_repeated(self) -> None:
        """Look at the values of rows whose hashes are the same."""
        suspected = [
            tally
            for tally in self._of_rows
            if isinstance(tally.rule, Unique)
            and not tally.problem
            and self._database.number(f"SELECT count(*) FROM {tally.table}_hashes")
        ]
        if not suspected:
            return
        made: set[str] = set()
        for _ in self._parts(self._rows):
            types = self._database.types()
            for tally in suspected:
                assert isinstance(tally.rule, Unique)
                columns = self._unique_columns(tally.rule, types)
                named = ", ".join(f"{column} AS c{number}" for number, column in enumerate(columns))
                query = (
                    f"SELECT {ID}::VARCHAR AS id, {named} FROM part WHERE {_all_set(columns)} "
                    f"AND hash({', '.join(columns)}) IN (SELECT hash FROM {tally.table}_hashes)"
                )
                table = f"{tally.table}_suspects"
                self._database.execute(
                    f"INSERT INTO {table} {query}" if table in made else f"CREATE TABLE {table} AS {query}"
                )
                made.add(table)
        for tally in suspected:
            assert isinstance(tally.rule, Unique)
            values = ", ".join(f"c{number}" for number in range(len(tally.rule.columns)))
            self._database.execute(
                f"CREATE TABLE {tally.table}_repeated AS SELECT id FROM {tally.table}_suspects SEMI JOIN "
                f"(SELECT {values} FROM {tally.table}_suspects GROUP BY ALL HAVING count(*) > 1) USING ({values})"
            )
            tally.violations = self._database.number(f"SELECT count(*) FROM {tally.table}_repeated")

    def _noted(self, tallies: Sequence[_Tally], query: str) -> Iterator[tuple[Rule, str]]:
        """What a query finds: an id, and for each rule whether the row violates it."""
        answer = self._database.execute(query)
        while some := answer.fetchmany(ROWS_AT_ONCE):
            for identifier, *violates in some:
                for tally, is_violated in zip(tallies, violates, strict=True):
                    if is_violated:
                        if len(tally.first_ids) < MAX_FIRST_IDS:
                            tally.first_ids.append(identifier)
                        yield tally.rule, identifier

    def _try(self, tally: _Tally, action: Callable[[], None]) -> None:
        """Do something for a rule, unless it is known that it cannot be evaluated; note where it turns out so."""
        if tally.problem:
            return
        try:
            with judging():
                action()
        except NotEvaluableError as error:
            tally.problem = str(error)

    def _is_violated(self, tally: _Tally) -> bool:
        rule = tally.rule
        if tally.problem:
            return False
        if isinstance(rule, OfType):
            return bool(tally.types)
        if isinstance(rule, Fresh):
            return tally.newest is None or tally.newest < self._oldest_allowed(rule)
        if isinstance(rule, Unique):
            return tally.violations > 0
        return is_above(tally.violations, _share_allowed(rule), self._facts.rows)

    def _oldest_allowed(self, rule: Fresh) -> int:
        return (self._facts.began - rule.span - EPOCH) // timedelta(microseconds=1)

    def _result(self, tally: _Tally) -> RuleResult:
        rule = tally.rule
        if isinstance(rule, FACT_RULES):
            return judge_facts(rule, self._facts)
        if tally.problem:
            return not_evaluated(rule, tally.problem)
        outcome = outcome_of(rule, violated=self._is_violated(tally))
        return RuleResult(
            rule=rule,
            outcome=outcome,
            expected=expected_of(rule),
            found=self._found(tally),
            violations=tally.violations if tally.counts_rows else None,
            first_ids=() if outcome is GateOutcome.PASSED else tuple(tally.first_ids),
        )

    def _found(self, tally: _Tally) -> str:
        rule, rows = tally.rule, self._facts.rows
        if isinstance(rule, OfType):
            return f"type {', '.join(sorted(tally.types))}" if tally.types else "that type, or no value"
        if isinstance(rule, Fresh):
            return self._age(tally.newest)
        share = f" ({percent(tally.violations / rows)})" if rows else ""
        if isinstance(rule, NullShare):
            return f"null in {tally.violations:,} of {rows:,} rows{share}"
        if isinstance(rule, Unique):
            return f"{tally.violations:,} of {rows:,} rows have one that another row has, too{share}"
        return f"not so in {tally.violations:,} of {rows:,} rows{share}"

    def _age(self, newest: int | None) -> str:
        if newest is None:
            return "no date in any row"
        try:
            moment = EPOCH + timedelta(microseconds=newest)
        except OverflowError:
            return "the newest is outside of the years 1 to 9999"
        age = self._facts.began - moment
        hours = age.total_seconds() / 3600
        old = f"{hours / 24:.1f} days" if hours >= HOURS_TOLD_AS_DAYS else f"{hours:.1f} hours"
        when = f"{old} before the run" if hours > 0 else "not before the run"
        return f"the newest is of {iso(moment)}, {when}"


def _share_allowed(rule: Any) -> float:
    return float(rule.at_most if isinstance(rule, NullShare) else rule.tolerate)


def _all_set(columns: Iterable[str]) -> str:
    return " AND ".join(f"{column} IS NOT NULL" for column in columns)


def _is_of_type(column: Column, kind: ColumnType) -> bool:
    return column.seen_as is kind or (kind is ColumnType.NUMBER and column.seen_as is ColumnType.INTEGER)
