"""Gathers objects that arrive into windows, each of which becomes one run.

SQS gives a Lambda what arrives in many small batches, several at once, so a batch says nothing of what came together. The first object
opens a window and orders its end; all that follow join it until it is closed. Nothing is claimed here: a message that is delivered
again brings its objects into a window again, and closing that window finds out whose they are.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from winnow.core.contract import new_run_id
from winnow.core.errors import LedgerConflict, StageInputError, WinnowError
from winnow.core.keys import WindowKeys
from winnow.metrics.watch import Metric, get_logger
from winnow.runs.object_events import objects_created
from winnow.storage.arrival_windows import MAX_OBJECTS, Window
from winnow.storage.ledger import compress, digest_of
from winnow.storage.listing import is_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from winnow.metrics.watch import Watch
    from winnow.runs.object_events import ObjectCreated
    from winnow.storage.arrival_windows import ArrivalWindows
    from winnow.storage.ledger import Ledger
    from winnow.storage.window_queue import WindowQueue

CHUNK_OBJECTS = 1_000
"""Objects of a chunk, some 300 KB before they are packed."""
OVERDUE_SECONDS = 300
"""A window that is open so long after its time has lost its end: in the dead-letter queue, or by a queue that was emptied by hand."""
MAX_WINDOWS_TRIED = 50
"""Each one that a chunk came too late for was closed, or filled by others; so many in a row are a mistake somewhere."""


class NoWindowOpen(WinnowError):
    """Window after window closed before it could be given a chunk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message of a queue."""

    message_id: str
    body: str

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """Raises KeyError if SQS did not send it."""
        return cls(message_id=record["messageId"], body=record["body"])


class Gatherer:
    """Puts what arrives into the open window."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        windows: ArrivalWindows,
        queue: WindowQueue,
        window_seconds: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`window_seconds`: from when a window opens to when it is closed."""
        self._ledger = ledger
        self._windows = windows
        self._queue = queue
        self._window_seconds = window_seconds
        self._clock = clock

    def gather(self, created: Sequence[ObjectCreated], *, close_when_full: bool) -> None:
        """Bring objects into the open window. When this returns they are in it, or in windows that came after it.

        Args:
            created: the objects.
            close_when_full: have a window that is full closed before its time. Not for objects that wait for something else: they
                would go round at full speed.

        Raises:
            NoWindowOpen: each window was closed too soon. What it raises else, DynamoDB, S3 or SQS raised. Do it again then.
        """
        for start in range(0, len(created), CHUNK_OBJECTS):
            self._add(created[start : start + CHUNK_OBJECTS], close_when_full=close_when_full)

    def _add(self, created: Sequence[ObjectCreated], *, close_when_full: bool) -> None:
        body = compress(json.dumps([each.to_json() for each in created], ensure_ascii=False).encode())
        digest = digest_of(body)
        window = self._windows.current() or self._open(None)
        for _ in range(MAX_WINDOWS_TRIED):
            # Named after its content, so it is there already only if it is the same; and it is there before the window names it.
            with suppress(LedgerConflict):
                self._ledger.store.put(WindowKeys(window.run_id).chunk(digest), body, if_absent=True)
            objects = self._windows.add(window.run_id, digest, len(created))
            if objects is not None:
                break
            window = self._open(window)
        else:
            raise NoWindowOpen(f"{MAX_WINDOWS_TRIED} windows in a row were closed before they took anything")
        if close_when_full and objects >= MAX_OBJECTS:
            get_logger().info("window is full, so it is closed early", run_id=window.run_id, objects=objects)
            self._queue.send(window.run_id, delay_seconds=0)
        elif self._clock() > window.closes_at + OVERDUE_SECONDS:
            get_logger().warning("window is overdue, so its end is ordered again", run_id=window.run_id)
            self._queue.send(window.run_id, delay_seconds=0)

    def _open(self, previous: Window | None) -> Window:
        """Open a window in place of one that takes no more, unless another gatherer has; returns the one that is open."""
        window = Window(run_id=new_run_id(), closes_at=self._clock() + self._window_seconds)
        self._windows.create(window.run_id)
        # Its end is ordered before anybody can find it, so there is no window that nothing closes.
        self._queue.send(window.run_id, delay_seconds=self._window_seconds)
        if self._windows.make_current(window, previous=previous):
            get_logger().info("window opened", run_id=window.run_id, seconds=self._window_seconds)
            return window
        return self._windows.current() or window


class ArrivalMessages:
    """The queue of S3's events."""

    def __init__(self, *, source_bucket: str, source_prefix: str, gatherer: Gatherer, watch: Watch) -> None:
        self._source_bucket = source_bucket
        self._source_prefix = source_prefix
        self._gatherer = gatherer
        self._watch = watch

    def take(self, messages: Sequence[Message]) -> list[str]:
        """Gather the objects that a batch of messages names.

        Returns:
            Ids of messages to be delivered again: those that tell of nothing that can be used, until the queue gives them up to its
            dead-letter queue, and all others where gathering failed.
        """
        created: list[ObjectCreated] = []
        refused: list[str] = []
        used: list[str] = []
        for message in messages:
            try:
                found = [each for each in objects_created(message.body) if self._is_ours(each)]
            except StageInputError as error:
                get_logger().error(f"message refused: {error}", message_id=message.message_id)
                self._watch.count(Metric.RUN_REFUSED)
                refused.append(message.message_id)
                continue
            if found:
                created += found
                used.append(message.message_id)
        try:
            self._gatherer.gather(created, close_when_full=True)
        except Exception as error:  # noqa: BLE001  whatever it was, the messages come again
            get_logger().exception("objects not gathered; their messages come again", error=str(error))
            return refused + used
        return refused

    def _is_ours(self, created: ObjectCreated) -> bool:
        item = created.item
        return (
            item.bucket == self._source_bucket
            and item.key.startswith(self._source_prefix)
            and not is_folder(item.key)
        )
