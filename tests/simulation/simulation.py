"""One simulation: the real Winnow in a simulated world, driven through a schedule to its end."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from scripts.replay.orders import Candidate, fresh_order
from scripts.replay.starting import start
from tests.simulation import branches
from tests.simulation.machines import PIPELINE, Machines, pipeline_definition, stage_definition
from tests.simulation.recording import InlinePool, SimulatedChild, SimulatedRecorder
from tests.simulation.schedule import FaultKind, RecordPlan, RunPlan, Schedule, Way
from tests.simulation.stores import (
    SOURCE,
    SimulatedRegister,
    SimulatedStateTable,
    SimulatedStore,
    Topic,
)
from tests.simulation.workers import StageWorker
from tests.simulation.world import EPOCH, Execution, Invocation, World
from winnow.alerts.announcer import Announcer
from winnow.batch import plan as batch_plan
from winnow.batch import selection, successes
from winnow.core import contract
from winnow.core.contract import Kind, Order, Policy, StageInput, now
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal import evidence
from winnow.journal.segment import Segment
from winnow.metrics.watch import Watch
from winnow.planning import batch_list
from winnow.planning.stage_planner import continue_stage, plan_stage
from winnow.proof.lineage import Place
from winnow.register.item import Summary
from winnow.register.registering import register_state
from winnow.runs import run_planner
from winnow.runs.closer import Closer
from winnow.runs.request import RunRequest
from winnow.runs.run_ended import RunEnded
from winnow.runs.run_planner import RunPlanner
from winnow.runtime import (
    admission,
    attempt,
    careful,
    flusher,
    outcome,
    outstanding,
    recorder,
    segment_writer,
)
from winnow.runtime.deadline import Deadline
from winnow.settlement import derive
from winnow.settlement import settle as settling
from winnow.storage.ledger import Ledger, compress

LOCKED = tuple(vars(selection._OpenPart)[name] for name in ("plan", "source"))
"""Python 3.11 holds a lock of all instances while it computes one's cached property, and a task may switch meanwhile."""
CLOSE_TRIES = 3
"""Lambda tries an event three times."""


@dataclass(slots=True, eq=False)
class Given:
    """What a run was given, as whoever started it knows it."""

    plan: RunPlan | None
    rows: list[Any]
    """Of its first list: documents, or None for a row that is no JSON."""
    start_at: str


@dataclass(eq=False)
class Simulation:
    """A pipeline, and everything around it."""

    schedule: Schedule
    world: World = field(init=False)

    def __post_init__(self) -> None:
        schedule = self.schedule
        self.world = world = World(schedule)
        self.store = SimulatedStore(world)
        self.ledger = Ledger(self.store)
        self.state = SimulatedStateTable(world)
        self.register = SimulatedRegister(world)
        self.topic = Topic(world)
        self.stages = {stage.name: stage for stage in schedule.stages}
        self.given: dict[str, Given] = {}
        """By ARN of the pipeline's execution."""
        self.watch = Watch(environment="test", pipeline=PIPELINE)
        self.announcer = Announcer(topic_arn="topic", environment="prod", sns=self.topic)
        definitions = {stage.name: stage_definition(stage) for stage in schedule.stages}
        definitions[PIPELINE] = pipeline_definition(schedule.stages)
        self.machines = Machines(
            world,
            definitions,
            {
                "plan_run": self._plan_run,
                "plan": self._plan,
                "worker": self._work,
                "settle": self._settle,
                "register": self._register,
                "alert": self._alert,
            },
        )
        self.closed_badly: list[str] = []

    # The schedule

    def run(self) -> None:
        """Run the schedule to its end, and then close every run once more while nothing goes wrong."""
        for number, plan in enumerate(self.schedule.runs):
            self.world.scheduler.spawn(f"run {number}", partial(self._run, number, plan), after=plan.after)
        for after in self.schedule.replays:
            self.world.scheduler.spawn("replay", self._replay, after=after)
        self.world.scheduler.run()
        self.world.deliver_late(everything=True)
        self.world.calm = True
        self.world.scheduler.spawn("close", self._close_all)
        self.world.scheduler.run()

    @property
    def runs(self) -> list[Execution]:
        """Executions of the pipeline."""
        return [each for each in self.machines.executions.values() if each.machine == PIPELINE]

    def _run(self, number: int, plan: RunPlan) -> None:
        key = f"lists/{number}.ndjson"
        rows = self._rows(plan)
        self.store.objects[SOURCE, key] = "".join(
            f"{'{broken' if row is None else json.dumps(row, ensure_ascii=False)}\n" for row in rows
        ).encode()
        given: dict[str, Any] = {
            "records": {"bucket": SOURCE, "key": key},
            "trigger": {"kind": "schedule" if plan.scheduled else "manual"},
        }
        if plan.name:
            given["run_id"] = plan.name
        if plan.again_after is not None:
            self.world.scheduler.spawn(
                f"run {number} again",
                lambda: self._execute(f"again-{number}", given, plan, rows),
                after=plan.again_after,
            )
        name = contract.new_run_id() if not plan.name else f"event-{number}"
        self._execute(name, given, plan, rows)

    def _rows(self, plan: RunPlan) -> list[Any]:
        rows: list[Any] = []
        for place in plan.records:
            record = self.schedule.records[place]
            rows += [self._row(record, worse=place in plan.worse)] * record.copies
        rows += [None] * plan.unreadable
        return rows

    def _row(self, record: RecordPlan, *, worse: bool) -> Any:
        manners = {
            stage.name: manner.to_data()
            for stage, manner in zip(self.schedule.stages, record.manners, strict=False)
        }
        if worse:
            manners[self.schedule.stages[0].name] = [Way.PERMANENT.name, 99]
        return {"id": record.id, "data": {"value": record.value, "manners": manners}}

    def _execute(self, name: str, given: Any, plan: RunPlan | None, rows: list[Any]) -> None:
        execution = self.machines.start(PIPELINE, name, given)
        if execution is None:
            return
        start_at = given.get("start_at", self.schedule.stages[0].name)
        self.given[execution.arn] = Given(plan, rows, start_at)
        self.machines.run(execution)
        self.world.tell(f"run {self.run_id(execution)} ends {execution.status}")
        for _ in range(CLOSE_TRIES):
            invocation = self._close(execution)
            if not (invocation.death or invocation.error or invocation.let_go):
                break
            self.world.sleep(60)

    def run_id(self, execution: Execution) -> str:
        """The id of a run, as far as whoever started it knows."""
        if isinstance(execution.output, dict):
            return str(execution.output["run_id"])
        given = execution.given.get("run_id")
        return str(given or self.state._runs.get(execution.arn) or execution.name)

    def _replay(self) -> None:
        """An operator replays what is open in the first stage that has something, from the stage itself."""
        for stage in self.stages:
            entries = [
                each
                for each in self.register.all(PIPELINE, stage)
                if each.status.value in {"open", "replaying"}
                and each.error_type not in {"UnreadableRow", "UnusableId"}
            ]
            free = [each for each in entries if not each.held(now())]
            if free:
                self._replay_of(stage, sorted(free, key=lambda each: each.record_id))
                return

    def _replay_of(self, stage: str, entries: list[Summary]) -> None:
        candidates = [
            Candidate(entry=each, places=(Place(each.run_id, stage, each.ordinal),)) for each in entries
        ]
        begun: list[Any] = []

        def begin(name: str, given: Any) -> bool:
            begun.append((name, given))
            return True

        site: Any = SimpleNamespace(
            pipeline=SimpleNamespace(name=PIPELINE),
            register=self.register,
            ledger=self.ledger,
            executions=SimpleNamespace(
                start=begin,
                status=self._status,
                arn=_arn,
            ),
            clock=now,
        )
        order = fresh_order(PIPELINE, stage, candidates, lambda name: self._status(_arn(name)))
        start(site, order)
        for name, given in begun:
            self.world.tell(f"an operator replays {len(entries)} failures of {stage} as {name}")
            self._execute(
                name, given, None, [(each.run_id, stage, each.ordinal, each.record_id) for each in entries]
            )

    def _status(self, arn: str) -> str | None:
        found = self.machines.executions.get(arn)
        return found.status if found else None

    def _close_all(self) -> None:
        for execution in self.runs:
            invocation = self._close(execution)
            if invocation.death or invocation.error:
                self.closed_badly.append(
                    f"run {self.run_id(execution)} cannot be closed although nothing goes wrong any more: {invocation.error}"
                )

    # The functions

    def _invoke(
        self,
        function: str,
        action: Callable[[], Any],
        execution: Execution,
        about: str,
        seconds: float = 900.0,
    ) -> Invocation:
        where = f"{about} in {execution.machine} {execution.name}"
        return self.world.invoke(function, action, about=where, execution=execution, seconds=seconds)

    def _plan_run(self, payload: Any, execution: Execution) -> Invocation:
        def action() -> Any:
            request = RunRequest.from_event(payload["input"], stages=tuple(self.stages), source_prefix="")
            planner = RunPlanner(
                pipeline=PIPELINE,
                stages=tuple(self.stages),
                ledger=self.ledger,
                source=SimpleNamespace(objects=lambda _prefix: iter(())),
                state=self.state,
                executions=SimpleNamespace(status=self._status, start=None, arn=_arn),
            )
            event = {"execution": payload["execution"], "name": payload["name"]}
            return planner.plan(request, run_planner.Execution.from_event(event)).to_payload()

        return self._invoke("plan_run", action, execution, "PlanRun", 60.0)

    def _plan(self, payload: Any, execution: Execution) -> Invocation:
        def action() -> Any:
            given = payload["input"]
            where: dict[str, Any] = {
                "pipeline": PIPELINE,
                "stage": payload["stage"],
                "policy": Policy.from_event(payload["policy"]),
                "execution": payload["execution"],
            }
            if "plan" in given:
                return continue_stage(self.ledger, given, **where).to_payload()
            return plan_stage(self.ledger, StageInput.from_event(given), **where).to_payload()

        return self._invoke("plan", action, execution, "Plan")

    def _work(self, payload: Any, execution: Execution) -> Invocation:
        stage = self.stages[payload["stage"]]
        claim = payload["run_id"], payload["stage"], payload["attempt"]
        self.world.claims[claim].add(execution.arn)

        def action() -> Any:
            made = StageWorker(self.world, stage, payload["run_id"])
            invocation = self.world.invocation
            assert invocation
            since = self.world.monotonic()
            context = SimpleNamespace(
                memory_limit_in_mb=512,
                get_remaining_time_in_millis=lambda: int(
                    1000 * max(0.0, stage.lambda_seconds - self.world.monotonic() + since)
                ),
            )
            invocation.begin_worker = made.worker
            return attempt.run_attempt(
                made.worker(),
                payload,
                context,
                ledger=self.ledger,
                watch=self.watch,
                code_version=f"v{self.world.version}",
            )

        if self._has_forged_reports():
            self._forge(payload)
        about = f"the worker of attempt {payload['attempt']}"
        invocation = self._invoke("worker", action, execution, about, stage.lambda_seconds)
        if invocation.whole(FaultKind.LIE) and invocation.answer:
            self.world.tell(f"{invocation.about} says that it did 999 records")
            invocation.answer = {**invocation.answer, "succeeded": 999}
        return invocation

    def _has_forged_reports(self) -> bool:
        return any(
            fault.kind is FaultKind.FORGED and fault.invocation == self.world.invocations["worker"]
            for fault in self.schedule.faults
        )

    def _forge(self, payload: Any) -> None:
        """Write a segment, of no worker's, by which every record of the batch is a permanent failure."""
        where = StageKeys(payload["run_id"], payload["stage"])
        plan = json.loads(self.store.objects[self.store.bucket, where.plan])
        segment = Segment(
            batch=plan["digest"],
            invocation="forged",
            sequence=0,
            succeeded=Ranges.empty(),
            skipped=Ranges.empty(),
            failed={Kind.PERMANENT: Ranges.span(0, plan["count"])},
            written_at=now(),
        )
        key = where.attempt(payload["attempt"]).segment("forged", 0)
        self.store.objects[self.store.bucket, key] = compress(json.dumps(segment.to_json()).encode())
        self.world.tell(
            f"somebody reports all of {payload['stage']} as permanent, in attempt {payload['attempt']}"
        )

    def _settle(self, payload: Any, execution: Execution) -> Invocation:
        return self._invoke(
            "settle",
            lambda: settling.settle(self.ledger, payload["state"], self.watch.count),
            execution,
            "Settle",
        )

    def _register(self, payload: Any, execution: Execution) -> Invocation:
        return self._invoke(
            "register",
            lambda: register_state(self.ledger, self.register, payload["state"], self.watch.count),
            execution,
            "Register",
        )

    def _alert(self, payload: Any, execution: Execution) -> Invocation:
        def action() -> Any:
            order = Order.from_event(payload["state"]["order"])
            keys = StageKeys(order.run_id, order.stage).attempt(order.attempt)
            sent = self.announcer.announce_attempt(self.ledger, keys, execution=payload["execution"])
            return {"alerted": sent is not None}

        return self._invoke("alert", action, execution, "Alert", 60.0)

    def _close(self, execution: Execution) -> Invocation:
        closer = Closer(
            pipeline=PIPELINE,
            stages=tuple(self.stages),
            ledger=self.ledger,
            register=self.register,
            state=self.state,
            announcer=self.announcer,
            watch=self.watch,
        )
        ended = RunEnded.from_event(
            {
                "detail": {
                    "executionArn": execution.arn,
                    "name": execution.name,
                    "status": execution.status,
                    "startDate": int(1000 * (EPOCH + execution.started_at)),
                    "stopDate": int(1000 * (EPOCH + (execution.ended_at or 0.0))),
                    "input": json.dumps(execution.given),
                    "output": json.dumps(execution.output) if execution.output else None,
                    "error": execution.error,
                    "cause": execution.cause,
                }
            }
        )
        return self._invoke("close", lambda: closer.close(ended).to_payload(), execution, "CloseRun")

    # Where the world gets into Winnow

    @contextmanager
    def seams(self) -> Iterator[None]:
        """Within it the simulated world is where Winnow finds its clocks, threads and limits."""
        world, schedule = self.world, self.schedule
        with ExitStack() as stack:
            for module, name, value in (
                (contract, "time", SimpleNamespace(time=world.time)),
                (contract, "os", SimpleNamespace(urandom=world.entropy)),
                (contract, "datetime", SimpleNamespace(now=world.moment)),
                (flusher, "time", SimpleNamespace(monotonic=world.monotonic)),
                (segment_writer, "time", SimpleNamespace(sleep=world.sleep)),
                (outcome, "time", SimpleNamespace(sleep=world.sleep)),
                (outcome, "random", SimpleNamespace(random=world.random)),
                (
                    attempt,
                    "Deadline",
                    SimpleNamespace(of_worker=partial(Deadline.of_worker, clock=world.monotonic)),
                ),
                (attempt, "Recorder", partial(SimulatedRecorder, world)),
                (attempt, "run_carefully", _run_carefully),
                (careful, "Child", partial(SimulatedChild, world)),
                (evidence, "ThreadPoolExecutor", InlinePool),
                (successes, "ThreadPoolExecutor", InlinePool),
                (admission, "FIRST_HORIZON", schedule.horizon),
                (outstanding, "FIRST_HORIZON", schedule.horizon),
                (derive, "FIRST_HORIZON", schedule.horizon),
                (batch_plan, "BLOCK_IDS", schedule.block),
                (batch_list, "BLOCK_IDS", schedule.block),
                (recorder, "FLUSH_BYTES", schedule.buffer),
                (recorder, "HELD_BYTES", 2 * schedule.buffer),
                *((each, "lock", nullcontext()) for each in LOCKED),
                *branches.counted(world.reached, world.random),
            ):
                stack.enter_context(patch.object(module, name, value, create=name == "lock"))
            stack.enter_context(_silence())
            yield


def _arn(name: str) -> str:
    return Execution(PIPELINE, name, None).arn


def _run_carefully(worker: str, items: Any, gate: Any, options: Any, limits: Any) -> None:
    """As the runtime's, in one thread: this one."""
    del options
    careful._CarefulThread(worker, careful._SharedUnits(items), gate, limits).run()


@contextmanager
def _silence() -> Iterator[None]:
    """Nothing is logged: a thousand schedules fail in a hundred ways each."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
