"""From what an operator asked for to the replays that would be started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scripts.replay.estimate import Estimate, Speed, estimate, measure
from scripts.replay.facts import FactFinder, SourceObjects
from scripts.replay.orders import Candidate, Cut, Division, ReplayOrder, by_stage, divide, fresh_order
from scripts.replay.rules import LeftOut, Rules, refusal
from scripts.replay.runs import newest_first, run_ids
from scripts.terminal.errors import Mistake

if TYPE_CHECKING:
    from scripts.replay.site import Site
    from winnow.register.item import Summary

MEMORY_MB = 1024
"""Of a worker of which nothing better is known."""


@dataclass(slots=True)
class ChosenReplays:
    """What would be started, and what is left out and why."""

    orders: list[ReplayOrder] = field(default_factory=list)
    started: dict[str, str] = field(default_factory=dict)
    """Replays of the very same selection that were started before, and their status."""
    left_out: LeftOut = field(default_factory=LeftOut)
    beyond_limit: int = 0


def start_stage(name: str | None, stages: Sequence[str], failing: str) -> str:
    """The stage that a replay of a stage's failures starts at.

    Raises:
        Mistake: there is no such stage, or it comes after the one they failed in.
    """
    if not name:
        return failing
    if name == "start":
        return stages[0]
    if name not in stages:
        raise Mistake("--from", name, f"must be start or one of {', '.join(stages)}")
    if stages.index(name) > stages.index(failing):
        raise Mistake("--from", name, f"must not come after {failing}, which is where the records failed")
    return name


class Chooser:
    """Chooses among a site's failures."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._runs: list[str] | None = None
        self._speeds: dict[str, Speed | None] = {}

    def choose(self, entries: Sequence[Summary], start: str | None, rules: Rules, cut: Cut) -> ChosenReplays:
        """Decide what of some entries is replayed.

        Raises:
            Mistake: `start` is no stage that all of them can be started from.
        """
        site = self._site
        stages = site.pipeline.stages
        choice = ChosenReplays()
        groups = list(by_stage(entries, stages))
        starts = {stage: start_stage(start, stages, stage) for stage, _ in groups}
        evidence = FactFinder(
            site.ledger,
            first_stage=stages[0],
            objects=SourceObjects(site.s3),
            source_bucket=site.pipeline.source_bucket,
            runs=self._all_runs,
        )
        for stage, some in groups:
            here = replace(rules, start_at=starts[stage])
            candidates: list[Candidate] = []
            for entry, facts in zip(some, evidence.facts(some, starts[stage]), strict=True):
                reason = refusal(entry, facts, here)
                if reason:
                    choice.left_out.add(reason, entry.record_id)
                else:
                    candidates.append(Candidate(entry=entry, places=facts.places))
            self._divide(starts[stage], candidates, cut, choice)
        return choice

    def _divide(
        self, start_at: str, candidates: Sequence[Candidate], cut: Cut, choice: ChosenReplays
    ) -> None:
        site = self._site
        division: Division = divide(
            site.pipeline.name,
            start_at,
            candidates,
            now=site.clock(),
            status=self._status,
            cut=cut,
        )
        choice.orders += division.orders
        choice.started |= division.started
        for reason, ids in division.held.items():
            for record_id in ids:
                choice.left_out.add(reason, record_id)
        choice.beyond_limit += division.beyond_limit

    def order(self, start_at: str, candidates: Sequence[Candidate]) -> ReplayOrder:
        """The order of a part of what was chosen."""
        return fresh_order(self._site.pipeline.name, start_at, candidates, self._status)

    def _status(self, replay: str) -> str | None:
        return self._site.executions.status(self._site.executions.arn(replay))

    def estimate(self, order: ReplayOrder) -> Estimate:
        """What an order will take and cost."""
        site = self._site
        stages = site.pipeline.stages[site.pipeline.stages.index(order.start_at) :]
        for stage in stages:
            if stage not in self._speeds:
                self._speeds[stage] = measure(site.ledger, stage, newest_first(self._all_runs()))
        speeds = {stage: speed for stage in stages if (speed := self._speeds[stage])}
        return estimate(len(order.candidates), stages, speeds, self._memory(stages))

    def _memory(self, stages: Sequence[str]) -> Mapping[str, int]:
        lambdas: Any = self._site.target.client("lambda")
        found = dict.fromkeys(stages, MEMORY_MB)
        for stage in stages:
            if worker := self._site.pipeline.workers.get(stage):
                found[stage] = lambdas.get_function_configuration(FunctionName=worker)["MemorySize"]
        return found

    def _all_runs(self) -> list[str]:
        if self._runs is None:
            self._runs = run_ids(self._site.s3, self._site.ledger.bucket)
        return self._runs
