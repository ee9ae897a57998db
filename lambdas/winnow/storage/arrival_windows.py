"""Windows of time in which objects that arrive are gathered for one run.

A window is an item that names chunks of objects; the chunks are in the ledger. A pointer names the window that takes chunks at
present. A window takes chunks until it is closed or full; all that it was given by then is what its run is made of.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from winnow.core.errors import WinnowError
from winnow.storage.items import DAY_SECONDS, Items, key_of, number, texts

if TYPE_CHECKING:
    from collections.abc import Callable

    from winnow.storage.items import Item

WINDOW_TTL_SECONDS = 30 * DAY_SECONDS
"""The message that closes a window lives for 14 days at most, in the dead-letter queue, too."""
MAX_OBJECTS = 20_000
"""A window that has so many takes no more: claiming them one by one takes CloseWindow about half a minute of its two."""
MAX_CHUNKS = 1_000
"""A window that has so many takes no more: their names are 35 KB then, and each addition writes the whole item, which may have 400."""


class WindowIsBeingClosed(WinnowError):
    """Another Lambda is closing the window, or was and died less than a moment ago."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A window that may be open."""

    run_id: str
    """Of the run that it becomes."""
    closes_at: float
    """Unix time at which the message that closes it is due."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedWindow:
    """A window that takes no more chunks."""

    run_id: str
    chunks: tuple[str, ...]
    """Digests, each of them once."""
    is_done: bool
    """Its run was started, or it had none to start."""


class ArrivalWindows(Protocol):
    """The windows of one pipeline."""

    def current(self) -> Window | None:
        """The window that takes chunks at present, as far as is known; it may have been closed meanwhile."""

    def create(self, run_id: str) -> None:
        """Make a window that takes chunks, and that nobody finds before it is made current."""

    def make_current(self, window: Window, *, previous: Window | None) -> bool:
        """Let a window take the place of the one before; False where another one has."""

    def add(self, run_id: str, chunk: str, objects: int) -> int | None:
        """Add a chunk; returns how many objects the window has then, or None if it is closed or full."""

    def close(self, run_id: str, *, closer: str, until: float) -> ClosedWindow | None:
        """Close a window, or go on closing it; None if there is no such window (any more).

        Args:
            run_id: of the window.
            closer: an id of the Lambda's own.
            until: Unix time at which that Lambda is dead for certain.

        Raises:
            WindowIsBeingClosed: another closer may be at it.
        """

    def finish(self, run_id: str) -> None:
        """Note that nothing is left to do for a closed window."""


class DynamoArrivalWindows:
    """The windows in DynamoDB."""

    def __init__(
        self, table: str, dynamodb: Any, *, pipeline: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._items = Items(table, dynamodb, clock=clock)
        self._pointer = key_of(f"arrivals#{pipeline}", "window")
        self._clock = clock

    def current(self) -> Window | None:
        found = self._items.get(self._pointer)
        if found is None:
            return None
        return Window(run_id=found["run_id"]["S"], closes_at=float(found["closes_at"]["N"]))

    def create(self, run_id: str) -> None:
        item = {
            **_window_key(run_id),
            "chunks": {"L": []},
            "objects": number(0),
            **self._items.expiry(WINDOW_TTL_SECONDS),
        }
        self._items.put(item, "attribute_not_exists(pk)")

    def make_current(self, window: Window, *, previous: Window | None) -> bool:
        item = {
            **self._pointer,
            **texts(run_id=window.run_id),
            "closes_at": number(window.closes_at),
            **self._items.expiry(WINDOW_TTL_SECONDS),
        }
        if previous is None:
            standing = self._items.put(item, "attribute_not_exists(pk)")
        else:
            standing = self._items.put(
                item,
                "attribute_not_exists(pk) OR run_id = :previous",
                values=texts(**{":previous": previous.run_id}),
            )
        return standing is None or standing["run_id"]["S"] == window.run_id

    def add(self, run_id: str, chunk: str, objects: int) -> int | None:
        changed = self._items.update(
            _window_key(run_id),
            "SET chunks = list_append(chunks, :chunk), objects = objects + :objects",
            # The first: an item that DynamoDB has deleted must not come into being again, as nothing would close it.
            condition="attribute_exists(pk) AND attribute_not_exists(closer) "
            "AND objects < :most_objects AND size(chunks) < :most_chunks",
            values={
                ":chunk": {"L": [{"S": chunk}]},
                ":objects": number(objects),
                ":most_objects": number(MAX_OBJECTS),
                ":most_chunks": number(MAX_CHUNKS),
            },
        )
        return None if changed is None else int(changed["objects"]["N"])

    def close(self, run_id: str, *, closer: str, until: float) -> ClosedWindow | None:
        changed = self._items.update(
            _window_key(run_id),
            "SET closer = :closer, closer_until = :until",
            condition="attribute_exists(pk) AND "
            "(attribute_not_exists(closer) OR closer = :closer OR closer_until < :now OR attribute_exists(done))",
            values={
                **texts(**{":closer": closer}),
                ":until": number(until),
                ":now": number(self._clock()),
            },
        )
        if changed is None:
            if self._items.get(_window_key(run_id)) is None:
                return None
            raise WindowIsBeingClosed(f"window {run_id} is being closed by another Lambda")
        return ClosedWindow(
            run_id=run_id,
            chunks=tuple(dict.fromkeys(each["S"] for each in changed["chunks"]["L"])),
            is_done="done" in changed,
        )

    def finish(self, run_id: str) -> None:
        self._items.update(
            _window_key(run_id),
            "SET done = :true",
            condition="attribute_exists(pk)",
            values={":true": {"BOOL": True}},
        )


def _window_key(run_id: str) -> Item:
    return key_of(f"window#{run_id}", "arrivals")
