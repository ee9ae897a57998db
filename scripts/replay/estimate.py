"""What a replay will take and cost, judged by the runs before it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from scripts.deployed import prices
from winnow.core.keys import StageKeys
from winnow.planning.claim import AttemptClaim
from winnow.settlement.result import StageResult
from winnow.settlement.settlement import Settlement

if TYPE_CHECKING:
    from winnow.storage.ledger import Ledger

RUNS = 5
"""The latest that finished a stage; what was long ago says little about today's code."""
RUNS_LOOKED_AT = 40

TRANSITIONS_OF_PIPELINE = 4
TRANSITIONS_OF_STAGE = 8
"""Of a happy stage: its six states, the start of its execution, and the pipeline's state that runs it."""
PUTS_OF_STAGE = 17
"""Of a stage that is over within seconds, as `./scripts/bench cost` counts them; PlanRun's and CloseRun's shared out."""
WRITE_UNITS_OF_RECORD = 16
"""The entry is held and later settled: twice two to three kilobytes in a transaction, which counts double, and the index."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How a stage has been doing."""

    records: int
    """Tried in the attempts that were looked at."""
    seconds: float
    """That those attempts took."""
    shortest: float
    """Of one stage run: nothing is quicker than its fixed costs."""

    def seconds_for(self, count: int) -> float:
        return max(self.shortest, count * self.seconds / max(1, self.records))


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Of one replay. Time without waits for retries."""

    seconds: float
    dollars: float
    unknown: tuple[str, ...]
    """Stages that no run has finished: their time is not included."""

    def to_json(self) -> dict[str, Any]:
        return {
            "seconds": round(self.seconds, 1),
            "dollars": round(self.dollars, 6),
            "without": list(self.unknown),
        }


def estimate(
    count: int, stages: Sequence[str], speeds: Mapping[str, Speed], memory_mb: Mapping[str, int]
) -> Estimate:
    """What replaying so many records costs, if all go all the way.

    Args:
        count: records.
        stages: to go through.
        speeds: of those stages that anything is known of.
        memory_mb: of the stages' workers.
    """
    seconds = {stage: speeds[stage].seconds_for(count) for stage in stages if stage in speeds}
    compute = sum(
        taken * memory_mb[stage] / 1024 * prices.LAMBDA_GB_SECOND for stage, taken in seconds.items()
    )
    transitions = TRANSITIONS_OF_PIPELINE + TRANSITIONS_OF_STAGE * len(stages)
    rest = transitions * prices.STATE_TRANSITION + len(stages) * PUTS_OF_STAGE * prices.S3_WRITE
    return Estimate(
        seconds=sum(seconds.values()),
        dollars=compute + rest + count * WRITE_UNITS_OF_RECORD * prices.DYNAMODB_WRITE,
        unknown=tuple(stage for stage in stages if stage not in speeds),
    )


def measure(ledger: Ledger, stage: str, runs: Iterable[str]) -> Speed | None:
    """How fast a stage was in the first few of these runs that finished it; None where none did."""
    found = (
        each for run in islice(runs, RUNS_LOOKED_AT) if (each := _stage_run(ledger, StageKeys(run, stage)))
    )
    done = list(islice(found, RUNS))
    if not done:
        return None
    return Speed(
        records=sum(records for records, _ in done),
        seconds=sum(seconds for _, seconds in done),
        shortest=min(seconds for _, seconds in done),
    )


def _stage_run(ledger: Ledger, keys: StageKeys) -> tuple[int, float] | None:
    """Records tried and seconds taken, attempt by attempt: what lies between attempts is waiting."""
    result = ledger.find(keys.result, StageResult.from_json)
    if result is None or not result.counts.records_in:
        return None
    records, seconds = 0, 0.0
    for number in range(result.attempts):
        attempt = keys.attempt(number)
        claim = ledger.find(attempt.claim, AttemptClaim.from_json)
        settlement = ledger.find(attempt.settlement, Settlement.from_json)
        if claim and settlement:
            records += len(settlement.given)
            seconds += (_moment(settlement.settled_at) - _moment(claim.claimed_at)).total_seconds()
    return (records, seconds) if records else None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
