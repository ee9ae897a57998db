"""Which ids of a long list occur more than once, in bounded memory."""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import IO, Self

PARTITIONS = 64
"""Hash partitions while looking for repeated ids; at 10,000,000 ids each holds 160,000 hashes."""
SPILL = 16_384
"""Hashes kept in memory per partition before they go to a file."""


class Repeats:
    """Finds hashes that occur more than once, in memory that does not grow with the batch."""

    def __init__(self) -> None:
        self._parts = [array("q") for _ in range(PARTITIONS)]
        self._files: list[IO[bytes] | None] = [None] * PARTITIONS
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, values: Iterable[str]) -> None:
        parts = self._parts
        for value in map(hash, values):
            parts[value & (PARTITIONS - 1)].append(value)
        for number, part in enumerate(parts):
            if len(part) >= SPILL:
                file = self._files[number]
                if file is None:
                    file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  closed with the stack
                    self._files[number] = file
                part.tofile(file)
                del part[:]

    def found(self) -> set[int]:
        """Hashes that at least two ids share: the same id twice, or, rarely, two different ids."""
        repeated: set[int] = set()
        for some in self.found_in_parts():
            repeated |= some
        return repeated

    def found_in_parts(self) -> Iterator[set[int]]:
        """The same hashes, a part in memory at a time. Only once: what was added is gone afterwards."""
        for part, file in zip(self._parts, self._files, strict=True):
            if file is not None:
                file.seek(0)
                part.frombytes(file.read())
            repeated: set[int] = set()
            if len(set(part)) != len(part):
                once: set[int] = set()
                for value in part:
                    (repeated if value in once else once).add(value)
            del part[:]
            yield repeated
