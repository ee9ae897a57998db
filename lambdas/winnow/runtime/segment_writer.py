"""Writes one segment of the journal: outputs and failure reports first, then the evidence that vouches for them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

from winnow.batch.plan import Plan
from winnow.core.contract import Kind, now
from winnow.core.keys import AttemptKeys
from winnow.core.ranges import Ranges
from winnow.journal.reports import write_reports
from winnow.journal.segment import OutputIds, OutputSegment, Segment, Stop
from winnow.runtime.deadline import Deadline
from winnow.runtime.progress import Buffer
from winnow.storage.formats import OutputFormat
from winnow.storage.ledger import Ledger, digest_of

WRITE_ATTEMPTS = 4
"""Of each object, each with the client's own retries: about a minute of S3 refusing before the worker gives up."""

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """The content of a segment. Writing it is idempotent: the keys stay the same."""

    sequence: int
    collected: Buffer
    horizon: int
    in_hand: Ranges
    stop: Stop | None
    cause: str


class SegmentWriter:
    """Writes the segments of one invocation to the ledger."""

    def __init__(
        self,
        ledger: Ledger,
        plan: Plan,
        keys: AttemptKeys,
        *,
        invocation: str,
        form: OutputFormat,
        deadline: Deadline,
        code_version: str = "",
    ) -> None:
        """`deadline`: the less time is left, the shorter the waits between the attempts to write."""
        self._ledger = ledger
        self._plan = plan
        self._keys = keys
        self._invocation = invocation
        self.form = form
        self.deadline = deadline
        self._code_version = code_version

    def write(self, draft: Draft) -> None:
        """Write what a segment refers to, then the segment. Raises what S3 raised last."""
        collected = draft.collected
        outputs = self._persist(lambda: self._write_outputs(draft))
        failures_key = self._persist(lambda: self._write_failures(draft))
        by_kind: dict[Kind, list[int]] = {}
        for report in collected.failures:
            by_kind.setdefault(report.kind, []).append(report.ordinal)
        segment = Segment(
            batch=self._plan.digest,
            invocation=self._invocation,
            sequence=draft.sequence,
            succeeded=_ranges(collected.succeeded),
            skipped=_ranges(collected.skipped),
            deleted=Ranges.of(collected.deleted),
            failed={kind: Ranges.of(ordinals) for kind, ordinals in by_kind.items()},
            outputs=outputs,
            failures_key=failures_key,
            horizon=draft.horizon,
            in_hand=draft.in_hand,
            warnings=collected.warnings,
            skip_reasons=collected.skip_reasons,
            warned=collected.warned,
            lies=collected.lies,
            stop=draft.stop,
            cause=draft.cause,
            whole=collected.joined,
            code_version=self._code_version,
            written_at=now(),
        )
        key = self._keys.segment(self._invocation, draft.sequence)
        self._persist(lambda: self._ledger.write_json(key, segment.to_json()))
        log.debug("journaled segment %s of %s", draft.sequence, self._invocation)

    def _write_outputs(self, draft: Draft) -> OutputSegment | None:
        if not draft.collected.lines:
            return None
        # In the order of the batch, not of the threads: the next stage meets records as this one did, on every run.
        lines = sorted(draft.collected.lines, key=attrgetter("ordinal"))
        key = self._keys.outputs(self._invocation, draft.sequence, self.form.suffix)
        ids_key = self._keys.output_ids(self._invocation, draft.sequence)
        body = self.form.body([line.body for line in lines])
        self._ledger.store.put(key, body)
        own_ids = any(line.content or (line.content == "" and self._plan.numbered_ids) for line in lines)
        joined = any(line.joins for line in lines)
        written = OutputIds(
            ids=[line.id for line in lines],
            of=[line.ordinal for line in lines],
            contents=[line.content for line in lines] if own_ids else None,
            joins=[line.joins or (line.ordinal,) for line in lines] if joined else None,
        )
        return OutputSegment(
            key=key,
            ids_key=ids_key,
            lines=len(lines),
            digest=digest_of(body),
            ids_digest=self._ledger.write_json(ids_key, written.to_json()),
            own_ids=own_ids,
        )

    def _write_failures(self, draft: Draft) -> str | None:
        if not draft.collected.failures:
            return None
        key = self._keys.failures(self._invocation, draft.sequence)
        write_reports(self._ledger, key, self._plan.stage, draft.collected.failures)
        return key

    def _persist(self, write: Callable[[], T]) -> T:
        """Write, and try again for longer than the client does: an S3 that refuses for a while costs only time."""
        for attempt in range(1, WRITE_ATTEMPTS):
            try:
                return write()
            except Exception as error:  # noqa: BLE001  any error: the evidence must be written
                log.warning("journal write failed (%s of %s): %s", attempt, WRITE_ATTEMPTS, error)
                time.sleep(min(2.0**attempt, max(0.0, self.deadline.seconds_left / 4)))
        return write()


def _ranges(flat: list[int]) -> Ranges:
    return Ranges.from_pairs(zip(flat[::2], flat[1::2], strict=True))
