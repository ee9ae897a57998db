"""Whole runs in memory, for tests: PlanRun, Plan, worker, Settle and conclude as they are, only Step Functions is played."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from winnow import Output, PermanentError, Record, Skip, worker
from winnow.core.contract import Order, Pointer, Policy, StageInput
from winnow.core.keys import StageKeys
from winnow.metrics.watch import Watch
from winnow.planning.stage_planner import continue_stage, plan_stage
from winnow.runs.request import RunRequest
from winnow.runs.run_planner import Execution, RunPlanner
from winnow.runtime.attempt import run_attempt
from winnow.settlement.settle import settle
from winnow.storage.ledger import Ledger
from winnow.testing import FakeContext, FakeExecutions, MemoryStateTable, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from winnow.runtime.decorator import Worker
    from winnow.storage.listing import SourceObject

RUN_ID = "01JD7ZK3V5Q8W9X0Y1Z2A3B4C5"
EXECUTION = f"arn:aws:states:eu-west-1:123456789012:execution:catalogue:{RUN_ID}"
POLICY = Policy(max_tries=2, backoff_seconds=0)


class NoSource:
    """An empty source bucket."""

    def objects(self, prefix: str) -> Iterator[SourceObject]:  # noqa: ARG002
        return iter(())


@dataclass
class Pipeline:
    """Stages of real workers over a ledger in memory."""

    stages: Mapping[str, Worker]
    ledger: Ledger = field(default_factory=lambda: Ledger(MemoryStore("ledger")))
    state: MemoryStateTable = field(default_factory=MemoryStateTable)
    execution: str = EXECUTION
    """ARN of the pipeline's execution."""
    stop_after: Callable[[str, int], bool] = lambda _stage, _attempt: False
    """Ends the run where an attempt of a stage was settled, as an abort would."""

    def run(self, event: Mapping[str, Any], run_id: str = RUN_ID) -> None:
        planner = RunPlanner(
            pipeline="catalogue",
            stages=tuple(self.stages),
            ledger=self.ledger,
            source=NoSource(),
            state=self.state,
            executions=FakeExecutions(),
        )
        request = RunRequest.from_event(
            {"run_id": run_id, **event}, stages=tuple(self.stages), source_prefix=""
        )
        plan = planner.plan(request, Execution(arn=self.execution, name=run_id))
        pointer = plan.records
        names = list(self.stages)
        for stage in names[names.index(plan.start_at) :]:
            assert pointer
            pointer = self.run_stage(plan.run_id, stage, pointer)
            if pointer is None:
                return

    def run_stage(self, run_id: str, stage: str, records: Pointer) -> Pointer | None:
        """The stage's successes; None where the stage failed or was stopped."""
        where: dict[str, Any] = {"pipeline": "catalogue", "stage": stage, "policy": POLICY}
        given = StageInput.from_event(
            {"run_id": run_id, "records": records.to_payload(), StageInput.STARTED_BY: self.execution}
        )
        order = plan_stage(self.ledger, given, execution=f"{stage}-0", **where)
        while True:
            state = settle(self.ledger, self._attempt(stage, order), lambda _metric, _value: None)
            if self.stop_after(stage, order.attempt):
                return None
            if state["next"] is None:
                break
            execution = f"{stage}-{state['next']['attempt']}"
            order = continue_stage(self.ledger, state["next"], execution=execution, **where)
        if state["verdict"] == "TOTAL_FAILURE":
            return None
        return Pointer.from_event(state["output"]["successes"]["batch_file_location"], "successes")

    def _attempt(self, stage: str, order: Order) -> dict[str, Any]:
        state: dict[str, Any] = {"order": order.to_payload()}
        try:
            state["worker"] = run_attempt(
                self.stages[stage],
                state["order"],
                FakeContext(),
                ledger=self.ledger,
                watch=Watch(environment="test", pipeline="catalogue"),
                code_version="test",
            )
        except Exception as error:  # noqa: BLE001  the state machine's Catch
            cause = json.dumps({"errorType": type(error).__name__, "errorMessage": str(error)})
            state["worker_error"] = {"Error": type(error).__name__, "Cause": cause}
        return state

    def keys(self, stage: str) -> StageKeys:
        return StageKeys(RUN_ID, stage)

    def change(self, key: str, change: Callable[[Any], Any]) -> None:
        """Tamper with a document of the ledger."""
        document = self.ledger.read_json(key)
        changed = change(document)
        self.ledger.write_json(key, document if changed is None else changed)


@worker
def adapt(record: Record) -> object:
    """Fails for good on `bad…`, for now on `flaky…`, skips `skip…`, makes two of `twin…`."""
    if record.id.startswith("bad"):
        raise PermanentError("no identifier")
    if record.id.startswith("flaky"):
        raise TimeoutError("no answer")
    if record.id.startswith("skip"):
        return Skip("nothing to do")
    if record.id.startswith("twin"):
        return (Output({"n": n}, id=f"{record.id}-{n}") for n in (1, 2))
    return {"title": record.id}


@worker
def transform(record: Record) -> object:
    """Gives records of one title the same output, so that the next stage sees duplicates."""
    title = record.id.split("~")[0]
    return Output({"title": title}, id=title)


@worker(batch=10)
def bundle(records: list[Record]) -> object:
    """Joins all it is given into one output, the same for each batch."""
    return [Output({"all": bool(records)}, id="bundle", sources=records)]


@worker
def mint(record: Record) -> object:
    """Hands its records on under new ids."""
    return Output(record.data, id=f"minted-{record.id}")


STAGES = {"adapt": adapt, "transform": transform, "mint": mint}
