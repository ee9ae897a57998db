"""When records of a stage run were done, as far as the journal tells."""

from __future__ import annotations

from winnow.batch.plan import Plan
from winnow.core.ranges import Ranges
from winnow.journal.evidence import read_segments
from winnow.settlement.settlement import Settlement, settlements_up_to
from winnow.storage.ledger import Ledger


def times_done(ledger: Ledger, plan: Plan, last: Settlement, ordinals: Ranges) -> dict[int, str]:
    """When each of some done records was done at the earliest, ISO 8601 in UTC.

    A record that a segment vouches for was done after the segment before, of the same call of the worker, was written: that is what
    counts, because the record may have been read just then. For the first segment it is when the attempt was ordered.

    A record that no segment vouches for any more, because the journal has expired, counts from when the batch was fixed.

    Reads the journals of the attempts that did one of the records.
    """
    times: dict[int, str] = dict.fromkeys(ordinals, "")
    left = ordinals
    ordered_at = plan.created_at
    for settlement in settlements_up_to(ledger, plan, last):
        here = left & settlement.given
        if here & (settlement.succeeded | settlement.skipped):
            before: dict[str, str] = {}
            segments = [each for each in read_segments(ledger, plan.keys.attempt(settlement.attempt)) if each]
            for segment in sorted(segments, key=lambda each: (each.invocation, each.sequence)):
                earliest = before.get(segment.invocation, ordered_at)
                for ordinal in segment.done & here:
                    times[ordinal] = max(earliest, times[ordinal])
                before[segment.invocation] = segment.written_at
        left = left - settlement.succeeded - settlement.skipped
        ordered_at = settlement.settled_at
    return {ordinal: time or plan.created_at for ordinal, time in times.items()}
