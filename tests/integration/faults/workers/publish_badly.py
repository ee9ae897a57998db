"""Publish, which dies or is overtaken when the ledger says so for a run: an object `runs/RUN/_test/WHAT` is the order."""

from __future__ import annotations

import os
from typing import Any

from tests.patience import await_
from winnow.core.errors import LedgerConflict
from winnow.handlers import publish
from winnow.storage.ledger import Ledger

DIE_BEFORE, DIE_AFTER, WAIT, WAITING, GO_ON = "die-before", "die-after", "wait", "waiting", "go-on"


def order_key(run_id: str, what: str) -> str:
    """Where an order for a run lies."""
    return f"runs/{run_id}/_test/{what}"


def handler(event: dict[str, Any], context: Any) -> Any:
    ledger, run_id = Ledger.of_bucket(os.environ["WINNOW_LEDGER_BUCKET"]), event["run_id"]

    def ordered(what: str) -> bool:
        """Whether it was ordered, and this call is the first to obey."""
        if not is_there(what):
            return False
        try:
            ledger.write_json(order_key(run_id, f"{what}-done"), {}, if_absent=True)
        except LedgerConflict:
            return False
        return True

    def is_there(what: str) -> bool:
        return ledger.find_json(order_key(run_id, what)) is not None

    if ordered(DIE_BEFORE):
        os._exit(1)
    if ordered(WAIT):
        ledger.write_json(order_key(run_id, WAITING), {})
        await_("the word to go on", lambda: is_there(GO_ON))
    answer = publish.handler(event, context)
    if ordered(DIE_AFTER):
        os._exit(1)
    return answer
