"""Settle, as its Lambda does it, from a journal on disk."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.disk import DiskStore
from benchmarks.sides.common import RUN, STAGE, peak_mb
from winnow.batch.plan import read_plan
from winnow.core.contract import Order, Pointer, Policy
from winnow.core.keys import StageKeys
from winnow.settlement.settle import settle
from winnow.storage.ledger import Ledger

POLICY = Policy(max_tries=2)


def main(arguments: list[str]) -> None:
    """Arguments: folder; `retry` (who failed is tried again), `exhausted` (failure records are written), or `lambda`.

    With `lambda` the client and the logger of the real handler are there, too, for what they take of the memory.
    """
    folder, how = Path(arguments[0]), arguments[1]
    if how == "lambda":
        import winnow.handlers.settle  # noqa: F401, PLC0415
        from winnow.storage.clients import client  # noqa: PLC0415

        client("s3")
    ledger = Ledger(DiskStore(folder))
    plan = read_plan(ledger, StageKeys(RUN, STAGE))
    order = Order(
        run_id=RUN,
        pipeline="bench",
        stage=STAGE,
        attempt=0,
        try_count=0 if how == "retry" else POLICY.max_tries - 1,
        count=plan.count,
        plan=Pointer(bucket=ledger.bucket, key=plan.keys.plan),
        policy=POLICY,
    )
    _forget(folder / ledger.bucket / plan.keys.attempt(0).settlement)
    since = time.perf_counter()
    state = settle(ledger, {"order": order.to_payload(), "worker": {}}, lambda _metric, _value: None)
    seconds = time.perf_counter() - since
    failed = state["output"]["failures"]["count"] if state["output"] else None
    print(
        json.dumps(
            {
                "seconds": seconds,
                "peak_mb": peak_mb(),
                "verdict": state["verdict"],
                "failed": failed,
                "state_bytes": len(json.dumps(state)),
            }
        )
    )


def _forget(settlement: Path) -> None:
    """Otherwise it would be found, and nothing settled."""
    settlement.unlink(missing_ok=True)
