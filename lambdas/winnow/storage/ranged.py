"""Reads an object range by range, so that no request stays open while the caller works on what it got.

S3 drops a body that is not read for some 20 seconds, and a worker takes longer than that over the records of a megabyte.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from botocore.exceptions import FlexibleChecksumError, IncompleteReadError

from winnow.storage.tries import Tries, is_broken_body, log

RANGE_BYTES = 8 * 1024 * 1024
"""Read in one request, and held in memory."""
STREAM_PIECE_BYTES = 1024 * 1024

Ask = Callable[[int, int, str | None], Any]
"""From the first byte, the last byte and the tag that the object must have (None for any) to S3's answer."""


class RangedReading:
    """One object, from its beginning to its end."""

    def __init__(self, ask: Ask, *, tag: str | None, sleep: Callable[[float], object]) -> None:
        """Define what is read.

        Args:
            ask: requests a range. What it raises is not tried again: the client has done that.
            tag: that the object must have; None for the one that it has at the first request.
            sleep: takes the seconds between two tries.
        """
        self._ask = ask
        self._sleep = sleep
        self._size: int | None = None
        self.tag = tag
        self.at = 0
        """The next byte."""

    def pieces(self) -> Iterator[bytes]:
        """At most `STREAM_PIECE_BYTES` each; nothing is being read while the caller has one.

        Raises:
            Exception: what `ask` raised, or what the body broke with last.
        """
        while self._size is None or self.at < self._size:
            yield from _emptied(self._range())

    def _range(self) -> list[bytes]:
        """The next `RANGE_BYTES`, or as many as there are. A body that breaks is read on from where it broke."""
        pieces: list[bytes] = []
        end, tries = self.at + RANGE_BYTES, Tries(self._sleep)
        while self.at < end:
            since, whole = self.at, len(pieces)
            answer = self._ask(since, end - 1, self.tag)
            self.tag, self._size = answer["ETag"], _size_of(answer, since)
            end = min(end, self._size)
            broke: Exception
            try:
                for piece in answer["Body"].iter_chunks(STREAM_PIECE_BYTES):
                    pieces.append(piece)
                    self.at += len(piece)
            except Exception as error:
                if not is_broken_body(error):
                    raise
                if isinstance(error, FlexibleChecksumError):  # some byte of these is wrong
                    del pieces[whole:]
                    self.at = since
                broke = error
            else:
                broke = IncompleteReadError(actual_bytes=self.at - since, expected_bytes=end - since)
            if self.at < end:
                if not tries.again():
                    raise broke
                log.warning("a body broke at byte %s, so it is read on from there: %s", self.at, broke)
        return pieces


def _emptied(pieces: list[bytes]) -> Iterator[bytes]:
    """The pieces of a list, which lets go of each as it is taken."""
    pieces.reverse()
    while pieces:
        yield pieces.pop()


def _size_of(answer: dict[str, Any], first: int) -> int:
    """The size of the object that an answer has a range of.

    Raises:
        OSError: it is not the range that was asked for.
    """
    span, _, size = str(answer.get("ContentRange", "")).partition("/")
    if not span.startswith(f"bytes {first}-") or not size.isdecimal():
        raise OSError(f"bytes from {first} on were asked for, got: {span or 'the whole object'}")
    return int(size)
