"""A replay of fifty thousand records, and several operators at the same moment."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import Target
from scripts.replay.chooser import Chooser, ChosenReplays
from scripts.replay.criteria import Criteria
from scripts.replay.orders import first
from scripts.replay.rules import Rules
from scripts.replay.site import Site
from scripts.replay.starting import let_go, start
from tests.unit.winnow.runs import RUN_ID, Pipeline, adapt
from winnow import Record, worker
from winnow.batch.plan import read_plan
from winnow.core.keys import StageKeys, replay_selection
from winnow.register.entry import Status, Success, note_success
from winnow.register.registering import Registered, register_failures
from winnow.settlement.failure_records import read_failures
from winnow.testing import FakeExecutions, MemoryRegister, MemoryStateTable

COUNT = 50_000
CRITERIA = Criteria(stage="mint")
RULES = Rules(first_stage="adapt", code_versions={})


class S3:
    """A source bucket that lists one page, and no runs."""

    def head_object(self, **_: str) -> dict[str, Any]:
        return {"ETag": '"1"', "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}

    def get_paginator(self, _: str) -> S3:
        return self

    def paginate(self, *, Bucket: str, **_: str) -> list[dict[str, Any]]:  # noqa: N803
        if Bucket != "source":
            return []
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return [{"Contents": [{"Key": f"r{n}", "ETag": '"1"', "LastModified": at} for n in range(COUNT)]}]


@worker
def broken(record: Record) -> object:
    if record.id.startswith("r"):
        raise TimeoutError("no answer")
    return {}


def site(count: int) -> Site:
    pipeline = Pipeline({"adapt": adapt, "mint": broken})
    records = [{"id": f"r{n}", "bucket": "source", "key": f"r{n}", "etag": "1"} for n in range(count)]
    body = "".join(json.dumps(each) + "\n" for each in records)
    pipeline.ledger.store.put("list", body.encode())
    pipeline.run({"records": {"bucket": "ledger", "key": "list"}})
    register = MemoryRegister()
    plan = read_plan(pipeline.ledger, StageKeys(RUN_ID, "mint"))
    register_failures(register, plan, read_failures(pipeline.ledger, plan.keys.failures), Registered())
    deployed = DeployedPipeline(
        name="catalogue",
        arn="",
        stages=("adapt", "mint"),
        ledger_bucket="ledger",
        source_bucket="source",
        source_prefix="",
    )
    return Site(
        target=Target(name="memory", is_local=True, client=lambda _: S3()),
        pipeline=deployed,
        register=register,
        ledger=pipeline.ledger,
        executions=FakeExecutions(),
        state=MemoryStateTable(),
    )


def chosen(where: Site, limit: int | None = None, criteria: Criteria = CRITERIA) -> ChosenReplays:
    return Chooser(where).choose(where.entries(criteria), None, RULES, first(limit))


def held_by(where: Site) -> dict[str, str]:
    return {entry.record_id: entry.replay_id for entry in where.register.unresolved("catalogue", "mint")}


@pytest.fixture(scope="module")
def large() -> Site:
    return site(COUNT)


def test_fifty_thousand_records_travel_as_pointers_only(large: Site) -> None:
    (order,) = chosen(large).orders
    assert len(order.candidates) == COUNT
    started = start(large, order)
    assert (started.now, started.count) == (True, COUNT)
    executions = large.executions
    assert isinstance(executions, FakeExecutions)
    assert len(json.dumps(executions.started[order.replay_id])) < 1_000
    selection = large.ledger.store.get(replay_selection(order.replay_id)).body
    assert json.loads(selection)["parts"] == [{"run_id": RUN_ID, "stage": "mint", "ordinals": [0, COUNT]}]


def test_each_record_is_in_exactly_one_replay_however_many_operators_overlap() -> None:
    where = site(400)
    orders = []
    for ids in (range(300), range(100, 400), range(0, 400, 2), range(50)):
        criteria = Criteria(ids=tuple(f"r{n}" for n in ids))
        orders += chosen(where, criteria=criteria).orders
    orders.append(replace(orders[0]))
    with ThreadPoolExecutor(max_workers=len(orders)) as pool:
        started = list(pool.map(lambda order: start(where, order), orders))
    given: Counter[int] = Counter()
    for name in {each.replay_id for each in started if each.now}:
        (part,) = where.ledger.read_json(replay_selection(name))["parts"]
        flat = part["ordinals"]
        given.update(n for a, b in zip(flat[::2], flat[1::2], strict=True) for n in range(a, b))
    assert set(given.values()) == {1}
    assert len(given) == 400
    entries = list(where.register.unresolved("catalogue", "mint"))
    assert {entry.status for entry in entries} == {Status.REPLAYING}
    for each in started:
        if each.now:
            assert sum(entry.replay_id == each.replay_id for entry in entries) == each.count


def resolve(where: Site, *record_ids: str) -> None:
    """A run has brought these records through."""
    where.register.apply(
        "catalogue",
        "mint",
        record_ids,
        lambda _, found: (
            note_success(found, Success(run_id="R9", at="2999-01-01T00:00:00.000Z")) if found else None
        ),
    )


def test_who_presses_when_a_replay_has_settled_some_takes_nothing_from_it() -> None:
    where = site(3)
    (order,) = chosen(where).orders
    assert start(where, order).now
    resolve(where, "r0")
    again = start(where, order)
    assert (again.now, again.before) == (False, True)
    assert held_by(where) == dict.fromkeys(("r1", "r2"), order.replay_id)


def test_who_presses_when_a_replay_has_just_ended_holds_nothing_for_it() -> None:
    where = site(2)
    (order,) = chosen(where).orders
    start(where, order)
    executions = where.executions
    assert isinstance(executions, FakeExecutions)
    executions.statuses[executions.arn(order.replay_id)] = "ABORTED"
    let_go(where, order, order.candidates)  # as the run's closer does
    assert start(where, order).before
    assert held_by(where) == dict.fromkeys(("r0", "r1"), "")
