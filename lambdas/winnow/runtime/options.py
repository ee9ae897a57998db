"""How a worker wants its records: what the `worker` decorator is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from winnow.core.record import Retry
from winnow.storage.formats import NDJSON, OutputFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a worker wants its records."""

    concurrency: int = 1
    """Threads. For functions that wait for I/O; the threads share one CPU."""
    batch: int | None = None
    """Records per call; None for one record, not in a list."""
    retry: Retry | None = None
    record_timeout: float | None = None
    """Seconds a record (or a batch's call) may take; None for no limit but the Lambda's."""
    setup: Callable[[], object] | None = None
    """Run once per cold start, before the first record."""
    outputs: OutputFormat = NDJSON
    give_up_after: int = 100
    """Transient failures in a row that mean a dependency is down: the worker stops and the rest stays outstanding, untried."""
    flush_seconds: float = 5.0
    """Between segments of the journal: a worker that dies loses at most this much work."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "give_up_after"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got: {getattr(self, name)}")
        if self.batch is not None and self.batch < 1:
            raise ValueError(f"`batch` must be at least 1, got: {self.batch}")
        for name in ("record_timeout", "flush_seconds"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"`{name}` must be more than 0 seconds, got: {value}")
