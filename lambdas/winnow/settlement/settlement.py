"""The settlement of an attempt: a pure function of the batch, what came before, and what the journal proves."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from winnow.batch.plan import Plan
from winnow.core.contract import Kind, Policy, Verdict, now
from winnow.core.ranges import Ranges, union
from winnow.core.sfn_errors import WORKER_DEATHS
from winnow.journal.evidence import Evidence, add_up
from winnow.journal.reports import one_line
from winnow.journal.segment import Stop
from winnow.journal.successes import SuccessEntry
from winnow.settlement.failure_records import Undescribed
from winnow.settlement.verdict import Facts, decide
from winnow.storage.ledger import Ledger

FIRST_HORIZON = 10_000
"""Records a worker may take before its first segment is durable; a death before that is blamed on these."""

MAX_CAUSE_CHARS = 2_000
"""The cause travels in a state (law 7), whatever a worker raised."""

FINAL = frozenset({Verdict.COMPLETE, Verdict.EXHAUSTED, Verdict.TOTAL_FAILURE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What an attempt came to. Ranges are of the batch's ordinals."""

    attempt: int
    try_count: int
    verdict: Verdict
    cause: str
    """Why, in words, where the stage fails."""
    settled_at: str
    given: Ranges
    """What this attempt was to do."""
    succeeded: Ranges
    """In the whole stage run so far; so are the next two."""
    skipped: Ranges
    permanent: Ranges
    crashed: Ranges
    """Outstanding records that are known to kill a worker, or to hang."""
    tried: Ranges
    """Outstanding records that this try has taken up already."""
    failed: Ranges
    """What this attempt tried in vain."""
    next: Ranges
    """What the next attempt is given."""
    careful: bool
    """The next attempt runs the user's code in child processes. Until none is left that a death may be blamed on."""
    suspects: Ranges
    """Who may have killed the worker; the careful attempt takes them last."""
    alerted: Ranges
    """Records that an alert has named, this settlement's alert included."""
    alert_now: Ranges
    entries: tuple[SuccessEntry, ...]
    """Output segments of this attempt."""
    reports: tuple[tuple[str, Ranges], ...]
    """Reasons given in this attempt, newest first: where they are, and whom they speak of."""
    otherwise: Undescribed
    """What to say of outstanding records nobody gave a reason for."""
    wait_seconds: int
    counters: Mapping[str, int] = field(default_factory=dict)
    """Warnings, refused evidence, repeated and retried records of the whole stage run so far."""
    skip_reasons: Mapping[str, int] = field(default_factory=dict)
    warned: Mapping[str, int] = field(default_factory=dict)

    RANGES = (
        *("given", "succeeded", "skipped", "permanent", "crashed", "tried", "failed", "next", "suspects"),
        *("alerted", "alert_now"),
    )

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Settlement:
        ranges = {name: _read_ranges(value, name) for name in cls.RANGES}
        return cls(
            attempt=value["attempt"],
            try_count=value["try_count"],
            verdict=Verdict(value["verdict"]),
            cause=value["cause"],
            settled_at=value["settled_at"],
            careful=value["careful"],
            entries=tuple(SuccessEntry.from_json(entry) for entry in value["entries"]),
            reports=tuple((key, _read_part(ranges["failed"], part)) for key, part in value["reports"]),
            otherwise=Undescribed(
                kind=Kind(value["otherwise"]["kind"]),
                error_type=value["otherwise"]["error_type"],
                message=value["otherwise"]["message"],
            ),
            wait_seconds=value["wait_seconds"],
            counters=value["counters"],
            skip_reasons=value["skip_reasons"],
            warned=value["warned"],
            **ranges,
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "attempt": self.attempt,
            "try_count": self.try_count,
            "verdict": self.verdict.value,
            "cause": self.cause,
            "settled_at": self.settled_at,
            "careful": self.careful,
            "entries": [entry.to_json() for entry in self.entries],
            "reports": [[key, _part_of(self.failed, ordinals)] for key, ordinals in self.reports],
            "otherwise": {
                "kind": self.otherwise.kind.value,
                "error_type": self.otherwise.error_type,
                "message": self.otherwise.message,
            },
            "wait_seconds": self.wait_seconds,
            "counters": dict(self.counters),
            "skip_reasons": dict(self.skip_reasons),
            "warned": dict(self.warned),
            **_each_once({name: getattr(self, name).to_json() for name in self.RANGES}),
        }

    def outstanding(self, plan: Plan) -> Ranges:
        return plan.everything - self.succeeded - self.skipped


SPELT_OUT = 100
"""Numbers in ranges that are written down again where another field has the same."""


def _each_once(ranges: Mapping[str, list[int]]) -> dict[str, Any]:
    """Long ranges are written once, and then by the name of the field that has them: what failed is mostly what comes next."""
    written: dict[str, Any] = {}
    for name, flat in ranges.items():
        same = (other for other, before in written.items() if before == flat)
        written[name] = next(same, flat) if len(flat) > SPELT_OUT else flat
    return written


def _part_of(failed: Ranges, ordinals: Ranges) -> list[int] | dict[str, list[int]]:
    """A segment's reports: long, but mostly what failed from here to there."""
    flat = ordinals.to_json()
    if len(flat) > SPELT_OUT and failed.within(flat[0], flat[-1]) == ordinals:
        return {"failed_within": [flat[0], flat[-1]]}
    return flat


def _read_part(failed: Ranges, value: object) -> Ranges:
    return failed.within(*value["failed_within"]) if isinstance(value, dict) else Ranges.from_json(value)


def _read_ranges(value: Mapping[str, Any], name: str) -> Ranges:
    found = value[name]
    return Ranges.from_json(value[found] if isinstance(found, str) else found)


NOBODY_KNOWS = Undescribed(
    kind=Kind.MISSING, error_type="NotJournaled", message="not journaled and not reported"
)


def before_anything(plan: Plan) -> Settlement:
    """The state before the first attempt."""
    nothing = Ranges.empty()
    return Settlement(
        attempt=-1,
        try_count=0,
        verdict=Verdict.RETRY,
        cause="",
        settled_at=plan.created_at,
        given=nothing,
        succeeded=nothing,
        skipped=nothing,
        permanent=nothing,
        crashed=nothing,
        tried=nothing,
        failed=nothing,
        next=plan.everything,
        careful=False,
        suspects=nothing,
        alerted=nothing,
        alert_now=nothing,
        entries=(),
        reports=(),
        otherwise=NOBODY_KNOWS,
        wait_seconds=0,
    )


def read_settlement(ledger: Ledger, plan: Plan, attempt: int) -> Settlement | None:
    """The settlement of an attempt, None while there is none; attempt -1 is the state before the first."""
    if attempt < 0:
        return before_anything(plan)
    found = ledger.find_json(plan.keys.attempt(attempt).settlement)
    return None if found is None else Settlement.from_json(found)


def settlements(ledger: Ledger, plan: Plan, *, after: Settlement | None = None) -> Iterator[Settlement]:
    """The settlements of a stage run, oldest first, up to the first attempt that is not settled.

    Costs one read per settlement, and one that finds nothing.

    Args:
        ledger: where the stage run is settled.
        plan: of the stage run.
        after: begin with the attempt after this one; None for the first attempt.
    """
    attempt = after.attempt + 1 if after else 0
    while (found := read_settlement(ledger, plan, attempt)) is not None:
        yield found
        attempt += 1


def settlements_up_to(ledger: Ledger, plan: Plan, last: Settlement) -> Iterator[Settlement]:
    """The settlements of a stage run, oldest first, ending with one that is at hand.

    Costs one read per settlement before `last`.

    Raises:
        LedgerObjectMissing: one of them is gone.
    """
    for attempt in range(last.attempt):
        yield Settlement.from_json(ledger.read_json(plan.keys.attempt(attempt).settlement))
    yield last


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerEnd:
    """How the state machine saw the worker end."""

    error: str = ""
    """Error name; empty when it returned."""
    message: str = ""
    claimed: int = 0
    """Records the worker's return value says are done."""
    began: bool = True
    """Whether there was a worker at all; a nested execution may have ended before it came to one."""

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> WorkerEnd:
        caught = state.get("worker_error")
        if isinstance(caught, Mapping):
            return cls(error=str(caught.get("Error", "unknown")), message=_cause_message(caught.get("Cause")))
        report = state.get("worker")
        if not isinstance(report, Mapping):
            return cls()
        counts = (report.get("succeeded"), report.get("skipped"))
        return cls(claimed=sum(count for count in counts if type(count) is int))

    def lived(self, evidence: Evidence) -> bool:
        """Whether it returned or raised, rather than being killed."""
        if not self.error:
            return True
        if self.error in WORKER_DEATHS:
            return False
        if self.error.startswith(
            "Runtime."
        ):  # may be either; a worker that raises says so in its last segment
            return bool(evidence.segments) and evidence.segments[-1].stop is not None
        return True


def _cause_message(cause: object) -> str:
    """The error message in a Lambda error's Cause, which is JSON when the function raised."""
    text = str(cause or "")
    try:
        found = json.loads(text)
    except ValueError:
        return one_line(text, 500)
    return one_line(str(found.get("errorMessage", text) if isinstance(found, dict) else text), 500)


def settle_attempt(
    plan: Plan,
    before: Settlement,
    evidence: Evidence,
    *,
    attempt: int,
    try_count: int,
    policy: Policy,
    end: WorkerEnd,
    recursion_died: bool = False,
    jitter: Callable[[], float] = random.random,
) -> Settlement:
    """Settle one attempt from what its journal proves. Pure: reads and writes nothing."""
    succeeded = before.succeeded | evidence.succeeded
    skipped = before.skipped | evidence.skipped
    outstanding = plan.everything - succeeded - skipped
    lived = end.lived(evidence)
    stop = evidence.stop if lived else None

    reported = union(evidence.failed.values())
    untouched = before.next - evidence.done - reported
    died = end.began and (not lived or recursion_died)
    blamed = _window(plan, before, evidence) & untouched if died else Ranges.empty()
    failed = (reported | blamed) & outstanding
    new_try = before.verdict is not Verdict.CONTINUE
    tried = (failed if new_try else before.tried | failed) & outstanding
    permanent = (before.permanent | evidence.failed.get(Kind.PERMANENT, Ranges.empty())) & outstanding
    retryable = outstanding - permanent
    contained = evidence.failed.get(Kind.CRASHED, Ranges.empty()) - before.crashed
    crashed = (before.crashed | contained) & retryable
    untried = retryable - tried

    verdict = decide(
        Facts(
            batch=plan.count,
            succeeded=len(succeeded),
            outstanding=len(outstanding),
            retryable=len(retryable),
            untried=len(untried),
            journaled_now=len(evidence.done),
            contained_now=len(contained),
            attempt=attempt,
            try_count=try_count,
            lived=lived,
            stop=stop,
            recursion_died=recursion_died,
        ),
        policy,
    )
    coming = {Verdict.RETRY: retryable, Verdict.CONTINUE: untried}.get(verdict, Ranges.empty())
    alert_now = {
        Verdict.RETRY: permanent,
        Verdict.EXHAUSTED: outstanding,
        Verdict.TOTAL_FAILURE: outstanding,
    }.get(verdict, Ranges.empty()) - before.alerted
    unfinished = (before.careful or evidence.died) and bool(untouched)
    suspects = blamed | crashed | evidence.in_hand | _suspected_before(before, evidence) & untouched
    lies = max(0, end.claimed - len(evidence.done))
    counters = Counter(before.counters)
    counters.update(
        warnings=evidence.warnings,
        refused=evidence.refused + lies,
        repeated=evidence.repeated,
        retried=evidence.recovered + (len(coming) if verdict is Verdict.RETRY else 0),
    )
    return Settlement(
        attempt=attempt,
        try_count=try_count,
        verdict=verdict,
        cause=one_line(
            _cause(
                plan,
                verdict,
                stop,
                evidence,
                end,
                rejected=len(permanent) if permanent == outstanding else 0,
                recursion_died=recursion_died,
            ),
            MAX_CAUSE_CHARS,
        ),
        settled_at=now(),
        given=before.next,
        succeeded=succeeded,
        skipped=skipped,
        permanent=permanent,
        crashed=crashed,
        tried=tried,
        failed=failed,
        next=coming,
        careful=bool(coming) and (not lived or bool(crashed) or unfinished),
        suspects=suspects & coming,
        alerted=before.alerted | alert_now,
        alert_now=alert_now,
        entries=evidence.entries,
        reports=tuple(
            (segment.failures_key, segment.reported)
            for segment in reversed(evidence.segments)
            if segment.failures_key
        ),
        otherwise=_otherwise(stop, evidence, end, lived=lived, recursion_died=recursion_died),
        wait_seconds=_backoff(policy, try_count, evidence, stop, jitter) if verdict is Verdict.RETRY else 0,
        counters=dict(counters),
        skip_reasons=add_up((before.skip_reasons, evidence.skip_reasons)),
        warned=add_up((before.warned, evidence.warned)),
    )


def _window(plan: Plan, before: Settlement, evidence: Evidence) -> Ranges:
    """Whom a death may be blamed on: what could have been in hand since the last segment."""
    if before.careful:
        return before.next
    if not any(segment.horizon for segment in evidence.segments):
        return (before.next - plan.rejected).first(FIRST_HORIZON)
    return before.next.within(0, evidence.horizon)


def _suspected_before(before: Settlement, evidence: Evidence) -> Ranges:
    """Suspects that this attempt was given, or came by when it died and was called once more; it may not have got to them."""
    mine = before.next.within(0, evidence.horizon) if evidence.died else Ranges.empty()
    return before.suspects | mine


def _backoff(
    policy: Policy, try_count: int, evidence: Evidence, stop: Stop | None, jitter: Callable[[], float]
) -> int:
    """Seconds to wait: exponential with full jitter where another side may need to recover, else none."""
    if not evidence.failed.get(Kind.TRANSIENT) and stop is not Stop.DEPENDENCY:
        return 0
    ceiling = min(policy.max_backoff_seconds, policy.backoff_seconds * 2**try_count)
    return round(float(ceiling) * jitter())


def _otherwise(
    stop: Stop | None, evidence: Evidence, end: WorkerEnd, *, lived: bool, recursion_died: bool
) -> Undescribed:
    if stop is Stop.DEPENDENCY:
        message = one_line(f"not tried any more: {evidence.cause}")
        return Undescribed(kind=Kind.TRANSIENT, error_type="DependencyDown", message=message)
    if recursion_died:
        return replace(
            NOBODY_KNOWS, message="not journaled and not reported: the execution of the attempt ended early"
        )
    if not lived:
        return replace(NOBODY_KNOWS, message=f"not journaled and not reported: the worker died ({end.error})")
    if end.error:
        said = f"{end.error}: {end.message}" if end.message else end.error
        return replace(NOBODY_KNOWS, message=f"not done: the worker failed as a whole ({said})")
    return NOBODY_KNOWS


def _cause(
    plan: Plan,
    verdict: Verdict,
    stop: Stop | None,
    evidence: Evidence,
    end: WorkerEnd,
    *,
    rejected: int,
    recursion_died: bool,
) -> str:
    if verdict is not Verdict.TOTAL_FAILURE:
        return ""
    what = f"stage {plan.stage} of run {plan.run_id}: none of {plan.count} records succeeded"
    if rejected:
        return f"{what}; all {rejected} that failed were rejected as permanent: look at the records or at the worker's rules"
    if recursion_died:
        return f"{what}; the execution of a deeper attempt ended early"
    if stop is Stop.DEPENDENCY or (stop is Stop.ERROR and evidence.cause):
        return f"{what}; {evidence.cause}"
    if end.error:
        return f"{what}; the worker failed with {end.error}{': ' + end.message if end.message else ''}"
    if stop is Stop.TIME:
        return f"{what}; the worker ran out of time before the first was done: give it more, or less work per record"
    return f"{what}; most likely its environment: a dependency, a permission, a configuration"
