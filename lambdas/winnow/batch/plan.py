"""The plan of a stage run: the batch as every attempt, reader and prover knows it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from winnow.batch.rows import RowSpan, SourceRef, runs_of
from winnow.core.document import nested, ranges, required
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.storage.ledger import Ledger, decompress

BLOCK_IDS = 50_000
"""Ids per object of the batch list: about a megabyte before compression, so any id is one small read away."""


class Digest:
    """The digest of a batch's ids, in order, block by block."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, ids: list[str]) -> None:
        self._hash.update(json.dumps(ids).encode())

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The batch as Plan fixed it: enough to find any record again. Only its ranges grow with the batch."""

    run_id: str
    pipeline: str
    stage: str
    batch_id: str
    """Folder of the list of ids. Each call of Plan writes to one of its own, so a slow one cannot change the list of another."""
    digest: str
    """Of the list of ids. A journal with another digest is not about this batch."""
    count: int
    """Distinct records in the batch."""
    source: SourceRef
    dropped: Ranges
    """Rows of the source that are not in the batch: blank lines, duplicates, superseded rows, ids not asked for."""
    duplicates: int
    """Rows that repeat an id with the same content."""
    superseded: int
    """Rows that repeat an id with other content, where the pipeline is set to take the first or the last."""
    conflicts: int
    """Rejected rows that repeat an id with other content."""
    rejected: Ranges
    """Ordinals that no worker is given: unreadable rows, unusable ids, conflicts, ids asked for that the source does not have."""
    subset: bool
    """Only some of the source's records were asked for."""
    numbered_ids: bool
    """Some ids hold a `#`, so they may be those that outputs of a generator are given, `ID#1`."""
    lost_upstream: int
    """Records the run had lost before this stage."""
    created_at: str

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Plan:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(
            run_id=required(value, "run_id", str),
            pipeline=required(value, "pipeline", str),
            stage=required(value, "stage", str),
            batch_id=required(value, "batch_id", str),
            digest=required(value, "digest", str),
            count=required(value, "count", int),
            source=nested(value, "source", SourceRef.from_json),
            dropped=ranges(value, "dropped"),
            duplicates=required(value, "duplicates", int),
            superseded=required(value, "superseded", int),
            conflicts=required(value, "conflicts", int),
            rejected=ranges(value, "rejected"),
            subset=required(value, "subset", bool),
            numbered_ids=required(value, "numbered_ids", bool),
            lost_upstream=required(value, "lost_upstream", int),
            created_at=required(value, "created_at", str),
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "run_id": self.run_id,
            "pipeline": self.pipeline,
            "stage": self.stage,
            "batch_id": self.batch_id,
            "digest": self.digest,
            "count": self.count,
            "source": self.source.to_json(),
            "dropped": self.dropped.to_json(),
            "duplicates": self.duplicates,
            "superseded": self.superseded,
            "conflicts": self.conflicts,
            "rejected": self.rejected.to_json(),
            "subset": self.subset,
            "numbered_ids": self.numbered_ids,
            "lost_upstream": self.lost_upstream,
            "created_at": self.created_at,
        }

    @property
    def keys(self) -> StageKeys:
        return StageKeys(self.run_id, self.stage)

    @property
    def everything(self) -> Ranges:
        return Ranges.span(0, self.count)

    @property
    def blocks(self) -> range:
        """Numbers of the objects that hold the batch's ids."""
        return range(-(-self.count // BLOCK_IDS))

    def block_key(self, block: int) -> str:
        """The object that holds a block of the batch's ids."""
        return self.keys.batch(self.batch_id, block)

    def runs(self, ordinals: Ranges) -> Iterator[RowSpan]:
        """Where ordinals lie in the source."""
        return runs_of(ordinals, self.dropped)


def read_plan(ledger: Ledger, keys: StageKeys) -> Plan:
    """The plan of a stage run.

    Raises:
        LedgerObjectMissing: it was never planned.
        DamagedDocument: the plan cannot be read.
    """
    return ledger.read(keys.plan, Plan.from_json)


def find_plan(ledger: Ledger, keys: StageKeys) -> Plan | None:
    """The plan of a stage run that may not have been planned."""
    return ledger.find(keys.plan, Plan.from_json)


def blocks_of(ledger: Ledger, plan: Plan, among: Ranges | None = None) -> Iterator[tuple[int, list[str]]]:
    """The batch's ids, one block in memory at a time.

    Args:
        ledger: where the plan is.
        plan: of the stage run.
        among: read only the blocks that hold one of these ordinals; None for all blocks.

    Yields:
        The ordinal of the block's first id, and the block's ids.
    """
    for block in plan.blocks:
        first = block * BLOCK_IDS
        if among is None or among.within(first, first + BLOCK_IDS):
            yield first, ledger.read_json(plan.block_key(block))


def ids_of(ledger: Ledger, plan: Plan, ordinals: Ranges) -> Iterator[tuple[int, str]]:
    """Ids by ordinal, reading only the blocks that are needed."""
    block, ids = -1, []
    for ordinal in ordinals:
        if ordinal // BLOCK_IDS != block:
            block = ordinal // BLOCK_IDS
            ids = ledger.read_json(plan.block_key(block))
        yield ordinal, ids[ordinal % BLOCK_IDS]


def find_ids(
    ledger: Ledger, plan: Plan, wanted: AbstractSet[str], among: Ranges | None = None
) -> Iterator[tuple[int, str]]:
    """Those of some ids that the batch has, with their ordinals, ascending.

    An id comes twice if Plan made up the same id for a row that it rejected.

    Args:
        ledger: where the plan is.
        plan: of the stage run.
        wanted: the ids.
        among: look at these ordinals only; None for the whole batch.
    """
    for first, ids in blocks_of(ledger, plan, among):
        if not wanted.isdisjoint(ids):
            for ordinal, record_id in enumerate(ids, first):
                if record_id in wanted and (among is None or ordinal in among):
                    yield ordinal, record_id


def find_id(ledger: Ledger, plan: Plan, record_id: str) -> int | None:
    """The ordinal of an id; None if the batch does not have it."""
    wanted = json.dumps(record_id, ensure_ascii=False).encode("utf-8", "replace")
    for block in plan.blocks:
        body = decompress(ledger.store.get(plan.block_key(block)).body)
        if wanted in body:
            ids: list[str] = json.loads(body)
            if record_id in ids:
                return block * BLOCK_IDS + ids.index(record_id)
    return None
