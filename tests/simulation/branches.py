"""Counts which branches of the product a schedule reaches: of the verdict, of Settle, and of the recorder."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from winnow.core.contract import Policy, Verdict
from winnow.journal.segment import Stop
from winnow.runtime.admission import Admission
from winnow.settlement import derive, verdict
from winnow.settlement import settle as settling
from winnow.settlement.ended_attempt import EndedAttempt
from winnow.settlement.settlement import Settlement
from winnow.settlement.verdict import Facts

VERDICTS = (
    "nothing outstanding: COMPLETE",
    "the nested execution died: EXHAUSTED",
    "the nested execution died: TOTAL_FAILURE",
    "the whole batch in the first attempt: TOTAL_FAILURE",
    "only permanent failures: EXHAUSTED",
    "only permanent failures: TOTAL_FAILURE",
    "stopped for time after getting somewhere: CONTINUE",
    "the tries are used up: EXHAUSTED",
    "the tries are used up: TOTAL_FAILURE",
    "some outstanding: RETRY",
)
"""The rows of the table in docs/architecture.md, with what each can say."""
SETTLES = (
    "ordered attempt",
    "already settled",
    "dead attempt that began",
    "dead attempt that never began",
    "lost race",
)
RECORDERS = (
    *(f"stop {stop.value}" for stop in Stop),
    "pause",
    *(f"flush {why}" for why in ("due", "asked for", "waited for", "drawn", "stuck", "failed")),
)
BRANCHES = (
    *(f"verdict: {each}" for each in VERDICTS),
    *(f"settle: {each}" for each in SETTLES),
    *(f"recorder: {each}" for each in RECORDERS),
)


def row_of(facts: Facts, policy: Policy, said: Verdict) -> str:
    """The row of the table that a verdict comes from."""
    whole = facts.outstanding == facts.batch and facts.attempt == 0 and facts.lived
    if facts.outstanding == 0:
        row = "nothing outstanding"
    elif facts.recursion_died:
        row = "the nested execution died"
    elif whole and not policy.spend_tries_first:
        row = "the whole batch in the first attempt"
    elif facts.retryable == 0:
        row = "only permanent failures"
    elif facts.stop is Stop.TIME and (facts.journaled_now or facts.contained_now) and facts.untried:
        row = "stopped for time after getting somewhere"
    elif facts.try_count + 1 >= policy.max_tries:
        row = "the tries are used up"
    else:
        row = "some outstanding"
    return f"verdict: {row}: {said.value}"


def counted(reached: Counter[str], jitter: Callable[[], float]) -> Iterator[tuple[Any, str, Any]]:
    """What stands in for the counted functions: module or class, name, stand-in. `jitter` is Settle's."""
    decide, derived, ordered, write, pause = (
        verdict.decide,
        derive.derive_settlement,
        settling._settle_ordered_attempt,
        settling._write_once,
        Admission.pause,
    )
    here = threading.local()

    def counting_decide(facts: Facts, policy: Policy) -> Verdict:
        said = decide(facts, policy)
        reached[row_of(facts, policy, said)] += 1
        return said

    def counting_derive(attempt: EndedAttempt) -> Settlement:
        here.derived = True
        path = "ordered attempt"
        if attempt.recursion_died:
            path = f"dead attempt that {'began' if attempt.end.began else 'never began'}"
        reached[f"settle: {path}"] += 1
        return derived(attempt, jitter=jitter)

    def counting_ordered(*arguments: Any) -> Settlement:
        here.derived = False
        settlement = ordered(*arguments)
        reached["settle: already settled"] += not here.derived
        return settlement

    def counting_write(ledger: Any, plan: Any, settlement: Any) -> Any:
        counts = write(ledger, plan, settlement)
        if counts is not settlement:
            reached["settle: lost race"] += 1
        return counts

    def counting_pause(admission: Admission) -> None:
        reached["recorder: pause"] += 1
        pause(admission)

    yield derive, "decide", counting_decide
    yield settling, "derive_settlement", counting_derive
    yield settling, "_settle_ordered_attempt", counting_ordered
    yield settling, "_write_once", counting_write
    yield Admission, "pause", counting_pause
