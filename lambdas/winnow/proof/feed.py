"""A long list that arrives in pieces of any size, taken in pieces of another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")


class Feed(Generic[T]):
    """Hands out lists as long as asked for; holds one piece at a time."""

    def __init__(self, pieces: Iterable[list[T]]) -> None:
        self._pieces = iter(pieces)
        self._piece: list[T] = []
        self._position = 0

    def take(self, count: int) -> list[T]:
        """The next items; fewer than asked for only at the end."""
        taken: list[T] = []
        while len(taken) < count:
            if self._position == len(self._piece) and not self._next():
                break
            some = self._piece[self._position : self._position + count - len(taken)]
            self._position += len(some)
            taken = taken + some if taken else some
        return taken

    def rest(self) -> Iterator[list[T]]:
        """All that is left, piece by piece."""
        while self._position < len(self._piece) or self._next():
            some = self._piece[self._position :]
            self._position = len(self._piece)
            if some:
                yield some

    def _next(self) -> bool:
        piece = next(self._pieces, None)
        self._piece, self._position = piece or [], 0
        return piece is not None
