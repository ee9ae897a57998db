"""The alert of a run whose candidate the quality gate blocked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.alerts.content import MAX_RULES, AlertContent, BlockedVersion, BrokenRule, Event, Severity
from winnow.quality.judged import candidate_of, find_gate

if TYPE_CHECKING:
    from winnow.publish.published_set import PublishedSet
    from winnow.quality.result import GateResult


def find_blocked(published: PublishedSet, *, pipeline: str, run_id: str) -> AlertContent | None:
    """What to alert; None where the gate has written nothing down of the run's last candidate, or has let it through.

    Raises:
        DamagedDocument: a document of the publication cannot be read.
    """
    version = candidate_of(published, run_id)
    gate = find_gate(published, version) if version is not None else None
    if gate is None or not gate.blocked:
        return None
    return AlertContent(
        severity=Severity.CRITICAL,
        verdict=Event.BLOCKED.value,
        pipeline=pipeline,
        run_id=run_id,
        failures_file=gate.violations_file,
        blocked=_blocked(published, gate),
    )


def _blocked(published: PublishedSet, gate: GateResult) -> BlockedVersion:
    current, _ = published.current()
    return BlockedVersion(
        publication=gate.publication,
        version=gate.version,
        published=current.version if current else None,
        rules=tuple(
            BrokenRule(
                name=result.rule.name,
                reason=result.rule.reason,
                expected=result.expected,
                found=result.found,
                violations=result.violations,
                first_ids=result.first_ids,
            )
            for result in gate.blocked[:MAX_RULES]
        ),
        more_rules=max(0, len(gate.blocked) - MAX_RULES),
    )
