"""Powertools' batch processor over records in memory, and over an event from its JSON."""

from __future__ import annotations

import gc
import json
from typing import Any

from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response

from benchmarks.sides.common import Clock
from benchmarks.sides.handlers import failing_noop


def main(arguments: list[str]) -> None:
    """Arguments: `memory` or `json`, number of records, one in how many fails."""
    count, every = int(arguments[1]), int(arguments[2])
    event: Any = {"Records": [_message(number) for number in range(count)]}
    text = json.dumps(event) if arguments[0] == "json" else ""
    if text:
        del event
    handler, processor = failing_noop(every), BatchProcessor(event_type=EventType.SQS)
    gc.collect()
    clock = Clock()
    if text:
        event = json.loads(text)
    answer = process_partial_response(
        event=event,
        record_handler=handler,
        processor=processor,
        context=None,
    )
    seconds, cpu_seconds = clock.taken()
    assert len(answer["batchItemFailures"]) == count // every
    print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds}))


def _message(number: int) -> dict[str, Any]:
    """An SQS message, without the fields that are not read here: less to parse than in reality."""
    return {
        "messageId": f"record-{number:08d}",
        "body": json.dumps({"n": number}),
        "eventSource": "aws:sqs",
    }
