"""The journal: append-only evidence of which ordinals of a batch are done, and how it is read.

A worker writes segments as it goes. A segment names what became of records by their place in the batch, the object that holds
their outputs, and the digest of the batch it speaks of. Whoever reads believes the segments, and nothing else.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, ClassVar

from winnow.contract import Kind
from winnow.errors import shorten
from winnow.keys import AttemptKeys
from winnow.ledger import Ledger
from winnow.ranges import Ranges, union

BY_PLAN = "plan"
"""The invocation under whose name Plan journals what no worker is given."""


class Stop(StrEnum):
    """Why a worker stopped, told in its last segment."""

    END = "end"
    """Every record of its order was taken."""
    TIME = "time"
    """Little time was left."""
    DEPENDENCY = "dependency"
    """So many records in a row failed transiently that the other side must be down."""
    ERROR = "error"
    """Something that is no record's fault escaped: setup, or reading the input."""


_REQUIRED: Any = object()


def _field(value: Mapping[str, Any], name: str, kind: type, default: Any = _REQUIRED) -> Any:
    """A field of a document, of exactly this type; counts are not negative. Raises ValueError."""
    found: Any = value.get(name, default)
    if found is None and default is None:
        return None
    if type(found) is not kind or (type(found) is int and found < 0):
        raise ValueError(f"`{name}` must be of type {kind.__name__}, got: {shorten(found)}")
    return found


def _counts(value: Mapping[str, Any], name: str) -> dict[str, int]:
    found: dict[str, int] = _field(value, name, dict, {})
    return {text: _field(found, text, int) for text in found}


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSegment:
    """An object of output lines and its sidecar of ids."""

    key: str
    ids_key: str
    lines: int

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> OutputSegment:
        return cls(
            key=_field(value, "key", str),
            ids_key=_field(value, "ids_key", str),
            lines=_field(value, "lines", int),
        )

    def to_json(self) -> dict[str, Any]:
        return {"key": self.key, "ids_key": self.ids_key, "lines": self.lines}


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One entry of the journal."""

    batch: str
    """Digest of the batch whose ordinals these are."""
    invocation: str
    sequence: int
    succeeded: Ranges
    skipped: Ranges
    failed: Mapping[Kind, Ranges]
    """Reports: they add reasons, they never decide."""
    outputs: OutputSegment | None = None
    failures_key: str | None = None
    horizon: int = 0
    """Ordinals below this may be in hand before the next segment is written; bounds whom a death can be blamed on."""
    in_hand: Ranges = field(default_factory=Ranges.empty)
    """Records that were being worked on when time ran out."""
    warnings: int = 0
    skip_reasons: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)
    """Warnings by text; a number of different ones, then "other"."""
    lies: int = 0
    """Claims of a batch worker about records it was not given."""
    stop: Stop | None = None
    cause: str = ""
    """What the worker stopped for, in words, for `dependency` and `error`."""
    whole: bool = False
    """Outputs join several records, so the segment counts as a whole or not at all."""
    written_at: str = ""

    @classmethod
    def from_json(cls, value: object) -> Segment:
        """Raises ValueError when it is no segment: whoever reads a journal must survive whatever lies in its folder."""
        if not isinstance(value, dict):
            raise ValueError("a segment must be an object")  # noqa: TRY004  all that is no segment is one error
        succeeded, skipped = Ranges.from_json(value.get("succeeded")), Ranges.from_json(value.get("skipped"))
        if succeeded & skipped:
            raise ValueError("a record must not be both succeeded and skipped")
        outputs = _field(value, "outputs", dict, None)
        stop = _field(value, "stop", str, None)
        return cls(
            batch=_field(value, "batch", str),
            invocation=_field(value, "invocation", str),
            sequence=_field(value, "sequence", int),
            succeeded=succeeded,
            skipped=skipped,
            failed={
                Kind(kind): Ranges.from_json(ordinals)
                for kind, ordinals in _field(value, "failed", dict).items()
            },
            outputs=None if outputs is None else OutputSegment.from_json(outputs),
            failures_key=_field(value, "failures_key", str, None),
            horizon=_field(value, "horizon", int, 0),
            in_hand=Ranges.from_json(value.get("in_hand", [])),
            warnings=_field(value, "warnings", int, 0),
            skip_reasons=_counts(value, "skip_reasons"),
            warned=_counts(value, "warned"),
            lies=_field(value, "lies", int, 0),
            stop=None if stop is None else Stop(stop),
            cause=_field(value, "cause", str, ""),
            whole=_field(value, "whole", bool, False),
            written_at=_field(value, "written_at", str, ""),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "batch": self.batch,
            "invocation": self.invocation,
            "sequence": self.sequence,
            "succeeded": self.succeeded.to_json(),
            "skipped": self.skipped.to_json(),
            "failed": {kind.value: ordinals.to_json() for kind, ordinals in self.failed.items() if ordinals},
            "outputs": None if self.outputs is None else self.outputs.to_json(),
            "failures_key": self.failures_key,
            "horizon": self.horizon,
            "in_hand": self.in_hand.to_json(),
            "warnings": self.warnings,
            "skip_reasons": dict(self.skip_reasons),
            "warned": dict(self.warned),
            "lies": self.lies,
            "stop": self.stop,
            "cause": self.cause,
            "whole": self.whole,
            "written_at": self.written_at,
        }

    @property
    def done(self) -> Ranges:
        return self.succeeded | self.skipped

    @property
    def reported(self) -> Ranges:
        """Everything this segment gives a reason of failure for."""
        return union(self.failed.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessEntry:
    """An output segment as a reader of successes sees it."""

    key: str
    ids_key: str
    lines: int
    """Lines that count."""
    accept: Ranges | None = None
    """Ordinals whose lines count, where another segment vouches for the rest; None for all."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuccessEntry:
        accept = value.get("accept")
        return cls(
            key=value["key"],
            ids_key=value["ids_key"],
            lines=value["lines"],
            accept=None if accept is None else Ranges.from_json(accept),
        )

    def to_json(self) -> dict[str, Any]:
        entry: dict[str, Any] = {"key": self.key, "ids_key": self.ids_key, "lines": self.lines}
        if self.accept is not None:
            entry["accept"] = self.accept.to_json()
        return entry


@dataclass(frozen=True, slots=True, kw_only=True)
class SuccessManifest:
    """What a stage hands on: pointers to its output segments, in the order they were written."""

    run_id: str
    stage: str
    records: int
    """Input records that succeeded."""
    lines: int
    """Outputs, which are the next stage's rows."""
    lost_in_run: int
    """Failed so far in this run, this stage included."""
    entries: tuple[SuccessEntry, ...]

    MAGIC: ClassVar[bytes] = b'{"winnow":"successes/1",'

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SuccessManifest:
        if value["winnow"] != "successes/1":
            raise ValueError(f"unknown format of successes: {value['winnow']}")
        return cls(
            run_id=value["run_id"],
            stage=value["stage"],
            records=value["records"],
            lines=value["lines"],
            lost_in_run=value["lost_in_run"],
            entries=tuple(SuccessEntry.from_json(entry) for entry in value["entries"]),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "winnow": "successes/1",
            "run_id": self.run_id,
            "stage": self.stage,
            "records": self.records,
            "lines": self.lines,
            "lost_in_run": self.lost_in_run,
            "entries": [entry.to_json() for entry in self.entries],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the segments of one attempt prove, after lies and repetitions were taken out."""

    succeeded: Ranges
    skipped: Ranges
    failed: Mapping[Kind, Ranges]
    """By the last report of each record that is not done; disjoint."""
    entries: tuple[SuccessEntry, ...]
    refused: int
    """Claims that were not believed: foreign batches, records not in the order, garbage."""
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

    @property
    def invocations(self) -> Mapping[str, Stop | None]:
        """Calls of the worker that journaled, and why each stopped; None for one that never said."""
        return {
            segment.invocation: segment.stop for segment in self.segments if segment.invocation != BY_PLAN
        }

    @property
    def died(self) -> bool:
        """A call of the worker never said why it stopped: it was killed, or runs still."""
        return any(stop is None for stop in self.invocations.values())

    @property
    def done(self) -> Ranges:
        return self.succeeded | self.skipped


READERS = 8
"""Segments fetched at once: S3's latency, not its bandwidth, is what reading a journal costs."""


def read_segments(ledger: Ledger, keys: AttemptKeys) -> Iterator[Segment | None]:
    """The segments of an attempt in key order; None for an object that is none."""
    with ThreadPoolExecutor(max_workers=READERS) as pool:
        yield from pool.map(partial(_read_segment, ledger), list(ledger.store.keys(keys.journal)))


def _read_segment(ledger: Ledger, key: str) -> Segment | None:
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
        digest: of the batch; a segment that speaks of another is refused.
        order: the ordinals this attempt was given; claims about others are refused.
        ledger: to look up a sidecar where a segment counts in part; without it such a segment is left out.
    """
    refused = 0
    believed: list[Segment] = []
    for segment in segments:
        if segment is None or segment.batch != digest:
            refused += 1
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
        skip_reasons=add_up(s.skip_reasons for s in believed),
        warned=add_up(s.warned for s in believed),
        stop=last.stop if last else None,
        cause=last.cause if last else "",
        horizon=max((segment.horizon for segment in believed), default=0),
        in_hand=union(segment.in_hand for segment in believed),
        segments=tuple(believed),
    )


MAX_REASONS = 50
"""Different reasons of skips and warnings that are told apart: some workers put an id into each."""
OTHER_REASONS = "other"


def add_up(tallies: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Tallies of reasons as one, the rarest of too many as "other"."""
    total: Counter[str] = Counter()
    for tally in tallies:
        total.update(tally)
    others = total.pop(OTHER_REASONS, 0) + sum(count for _, count in total.most_common()[MAX_REASONS:])
    kept = dict(total.most_common(MAX_REASONS))
    return {**kept, OTHER_REASONS: others} if others else kept


def _last_reports(segments: list[Segment], order: Ranges, done: Ranges) -> tuple[dict[Kind, Ranges], Ranges]:
    """Each record that is not done under the kind it was last reported with; and those reported that are done."""
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
    return SuccessEntry(key=outputs.key, ids_key=outputs.ids_key, lines=outputs.lines) if outputs else None


def _pick(segments: list[Segment], order: Ranges, ledger: Ledger | None) -> tuple[list[Accepted], int]:
    """Where segments overlap (a zombie beside its successor), let each record count once, from the first that vouches."""
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
    of = ledger.read_json(segment.outputs.ids_key)["of"]
    lines = sum(ordinal in succeeded for ordinal in of)
    return SuccessEntry(
        key=segment.outputs.key, ids_key=segment.outputs.ids_key, lines=lines, accept=succeeded
    )
