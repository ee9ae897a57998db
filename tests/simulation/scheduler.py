"""Tasks that take turns on one simulated clock: exactly one runs at a time, and a seeded choice says which is next."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

SWITCH = 0.4
"""How often a task that may go on lets another one go first."""

STUCK_SECONDS = 60.0
"""Of real time, in which one schedule has to end."""


class Deadlock(Exception):
    """Every task waits for another one: a fault of the simulator."""


class Abandoned(KeyboardInterrupt):
    """Ends a task of a schedule that was given up. Winnow lets a KeyboardInterrupt pass."""


@dataclass(slots=True, eq=False)
class Task:
    """Something that goes on beside others: an execution of the pipeline, or a Lambda that nobody waits for any more."""

    name: str
    action: Callable[[], None]
    wake_at: float = 0.0
    waiting: bool = False
    """Until another task says that it may go on."""
    done: bool = False
    thread: threading.Thread | None = None
    turn: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    invocation: Any = None
    """Of the Lambda that runs in it now."""


class Scheduler:
    """Runs tasks until all have ended. Time passes only where a task sleeps or a call takes time."""

    def __init__(self, seed: int) -> None:
        self.clock = 0.0
        self.current: Task | None = None
        self._chance = random.Random(seed)
        self._tasks: list[Task] = []
        self._ended = threading.Semaphore(0)
        self._failure: BaseException | None = None

    def spawn(self, name: str, action: Callable[[], None], *, after: float = 0.0) -> Task:
        """Have something begin after so many seconds."""
        task = Task(name=name, action=action, wake_at=self.clock + after)
        self._tasks.append(task)
        return task

    def run(self) -> None:
        """Run all tasks to their ends. Raises what a task raised."""
        if self._tasks:
            self._resume(self._choose())
            if not self._ended.acquire(timeout=STUCK_SECONDS):
                raise Deadlock(
                    f"{self.current and self.current.name} waits for a lock that another task holds"
                )
        self.current = None
        if self._failure:
            for task in [task for task in self._tasks if task.thread]:
                task.turn.release()
                if task.thread:
                    task.thread.join()
            raise self._failure

    def pause(self) -> None:
        """Perhaps let another task go first."""
        if len(self._tasks) > 1 and self._chance.random() < SWITCH:
            self._switch()

    def sleep(self, seconds: float) -> None:
        """Let time pass for the current task."""
        if len(self._tasks) <= 1 or self.current is None or self._failure:
            self.clock += seconds
            return
        self.current.wake_at = self.clock + seconds
        self._switch()

    def wait(self, until: Callable[[], bool]) -> None:
        """Wait until other tasks have brought something about, and `wake`d this one."""
        assert self.current
        while not until():
            self.current.waiting = True
            self._switch()

    def wake(self, task: Task) -> None:
        task.waiting = False

    def _switch(self) -> None:
        if self._failure:
            raise Abandoned
        me = self.current
        following = self._choose()
        if following is me or me is None:
            return
        self._resume(following)
        me.turn.acquire()
        if self._failure:
            raise Abandoned

    def _choose(self) -> Task:
        ready = [task for task in self._tasks if not task.waiting and task.wake_at <= self.clock]
        if not ready:
            asleep = [task for task in self._tasks if not task.waiting]
            if not asleep:
                raise Deadlock(", ".join(task.name for task in self._tasks))
            self.clock = min(task.wake_at for task in asleep)
            ready = [task for task in asleep if task.wake_at <= self.clock]
        return ready[0] if len(ready) == 1 else self._chance.choice(ready)

    def _resume(self, task: Task) -> None:
        self.current = task
        if task.thread is None:
            task.thread = threading.Thread(target=self._serve, args=(task,), name=task.name, daemon=True)
            task.thread.start()
        else:
            task.turn.release()

    def _serve(self, task: Task) -> None:
        try:
            task.action()
        except Abandoned:
            return
        except BaseException as error:  # noqa: BLE001  raised again by `run`
            self._failure = error
        task.done = True
        self._tasks.remove(task)
        if self._failure or not self._tasks:
            self._ended.release()
            return
        try:
            self._resume(self._choose())
        except Deadlock as error:
            self._failure = error
            self._ended.release()
