"""What the gate found: a version's `gate.json`, and the copy in the run's ledger that the run closer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from winnow.core.contract import Pointer
from winnow.core.document import listed, member, nested, nullable, required
from winnow.quality.rules import Rule, RuleSeverity, rule_from_json

MAX_FIRST_IDS = 5


class GateOutcome(StrEnum):
    """How a rule, or a gate, ended."""

    PASSED = "passed"
    WARNED = "warned"
    BLOCKED = "blocked"


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleResult:
    """What became of one rule."""

    rule: Rule
    outcome: GateOutcome
    expected: str
    """What the rule asks for, in words."""
    found: str
    """What the candidate has, in words; why the rule cannot be evaluated, where it cannot be."""
    evaluated: bool = True
    """Whether it could be evaluated. A rule that could not blocks, whatever its severity."""
    violations: int | None = None
    """Rows that violate it; None for a rule that is not about rows."""
    first_ids: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            rule=nested(value, "rule", rule_from_json),
            outcome=member(value, "outcome", GateOutcome),
            expected=required(value, "expected", str),
            found=required(value, "found", str),
            evaluated=required(value, "evaluated", bool),
            violations=nullable(value, "violations", int),
            first_ids=tuple(map(str, required(value, "first_ids", list))),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "rule": self.rule.to_json(),
            "outcome": self.outcome.value,
            "expected": self.expected,
            "found": self.found,
            "evaluated": self.evaluated,
            "violations": self.violations,
            "first_ids": list(self.first_ids),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class GateResult:
    """What became of a candidate at the gate. The same however often it is evaluated."""

    publication: str
    version: int
    run_id: str
    base: int | None
    """The version that stays published when the gate blocks; None where there is none."""
    rows: int
    results: tuple[RuleResult, ...]
    violations_file: Pointer | None = None
    """Every id that violates a rule, a JSON line each; None where there is none."""

    @property
    def outcome(self) -> GateOutcome:
        found = {result.outcome for result in self.results}
        return next(
            (each for each in (GateOutcome.BLOCKED, GateOutcome.WARNED) if each in found), GateOutcome.PASSED
        )

    @property
    def blocked(self) -> tuple[RuleResult, ...]:
        return tuple(result for result in self.results if result.outcome is GateOutcome.BLOCKED)

    @property
    def warned(self) -> tuple[RuleResult, ...]:
        return tuple(result for result in self.results if result.outcome is GateOutcome.WARNED)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` or `StageInputError` if a field is missing or wrong."""
        file = nullable(value, "violations_file", dict)
        return cls(
            publication=required(value, "publication", str),
            version=required(value, "version", int),
            run_id=required(value, "run_id", str),
            base=nullable(value, "base", int),
            rows=required(value, "rows", int),
            results=listed(value, "results", RuleResult.from_json),
            violations_file=None if file is None else Pointer.from_event(file, "violations_file"),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "publication": self.publication,
            "version": self.version,
            "run_id": self.run_id,
            "base": self.base,
            "outcome": self.outcome.value,
            "rows": self.rows,
            "results": [result.to_json() for result in self.results],
            "violations_file": self.violations_file.to_payload() if self.violations_file else None,
        }


def outcome_of(rule: Rule, *, violated: bool) -> GateOutcome:
    """The outcome of a rule that was evaluated."""
    if not violated:
        return GateOutcome.PASSED
    return GateOutcome.BLOCKED if rule.severity is RuleSeverity.BLOCK else GateOutcome.WARNED
