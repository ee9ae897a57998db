"""Which failures may be replayed, and why others may not. Pure: facts in, decision out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from winnow.core.contract import Kind
from winnow.proof.lineage import Place
from winnow.register.entry import Status
from winnow.register.item import Summary


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryFacts:
    """What is known of an entry besides what the register says."""

    places: tuple[Place, ...] = ()
    """As what the stage to start from knows the record."""
    lineage_problem: str = ""
    rejected: bool = False
    """There it was no record: an unreadable row, an id that cannot be one, or one that was not in the source."""
    source_changed: bool | None = None
    """Whether its source object is another than the one listed when it failed; None when nothing tells."""
    newer_run: str = ""
    """A later run that was given the changed object."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a replay is allowed to take on."""

    first_stage: str
    """It reads its source as it is now; later ones are given what was made from it then."""
    code_versions: Mapping[str, str]
    """Deployed now, by stage."""
    start_at: str = ""
    """The stage to start from; empty for the one that each record failed in."""
    force: bool = False
    waived: bool = False
    """Waived failures were asked for by status or by id."""


@dataclass(slots=True)
class LeftOut:
    """Records that are not replayed, by reason."""

    by_reason: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, record_id: str) -> None:
        self.by_reason.setdefault(reason, []).append(record_id)

    def __len__(self) -> int:
        return sum(map(len, self.by_reason.values()))


def refusal(entry: Summary, facts: EntryFacts, rules: Rules) -> str:
    """Why an entry is not replayed, apart from who holds it; empty when it may be."""
    start = rules.start_at or entry.stage
    if entry.status is Status.RESOLVED:
        return "already resolved"
    if entry.status is Status.WAIVED and not rules.waived:
        return "waived; add --status waived to replay them all the same"
    if facts.lineage_problem:
        return facts.lineage_problem
    if facts.rejected:
        return (
            "no record that could be replayed: a row that cannot be read, or whose id is unusable or taken; "
            "correct the list and run it again"
        )
    if start != rules.first_stage and facts.source_changed and facts.newer_run:
        return f"superseded: the source object changed since, and run {facts.newer_run} has it; --from start reads it as it is now"
    if _would_fail_again(entry, facts, rules, start):
        return (
            f"permanent under the code that is deployed ({entry.code_version}); mend it, or use --from an earlier stage "
            "or --force"
        )
    return ""


def _would_fail_again(entry: Summary, facts: EntryFacts, rules: Rules, start: str) -> bool:
    """Same code, same input, and no luck involved.

    From an earlier stage the input is made anew. The first stage's input is the source itself, which may have been corrected.
    """
    same_input = start == entry.stage and not (start == rules.first_stage and facts.source_changed)
    same_code = entry.code_version == rules.code_versions.get(entry.stage, "")
    return entry.kind == Kind.PERMANENT and same_input and same_code and not rules.force
