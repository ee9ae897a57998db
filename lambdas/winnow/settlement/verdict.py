"""The verdict: what happens after an attempt. A pure function of a few counts."""

from __future__ import annotations

from dataclasses import dataclass

from winnow.core.contract import Policy, Verdict
from winnow.journal.segment import Stop


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is known when an attempt is over. Counts are of distinct records."""

    batch: int
    succeeded: int
    """In the whole stage run so far."""
    outstanding: int
    """Batch minus journal."""
    retryable: int
    """Outstanding and not reported as permanent."""
    untried: int
    """Retryable, and not taken up in this try yet."""
    journaled_now: int
    """Done in this attempt."""
    contained_now: int = 0
    """First found in this attempt to kill a worker, or to hang. From now on they cannot delay the others."""
    attempt: int
    try_count: int
    lived: bool
    """The worker returned, raised or said why it stopped; it was not killed."""
    stop: Stop | None
    recursion_died: bool = False
    """Deeper attempts ended without a result; only what the journal proves is left to settle."""


def decide(facts: Facts, policy: Policy) -> Verdict:
    """The table in docs/architecture.md: the first row that holds."""
    if facts.outstanding == 0:
        return Verdict.COMPLETE
    given_up = Verdict.EXHAUSTED if facts.succeeded else Verdict.TOTAL_FAILURE
    if facts.recursion_died:
        return given_up
    everything_failed = facts.outstanding == facts.batch and facts.attempt == 0 and facts.lived
    if everything_failed and facts.stop is not Stop.USED_UP and not policy.spend_tries_first:
        return Verdict.TOTAL_FAILURE
    if facts.retryable == 0:
        return given_up
    got_somewhere = facts.journaled_now or facts.contained_now
    if facts.stop in (Stop.TIME, Stop.USED_UP) and got_somewhere and facts.untried:
        return Verdict.CONTINUE
    if facts.try_count + 1 >= policy.max_tries:
        return given_up
    return Verdict.RETRY
