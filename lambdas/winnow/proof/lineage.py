"""Where records came from: from the stage in which they failed up to the records of an earlier stage.

Read from what each stage left behind: the rows of its source, the lists of ids beside the outputs of the stage before, and the
selection that a replay was started with. Costs what lies between, whatever the number of records.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from winnow.batch.opening import open_source
from winnow.batch.plan import Plan, find_ids, read_plan
from winnow.batch.selection import Selection, SelectionPart
from winnow.batch.successes import read_manifest
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.evidence import read_segments
from winnow.journal.segment import read_output_ids
from winnow.proof.output_lines import origins_of_outputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from winnow.journal.successes import SuccessEntry
    from winnow.storage.ledger import Ledger

SELECTION = "selection"
SUCCESSES = "successes"


class Place(NamedTuple):
    """A record as one stage run was given it."""

    run_id: str
    stage: str
    ordinal: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a record was before."""

    places: tuple[Place, ...]
    """Several where an output joins records; none where it cannot be told."""
    problem: str = ""
    """Why it cannot, in words."""


class Lineage:
    """Follows records upwards; reads each plan, manifest and list of ids once."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._plans: dict[tuple[str, str], Plan] = {}

    def plan(self, run_id: str, stage: str) -> Plan:
        """Raises `LedgerObjectMissing` when the stage was never planned, or its evidence has expired."""
        key = (run_id, stage)
        if key not in self._plans:
            self._plans[key] = read_plan(self._ledger, StageKeys(run_id, stage))
        return self._plans[key]

    def origins(self, places: Iterable[Place], stage: str) -> dict[Place, Origin]:
        """The records of an earlier stage that these were made of, in the run that was not a replay."""
        asked = list(dict.fromkeys(places))
        parents: dict[Place, Origin] = {}
        pending = set(asked)
        while pending:
            for (run_id, at), ordinals in _grouped(pending).items():
                parents.update(self._parents(run_id, at, ordinals, stage))
            pending = {
                place
                for each in pending
                for place in parents[each].places
                if place != each and place not in parents
            }
        return {place: _settled(place, parents) for place in asked}

    def chain(self, place: Place) -> Iterator[tuple[Place, ...]]:
        """Generation by generation upwards, beginning with the record itself."""
        here: tuple[Place, ...] = (place,)
        while here:
            yield here
            above: dict[Place, None] = {}
            for (run_id, stage), ordinals in _grouped(here).items():
                for origin in self._parents(run_id, stage, ordinals, None).values():
                    above.update(dict.fromkeys(origin.places))
            here = tuple(above)

    def _parents(
        self, run_id: str, stage: str, ordinals: Sequence[int], wanted: str | None
    ) -> dict[Place, Origin]:
        """One step up; a place that is at its end is its own parent, unless nothing particular is wanted."""
        here = [Place(run_id, stage, ordinal) for ordinal in ordinals]
        try:
            plan = self.plan(run_id, stage)
            kind = plan.source.format
            if kind == SELECTION:
                found = self._in_selection(plan, ordinals)
            elif stage == wanted:
                return {place: Origin(places=(place,)) for place in here}
            elif kind == SUCCESSES:
                found = self._in_successes(plan, ordinals)
            else:
                problem = f"its lineage ends at {stage}: run {run_id} began there, with a list"
                return {place: Origin(places=(), problem=problem) for place in here}
        except LedgerObjectMissing:
            gone = f"the evidence of run {run_id} is no longer in the ledger"
            return {place: Origin(places=(), problem=gone) for place in here}
        nothing = Origin(places=(), problem=f"stage {stage} of run {run_id} was given no row for it")
        return {
            place: Origin(places=tuple(above)) if (above := found.get(place.ordinal)) else nothing
            for place in here
        }

    def _in_selection(self, plan: Plan, ordinals: Sequence[int]) -> dict[int, list[Place]]:
        pointer = plan.source.pointer
        body = self._ledger.store.get(pointer.key, bucket=pointer.bucket).body
        selection = Selection.from_bytes(body)
        found: dict[int, list[Place]] = {}
        rows = _rows(plan, ordinals)
        row, ordinal = next(rows, (-1, -1))
        first = 0
        for part in selection.parts:
            last = first + len(part.ordinals)
            wanted: dict[int, int] = {}
            while ordinal >= 0 and row < last:
                wanted[row - first] = ordinal
                row, ordinal = next(rows, (-1, -1))
            for rank, theirs in _nth(part.ordinals, wanted):
                found[wanted[rank]] = [Place(part.run_id, part.stage, theirs)]
            first = last
        return found

    def _in_successes(self, plan: Plan, ordinals: Sequence[int]) -> dict[int, list[Place]]:
        manifest = read_manifest(self._ledger.store, plan.source.pointer)
        before = self.plan(manifest.run_id, manifest.stage)
        joined = self._joined(before)
        found: dict[int, list[Place]] = {}
        for entry, lines in _entries(manifest.entries, _rows(plan, ordinals)):
            of = read_output_ids(self._ledger, entry).of
            numbers: Sequence[int] = range(len(of))
            if entry.accept is not None:
                accept = entry.accept
                numbers = [number for number, ordinal in enumerate(of) if ordinal in accept]
            if entry.key in joined:
                self._through_join(before, entry, numbers, lines, found)
                continue
            for line, ordinal in lines:
                found[ordinal] = [Place(before.run_id, before.stage, of[numbers[line]])]
        return found

    def _joined(self, plan: Plan) -> frozenset[str]:
        """Output segments of a stage whose lines may each join several records."""
        attempts = set(map(plan.keys.attempt_of, self._ledger.store.keys(plan.keys.attempts)))
        return frozenset(
            segment.outputs.key
            for attempt in sorted(attempts)
            for segment in read_segments(self._ledger, plan.keys.attempt(attempt))
            if segment and segment.whole and segment.outputs
        )

    def _through_join(
        self,
        before: Plan,
        entry: SuccessEntry,
        numbers: Sequence[int],
        lines: Iterable[tuple[int, int]],
        found: dict[int, list[Place]],
    ) -> None:
        """Only a joined output's own line names all records that are in it, and by their ids."""
        origins = [ids for _, ids in origins_of_outputs(self._ledger, entry)]
        of = {ordinal: origins[numbers[line]] for line, ordinal in lines}
        wanted = {i for ids in of.values() for i in ids}
        places = {i: n for n, i in find_ids(self._ledger, before, wanted)}
        for ordinal, ids in of.items():
            found[ordinal] = [Place(before.run_id, before.stage, places[i]) for i in ids if i in places]


def rows_of(ledger: Ledger, plan: Plan, ordinals: Ranges) -> Iterator[tuple[int, str, Any]]:
    """Ordinals, and the ids and data that the stage's source has for them."""
    source = open_source(ledger.store, plan.source)
    for chunk in source.chunks(plan.runs(ordinals)):
        for ordinal, row in enumerate(chunk.rows, chunk.ordinal):
            try:
                record_id, data, *_ = source.decode(row)
            except Exception:  # noqa: BLE001, S112  it failed because it cannot be decoded
                continue
            yield ordinal, record_id, data


def parts_of(places: Iterable[Place]) -> tuple[SelectionPart, ...]:
    """Places as a replay takes them: by run, the latest first, so that of one id that comes twice the newest counts."""
    return tuple(
        SelectionPart(run_id=run_id, stage=stage, ordinals=Ranges.of(ordinals))
        for (run_id, stage), ordinals in sorted(_grouped(places).items(), reverse=True)
    )


def _grouped(places: Iterable[Place]) -> dict[tuple[str, str], list[int]]:
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for place in places:
        groups[place.run_id, place.stage].append(place.ordinal)
    return {key: sorted(ordinals) for key, ordinals in groups.items()}


def _rows(plan: Plan, ordinals: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Rows of the source and the ordinals that they became, ascending."""
    for run in plan.runs(Ranges.of(ordinals)):
        for offset in range(run.length):
            yield run.row + offset, run.ordinal + offset


def _entries(
    entries: Iterable[SuccessEntry], rows: Iterator[tuple[int, int]]
) -> Iterator[tuple[SuccessEntry, list[tuple[int, int]]]]:
    """Output segments with those of their lines that are rows asked for: `(line, ordinal)`."""
    row, ordinal = next(rows, (-1, -1))
    first = 0
    for entry in entries:
        lines: list[tuple[int, int]] = []
        while 0 <= row < first + entry.lines:
            lines.append((row - first, ordinal))
            row, ordinal = next(rows, (-1, -1))
        if lines:
            yield entry, lines
        if row < 0:
            return
        first += entry.lines


def _nth(ordinals: Ranges, ranks: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Ascending ranks, and the ordinals that have them."""
    pairs = ordinals.pairs()
    start, stop = next(pairs, (0, 0))
    before = 0
    for rank in ranks:
        while rank >= before + stop - start:
            before += stop - start
            start, stop = next(pairs)
        yield rank, start + rank - before


def _settled(place: Place, parents: Mapping[Place, Origin]) -> Origin:
    """Follow a place to its ends."""
    ends: dict[Place, None] = {}
    problem = ""
    stack = [place]
    while stack:
        here = stack.pop()
        origin = parents[here]
        problem = problem or origin.problem
        for above in origin.places:
            if above == here:
                ends[here] = None
            else:
                stack.append(above)
    if problem:  # part of what a record was made of is not enough
        return Origin(places=(), problem=problem)
    return Origin(places=tuple(ends))
