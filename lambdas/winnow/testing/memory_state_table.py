"""A pipeline's state in memory."""

from __future__ import annotations

import threading

from winnow.storage.state_table import Claim, Holder


class MemoryStateTable:
    """The state in memory, for tests: the same promises, no network."""

    def __init__(self) -> None:
        self._lock: Holder | None = None
        self._claims: dict[str, Claim] = {}
        self._lock_of_claims = threading.Lock()
        self._runs: dict[str, str] = {}
        self._marks: set[tuple[str, str]] = set()

    def acquire_lock(self, pipeline: str, holder: Holder) -> Holder | None:  # noqa: ARG002
        if self._lock and self._lock.execution != holder.execution:
            return self._lock
        self._lock = holder
        return None

    def take_over_lock(self, pipeline: str, holder: Holder, *, previous: Holder) -> bool:  # noqa: ARG002
        if self._lock and self._lock.execution != previous.execution:
            return False
        self._lock = holder
        return True

    def release_lock(self, pipeline: str, execution: str) -> bool:  # noqa: ARG002
        if not self._lock or self._lock.execution != execution:
            return False
        self._lock = None
        return True

    def claim(self, event_id: str, claim: Claim) -> Claim:
        return self._claims.setdefault(event_id, claim)

    def take_over_claim(self, event_id: str, claim: Claim, *, previous: Claim) -> bool:
        with self._lock_of_claims:
            if self._claims.get(event_id, previous) != previous:
                return False
            self._claims[event_id] = claim
            return True

    def find_claim(self, event_id: str) -> Claim | None:
        return self._claims.get(event_id)

    def run_of(self, execution: str, candidate: str) -> str:
        return self._runs.setdefault(execution, candidate)

    def find_run(self, execution: str) -> str | None:
        return self._runs.get(execution)

    def mark(self, run_id: str, what: str) -> bool:
        if (run_id, what) in self._marks:
            return False
        self._marks.add((run_id, what))
        return True

    def is_marked(self, run_id: str, what: str) -> bool:
        return (run_id, what) in self._marks
