"""Shows what the quality gate says of a version."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from scripts.display.publications import OUTCOME_STYLES
from winnow.alerts.shown_ids import shown_id

if TYPE_CHECKING:
    from rich.console import Console

    from winnow.quality.result import GateResult, RuleResult


def print_gate(gate: GateResult, console: Console, *, explain: bool) -> None:
    """A line for each rule.

    Args:
        gate: what it says.
        console: to print on.
        explain: also say why each rule is there, what it asks for, and which ids come first.
    """
    counts = Counter(result.outcome for result in gate.results)
    told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOME_STYLES if counts[outcome])
    console.print(
        Text.assemble(
            (f"version {gate.version} of {gate.publication}", "bold"),
            f", {gate.rows:,} rows, of run {gate.run_id}: ",
            (gate.outcome, OUTCOME_STYLES[gate.outcome]),
            f" ({told or 'no rule'})",
        ),
        soft_wrap=True,
    )
    for result in gate.results:
        _print_rule(result, console, explain=explain)


def _print_rule(result: RuleResult, console: Console, *, explain: bool) -> None:
    console.print(
        Text.assemble(
            "  ",
            (f"{result.outcome:<8}", OUTCOME_STYLES[result.outcome]),
            f"{result.rule.name}: {result.found}",
        ),
        soft_wrap=True,
    )
    if not explain:
        return
    ids = [f"first ids: {', '.join(map(shown_id, result.first_ids))}"] if result.first_ids else []
    severity = f"{result.rule.severity}s" if result.rule.severity == "block" else "only warns"
    for line in (f"because: {result.rule.reason}", f"expected: {result.expected}; {severity}", *ids):
        console.print(Text.assemble(" " * 10, (line, "dim")), soft_wrap=True)
