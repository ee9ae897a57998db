"""Probe: the worker of the probe stage, and whatever else `winnow doctor --probe` asks for. It stands in for Register and Alert, too.

A probe's failures are made on purpose: nobody is alerted of them, and the failure register does not have them.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from winnow.core.probe import Ask
from winnow.probing.faults import fail
from winnow.probing.work import in_attempt, work
from winnow.settings import Settings
from winnow.storage.clients import client
from winnow.storage.ledger import Ledger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

from winnow.probing import start  # noqa: F401  last: it measures how long all of the above takes


def handler(event: dict[str, Any], context: LambdaContext) -> Any:
    """Payload: `{"probe": Ask, …}`, an order of the probe's stage machine, or `{"execution", "state"}` in Register's place."""
    if "state" in event:
        return {**event["state"], "alert": False}
    if "probe" not in event:
        in_attempt(event["attempt"])
        return work(event, context)
    ask = Ask(event["probe"])
    # Imported here: a fault needs nothing of AWS, and a cold start in so little memory is slow.
    match ask:
        case Ask.WAIT:
            time.sleep(event["seconds"])
            return {"waited": event["seconds"]}
        case Ask.FACTS:
            from winnow.probing.facts import facts  # noqa: PLC0415

            bucket = Settings.from_env().need("ledger_bucket")
            return facts(event["run_id"], bucket=bucket, s3=client("s3"))
        case Ask.LIST:
            from winnow.probing.lists import write_list  # noqa: PLC0415

            return write_list(Ledger.of_bucket(Settings.from_env().need("ledger_bucket")), event)
    return fail(ask, memory_mb=int(context.memory_limit_in_mb))
