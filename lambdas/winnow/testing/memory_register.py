"""The failure register in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from winnow.register.entry import Entry, Status
from winnow.register.item import Summary, UnresolvedEntry
from winnow.register.table import Change, RegisterTable, RunMark


class MemoryRegister(RegisterTable):
    """The failure register in memory: the same promises, no network."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], dict[str, Entry]] = {}
        """By pipeline and stage, then by record id."""
        self.marks: dict[tuple[str, str], set[RunMark]] = {}
        """By pipeline and stage."""
        self._changing = threading.Lock()

    def apply(
        self,
        pipeline: str,
        stage: str,
        record_ids: Iterable[str],
        change: Change,
        *,
        deadline: float = inf,  # noqa: ARG002  nothing takes time here
    ) -> int:
        entries = self.entries.setdefault((pipeline, stage), {})
        written = 0
        for record_id in dict.fromkeys(record_ids):
            with self._changing:
                changed = change(record_id, entries.get(record_id))
                if changed is not None:
                    entries[record_id] = changed
                    written += 1
        return written

    def read(self, pipeline: str, stage: str, record_ids: Sequence[str]) -> dict[str, Entry]:
        entries = self.entries.get((pipeline, stage), {})
        return {record_id: entries[record_id] for record_id in record_ids if record_id in entries}

    def mark_run(self, pipeline: str, stage: str, mark: RunMark) -> None:
        self.marks.setdefault((pipeline, stage), set()).add(mark)

    def runs_after(self, pipeline: str, stage: str, settled_at: str) -> Iterator[RunMark]:
        later = [mark for mark in self.marks.get((pipeline, stage), ()) if mark.settled_at > settled_at]
        yield from sorted(later, key=lambda mark: (mark.settled_at, mark.run_id))

    def unresolved(self, pipeline: str, stage: str) -> Iterator[Summary]:
        return (each for each in self.all(pipeline, stage) if each.status is not Status.RESOLVED)

    def unresolved_in_brief(self, pipeline: str, stage: str) -> Iterator[UnresolvedEntry]:
        for each in self.unresolved(pipeline, stage):
            yield UnresolvedEntry(
                record_id=each.record_id,
                status=each.status,
                first_seen=each.first_seen,
                replay_id=each.replay_id,
            )

    def all(self, pipeline: str, stage: str) -> Iterator[Summary]:
        return map(Summary.of_entry, list(self.entries.get((pipeline, stage), {}).values()))
