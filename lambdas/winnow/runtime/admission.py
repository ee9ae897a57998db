"""Whether a worker may take another record: until a stop, below the horizon, and while memory is left."""

from __future__ import annotations

import threading

from winnow.journal.segment import Stop
from winnow.runtime.deadline import Deadline
from winnow.runtime.streak import Streak
from winnow.settlement.settlement import FIRST_HORIZON

LITTLE_TIME = "little time was left"


class Admission:
    """Lets records in. Holds the lock that all threads of an invocation share, and what they tell each other under it.

    Only `wait_for` and `request_stop` take the lock themselves. Everything else is called with it held. `changed` is notified when a
    thread may have to act.
    """

    def __init__(self, streak: Streak) -> None:
        """`streak` has the first horizon as its limit: ordinals below it are let in before a segment is durable."""
        self.lock = threading.Lock()
        """Of `changed`. Taking it directly costs less per record than taking the condition."""
        self.changed = threading.Condition(self.lock)
        self.stop: Stop | None = None
        """Why no more records are let in; the first reason counts."""
        self.cause = ""
        self.horizon = streak.limit
        """Ordinals below it are let in: a durable segment says so."""
        self.wanted = 0
        """One past the highest ordinal that the worker has waited for."""
        self.paused = False
        """Too much is buffered to let another record in."""
        self.flush_asked = False
        """The journal's thread is to write a segment at once."""
        self.closing = False
        """The journal's and the deadline's threads are to end."""
        self._streak = streak
        self._taken_before = 0

    def wait_for(self, ordinal: int) -> bool:
        """Wait until a record that is not below the limit may be taken. False after a stop."""
        with self.changed:
            while self.stop is None:
                if ordinal < self._streak.limit:
                    return True
                self.wanted = max(self.wanted, ordinal + 1)
                self.ask_to_flush()
                self.changed.wait(1.0)
        return False

    def request_stop(self, stop: Stop, cause: str = "") -> None:
        """Let no more records in."""
        with self.changed:
            self.stop_for(stop, cause)

    def stop_for(self, stop: Stop, cause: str) -> None:
        """`request_stop` for a caller that holds the lock."""
        if self.stop is None:
            self.stop = stop
            self.cause = cause
            self._streak.limit = -1
            self.changed.notify_all()

    def ask_to_flush(self) -> None:
        """Have a segment written at once."""
        self.flush_asked = True
        self.changed.notify_all()

    def pause(self) -> None:
        """Let no record in before the journal's thread has taken what is buffered: memory is finite."""
        if self.stop is None:
            self.paused = True
            self._streak.limit = 0

    def resume(self) -> None:
        """End a pause: what was buffered is with the journal's thread."""
        self.paused = False
        self._let_in()

    def next_horizon(self, position: int) -> int:
        """The horizon that the next segment announces: the further away, the faster the worker goes.

        Args:
            position: one past the highest ordinal that was taken.
        """
        if self.stop is not None:
            return position
        taken = position - self._taken_before
        self._taken_before = position
        return max(self.horizon, max(position, self.wanted) + max(FIRST_HORIZON, 4 * taken))

    def move_horizon(self, horizon: int) -> None:
        """The segment that announces this horizon is durable."""
        self.horizon = horizon
        self._let_in()

    def _let_in(self) -> None:
        if self.stop is None and not self.paused:
            self._streak.limit = self.horizon
        self.changed.notify_all()

    def close(self) -> None:
        """End the journal's and the deadline's threads."""
        self.closing = True
        self.changed.notify_all()


def stop_at_deadline(admission: Admission, deadline: Deadline) -> None:
    """Let no more records in from the deadline on. Runs in a thread of its own: the journal's may be held up in a write."""
    with admission.changed:
        while admission.stop is None and not admission.closing:
            left = deadline.seconds_left
            if left <= 0:
                admission.stop_for(Stop.TIME, LITTLE_TIME)
            else:
                # Notified when a flush begins or ends: the deadline moves with them.
                admission.changed.wait(min(left, threading.TIMEOUT_MAX))
