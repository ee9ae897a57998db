"""Batches on a store, planned and ready for a worker."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.sides.common import RUN, STAGE, record_id
from winnow.batch.plan import Plan, read_plan
from winnow.core.contract import Order, Policy, StageInput
from winnow.core.keys import StageKeys
from winnow.core.record import Record
from winnow.planning.stage_planner import plan_stage
from winnow.runtime.deadline import Deadline
from winnow.runtime.recorder import Recorder, RecorderSettings
from winnow.runtime.segment_writer import SegmentWriter
from winnow.runtime.sink import Item
from winnow.settlement.settlement import FIRST_HORIZON
from winnow.storage.formats import NDJSON
from winnow.storage.ledger import Ledger
from winnow.storage.store import ObjectStore

FAR = 900.0
"""Seconds until a deadline that no benchmark reaches."""


def order_for(store: ObjectStore, count: int, run_id: str = RUN) -> Order:
    """Plan a batch of small records that lie on the store as ndjson."""
    lines = (json.dumps({"id": record_id(n), "data": {"n": n}}) for n in range(count))
    store.put("input.ndjson", "\n".join([*lines, ""]).encode())
    stage_input = {"run_id": run_id, "records": {"bucket": store.bucket, "key": "input.ndjson"}}
    return plan_stage(
        Ledger(store),
        StageInput.from_event(stage_input),
        pipeline="bench",
        stage=STAGE,
        policy=Policy(),
        execution="bench",
    )


def plan_of(store: ObjectStore, count: int, run_id: str = RUN) -> Plan:
    """The plan of such a batch."""
    order_for(store, count, run_id)
    return read_plan(Ledger(store), StageKeys(run_id, STAGE))


def items_of(plan: Plan) -> Sequence[Item]:
    """The records of such a batch, read and decoded."""
    return [(n, Record(record_id(n), {"n": n})) for n in range(plan.count)]


def recorder_on(store: ObjectStore, plan: Plan, *, flush_seconds: float = 5.0) -> Recorder:
    """What journals the first attempt of such a batch."""
    return Recorder(
        SegmentWriter(
            Ledger(store),
            plan,
            plan.keys.attempt(0),
            invocation="bench",
            form=NDJSON,
            deadline=Deadline(FAR),
        ),
        RecorderSettings(flush_seconds=flush_seconds, horizon=FIRST_HORIZON, give_up_after=100),
    )
