"""How many entries may be in progress at once: half as many after throttling, then slowly more again.

A new on-demand table takes 4,000 writes a second and grows with what is asked of it. A transaction of a hundred entries takes two
write units for each kilobyte of each, and the index takes more. So the table says how fast it can go, and this listens.
"""

from __future__ import annotations

GROWTH = 0.1
"""More entries at once for each that was written: a tenth more a round, so that one round in eight or so is throttled at the limit."""


class Pace:
    """Shared by the batches of one change; not for threads."""

    def __init__(self, most: int) -> None:
        """`most`: entries at once, where nothing is throttled."""
        self._most = most
        self._limit = float(most)
        self.round = 0
        """Grows with each slowing down. A batch remembers in which it began."""
        self.fruitless = 0
        """Slowings down since an entry was last written, or found to need no change."""

    @property
    def limit(self) -> int:
        """Entries that may be in progress at once, at least 1."""
        return int(self._limit)

    def went_well(self, entries: int) -> None:
        """Some entries are as they should be."""
        self.fruitless = 0
        self._limit = min(self._most, self._limit + entries * GROWTH)

    def throttled(self, since: int) -> bool:
        """A batch that began in a round was throttled.

        Returns:
            Whether that is news: batches of one round are throttled together, and count once.
        """
        if since < self.round:
            return False
        self.round += 1
        self.fruitless += 1
        self._limit = max(1.0, self._limit / 2)
        return True
