"""The gate over rows: every rule on both formats, with what passes, what violates it, and what cannot be evaluated."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa
import pytest
from backports import zstd

from tests.unit.winnow.candidates import FORMATS, examine, facts, judge, write_parts
from winnow.quality.database import Database
from winnow.quality.engine import Examination, RowSource
from winnow.quality.result import GateOutcome
from winnow.quality.rules import (
    Allowed,
    Fresh,
    InRange,
    NullShare,
    OfType,
    Pattern,
    References,
    RowCount,
    Rule,
    RuleSeverity,
    Sql,
    Unique,
)

if TYPE_CHECKING:
    from pathlib import Path

WHY = "consumers count on it"
BOTH = pytest.mark.parametrize("form", FORMATS)


def rows(**columns: list[Any]) -> list[dict[str, Any]]:
    """Rows of columns, with ids a, b, c …."""
    count = len(next(iter(columns.values())))
    return [
        {"id": chr(97 + place), **{name: values[place] for name, values in columns.items()}}
        for place in range(count)
    ]


VIOLATED_BY: list[tuple[Rule, list[Any], str]] = [
    (NullShare("x", at_most=0, reason=WHY), ["ö", None, "", None], "bd"),
    (NullShare("x", at_most=0.5, reason=WHY), ["ö", None, "", None], ""),
    (NullShare("x", at_most=0.49, reason=WHY), ["ö", None, "", None], "bd"),
    (Allowed("x", values=("ö", "o'k"), reason=WHY), ["ö", "o'k", "o", None], "c"),
    (Allowed("x", values=(1, 2.5), reason=WHY), [1.0, 2.5, 2.0, None], "c"),
    (Allowed("x", values=(True,), reason=WHY), [True, False, None], "b"),
    (Allowed("x", values=("ö",), reason=WHY, tolerate=0.25), ["ö", "x", "ö", None], ""),
    (Pattern("x", pattern="[a-zö]+", reason=WHY), ["ö", "A", "aa\n", "", None], "bcd"),
    (Pattern("x", pattern="a.c", reason=WHY), ["a\nc", "abc", "xabc"], "c"),
    (Pattern("x", pattern="it's", reason=WHY), ["it's", "its"], "b"),
    (InRange("x", minimum=1, maximum=3, reason=WHY), [0, 1, 3, 4, None], "ad"),
    (InRange("x", minimum=1.5, reason=WHY), [1.4, 1.5, None], "a"),
    (InRange("x", maximum=-1, reason=WHY), [-1, 0], "b"),
    (InRange("x", minimum="2026-01-01", maximum="2026-02-01", reason=WHY),
     ["2025-12-31", "2026-01-01", "2026-01-31T23:59:59Z", "2026-02-01T00:00:01+00:00", "soon", None], "ade"),
    (InRange("x", minimum="2026-01-01T00:00:00Z", reason=WHY), ["2026-01-01T01:00:00+02:00", "2026-01-01T00:00:00+00:00"], "a"),
    (Unique("x", reason=WHY), ["a", "b", "a", None, None, "ä", "b"], "abcg"),
    (Unique("x", reason=WHY), [[1, 2], [2, 1], [1, 2]], "ac"),
    (Unique("x", reason=WHY), [{"k": 1}, {"k": 2}, {"k": 1}], "ac"),
    (Unique("id", reason=WHY), [1, 1, 1], ""),
    (Sql("x > 1", reason=WHY), [1, 2, None], "ac"),
    (Sql("x IS NULL OR length(x) = 1 -- a comment", reason=WHY), ["a", "bb", None], "b"),
    (Sql("list_sum(x) < 4", reason=WHY), [[1, 2], [2, 2]], "b"),
    (InRange("x.k", maximum=1, reason=WHY), [{"k": 1}, {"k": 2}, None, {"k": None}], "b"),
    (NullShare("x.k", at_most=0, reason=WHY), [{"k": 1}, {"k": None}, None], "bc"),
    (Unique(("x.k", "x.l"), reason=WHY), [{"k": 1, "l": 1}, {"k": 1, "l": 2}, {"k": 1, "l": 1}, {"k": 1, "l": None}], "ac"),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize("cut", [1, 2, 100])
@pytest.mark.parametrize(("rule", "values", "ids"), VIOLATED_BY)
def test_finds_the_rows_that_violate_a_rule_however_they_are_cut_into_parts(
    tmp_path: Path, form: str, cut: int, rule: Rule, values: list[Any], ids: str
) -> None:
    made = rows(x=values)
    parts = [made[start : start + cut] for start in range(0, len(made), cut)]

    (result,), violating = examine([rule], write_parts(tmp_path, form, parts), facts(len(made)))

    assert result.outcome is (GateOutcome.BLOCKED if ids else GateOutcome.PASSED), result.found
    assert sorted(identifier for _, identifier in violating) == list(ids)
    assert set(result.first_ids) <= set(ids)
    assert len(result.first_ids) == min(5, len(ids))


@BOTH
def test_names_the_first_five_ids_in_order_and_hands_on_all(tmp_path: Path, form: str) -> None:
    made = rows(x=[None] * 9)
    (result,), violating = examine(
        [NullShare("x", at_most=0, reason=WHY)],
        write_parts(tmp_path, form, [made[:2], made[2:]], _text()),
        facts(9),
    )

    assert result.first_ids == ("a", "b", "c", "d", "e")
    assert [identifier for _, identifier in violating] == list("abcdefghi")
    assert result.found == "null in 9 of 9 rows (100%)"


@pytest.mark.parametrize("odd", [{"": 1}, {"Ada": 1, "ada": 2}, {"inner": {"Ada": 1, "ada": 2}}])
def test_reads_rows_whose_objects_duckdb_has_no_type_for(odd: dict[str, Any]) -> None:
    rule = NullShare("x", at_most=0, reason=WHY)

    assert judge(rule, "ndjson", rows(x=[odd, None])).first_ids == ("b",)


@BOTH
def test_warns_and_names_the_rows(form: str) -> None:
    rule = Allowed("x", values=("a",), reason=WHY, severity=RuleSeverity.WARN)
    result = judge(rule, form, rows(x=["a", "b"]))

    assert (result.outcome, result.violations, result.first_ids) == (GateOutcome.WARNED, 1, ("b",))


CANNOT: list[tuple[Rule, list[Any], str]] = [
    (NullShare("y", at_most=1, reason=WHY), ["a"], "there is no column y; there are: id, x"),
    (NullShare("X", at_most=1, reason=WHY), ["a"], "there is no column X"),
    (NullShare("x.k", at_most=1, reason=WHY), ["a"], "x has no field k; it is of type VARCHAR"),
    (NullShare("x.l", at_most=1, reason=WHY), [{"k": 1}], "x has no field l; it is of type STRUCT"),
    (Unique(("x", "y"), reason=WHY), ["a"], "there is no column y"),
    (Allowed("x", values=("a",), reason=WHY), [1], "and must be of type text, as the rule's values are"),
    (Allowed("x", values=(1,), reason=WHY), ["a"], "x is of type VARCHAR, and must be of type number"),
    (Pattern("x", pattern="a", reason=WHY), [1], "and must be text"),
    (Pattern("x", pattern="a{2000}", reason=WHY), ["a"], "Invalid Input Error: invalid repetition size"),
    (InRange("x", minimum=1, reason=WHY), ["1"], "x is of type VARCHAR, and must be a number"),
    (InRange("x", minimum="2026-01-01", reason=WHY), [1], "and must be a date, or text that is one"),
    (Fresh("x", within="1d", reason=WHY), [1.5], "x is of type DOUBLE, and must be a date"),
    (References("x", publication="works", reason=WHY), ["a"], "publication works has no current version"),
    (Sql("y > 1", reason=WHY), [1], 'Referenced column "y" not found'),
    (Sql("x >", reason=WHY), [1], "the expression is not SQL"),
    (Sql("x), (1", reason=WHY), [1], "the expression must be one expression"),
    (Sql("x > 0) OR (true", reason=WHY), [1, -1], "the expression is not SQL"),
    (Sql("x) FROM part; DROP VIEW part; SELECT (1", reason=WHY), [1], "the expression is not SQL"),
    (Sql("(SELECT true)", reason=WHY), [1], "must look at one row at a time, without SELECT"),
    (Sql("EXISTS (FROM read_csv('/etc/passwd'))", reason=WHY), [1], "without SELECT"),
    (Sql("COLUMNS(*) > 1", reason=WHY), [1], "must name its columns"),
    (Sql("row_number() OVER () > 0", reason=WHY), [1], "without OVER"),
    (Sql("x > ?", reason=WHY), [1], "must be without parameters"),
    (Sql("count(*) > 0", reason=WHY), [1], "aggregate functions are not allowed"),
    (Sql("x::INTEGER > 0", reason=WHY), ["a"], "Conversion Error"),
]  # fmt: skip


@BOTH
@pytest.mark.parametrize(("rule", "values", "why"), CANNOT)
def test_blocks_what_cannot_be_evaluated_with_the_reason(
    form: str, rule: Rule, values: list[Any], why: str
) -> None:
    result = judge(rule, form, rows(x=values))

    assert (result.outcome, result.evaluated, result.violations) == (GateOutcome.BLOCKED, False, None)
    assert result.found.startswith("cannot be evaluated: ")
    assert why in result.found
    assert "\n" not in result.found


@BOTH
def test_one_rule_that_cannot_be_evaluated_costs_only_itself(tmp_path: Path, form: str) -> None:
    made = rows(x=["a", "1", None])
    rules = [
        Sql("x::INTEGER > 0", reason=WHY, severity=RuleSeverity.WARN),
        Sql("nothing", reason=WHY),
        NullShare("x", at_most=0, reason=WHY),
        Unique("x", reason=WHY),
    ]

    results, violating = examine(rules, write_parts(tmp_path, form, [made[1:], made[:1]]), facts(3))

    assert [result.outcome for result in results] == ["blocked", "blocked", "blocked", "passed"]
    assert [result.evaluated for result in results] == [False, False, True, True]
    assert violating == [("null share x", "c")]


@BOTH
def test_passes_an_empty_version_by_all_rules_but_those_that_ask_for_rows(tmp_path: Path, form: str) -> None:
    rules = [
        RowCount(at_least=1, reason=WHY),
        NullShare("x", at_most=0, reason=WHY),
        Unique("x", reason=WHY),
        Fresh("x", within="1d", reason=WHY),
        Sql("x >", reason=WHY),
    ]
    source = RowSource(format=form, keys=[], fetch=write_parts(tmp_path, form, []).fetch)

    results, violating = examine(rules, source, facts(0))

    assert [result.outcome for result in results] == ["blocked", "passed", "passed", "blocked", "blocked"]
    assert results[3].found == "no date in any row"
    assert violating == []


@BOTH
def test_says_how_old_the_newest_date_is(form: str) -> None:
    old = rows(x=["2026-02-26T12:00:00Z", "2020-01-01", "soon", None])
    rule = Fresh("x", within="2d", reason=WHY)

    assert (
        judge(rule, form, old).found == "the newest is of 2026-02-26T12:00:00.000Z, 3.0 days before the run"
    )
    assert judge(rule, form, old).outcome is GateOutcome.BLOCKED
    assert judge(rule, form, old, rows(x=["2026-02-27T12:00:00Z"])).outcome is GateOutcome.PASSED
    assert judge(rule, form, rows(x=["2026-03-02"])).found.endswith("not before the run")
    assert judge(rule, form, rows(x=["soon"])).found == "no date in any row"
    assert judge(rule, form, rows(x=["soon"])).outcome is GateOutcome.BLOCKED


@BOTH
@pytest.mark.parametrize("text", ["infinity", "-infinity", "200000-01-01", "9999-12-31T23:59:59-12:00"])
def test_survives_dates_that_python_has_not(form: str, text: str) -> None:
    fresh = judge(Fresh("x", within="1d", reason=WHY), form, rows(x=[text]))
    inside = judge(InRange("x", minimum="2026-01-01", maximum="2026-12-31", reason=WHY), form, rows(x=[text]))

    assert fresh.outcome is (GateOutcome.BLOCKED if "infinity" in text else GateOutcome.PASSED), fresh.found
    assert inside.first_ids == ("a",)


@pytest.mark.parametrize(
    "value", [date(2026, 2, 28), datetime.fromisoformat("2026-02-28"), datetime(2026, 2, 28, tzinfo=UTC)]
)
def test_reads_dates_of_every_parquet_type_as_utc(value: Any) -> None:
    made = rows(x=[value])

    assert (
        "2026-02-28T00:00:00.000Z, 36.0 hours"
        in judge(Fresh("x", within="1d", reason=WHY), "parquet", made).found
    )
    inside = InRange("x", minimum="2026-02-28", maximum="2026-02-28T00:00:00Z", reason=WHY)
    assert judge(inside, "parquet", made).outcome is GateOutcome.PASSED


@pytest.mark.parametrize(
    ("kind", "fits", "not_"),
    [
        (pa.string(), "text", "date"),
        (pa.dictionary(pa.int8(), pa.string()), "text", "integer"),
        (pa.int8(), "integer", "text"),
        (pa.uint64(), "number", "boolean"),
        (pa.float32(), "number", "integer"),
        (pa.decimal128(20, 2), "number", "integer"),
        (pa.bool_(), "boolean", "integer"),
        (pa.date32(), "date", "timestamp"),
        (pa.timestamp("ns", "UTC"), "timestamp", "date"),
        (pa.list_(pa.string()), "list", "text"),
        (pa.struct([("k", pa.int32())]), "object", "list"),
        (pa.binary(), None, "text"),
    ],
)
def test_knows_the_types_of_parquet(kind: pa.DataType, fits: str | None, not_: str) -> None:
    schema = pa.schema([("id", pa.string()), ("x", kind)])
    made = [{"id": "a", "x": None}]

    if fits:
        assert judge(_of_type(fits), "parquet", made, schema=schema).outcome is GateOutcome.PASSED
    result = judge(_of_type(not_), "parquet", made, schema=schema)
    assert result.outcome is GateOutcome.BLOCKED
    assert result.found.startswith("type ")


def test_knows_the_types_of_ndjson_over_all_parts() -> None:
    parts: list[list[dict[str, Any]]] = [rows(x=[1, None]), [{"id": "c", "x": 2.5}], [{"id": "d"}]]

    assert judge(_of_type("number"), "ndjson", *parts).outcome is GateOutcome.PASSED
    assert judge(_of_type("integer"), "ndjson", *parts).found == "type DOUBLE"
    mixed = judge(
        InRange("x", minimum=0, reason=WHY), "ndjson", *parts, [{"id": "e", "x": "many"}], schema=_text()
    )
    assert mixed.found == "cannot be evaluated: x has values of several types, and must be a number"


def test_keeps_whole_numbers_of_both_signs_apart_over_all_parts_of_ndjson() -> None:
    big = 2**62
    parts = [rows(x=[big, big + 1]), [{"id": "c", "x": -big}], [{"id": "d", "x": -big - 1}]]

    assert judge(_of_type("integer"), "ndjson", *parts).outcome is GateOutcome.PASSED
    assert judge(Unique("x", reason=WHY), "ndjson", *parts).outcome is GateOutcome.PASSED


def test_takes_a_field_that_ndjson_leaves_out_for_null() -> None:
    parts: list[list[dict[str, Any]]] = [[{"id": "a", "x": {"k": 1}}], [{"id": "b"}], [{"id": "c", "x": {}}]]

    assert judge(NullShare("x.k", at_most=0, reason=WHY), "ndjson", *parts[:2]).first_ids == ("b",)
    assert (
        judge(Allowed("y", values=("a",), reason=WHY), "ndjson", [{"id": "a", "y": None}]).outcome
        is GateOutcome.PASSED
    )


def test_takes_text_of_ndjson_for_text_whatever_it_looks_like(tmp_path: Path) -> None:
    made = [{"id": "007", "x": "2026-01-01"}, {"id": "2026-01-01", "x": "1"}]

    (kind, allowed), violating = examine(
        [_of_type("text"), Allowed("x", values=("1",), reason=WHY)],
        write_parts(tmp_path, "ndjson", [made]),
        facts(2),
    )

    assert (kind.outcome, allowed.first_ids) == (GateOutcome.PASSED, ("007",))
    assert violating == [("allowed x", "007")]


@BOTH
def test_finds_references_to_what_another_publication_does_not_have(tmp_path: Path, form: str) -> None:
    others = {"works": write_parts(tmp_path, form, [[{"id": "w1"}], [{"id": "w2"}, {"id": "3"}]])}
    rules = [
        References("x", publication="works", reason=WHY),
        References("n", publication="works", reason=WHY),
    ]
    made = rows(x=["w1", "w2", "w3", None], n=[3, 4, None, 3])

    results, violating = examine(rules, write_parts(tmp_path, form, [made[:2], made[2:]]), facts(4), others)

    assert [result.first_ids for result in results] == [("c",), ("b",)]
    assert sorted(violating) == [("references n", "b"), ("references x", "c")]


@BOTH
def test_blocks_parts_that_do_not_have_the_manifests_rows(tmp_path: Path, form: str) -> None:
    source = write_parts(tmp_path, form, [rows(x=["a", "b"])])
    (result,), _ = examine([NullShare("x", at_most=1, reason=WHY)], source, facts(3))

    assert (
        result.found
        == "cannot be evaluated: the rows cannot be read: the parts have 2, and the manifest says 3"
    )


def test_blocks_rows_that_cannot_be_read(tmp_path: Path) -> None:
    source = write_parts(tmp_path, "ndjson", [rows(x=["a"])])

    def fetch(_: str, path: Path) -> None:
        path.write_bytes(_zstd(b"[1]\n"))

    lists = RowSource(format="ndjson", keys=source.keys, fetch=fetch)
    (result,), _ = examine([NullShare("x", at_most=1, reason=WHY)], lists, facts(1))

    assert result.found == "cannot be evaluated: the rows cannot be read: a line is not a JSON object"


def test_leaves_nothing_of_the_parts_on_the_disk(tmp_path: Path) -> None:
    seen: list[list[str]] = []
    source = write_parts(tmp_path, "parquet", [rows(x=["a"]), rows(x=["b"])])
    with closing(Database(tmp_path)) as database:

        def fetch(key: str, path: Path) -> None:
            seen.append(sorted(each.name for each in tmp_path.glob("part.*")))
            source.fetch(key, path)

        watched = RowSource(format="parquet", keys=source.keys, fetch=fetch)
        examination = Examination(
            [Unique("x", reason=WHY)], rows=watched, facts=facts(2), others=lambda _: None, database=database
        )
        examination.measure()
    assert seen == [[], []]


def test_sql_reads_nothing_but_the_gates_own_folder(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    with closing(Database(tmp_path / "own")) as database:
        for sql in (
            f"SELECT * FROM read_text('{tmp_path}/secret.txt')",
            f"COPY (SELECT 1) TO '{tmp_path}/written.csv'",
            f"ATTACH '{tmp_path}/other.duckdb'",
            "SET enable_external_access = true",
            "SET memory_limit = '10GB'",
            "INSTALL httpfs",
        ):
            with pytest.raises((duckdb.PermissionException, duckdb.InvalidInputException)):
                database.execute(sql)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own", "secret.txt"]


def test_raises_where_the_machine_is_at_fault_and_judges_nothing(tmp_path: Path) -> None:
    source = write_parts(tmp_path, "parquet", [rows(x=["a" * 100])])

    def fetch(_: str, __: Path) -> None:
        raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        examine(
            [NullShare("x", at_most=1, reason=WHY)],
            RowSource(format="parquet", keys=source.keys, fetch=fetch),
            facts(1),
        )


def _text() -> pa.Schema:
    return pa.schema([("id", pa.string()), ("x", pa.string())])


def _of_type(name: str) -> OfType:
    return OfType("x", type=name, reason=WHY)  # type: ignore[arg-type]


def _zstd(body: bytes) -> bytes:
    return zstd.compress(body)
