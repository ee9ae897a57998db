"""The simulator's bucket, state table, register and topic: what AWS promises, and what may go wrong at any call."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from math import inf
from typing import Any

from tests.simulation.world import CallRefused, World
from winnow.core.errors import LedgerConflict, LedgerObjectMissing, SourceChanged
from winnow.register.entry import Entry
from winnow.register.item import Summary
from winnow.register.table import Change, RegisterUnavailable, RunMark
from winnow.storage.state_table import Claim, Holder
from winnow.storage.store import HEAD_BYTES, Head, StoredObject
from winnow.testing import MemoryRegister, MemoryStateTable

LEDGER = "ledger"
SOURCE = "source"
CONTENDED = 8
"""Attempts at a change, as the real register makes them."""


class SimulatedStore:
    """Buckets: strongly consistent, whole objects, conditional writes."""

    def __init__(self, world: World) -> None:
        self.bucket = LEDGER
        self.objects: dict[tuple[str, str], bytes] = {}
        self._world = world

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        def change() -> None:
            if if_absent and (self.bucket, key) in self.objects:
                raise LedgerConflict(f"s3://{self.bucket}/{key} exists already")
            self.objects[self.bucket, key] = body

        conflict = LedgerConflict(f"s3://{self.bucket}/{key} exists already") if if_absent else None
        self._world.write(f"the write of {key}", change, conflict=conflict)

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        self.put(key, b"".join(pieces))

    def get(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> StoredObject:
        where = (bucket or self.bucket, key)
        found = self._world.read(f"the read of {key}", lambda: self.objects.get(where))
        if found is None:
            raise LedgerObjectMissing(f"s3://{bucket or self.bucket}/{key} does not exist")
        etag = _etag(found)
        if if_match and if_match != etag:
            raise SourceChanged(
                f"s3://{bucket or self.bucket}/{key} changed after the batch was fixed from it"
            )
        return StoredObject(body=found, etag=etag)

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        yield self.get(key, bucket=bucket, if_match=if_match).body

    def head(self, key: str, *, bucket: str | None = None) -> Head:
        found = self.get(key, bucket=bucket)
        return Head(start=found.body[:HEAD_BYTES], etag=found.etag, modified="")

    def keys(self, prefix: str) -> Iterator[str]:
        yield from self._world.read(
            f"the list of {prefix}",
            lambda: sorted(
                key for bucket, key in self.objects if bucket == self.bucket and key.startswith(prefix)
            ),
        )


def _etag(body: bytes) -> str:
    return f'"{zlib.crc32(body):08x}"'


class SimulatedStateTable(MemoryStateTable):
    """The state between runs."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def acquire_lock(self, pipeline: str, holder: Holder) -> Holder | None:
        take = super().acquire_lock
        return self._world.write("the taking of the lock", lambda: take(pipeline, holder))

    def take_over_lock(self, pipeline: str, holder: Holder, *, previous: Holder) -> bool:
        take = super().take_over_lock
        return self._world.write(
            "the taking over of the lock", lambda: take(pipeline, holder, previous=previous)
        )

    def release_lock(self, pipeline: str, execution: str) -> bool:
        release = super().release_lock
        return self._world.write("the release of the lock", lambda: release(pipeline, execution))

    def claim(self, event_id: str, claim: Claim) -> Claim:
        take = super().claim
        return self._world.write("the claim of an event", lambda: take(event_id, claim))

    def run_of(self, execution: str, candidate: str) -> str:
        name = super().run_of
        return self._world.write("the naming of a run", lambda: name(execution, candidate))

    def find_run(self, execution: str) -> str | None:
        find = super().find_run
        return self._world.read("the look-up of a run", lambda: find(execution))

    def mark(self, run_id: str, what: str) -> bool:
        mark = super().mark
        return self._world.write(f"the mark {what!r}", lambda: mark(run_id, what))

    def is_marked(self, run_id: str, what: str) -> bool:
        is_marked = super().is_marked
        return self._world.read(f"the look-up of the mark {what!r}", lambda: is_marked(run_id, what))


class SimulatedRegister(MemoryRegister):
    """The failure register: a change is written only over the version that it was made from."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def apply(
        self,
        pipeline: str,
        stage: str,
        record_ids: Iterable[str],
        change: Change,
        *,
        deadline: float = inf,  # noqa: ARG002  its clock is not the world's
    ) -> int:
        left = list(dict.fromkeys(record_ids))
        written = 0
        for _ in range(CONTENDED):
            if not left:
                return written
            try:
                found = self.read(pipeline, stage, left)
                changed = {i: new for i in left if (new := change(i, found.get(i))) is not None}
                lost = self._world.write(
                    f"the change of {len(changed)} failures on record of {stage}",
                    lambda: self._put_changed(pipeline, stage, changed, found),  # noqa: B023  called at once, or late with these
                )
            except CallRefused as error:
                raise RegisterUnavailable(f"the failure register cannot be changed: {error}") from error
            written += len(changed) - len(lost)
            left = lost
        raise RegisterUnavailable(f"{len(left)} entries of the failure register are contended for")

    def _put_changed(
        self, pipeline: str, stage: str, changed: Mapping[str, Entry], found: Mapping[str, Entry]
    ) -> list[str]:
        entries = self.entries.setdefault((pipeline, stage), {})
        lost = []
        for record_id, entry in changed.items():
            if entries.get(record_id) == found.get(record_id):
                entries[record_id] = entry
            else:
                lost.append(record_id)
        return lost

    def read(self, pipeline: str, stage: str, record_ids: Sequence[str]) -> dict[str, Entry]:
        read = super().read
        return self._world.read(
            f"the read of {len(record_ids)} failures on record of {stage}",
            lambda: read(pipeline, stage, record_ids),
        )

    def mark_run(self, pipeline: str, stage: str, mark: RunMark) -> None:
        note = super().mark_run
        self._world.write(f"the mark of a run of {stage}", lambda: note(pipeline, stage, mark))

    def runs_after(self, pipeline: str, stage: str, settled_at: str) -> Iterator[RunMark]:
        after = super().runs_after
        yield from self._world.read(
            f"the list of later runs of {stage}", lambda: list(after(pipeline, stage, settled_at))
        )

    def unresolved(self, pipeline: str, stage: str) -> Iterator[Summary]:
        unresolved = super().unresolved
        yield from self._world.read(
            f"the list of failures on record of {stage}", lambda: list(unresolved(pipeline, stage))
        )


class Topic:
    """SNS, as far as the announcer uses it."""

    def __init__(self, world: World) -> None:
        self.published: list[dict[str, Any]] = []
        """Alerts as programs get them."""
        self._world = world

    def publish(self, *, Message: str, **_: object) -> dict[str, str]:  # noqa: N803  boto3's name
        alert = json.loads(json.loads(Message)["lambda"])

        def change() -> dict[str, str]:
            self.published.append(alert)
            return {"MessageId": str(len(self.published))}

        return self._world.write(f"the alert {alert['verdict']}", change)
