"""Outputs of different records that have one id: a stage hands each id on once, so the later record fails, and says whose id it is.

Outputs with the same id and the same data are one output. Ids that follow from the records' ids are distinct, as those are; so this is
asked only of stages whose workers make ids of their own. It streams: memory grows with the ids that occur more than once, and at most
`IDS_AT_ONCE` of them are held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import NamedTuple

from winnow.batch.plan import Plan, ids_of
from winnow.core.contract import Kind, new_run_id
from winnow.core.ranges import Ranges
from winnow.core.repeats import Repeats
from winnow.journal.evidence import Evidence
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import BY_SETTLE, OutputIds, read_output_ids
from winnow.journal.successes import SuccessEntry
from winnow.settlement.settlement import Settlement, settlements_up_to
from winnow.storage.ledger import Ledger

IDS_AT_ONCE = 500_000
"""Repeated ids in memory; where there are more, the lists of ids are read again for each such part."""
REPORTS_PER_OBJECT = 5_000


class Clash(NamedTuple):
    """A record whose output has an id that is taken."""

    ordinal: int
    output_id: str
    """Empty where only an output that it shares with another record has such an id."""
    owner: int
    """Ordinal of the record that has the id; the record itself if it gives the id twice."""


@dataclass(slots=True)
class _Owner:
    """The first output that has an id."""

    ordinal: int
    content: str


class OutputIdCheck:
    """Finds outputs whose id another output of the stage has, in the order in which they were written."""

    def __init__(self, ledger: Ledger, entries: Sequence[SuccessEntry]) -> None:
        self._ledger = ledger
        self._entries = entries
        self.same_outputs: dict[str, int] = {}
        """By key of the segment: its outputs that are the same as an earlier one."""

    def clashes(self) -> Iterator[tuple[SuccessEntry, list[Clash]]]:
        """Segments with the records in them whose outputs clash. A segment may come more than once, with other ids."""
        for suspects in self._suspects():
            owners: dict[str, _Owner] = {}
            for entry in self._entries:
                if found := self._in_entry(entry, suspects, owners):
                    yield entry, found

    def _suspects(self) -> Iterator[AbstractSet[int]]:
        """Hashes of ids that occur more than once, so many at a time as may be in memory."""
        with Repeats() as repeats:
            for entry in self._entries:
                repeats.add(i for i, _, _, _ in _lines(entry, read_output_ids(self._ledger, entry)))
            some: set[int] = set()
            for part in repeats.found_in_parts():
                some |= part
                if len(some) >= IDS_AT_ONCE:
                    yield some
                    some = set()
            if some:
                yield some

    def _in_entry(
        self, entry: SuccessEntry, suspects: AbstractSet[int], owners: dict[str, _Owner]
    ) -> list[Clash]:
        clashes: dict[int, Clash] = {}
        joins: list[Sequence[int]] = []
        for output_id, ordinal, content, joined in _lines(entry, read_output_ids(self._ledger, entry)):
            if len(joined) > 1:
                joins.append(joined)
            if hash(output_id) not in suspects:
                continue
            first = _Owner(ordinal, content)
            owner = owners.setdefault(output_id, first)
            if owner is first:
                continue
            if content and owner.content == content:
                self.same_outputs[entry.key] = self.same_outputs.get(entry.key, 0) + 1
                continue
            for each in joined or (ordinal,):
                clashes.setdefault(each, Clash(each, output_id, owner.ordinal))
        _spread(clashes, joins)
        return sorted(clashes.values())


def _lines(entry: SuccessEntry, side: OutputIds) -> Iterator[tuple[str, int, str, Sequence[int]]]:
    """The lines of a segment that count: id, ordinal, digest of the data where it is known, all ordinals where there are several."""
    contents: Sequence[str | None] = side.contents or [None] * len(side.ids)
    joins: Sequence[Sequence[int]] = side.joins or [()] * len(side.ids)
    for output_id, ordinal, content, joined in zip(side.ids, side.of, contents, joins, strict=True):
        if entry.accept is None or ordinal in entry.accept:
            yield output_id, ordinal, content or "", joined


def _spread(clashes: dict[int, Clash], joins: Sequence[Sequence[int]]) -> None:
    """Records that share an output fail together, since an output counts for all its records or for none."""
    grew = bool(clashes)
    while grew:
        grew = False
        for joined in joins:
            failed = next((each for each in joined if each in clashes), None)
            fresh = [each for each in joined if each not in clashes]
            if failed is not None and fresh:
                grew = True
                clashes.update((each, Clash(each, "", clashes[failed].owner)) for each in fresh)


def without_clashes(ledger: Ledger, plan: Plan, before: Settlement, evidence: Evidence) -> Evidence:
    """The evidence of an attempt, less the records whose outputs have ids that are taken: these failed, permanently.

    Args:
        ledger: where the stage run is journaled. Reports of those records are written there.
        plan: of the stage run.
        before: the settlement before; what it and earlier ones accepted stays.
        evidence: of the attempt.
    """
    if not evidence.entries:
        return evidence
    accepted: list[SuccessEntry] = []
    if before.attempt >= 0:
        accepted = [each for one in settlements_up_to(ledger, plan, before) for each in one.entries]
    check = OutputIdCheck(ledger, (*accepted, *evidence.entries))
    reports = _Reports(ledger, plan, before.attempt + 1)
    versions = {each.outputs.key: each.code_version for each in evidence.segments if each.outputs}
    refused: dict[str, Ranges] = {}
    for entry, clashes in check.clashes():
        refused[entry.key] = refused.get(entry.key, Ranges.empty()) | Ranges.of(c.ordinal for c in clashes)
        reports.add(clashes, code_version=versions[entry.key])
    clashed = Ranges.of(ordinal for ordinals in refused.values() for ordinal in ordinals)
    failed = dict(evidence.failed)
    if clashed:
        failed[Kind.PERMANENT] = failed.get(Kind.PERMANENT, Ranges.empty()) | clashed
    return replace(
        evidence,
        succeeded=evidence.succeeded - clashed,
        failed=failed,
        entries=tuple(_entries_without(ledger, evidence.entries, refused)),
        reports=(*reports.close(), *evidence.reports),
        clashed=clashed,
        same_outputs=sum(check.same_outputs.get(entry.key, 0) for entry in evidence.entries),
    )


def _entries_without(
    ledger: Ledger, entries: Iterable[SuccessEntry], refused: Mapping[str, Ranges]
) -> Iterator[SuccessEntry]:
    for entry in entries:
        if entry.key not in refused:
            yield entry
            continue
        of = [ordinal for _, ordinal, _, _ in _lines(entry, read_output_ids(ledger, entry))]
        accept = Ranges.of(of) - refused[entry.key]
        if accept:
            yield replace(entry, accept=accept, lines=sum(ordinal in accept for ordinal in of))


class _Reports:
    """Reports of records whose outputs clash. Each Settle writes to objects of its own, and the settlement that counts names its own."""

    def __init__(self, ledger: Ledger, plan: Plan, attempt: int) -> None:
        self._ledger = ledger
        self._plan = plan
        self._keys = plan.keys.attempt(attempt)
        self._invocation = f"{BY_SETTLE}-{new_run_id()}"
        self._waiting: dict[int, tuple[Clash, str]] = {}
        """With the version of the code that made the output: under the same code it would be refused again."""
        self._written: list[tuple[str, Ranges]] = []

    def add(self, clashes: Iterable[Clash], *, code_version: str) -> None:
        for clash in clashes:
            self._waiting.setdefault(clash.ordinal, (clash, code_version))
            if len(self._waiting) >= REPORTS_PER_OBJECT:
                self._write()

    def close(self) -> list[tuple[str, Ranges]]:
        """The objects that were written, and the ordinals that each is about."""
        if self._waiting:
            self._write()
        return self._written

    def _write(self) -> None:
        clashes, self._waiting = self._waiting, {}
        needed = Ranges.of({each for clash, _ in clashes.values() for each in (clash.ordinal, clash.owner)})
        names = dict(ids_of(self._ledger, self._plan, needed))
        key = self._keys.failures(self._invocation, len(self._written))
        reports = [self._report(clash, names, version) for clash, version in clashes.values()]
        write_reports(self._ledger, key, self._plan.stage, reports)
        self._written.append((key, Ranges.of(clashes)))

    @staticmethod
    def _report(clash: Clash, names: Mapping[int, str], code_version: str) -> FailureReport:
        if not clash.output_id:
            problem = (
                f"shares an output with a record whose output has an id of record {names[clash.owner]!r}"
            )
        elif clash.owner == clash.ordinal:
            problem = f"gives two different outputs the id {clash.output_id!r}"
        else:
            problem = f"its output has the id {clash.output_id!r}, which an output of record {names[clash.owner]!r} has"
        return FailureReport(
            ordinal=clash.ordinal,
            record_id=names[clash.ordinal],
            kind=Kind.PERMANENT,
            error_type="OutputIdTaken",
            message=f"{problem}; give each output an id of its own",
            code_version=code_version,
        )
