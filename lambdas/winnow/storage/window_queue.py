"""The queue of windows to close: a message comes out of it when its window's time is over."""

from __future__ import annotations

import json
from typing import Any, Protocol

from winnow.core.contract import ULID
from winnow.core.errors import StageInputError

MAX_DELAY_SECONDS = 900
"""As long as SQS holds a message back."""


class WindowQueue(Protocol):
    """Where a window's end is ordered."""

    def send(self, run_id: str, *, delay_seconds: int) -> None:
        """Have a window closed after a while. Doing so twice is harmless."""


class SqsWindowQueue:
    """The queue in SQS."""

    def __init__(self, url: str, sqs: Any) -> None:
        self._url = url
        self._sqs = sqs

    def send(self, run_id: str, *, delay_seconds: int) -> None:
        self._sqs.send_message(
            QueueUrl=self._url, MessageBody=message_body(run_id), DelaySeconds=delay_seconds
        )


def message_body(run_id: str) -> str:
    return json.dumps({"window": run_id})


def window_of(body: str) -> str:
    """The window that a message names.

    Raises:
        StageInputError: it names none.
    """
    try:
        message = json.loads(body)
    except ValueError as error:
        raise StageInputError("body", body, f"is not JSON ({error})") from error
    run_id = message.get("window") if isinstance(message, dict) else None
    if not isinstance(run_id, str) or not ULID.fullmatch(run_id):
        raise StageInputError(
            "body", message, 'must be {"window": its run id}; only StartRun writes to this queue'
        )
    return run_id
