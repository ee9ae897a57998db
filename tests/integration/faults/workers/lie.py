"""A worker that is no worker of Winnow's: a bare Lambda handler that lies, as the run's name says."""

from __future__ import annotations

import gzip
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any

import boto3

from tests.integration.faults.workers.pass_on import pass_on
from winnow import Output, Record, worker
from winnow.batch.plan import Plan, read_plan
from winnow.core.contract import Order, now
from winnow.core.keys import AttemptKeys, StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.segment import Segment
from winnow.storage.ledger import Ledger


def handler(event: dict[str, Any], context: Any) -> Any:
    order = Order.from_event(event)
    if order.run_id.startswith("lie-counts"):
        return {"succeeded": order.count, "skipped": 0, "failed": 0, "stopped": "end"}
    if order.run_id.startswith("lie-swallows"):
        with suppress(ConnectionError):
            raise ConnectionError("the other side is down")
        return None
    if order.run_id.startswith("lie-journals"):
        return _journal_lies(order, event, context)
    if order.run_id.startswith("lie-joins"):
        return join(event, context)
    return pass_on(event, context)


def _journal_lies(order: Order, event: dict[str, Any], context: Any) -> Any:
    """Do half of the work, claim all of it, and then some."""
    ledger = Ledger.of_bucket(os.environ["WINNOW_LEDGER_BUCKET"])
    plan = read_plan(ledger, StageKeys(order.run_id, order.stage))
    keys = plan.keys.attempt(order.attempt)
    if order.attempt == 0:
        half(event, context)
        for number, lie in enumerate(_lies(ledger, plan, keys)):
            ledger.write_json(keys.segment("ZZLIE", number), lie)
        s3 = boto3.client("s3")
        for number, junk in enumerate(
            (b"", b"not gzip", gzip.compress(b"not JSON"), gzip.compress(b"[1, 2]"))
        ):
            s3.put_object(Bucket=ledger.bucket, Key=keys.segment("ZZJUNK", number), Body=junk)
        return {"succeeded": order.count * 10, "skipped": -1, "failed": "none", "stopped": "end"}
    return pass_on(event, context)


def _lies(ledger: Ledger, plan: Plan, keys: AttemptKeys) -> list[Any]:
    honest = [
        Segment.from_json(ledger.read_json(key))
        for key in ledger.store.keys(keys.journal)
        if Segment.from_json(ledger.read_json(key)).outputs
    ]
    nothing = Ranges.empty()
    claim = Segment(
        batch=plan.digest,
        invocation="ZZLIE",
        sequence=0,
        succeeded=nothing,
        skipped=nothing,
        failed={},
        written_at=now(),
    )
    return [
        replace(claim, batch="0" * 32, succeeded=plan.everything).to_json(),
        replace(claim, succeeded=Ranges.span(plan.count, plan.count + 7)).to_json(),
        *(replace(segment, invocation="ZZLIE", written_at=now()).to_json() for segment in honest),
        {"batch": plan.digest, "succeeded": "all of them"},
    ]


@worker(flush_seconds=1)
def half(record: Record) -> dict[str, Any]:
    if record.data["half"] == "undone":
        raise ConnectionError("not done")
    return pass_on.function(record)  # type: ignore[no-any-return]  # the user's function, undecorated


@worker(flush_seconds=1, batch=10)
def join(records: list[Record]) -> list[Output]:
    """Join each ten into one, twice over, with a record that was never there, and without those that say so."""
    named = [record for record in records if not (record.data or {}).get("left_out")]
    if not named:
        return []
    return [
        Output({"of": len(named)}, id=f"join-of-{named[0].id}", sources=[*named, named[0], Record("nobody")])
    ]
