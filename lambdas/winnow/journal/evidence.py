"""The journal: append-only evidence of which ordinals of a batch are done, and how it is read.

A worker writes segments as it goes. A segment names the outcomes of records by their place in the batch, the object that holds their
outputs, and the digest of its batch. Readers believe the segments and nothing else.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial

from winnow.core.contract import Kind
from winnow.core.keys import AttemptKeys
from winnow.core.ranges import Ranges, union
from winnow.journal.segment import (
    BY_PLAN,
    MAX_REASONS,
    OTHER_REASONS,
    Segment,
    Stop,
    read_output_ids,
)
from winnow.journal.successes import SuccessEntry
from winnow.storage.ledger import Ledger


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the segments of one attempt prove, without false claims and repetitions."""

    succeeded: Ranges
    skipped: Ranges
    failed: Mapping[Kind, Ranges]
    """By the last report of each record that is not done; disjoint."""
    entries: tuple[SuccessEntry, ...]
    refused: int
    """Claims that were not believed: about other batches or records that are not in the order, or unreadable."""
    repeated: int
    """Records journaled more than once: harmless, each counts once."""
    warnings: int
    recovered: int
    """Records that failed and then succeeded within this attempt, in a second call of the worker."""
    skip_reasons: Mapping[str, int]
    warned: Mapping[str, int]
    stop: Stop | None
    """Of the last invocation that said why it stopped; None when none did."""
    cause: str
    horizon: int
    in_hand: Ranges
    segments: tuple[Segment, ...]
    """Those that were believed, in the order they were written."""
    reports: tuple[tuple[str, Ranges], ...] = ()
    """Newest first: the key of each object with reports of failures, and the ordinals that it is about."""
    clashed: Ranges = field(default_factory=Ranges.empty)
    """Records that were journaled as succeeded, and count as failed: an output of theirs has the id of another record's."""
    deleted: Ranges = field(default_factory=Ranges.empty)
    """Records whose outputs were journaled to hold a deletion."""
    same_outputs: int = 0
    """Outputs that are the same as another record's, id and data."""

    @property
    def invocations(self) -> Mapping[str, Stop | None]:
        """Calls of the worker that journaled, and why each stopped; None for one that never said."""
        return {
            segment.invocation: segment.stop for segment in self.segments if segment.invocation != BY_PLAN
        }

    @property
    def died(self) -> bool:
        """A call of the worker never said why it stopped: it was killed or is still running."""
        return any(stop is None for stop in self.invocations.values())

    @property
    def done(self) -> Ranges:
        return self.succeeded | self.skipped


READERS = 8
"""Segments fetched at once: S3's latency, not its bandwidth, is what reading a journal costs."""


def read_segments(ledger: Ledger, keys: AttemptKeys) -> Iterator[Segment | None]:
    """The segments of an attempt in key order; None for an invalid object."""
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        yield from pool.map(partial(read_segment, ledger), list(ledger.store.keys(keys.journal)))


def read_segment(ledger: Ledger, key: str) -> Segment | None:
    """The segment under a key; None for a damaged or invalid object."""
    try:
        return Segment.from_json(ledger.read_json(key))
    except (ValueError, zlib.error, RecursionError):
        return None


def fold(
    segments: Iterable[Segment | None], *, digest: str, order: Ranges, ledger: Ledger | None = None
) -> Evidence:
    """Work out what an attempt's segments prove.

    Args:
        segments: as `read_segments` yields them.
        digest: of the batch; a segment of another batch is refused.
        order: the ordinals this attempt was given; claims about others are refused.
        ledger: to read the `OutputIds` of a segment that counts in part; without it such a segment is left out.
    """
    refused = 0
    believed: list[Segment] = []
    for segment in segments:
        if segment is None or segment.batch != digest:
            refused += 1
        elif segment.failed and segment.failures_key is None:
            # A report is its reasons. Without them nobody tried these records, as far as anybody can tell.
            refused += len(segment.reported)
            believed.append(replace(segment, failed={}))
        else:
            believed.append(segment)
    believed.sort(key=lambda segment: (segment.written_at, segment.invocation, segment.sequence))

    claimed = union(segment.done for segment in believed)
    outside = claimed - order
    refused += len(outside) + sum(segment.lies for segment in believed)
    if outside or len(claimed) != sum(len(segment.succeeded) + len(segment.skipped) for segment in believed):
        accepted, repeated = _pick(believed, order, ledger)
    else:
        accepted, repeated = [(s, s.succeeded, s.skipped, _entry(s)) for s in believed], 0
    succeeded = union(part for _, part, _, _ in accepted)
    skipped = union(part for _, _, part, _ in accepted)

    failed, recovered = _last_reports(believed, order, succeeded | skipped)
    last = next((segment for segment in reversed(believed) if segment.stop), None)
    return Evidence(
        succeeded=succeeded,
        skipped=skipped,
        failed=failed,
        entries=tuple(entry for _, _, _, entry in accepted if entry),
        refused=refused,
        repeated=repeated,
        warnings=sum(segment.warnings for segment in believed),
        recovered=len(recovered),
        deleted=union(segment.deleted for segment in believed),
        skip_reasons=add_up(s.skip_reasons for s in believed),
        warned=add_up(s.warned for s in believed),
        stop=last.stop if last else None,
        cause=last.cause if last else "",
        horizon=max((segment.horizon for segment in believed), default=0),
        in_hand=union(segment.in_hand for segment in believed),
        segments=tuple(believed),
        reports=tuple((s.failures_key, s.reported) for s in reversed(believed) if s.failures_key),
    )


def add_up(tallies: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """The sum of several counts of reasons. The rarest beyond `MAX_REASONS` are counted as "other"."""
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally)
    others = total.pop(OTHER_REASONS, 0) + sum(count for _, count in total.most_common()[MAX_REASONS:])
    kept = dict(total.most_common(MAX_REASONS))
    return {**kept, OTHER_REASONS: others} if others else kept


def _last_reports(segments: list[Segment], order: Ranges, done: Ranges) -> tuple[dict[Kind, Ranges], Ranges]:
    """The records that are not done, by the kind that was reported last, and the reported records that are done."""
    by_kind = {kind: union(s.failed[kind] for s in segments if kind in s.failed) for kind in Kind}
    reported = union(by_kind.values())
    recovered = reported & done
    once = len(reported) == sum(len(ordinals) for s in segments for ordinals in s.failed.values())
    if not once:
        described = recovered
        last: dict[Kind, list[Ranges]] = {kind: [] for kind in Kind}
        for segment in reversed(segments):
            for kind, ordinals in segment.failed.items():
                last[kind].append(ordinals - described)
                described = described | ordinals
        by_kind = {kind: union(parts) for kind, parts in last.items()}
    failed = {kind: left for kind, ordinals in by_kind.items() if (left := (ordinals - recovered) & order)}
    return failed, recovered


Accepted = tuple[Segment, Ranges, Ranges, SuccessEntry | None]


def _entry(segment: Segment) -> SuccessEntry | None:
    outputs = segment.outputs
    return SuccessEntry.of(outputs, lines=outputs.lines) if outputs else None


def _pick(segments: list[Segment], order: Ranges, ledger: Ledger | None) -> tuple[list[Accepted], int]:
    """Where segments overlap (a zombie beside its successor), each record counts once, in the first segment that names it."""
    covered = Ranges.empty()
    repeated = 0
    accepted: list[Accepted] = []
    for segment in segments:
        done = segment.done
        fresh = (done & order) - covered
        repeated += len(done & covered)
        if fresh == done:
            accepted.append((segment, segment.succeeded, segment.skipped, _entry(segment)))
        elif not fresh or segment.whole or (segment.outputs and ledger is None):
            continue
        else:
            succeeded = segment.succeeded & fresh
            accepted.append((segment, succeeded, segment.skipped & fresh, _part(segment, succeeded, ledger)))
        covered = covered | fresh
    return accepted, repeated


def _part(segment: Segment, succeeded: Ranges, ledger: Ledger | None) -> SuccessEntry | None:
    if segment.outputs is None or ledger is None:
        return None
    written = read_output_ids(ledger, segment.outputs)
    lines = sum(ordinal in succeeded for ordinal in written.of)
    return SuccessEntry.of(segment.outputs, lines=lines, accept=succeeded)
