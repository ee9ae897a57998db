"""The settlement of an attempt, derived from the batch, the settlement before and what the journal proves.

Pure: nothing here reads or writes. Costs intervals, not records.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from winnow.core.contract import Kind, Verdict, now
from winnow.core.ranges import Ranges, union
from winnow.journal.evidence import add_up
from winnow.journal.segment import Stop
from winnow.settlement.ended_attempt import EndedAttempt
from winnow.settlement.explanation import cause_of_early_end, cause_of_total_failure, default_reason
from winnow.settlement.settlement import FIRST_HORIZON, Settlement
from winnow.settlement.verdict import Facts, decide

NOTHING = Ranges.empty()


def derive_settlement(attempt: EndedAttempt, *, jitter: Callable[[], float] = random.random) -> Settlement:
    """Settle one attempt.

    Args:
        attempt: the attempt.
        jitter: a number from 0 to 1, which the wait before a retry is multiplied by.
    """
    before, evidence = attempt.before, attempt.evidence
    standing = Standing.after(attempt)
    verdict = decide(_facts(attempt, standing), attempt.policy)
    coming = _coming(verdict, standing)
    alert_now = _to_alert(verdict, standing) - before.alerted
    return Settlement(
        attempt=attempt.number,
        try_count=attempt.try_count,
        verdict=verdict,
        cause=_cause(attempt, verdict, standing),
        settled_at=now(),
        heard_at=max((segment.written_at for segment in evidence.segments), default=before.settled_at),
        given=before.next,
        succeeded=standing.succeeded,
        skipped=standing.skipped,
        permanent=standing.permanent,
        crashed=standing.crashed,
        tried=standing.tried,
        failed=standing.failed,
        clashed=evidence.clashed,
        next=coming,
        careful=_has_to_be_careful(attempt, standing, coming),
        suspects=_suspects(attempt, standing) & coming,
        alerted=before.alerted | alert_now,
        alert_now=alert_now,
        entries=evidence.entries,
        reports=evidence.reports,
        default_reason=default_reason(attempt),
        wait_seconds=_wait(attempt, jitter) if verdict is Verdict.RETRY else 0,
        own_ids=before.own_ids or any(entry.own_ids for entry in evidence.entries),
        counters=_counters(attempt, retried=coming if verdict is Verdict.RETRY else NOTHING),
        skip_reasons=add_up((before.skip_reasons, evidence.skip_reasons)),
        warned=add_up((before.warned, evidence.warned)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where the records of a batch stand after an attempt. Law 1: outstanding = batch - journal."""

    succeeded: Ranges
    skipped: Ranges
    outstanding: Ranges
    untouched: Ranges
    """Given to this attempt, and neither done nor reported by it."""
    blamed: Ranges
    """Those of `untouched` that the worker may have had in hand when it died."""
    failed: Ranges
    """Outstanding records that this attempt reported, or that are blamed for its death."""
    tried: Ranges
    """Outstanding records that this try has taken up already."""
    permanent: Ranges
    retryable: Ranges
    """Outstanding and not permanent."""
    untried: Ranges
    """Those of `retryable` that this try has not taken up yet."""
    contained: Ranges
    """First found in this attempt to kill the worker, or to hang."""
    crashed: Ranges
    """All retryable records that are known to kill the worker, or to hang."""

    @classmethod
    def after(cls, attempt: EndedAttempt) -> Standing:
        """Derive where the records stand after an attempt."""
        before, evidence = attempt.before, attempt.evidence
        succeeded = before.succeeded | evidence.succeeded
        skipped = before.skipped | evidence.skipped
        outstanding = attempt.plan.everything - succeeded - skipped
        reported = union(evidence.failed.values())
        untouched = before.next - evidence.done - reported
        blamed = _in_hand_at_death(attempt) & untouched
        failed = (reported | blamed) & outstanding
        is_new_try = before.verdict is not Verdict.CONTINUE
        tried = (failed if is_new_try else before.tried | failed) & outstanding
        permanent = (before.permanent | evidence.failed.get(Kind.PERMANENT, NOTHING)) & outstanding
        retryable = outstanding - permanent
        contained = evidence.failed.get(Kind.CRASHED, NOTHING) - before.crashed
        return cls(
            succeeded=succeeded,
            skipped=skipped,
            outstanding=outstanding,
            untouched=untouched,
            blamed=blamed,
            failed=failed,
            tried=tried,
            permanent=permanent,
            retryable=retryable,
            untried=retryable - tried,
            contained=contained,
            crashed=(before.crashed | contained) & retryable,
        )


def _in_hand_at_death(attempt: EndedAttempt) -> Ranges:
    """Ordinals that the worker may have had in hand when it died; none if it did not die."""
    before, evidence = attempt.before, attempt.evidence
    died = attempt.end.began and (not attempt.lived or attempt.recursion_died)
    if not died:
        return NOTHING
    if before.careful:
        return before.next
    if not any(segment.horizon for segment in evidence.segments):
        return (before.next - attempt.plan.rejected).first(FIRST_HORIZON)
    return before.next.within(0, evidence.horizon)


def _facts(attempt: EndedAttempt, standing: Standing) -> Facts:
    return Facts(
        batch=attempt.plan.count,
        succeeded=len(standing.succeeded),
        outstanding=len(standing.outstanding),
        retryable=len(standing.retryable),
        untried=len(standing.untried),
        journaled_now=len(attempt.evidence.done),
        contained_now=len(standing.contained),
        attempt=attempt.number,
        try_count=attempt.try_count,
        lived=attempt.lived,
        stop=attempt.stop,
        recursion_died=attempt.recursion_died,
    )


def _coming(verdict: Verdict, standing: Standing) -> Ranges:
    """What the next attempt is given."""
    if verdict is Verdict.RETRY:
        return standing.retryable
    return standing.untried if verdict is Verdict.CONTINUE else NOTHING


def _to_alert(verdict: Verdict, standing: Standing) -> Ranges:
    """What people have to know after this verdict, whether or not they know it already."""
    if verdict is Verdict.RETRY:
        return standing.permanent
    return standing.outstanding if verdict in (Verdict.EXHAUSTED, Verdict.TOTAL_FAILURE) else NOTHING


def _cause(attempt: EndedAttempt, verdict: Verdict, standing: Standing) -> str:
    if verdict is Verdict.TOTAL_FAILURE:
        return cause_of_total_failure(attempt, outstanding=standing.outstanding, permanent=standing.permanent)
    return cause_of_early_end(attempt) if attempt.recursion_died and standing.outstanding else ""


def _has_to_be_careful(attempt: EndedAttempt, standing: Standing, coming: Ranges) -> bool:
    """Whether the next attempt runs the user's code in child processes: until no suspect of a death is left."""
    not_cleared = (attempt.before.careful or attempt.evidence.died) and bool(standing.untouched)
    return bool(coming) and (not attempt.lived or bool(standing.crashed) or not_cleared)


def _suspects(attempt: EndedAttempt, standing: Standing) -> Ranges:
    """Ordinals that may kill a worker, as far as this attempt has not cleared them."""
    return (
        standing.blamed
        | standing.crashed
        | attempt.evidence.in_hand
        | _suspected_before(attempt) & standing.untouched
    )


def _suspected_before(attempt: EndedAttempt) -> Ranges:
    """Suspects that this attempt was given, or got when its worker died and was called once more."""
    before, evidence = attempt.before, attempt.evidence
    own = before.next.within(0, evidence.horizon) if evidence.died else NOTHING
    return before.suspects | own


def _wait(attempt: EndedAttempt, jitter: Callable[[], float]) -> int:
    """Seconds to wait: exponential with full jitter if a dependency may need to recover, else none."""
    if not attempt.evidence.failed.get(Kind.TRANSIENT) and attempt.stop is not Stop.DEPENDENCY:
        return 0
    policy = attempt.policy
    ceiling = min(policy.max_backoff_seconds, policy.backoff_seconds * 2**attempt.try_count)
    return round(float(ceiling) * jitter())


def _counters(attempt: EndedAttempt, *, retried: Ranges) -> Mapping[str, int]:
    evidence = attempt.evidence
    false_claims = max(0, attempt.end.claimed - len(evidence.done) - len(evidence.clashed))
    counters = Counter(attempt.before.counters)
    counters.update(
        warnings=evidence.warnings,
        deleted=len(evidence.deleted & evidence.succeeded),
        refused=evidence.refused + false_claims,
        repeated=evidence.repeated,
        retried=evidence.recovered + len(retried),
        clashed=len(evidence.clashed),
        same_outputs=evidence.same_outputs,
    )
    return dict(counters)
