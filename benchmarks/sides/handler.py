"""One handler of a stage, called once."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.sides.common import peak_mb
from winnow.core.contract import Policy
from winnow.testing import FakeContext


def main(arguments: list[str]) -> None:
    """Arguments: `plan`, `worker` or `settle`, and its part of the event as JSON."""
    name, given = arguments[0], json.loads(arguments[1])
    print(json.dumps({"answer": _call(name, given), "peak_mb": peak_mb()}))


def _call(name: str, given: Any) -> Any:
    context: Any = FakeContext(900.0)
    if name == "worker":
        from benchmarks.workers import check  # noqa: PLC0415  each process loads what its Lambda would

        return check(given, context)
    if name == "settle":
        from winnow.handlers.settle import handler as settle  # noqa: PLC0415

        return settle({"execution": "bench", "state": given}, context)
    from winnow.handlers.plan import handler as plan  # noqa: PLC0415

    event = {"input": given, "execution": "bench", "stage": "check", "policy": Policy().to_payload()}
    return plan(event, context)
