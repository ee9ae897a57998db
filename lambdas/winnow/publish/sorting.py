"""Sorts more rows than memory holds: what does not fit lies sorted on disk, and is merged while it is read."""

from __future__ import annotations

import heapq
import pickle
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any

from winnow.storage.zst import open_zst

BUFFER_BYTES = 64 * 1024 * 1024
"""In memory before a part is sorted and written to disk."""
BLOCK_BYTES = 256 * 1024
"""Of each part on disk, in memory while they are merged."""
ROW_BYTES = 200
"""That a row takes beside its id and its payload."""

Row = tuple[str, bytes]
"""An id, and what belongs to it."""

_by_id = itemgetter(0)


class Sorter:
    """Takes rows in any order and gives them in order of id. Rows of one id stay in the order in which they came."""

    def __init__(self, folder: Path, *, buffer_bytes: int = BUFFER_BYTES) -> None:
        """`folder`: for what does not fit into memory; the caller deletes it."""
        self._folder = folder
        self._limit = buffer_bytes
        self._rows: list[Row] = []
        self._bytes = 0
        self._spilled: list[Path] = []

    def add(self, identifier: str, payload: bytes) -> None:
        self._rows.append((identifier, payload))
        self._bytes += len(identifier) + len(payload) + ROW_BYTES
        if self._bytes >= self._limit:
            self._spill()

    def sorted(self) -> Iterator[Row]:
        """All rows in order. Called once, after the last row."""
        self._rows.sort(key=_by_id)
        if not self._spilled:
            return iter(self._rows)
        return heapq.merge(*map(_read, self._spilled), self._rows, key=_by_id)

    def _spill(self) -> None:
        self._rows.sort(key=_by_id)
        path = self._folder / f"sorted-{len(self._spilled):05d}"
        with open_zst(path, "wb") as file:
            for block in _blocks(self._rows):
                pickle.dump(block, file)
        self._spilled.append(path)
        self._rows, self._bytes = [], 0


def _blocks(rows: list[Row]) -> Iterator[list[Row]]:
    block: list[Row] = []
    size = 0
    for row in rows:
        block.append(row)
        size += len(row[1]) + ROW_BYTES
        if size >= BLOCK_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


def _read(path: Path) -> Iterator[Row]:
    with open_zst(path, "rb") as file:
        while True:
            try:
                block: Any = pickle.load(file)  # noqa: S301  ours
            except EOFError:
                return
            yield from block
