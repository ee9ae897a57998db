"""Rules of the quality gate as data, checked when they are made. Needs nothing but Python, so stacks can import it."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar

from winnow.core.errors import WinnowError, shorten

MAX_RULES = 100
MAX_RULES_BYTES = 12_000
"""As JSON: they travel in the payload of CheckQuality, and a payload stays below 16 KB (law 7)."""
MAX_NAME_CHARS = 80
MAX_REASON_CHARS = 300

Value = str | int | float | bool


class InvalidRule(WinnowError, ValueError):
    """A rule that cannot be meant: one line that names the field, the value and the remedy."""

    def __init__(self, kind: str, name: str, value: object, remedy: str) -> None:
        super().__init__(f"{kind}.{name}: {remedy}, got: {shorten(value)}")


class RuleSeverity(StrEnum):
    """What happens when a rule is violated."""

    BLOCK = "block"
    """The candidate is not published, and the run fails."""
    WARN = "warn"
    """The candidate is published; the violation is counted and reported."""


class ColumnType(StrEnum):
    """Types of columns, as rules name them; each covers all widths and units."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    """Integers, too."""
    BOOLEAN = "boolean"
    DATE = "date"
    TIMESTAMP = "timestamp"
    LIST = "list"
    OBJECT = "object"


@dataclass(frozen=True, slots=True)
class Rule:
    """What every rule has."""

    kind: ClassVar[str] = ""

    reason: str = field(kw_only=True)
    """Why the rule is there, in words: an operator reads it in the alert."""
    severity: RuleSeverity = field(kw_only=True, default=RuleSeverity.BLOCK)
    name: str = field(kw_only=True, default="")
    """By which results are told apart; by default made from what the rule is about."""

    def __post_init__(self) -> None:
        if type(self.reason) is not str or not self.reason.strip() or len(self.reason) > MAX_REASON_CHARS:
            raise self._wrong(
                "reason", f"must say in at most {MAX_REASON_CHARS} characters why the rule is there"
            )
        try:
            object.__setattr__(self, "severity", RuleSeverity(self.severity))
        except ValueError:
            raise self._wrong("severity", f"must be one of {', '.join(RuleSeverity)}") from None
        if type(self.name) is not str or len(self.name) > MAX_NAME_CHARS or not self.name.isprintable():
            raise self._wrong("name", f"must be printable text of at most {MAX_NAME_CHARS} characters")
        self._check()
        if not self.name:
            object.__setattr__(self, "name", shorten_name(f"{self.kind.replace('_', ' ')} {self.subject}"))

    def _check(self) -> None:
        """Raise `InvalidRule` where a limit of this kind cannot be meant."""

    @property
    def subject(self) -> str:
        """What the rule looks at: a column or several; empty for the version as a whole."""
        return ""

    def to_json(self) -> dict[str, Any]:
        """Its kind, and the fields that are given."""
        given = {each.name: getattr(self, each.name) for each in dataclasses.fields(self)}
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in given.items()}
        return {"kind": self.kind, **{name: value for name, value in plain.items() if value is not None}}

    def _wrong(self, name: str, remedy: str) -> InvalidRule:
        return InvalidRule(type(self).__name__, name, getattr(self, name), remedy)

    def _need_share(self, name: str) -> None:
        value = getattr(self, name)
        if not _is_number(value) or not 0 <= value <= 1:
            raise self._wrong(name, "must be a share from 0 to 1, such as 0.01 for one in a hundred")

    def _need_count(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and (type(value) is not int or value < 0):
            raise self._wrong(name, "must be a number of rows, 0 or more")

    def _need_order(self, low: str, high: str) -> None:
        """Raise where the lower limit is above the upper one, or neither is given."""
        least, most = getattr(self, low), getattr(self, high)
        if least is not None and most is not None and least > most:
            raise self._wrong(high, f"must not be below {low} ({least})")


@dataclass(frozen=True, slots=True)
class RowCount(Rule):
    """How many rows the candidate has, by themselves and against the last version. A first version has no last one."""

    kind: ClassVar[str] = "row_count"

    at_least: int | None = field(kw_only=True, default=None)
    at_most: int | None = field(kw_only=True, default=None)
    min_ratio: float | None = field(kw_only=True, default=None)
    """The candidate's rows ÷ the last version's, at least."""
    max_ratio: float | None = field(kw_only=True, default=None)

    def _check(self) -> None:
        self._need_count("at_least")
        self._need_count("at_most")
        for name in ("min_ratio", "max_ratio"):
            value = getattr(self, name)
            if value is not None and (not _is_number(value) or value < 0):
                raise self._wrong(name, "must be a number, 0 or more, such as 0.9")
        self._need_order("at_least", "at_most")
        self._need_order("min_ratio", "max_ratio")
        if (self.at_least, self.at_most, self.min_ratio, self.max_ratio) == (None,) * 4:
            raise self._wrong("at_least", "or at_most, min_ratio or max_ratio must be given")


@dataclass(frozen=True, slots=True)
class LossBudget(Rule):
    """The share of the run's records that failed, in any stage."""

    kind: ClassVar[str] = "loss_budget"

    at_most: float = field(kw_only=True)

    def _check(self) -> None:
        self._need_share("at_most")


@dataclass(frozen=True, slots=True)
class DeleteBudget(Rule):
    """Rows of the last version that the candidate does not have any more: as a share, as a number, or both."""

    kind: ClassVar[str] = "delete_budget"

    at_most: float | None = field(kw_only=True, default=None)
    at_most_rows: int | None = field(kw_only=True, default=None)

    def _check(self) -> None:
        if self.at_most is None and self.at_most_rows is None:
            raise self._wrong("at_most", "or at_most_rows must be given")
        if self.at_most is not None:
            self._need_share("at_most")
        self._need_count("at_most_rows")


@dataclass(frozen=True, slots=True)
class ShareChanged(Rule):
    """The share of the last version's rows that the candidate has with other content."""

    kind: ClassVar[str] = "share_changed"

    at_most: float = field(kw_only=True)

    def _check(self) -> None:
        self._need_share("at_most")


@dataclass(frozen=True, slots=True)
class ColumnRule(Rule):
    """A rule about a column; a field of an object is named with dots, as in `publisher.name`."""

    column: str

    @property
    def subject(self) -> str:
        return self.column

    def _check(self) -> None:
        if type(self.column) is not str or not self.column:
            raise self._wrong("column", "must name a column")
        self._check_limits()

    def _check_limits(self) -> None:
        """Raise `InvalidRule` where a limit of this kind cannot be meant."""


@dataclass(frozen=True, slots=True)
class NullShare(ColumnRule):
    """The share of rows in which the column is null."""

    kind: ClassVar[str] = "null_share"

    at_most: float = field(kw_only=True)

    def _check_limits(self) -> None:
        self._need_share("at_most")


@dataclass(frozen=True, slots=True)
class OfType(ColumnRule):
    """The column's type."""

    kind: ClassVar[str] = "of_type"

    type: ColumnType = field(kw_only=True)

    def _check_limits(self) -> None:
        try:
            object.__setattr__(self, "type", ColumnType(self.type))
        except ValueError:
            raise self._wrong("type", f"must be one of {', '.join(ColumnType)}") from None


@dataclass(frozen=True, slots=True)
class Fresh(ColumnRule):
    """How far the newest date of the column may lie before the run's beginning. Dates may be text in ISO 8601; UTC by default."""

    kind: ClassVar[str] = "fresh"

    within: str = field(kw_only=True)
    """A number and a unit: `45m`, `36h`, `2d`."""

    def _check_limits(self) -> None:
        if type(self.within) is not str or not _SPAN.fullmatch(self.within) or not self.span:
            raise self._wrong("within", "must be a number and m, h or d, such as 36h")

    @property
    def span(self) -> timedelta:
        number, unit = int(self.within[:-1]), self.within[-1]
        return timedelta(**{_UNITS[unit]: number})


@dataclass(frozen=True, slots=True)
class ToleratingRule(ColumnRule):
    """A rule about each row's value. Null violates none of them: nulls are what `NullShare` counts."""

    tolerate: float = field(kw_only=True, default=0.0)
    """The share of all rows that may violate it."""

    def _check_limits(self) -> None:
        self._need_share("tolerate")
        self._check_values()

    def _check_values(self) -> None:
        """Raise `InvalidRule` where the values of this kind cannot be meant."""


@dataclass(frozen=True, slots=True)
class Allowed(ToleratingRule):
    """The values that the column may have: all text, all numbers or all booleans."""

    kind: ClassVar[str] = "allowed"

    values: tuple[Value, ...] = field(kw_only=True)

    def _check_values(self) -> None:
        if isinstance(self.values, str | bytes | Mapping) or not isinstance(self.values, Iterable):
            raise self._wrong("values", "must be a list of values")
        object.__setattr__(self, "values", tuple(self.values))
        kinds = {value_type(value) for value in self.values}
        if len(kinds) != 1 or None in kinds:
            raise self._wrong(
                "values", "must be at least one, and all text, all finite numbers or all booleans"
            )


@dataclass(frozen=True, slots=True)
class Pattern(ToleratingRule):
    """A regular expression that the whole text must match, in RE2's syntax: no look-around and no back-references."""

    kind: ClassVar[str] = "pattern"

    pattern: str = field(kw_only=True)

    def _check_values(self) -> None:
        try:
            re.compile(self.pattern)
        except (TypeError, re.error, OverflowError) as error:
            raise self._wrong("pattern", f"must be a regular expression ({error})") from None
        if _NOT_IN_RE2.search(self.pattern):
            raise self._wrong("pattern", "must be without look-around and back-references, which RE2 has not")


@dataclass(frozen=True, slots=True)
class InRange(ToleratingRule):
    """The smallest and the largest value, both allowed: numbers, or dates as ISO 8601 text. Text that is no date violates it."""

    kind: ClassVar[str] = "in_range"

    minimum: float | str | None = field(kw_only=True, default=None)
    maximum: float | str | None = field(kw_only=True, default=None)

    def _check_values(self) -> None:
        limits = [limit for limit in (self.minimum, self.maximum) if limit is not None]
        if not limits:
            raise self._wrong("minimum", "or maximum must be given")
        for name in ("minimum", "maximum"):
            limit = getattr(self, name)
            if isinstance(limit, str):
                try:
                    moment(limit)
                except ValueError:
                    raise self._wrong(name, "must be a number, or a date such as 2026-01-31") from None
            elif limit is not None and not _is_number(limit):
                raise self._wrong(name, "must be a number, or a date such as 2026-01-31")
        if len({isinstance(limit, str) for limit in limits}) > 1:
            raise self._wrong("maximum", "must be a number or a date as minimum is")
        if len(limits) == 2 and _place(limits[0]) > _place(limits[1]):
            raise self._wrong("maximum", f"must not be below minimum ({self.minimum})")

    @property
    def is_of_dates(self) -> bool:
        return isinstance(self.minimum if self.minimum is not None else self.maximum, str)


@dataclass(frozen=True, slots=True)
class References(ToleratingRule):
    """The values of the column are ids of another publication's current version."""

    kind: ClassVar[str] = "references"

    publication: str = field(kw_only=True)
    bucket: str | None = field(kw_only=True, default=None)
    """That the publication is in; None for the candidate's own. CheckQuality must be allowed to read it."""

    def _check_values(self) -> None:
        if self.bucket is not None and (type(self.bucket) is not str or not self.bucket):
            raise self._wrong(
                "bucket", "must be the name of the bucket that the publication is in, or left out"
            )
        if type(self.publication) is not str or not _PUBLICATION.fullmatch(self.publication):
            raise self._wrong(
                "publication", "must be a publication's name: lower-case letters, digits, - and _"
            )


@dataclass(frozen=True, slots=True)
class Unique(Rule):
    """No two rows have the same value of a column, or of several together. Rows in which one of them is null are left out."""

    kind: ClassVar[str] = "unique"

    columns: str | tuple[str, ...]
    """Always a tuple, once it is made."""

    @property
    def subject(self) -> str:
        return ", ".join(self.columns)

    def _check(self) -> None:
        columns: Any = (self.columns,) if isinstance(self.columns, str) else self.columns
        is_list = isinstance(columns, tuple | list) and bool(columns)
        if not is_list or not all(type(each) is str and each for each in columns):
            raise self._wrong("columns", "must name a column, or several")
        if len(set(columns)) < len(columns):
            raise self._wrong("columns", "must name each column once")
        object.__setattr__(self, "columns", tuple(columns))


@dataclass(frozen=True, slots=True)
class Sql(Rule):
    """An expression of DuckDB's SQL over the columns that must be true of each row; one that is null is not true."""

    kind: ClassVar[str] = "sql"

    expression: str
    tolerate: float = field(kw_only=True, default=0.0)
    """The share of all rows of which it may be untrue."""

    @property
    def subject(self) -> str:
        return " ".join(self.expression.split())

    def _check(self) -> None:
        if type(self.expression) is not str or not self.expression.strip():
            raise self._wrong("expression", "must be an expression such as price IS NULL OR price > 0")
        self._need_share("tolerate")


KINDS: Mapping[str, type[Rule]] = {
    rule.kind: rule
    for rule in (
        RowCount, LossBudget, DeleteBudget, ShareChanged, NullShare, OfType, Fresh, Allowed, Pattern, InRange,
        References, Unique, Sql,
    )
}  # fmt: skip

_SPAN = re.compile(r"[0-9]{1,5}[mhd]")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_PUBLICATION = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_NOT_IN_RE2 = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:=|!|<=|<!|P=|\()|\\[1-9])")


def shorten_name(text: str) -> str:
    """A name on one line, as long as a name may be."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_NAME_CHARS else line[: MAX_NAME_CHARS - 1] + "…"


def _place(limit: float | str) -> float:
    """Where a limit lies among limits of its kind."""
    return moment(limit).timestamp() if isinstance(limit, str) else limit


def value_type(value: object) -> ColumnType | None:
    """What a rule's value is: text, a number or a boolean; None for anything else."""
    if isinstance(value, bool):
        return ColumnType.BOOLEAN
    if isinstance(value, str):
        return ColumnType.TEXT
    return ColumnType.NUMBER if _is_number(value) else None


def moment(text: object) -> datetime:
    """A date or a time in ISO 8601, in UTC where it names no zone. Raises `ValueError` for other text."""
    if not isinstance(text, str):
        raise ValueError("it is no text")  # noqa: TRY004  callers tell any bad date by one error
    found = datetime.fromisoformat(text)
    return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)


def rule_from_json(value: object) -> Rule:
    """A rule as `Rule.to_json` made it, or as a person wrote it. Raises `InvalidRule`."""
    if not isinstance(value, Mapping):
        raise InvalidRule("rules", "rule", value, "must be an object with a kind")
    kind = KINDS.get(str(value.get("kind")))
    if kind is None:
        raise InvalidRule("rules", "kind", value.get("kind"), f"must be one of {', '.join(KINDS)}")
    known = {each.name for each in dataclasses.fields(kind)}
    given = {str(name): each for name, each in value.items() if name != "kind"}
    if unknown := sorted(set(given) - known):
        raise InvalidRule(
            kind.__name__, unknown[0], given[unknown[0]], f"is not among {', '.join(sorted(known))}"
        )
    required = {
        each.name
        for each in dataclasses.fields(kind)
        if each.default is each.default_factory is dataclasses.MISSING
    }
    if missing := sorted(required - set(given)):
        raise InvalidRule(kind.__name__, missing[0], None, "must be given")
    return kind(**given)


def checked_rules(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The rules of one gate. Raises `InvalidRule` where two have one name, or they are too many to travel."""
    found: tuple[Any, ...] = tuple(rules)
    for each in found:
        if not isinstance(each, Rule) or type(each) not in KINDS.values():
            raise InvalidRule("quality", "rules", each, "must be rules of winnow.quality.rules")
    names = [each.name for each in found]
    if repeated := next((name for name in names if names.count(name) > 1), None):
        raise InvalidRule(
            "quality", "name", repeated, "must be another for each rule; give one of them a name"
        )
    if len(found) > MAX_RULES:
        raise InvalidRule("quality", "rules", len(found), f"must be at most {MAX_RULES}")
    size = len(json.dumps(rules_to_json(found), ensure_ascii=False).encode())
    if size > MAX_RULES_BYTES:
        raise InvalidRule(
            "quality", "rules", size, f"must be at most {MAX_RULES_BYTES} bytes as JSON; shorten them"
        )
    return found


def rules_to_json(rules: Iterable[Rule]) -> list[dict[str, Any]]:
    """For the payload of CheckQuality."""
    return [rule.to_json() for rule in rules]


def rules_from_json(value: object) -> tuple[Rule, ...]:
    """The rules of a payload or a file. Raises `InvalidRule`."""
    if not isinstance(value, list):
        raise InvalidRule("quality", "rules", value, "must be a list of rules")
    return checked_rules(map(rule_from_json, value))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
