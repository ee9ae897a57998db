"""The register made again from the ledger is the register, in whatever order runs were settled and registered."""

from __future__ import annotations

import random
from typing import Any

import pytest

from scripts.replay.rebuilding import compare, replay_history
from winnow import PermanentError, Record, TransientError, worker
from winnow.batch.plan import read_plan
from winnow.core.contract import Order, Policy, StageInput
from winnow.core.keys import StageKeys
from winnow.core.run_document import RunDocument
from winnow.metrics.watch import Watch
from winnow.planning.stage_planner import plan_stage
from winnow.register.entry import Entry, Status
from winnow.register.registering import register_attempt
from winnow.runtime.attempt import run_attempt
from winnow.settlement.settle import settle
from winnow.settlement.settlement import read_settlement
from winnow.storage.ledger import Ledger
from winnow.testing import FakeContext, MemoryRegister, MemoryStore

WHERE: dict[str, Any] = {"pipeline": "catalogue", "stage": "adapt", "policy": Policy(max_tries=1)}
ERRORS = {"permanent": PermanentError("never"), "transient": TransientError("busy"), "fine": None}


class World:
    """A ledger and a register; runs of one record go through their steps in any order."""

    def __init__(self) -> None:
        self.ledger = Ledger(MemoryStore("ledger"))
        self.register: Any = MemoryRegister()
        self.orders: dict[str, Order] = {}

    def plan(self, run_id: str) -> None:
        given = StageInput.from_event({"run_id": run_id, "records": ["r", "other"]})
        self.orders[run_id] = plan_stage(self.ledger, given, execution=run_id, **WHERE)

    def work(self, run_id: str, ending: str) -> None:
        @worker
        def work(record: Record) -> None:
            error = ERRORS[ending]
            if record.id == "r" and error:
                raise error

        order = self.orders[run_id].to_payload()
        watch = Watch(environment="test", pipeline="catalogue")
        run_attempt(work, order, FakeContext(), ledger=self.ledger, watch=watch, code_version="v")

    def settle(self, run_id: str) -> None:
        settle(self.ledger, {"order": self.orders[run_id].to_payload(), "worker": {}}, lambda *_: None)

    def register_run(self, run_id: str) -> None:
        plan = read_plan(self.ledger, StageKeys(run_id, "adapt"))
        settlement = read_settlement(self.ledger, plan, 0)
        assert settlement
        register_attempt(self.ledger, self.register, plan, settlement)

    @property
    def entry(self) -> Entry:
        found: Entry = self.register.entries["catalogue", "adapt"]["r"]
        return found

    def differences(self) -> list[str]:
        """Records of which a register made from the ledger says otherwise."""
        rebuilt: Any = MemoryRegister()
        documents = [_document(run_id) for run_id in self.orders]
        assert replay_history(self.ledger, documents, rebuilt).damaged == {}
        found = compare(
            self.register,
            rebuilt,
            pipeline="catalogue",
            stages=("adapt",),
            known_runs=frozenset(self.orders),
            now="2999-01-01T00:00:00.000Z",
            write=False,
        )
        return [*found.missing, *found.changed, *found.beyond]


def _document(run_id: str) -> RunDocument:
    return RunDocument.from_json(
        {
            "run_id": run_id, "pipeline": "catalogue", "stages": ["adapt"], "start_at": "adapt", "trigger": {},
            "replay": None, "execution": f"arn:{run_id}", "started_at": "2026-11-20T12:00:00.000Z",
            "records": {"bucket": "ledger", "key": "list"}, "stepped_aside": None,
        }
    )  # fmt: skip


@pytest.fixture(autouse=True)
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each moment is another one, so that what came first is never in doubt."""
    moments = (f"2026-11-20T12:{n // 60_000:02d}:{n // 1000 % 60:02d}.{n % 1000:03d}Z" for n in range(10**6))
    for module in (
        "settlement.derive", "journal.reports", "planning.stage_planner", "planning.claim", "core.contract",
        "runtime.segment_writer",
    ):  # fmt: skip
        monkeypatch.setattr(f"winnow.{module}.now", lambda: next(moments))


def test_what_a_run_resolved_that_settled_before_the_failure_did_stays_resolved() -> None:
    world = World()
    world.plan("A")
    world.work("A", "permanent")
    world.plan("B")
    world.work("B", "fine")
    for run_id in ("B", "A"):
        world.settle(run_id)
        world.register_run(run_id)
    assert world.entry.status is Status.RESOLVED
    assert world.differences() == []


def test_who_was_told_first_stays_as_it_was() -> None:
    world = World()
    for run_id, ending in (("A", "permanent"), ("B", "transient"), ("C", "fine")):
        world.plan(run_id)
        world.work(run_id, ending)
        world.settle(run_id)
    for run_id in ("A", "C", "B"):
        world.register_run(run_id)
    assert world.differences() == []


@pytest.mark.parametrize("seed", range(60))
def test_whatever_the_order_of_steps_nothing_differs_and_the_newest_outcome_counts(seed: int) -> None:
    chance = random.Random(seed)
    endings = {run_id: chance.choice(list(ERRORS)) for run_id in "ABCD"}
    steps = {run_id: ["plan", "work", "settle", "register"] for run_id in endings}
    world = World()
    done: list[str] = []
    while steps:
        run_id = chance.choice(list(steps))
        step = steps[run_id].pop(0)
        if not steps[run_id]:
            del steps[run_id]
        if step == "plan":
            world.plan(run_id)
        elif step == "work":
            world.work(run_id, endings[run_id])
            done.append(run_id)
        elif step == "settle":
            world.settle(run_id)
        else:
            world.register_run(run_id)
            if chance.random() < 0.2:
                world.register_run(run_id)
    if all(ending == "fine" for ending in endings.values()):
        assert world.register.entries == {}
        return
    assert world.differences() == []
    newest = endings[done[-1]]
    if newest != "fine":
        assert world.entry.status is Status.OPEN
