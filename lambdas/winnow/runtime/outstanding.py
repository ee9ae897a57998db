"""What is left for an invocation to do: the settlement before, minus what this attempt's journal proves."""

from __future__ import annotations

from dataclasses import dataclass

from winnow.batch.plan import Plan
from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.journal.evidence import Evidence
from winnow.settlement.settlement import FIRST_HORIZON, Settlement


@dataclass(frozen=True, slots=True, kw_only=True)
class OutstandingWork:
    """The records that an invocation is to process, and how carefully."""

    ordinals: Ranges
    suspects: Ranges
    """Of these, those that were or may have been in hand when a worker died."""
    killers: Ranges
    """Of the suspects, those that are known to kill or hang."""
    careful: bool
    """Each unit of work runs in a child process."""
    again: bool
    """An earlier invocation of the same attempt failed or died: Step Functions tried the worker once more."""
    horizon: int
    """Ordinals below it may be taken before this invocation's first segment is durable."""

    @classmethod
    def of(cls, plan: Plan, before: Settlement, evidence: Evidence) -> OutstandingWork:
        """From the settlement of the attempt before and from what this attempt's journal already proves."""
        # What only a report says is tried again: reports add reasons, they never decide.
        ordinals = before.next - plan.rejected - evidence.done
        again = bool(evidence.invocations)
        careful = before.careful or evidence.died
        killers = before.crashed | evidence.failed.get(Kind.CRASHED, Ranges.empty())
        suspects = before.suspects | killers
        if evidence.died:
            suspects = suspects | ordinals.within(0, evidence.horizon)
        horizon = evidence.horizon if again else ordinals.first(FIRST_HORIZON).stop
        return cls(
            ordinals=ordinals,
            suspects=suspects & ordinals,
            killers=killers & ordinals,
            careful=careful,
            again=again,
            horizon=plan.count if careful else horizon,
        )

    @property
    def parts(self) -> tuple[Ranges, ...]:
        """The ordinals in the order of processing: suspects come late, killers last."""
        return self.ordinals - self.suspects, self.suspects - self.killers, self.killers
