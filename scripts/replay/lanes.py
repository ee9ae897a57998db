"""Lanes: how many replays of one kind may run at once. A place in a lane is a lock that its replay's end sets free."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from scripts.terminal.errors import Mistake
from winnow.storage.executions import RUNNING
from winnow.storage.state_table import Holder, take_lock

if TYPE_CHECKING:
    from winnow.storage.executions import Executions
    from winnow.storage.state_table import StateTable

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")
STARTS_WITHIN_SECONDS = 5.0
"""Between taking a place and the start of the execution lies one request; a holder that has none after this has died."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A lane of one pipeline's replays."""

    pipeline: str
    name: str
    limit: int
    state: StateTable
    executions: Executions
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise Mistake("--lane", self.name, "must be lower-case letters, digits and -, at most 32")

    def enter(self, replay_id: str) -> list[str]:
        """Take a place. No other replay gets it while this one runs.

        Returns:
            The replays in the way; none when the place is taken.
        """
        mine = Holder(run_id=replay_id, execution=self.executions.arn(replay_id))
        running: list[str] = []
        for place in range(self.limit):
            holder = take_lock(self.state, self._lock(place), mine, is_running=self._is_running)
            if holder is None:
                return []
            running.append(holder.run_id)
        return running

    def leave(self, replay_id: str) -> None:
        """Give the place of a replay that was not started back."""
        for place in range(self.limit):
            self.state.release_lock(self._lock(place), self.executions.arn(replay_id))

    def _is_running(self, holder: Holder) -> bool:
        status = self.executions.status(holder.execution)
        if status is None:
            self.sleep(STARTS_WITHIN_SECONDS)
            status = self.executions.status(holder.execution)
        return status in RUNNING

    def _lock(self, place: int) -> str:
        return f"{self.pipeline}#lane#{self.name}#{place}"
