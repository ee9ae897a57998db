"""The world of one simulation: its clocks, what is invoked in it, and what goes wrong at which call."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

from tests.simulation.schedule import BESIDE, WHOLE, Fault, FaultKind, Schedule, Scope
from tests.simulation.scheduler import Scheduler, Task

EPOCH = datetime(2026, 11, 27, 8, tzinfo=UTC).timestamp()
SKEW_SECONDS = 60.0
"""A Lambda's clock is off by at most this, so that two differ by up to two minutes."""
CALL_SECONDS = 0.02

T = TypeVar("T")


class ProcessDied(KeyboardInterrupt):
    """The Lambda's process is gone. The runtime lets a KeyboardInterrupt pass, wherever it comes from."""


class CallRefused(Exception):
    """What a store or table raises: it refused, or the answer was lost."""


class Call(NamedTuple):
    """A record in the hands of the worker's function."""

    run_id: str
    stage: str
    record_id: str
    ending: str
    """`returned`, `raised`, `permanent`, `unusable`, `exit` or `hang`."""
    at: float
    awaited: bool
    """Somebody still waits for the worker; else what it does may count for nothing."""


@dataclass(slots=True, eq=False)
class Execution:
    """An execution of a state machine."""

    machine: str
    name: str
    given: Any
    parent: Execution | None = None
    status: str = "RUNNING"
    output: Any = None
    error: str = ""
    cause: str = ""
    started_at: float = 0.0
    ended_at: float | None = None
    visited: list[str] = field(default_factory=list)

    @property
    def arn(self) -> str:
        return f"arn:aws:states:eu-west-1:123456789012:execution:{self.machine}:{self.name}"

    @property
    def parents(self) -> list[Execution]:
        """The executions that started it, the nearest first."""
        found = [self.parent] if self.parent else []
        while found and (above := found[-1].parent):
            found.append(above)
        return found

    def ancestor(self, scope: Scope) -> Execution:
        chain: list[Execution] = [self, *self.parents]
        return {
            Scope.INNERMOST: chain[0],
            Scope.STAGE: chain[max(0, len(chain) - 2)],
            Scope.PIPELINE: chain[-1],
        }[scope]


@dataclass(slots=True, eq=False)
class Invocation:
    """One invocation of a Lambda function."""

    function: str
    number: int
    faults: tuple[Fault, ...]
    execution: Execution | None
    about: str
    """In words, for the story."""
    skew: float
    started_at: float
    seconds: float = 900.0
    calls: int = 0
    death: str = ""
    """The error that its caller sees; empty while it lives."""
    let_go: Fault | None = None
    """Its caller does not wait for it any more."""
    answer: Any = None
    error: Exception | None = None
    ended: bool = False
    caller: Task | None = None
    unseen_seconds: float = 0.0
    """That its process did not notice, because it was frozen."""
    recorder: Any = None
    begin_worker: Callable[[], Any] = lambda: None
    """Makes the worker of a process that begins."""
    child_until: float | None = None
    """A record's function runs in a process of its own, which is killed then."""

    def fault(self, call: int) -> Fault | None:
        for fault in self.faults:
            if fault.kind in WHOLE:
                continue
            last = fault.call + (fault.times if fault.kind is FaultKind.REFUSED else 1)
            if fault.call <= call < last:
                return fault
        return None

    def whole(self, kind: FaultKind) -> Fault | None:
        return next((fault for fault in self.faults if fault.kind is kind), None)


class World:
    """Everything that a simulation consists of, apart from Winnow."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self.scheduler = Scheduler(schedule.seed)
        self.events: list[str] = []
        """What happened that was not to be expected, in words and in order."""
        self.trace: list[str] = []
        """Every call of a store, table or topic, and every invocation."""
        self.reached: Counter[str] = Counter()
        """Branches of the product, by name."""
        self.calls: list[Call] = []
        self.version = 1
        self.calm = False
        """Nothing goes wrong any more."""
        self.handed: Counter[tuple[str, str]] = Counter()
        """How often a stage's function was given a record, over all runs."""
        self.called: Counter[str] = Counter()
        """Calls of a stage's function."""
        self.cold_starts: Counter[str] = Counter()
        self.claims: defaultdict[tuple[str, str, int], set[str]] = defaultdict(set)
        """Executions in which the worker was invoked, by run, stage and attempt."""
        self.raised: list[tuple[str, Exception]] = []
        """What invocations raised, beside who."""
        self.refused_names: list[str] = []
        self.payloads = 0
        """The largest, in bytes."""
        self._faults: defaultdict[tuple[str, int], list[Fault]] = defaultdict(list)
        for fault in schedule.faults:
            self._faults[fault.function, fault.invocation].append(fault)
        self.invocations: Counter[str] = Counter()
        self._entropy = random.Random(schedule.seed + 1)
        self.chance = random.Random(schedule.seed + 2)
        self._late: list[tuple[float, str, Callable[[], object]]] = []
        self._hurt: set[Fault] = set()

    # Clocks, as Winnow sees them

    @property
    def invocation(self) -> Invocation | None:
        return self.scheduler.current.invocation if self.scheduler.current else None

    def monotonic(self) -> float:
        return self.scheduler.clock - (self.invocation.unseen_seconds if self.invocation else 0.0)

    def time(self) -> float:
        return EPOCH + self.scheduler.clock + (self.invocation.skew if self.invocation else 0.0)

    def moment(self, _zone: object = None) -> datetime:
        return datetime.fromtimestamp(self.time(), UTC)

    def sleep(self, seconds: float) -> None:
        self.scheduler.sleep(seconds)

    def entropy(self, count: int) -> bytes:
        return self._entropy.randbytes(count)

    def random(self) -> float:
        return self.chance.random()

    # Telling

    def tell(self, event: str) -> None:
        self.events.append(f"{self.scheduler.clock:8.1f} s  {event}")

    # Invocations

    def invoke(
        self,
        function: str,
        action: Callable[[], Any],
        *,
        about: str,
        execution: Execution | None,
        seconds: float = 900.0,
    ) -> Invocation:
        """Run a Lambda function, or begin to; what became of it is in the invocation."""
        faults = self._take(function)
        made = self._invocation(function, faults, about, execution, seconds)
        self.trace.append(f"invoke {function} {made.number}")
        if made.whole(FaultKind.THROTTLED):
            self.tell(f"Lambda does not let {about} run")
            made.death = "Lambda.TooManyRequestsException"
            return made
        if made.whole(FaultKind.TWICE):
            self.tell(f"Lambda runs {about} twice")
            self.scheduler.spawn(
                f"{function} again",
                lambda: self._perform(self._invocation(function, (), about, execution, seconds), action),
                after=self.chance.choice((0.0, 0.1, 5.0, 60.0)),
            )
        if any(fault.kind in BESIDE for fault in faults):
            made.caller = self.scheduler.current
            self.scheduler.spawn(f"{function} {made.number}", lambda: self._perform(made, action))
            self.scheduler.wait(lambda: made.ended or made.let_go is not None)
        else:
            self._perform(made, action)
        if made.whole(FaultKind.ANSWER_LOST) and not made.death and not made.let_go:
            self.tell(f"the answer of {about} is lost")
            made.death = "Lambda.SdkClientException"
        return made

    def _take(self, function: str) -> tuple[Fault, ...]:
        number = self.invocations[function]
        return () if self.calm else tuple(self._faults.get((function, number), ()))

    def _invocation(
        self,
        function: str,
        faults: tuple[Fault, ...],
        about: str,
        execution: Execution | None,
        seconds: float,
    ) -> Invocation:
        number = self.invocations[function]
        self.invocations[function] += 1
        skew = 0.0
        if self.schedule.skewed and not self.calm:
            own = random.Random(f"{self.schedule.seed} {function} {number}")
            skew = own.uniform(-SKEW_SECONDS, SKEW_SECONDS)
        return Invocation(
            function=function,
            number=number,
            faults=faults,
            execution=execution,
            about=about,
            skew=skew,
            started_at=self.scheduler.clock,
            seconds=seconds,
        )

    def _perform(self, invocation: Invocation, action: Callable[[], Any]) -> None:
        task = self.scheduler.current
        assert task
        before, task.invocation = task.invocation, invocation
        try:
            invocation.answer = action()
        except ProcessDied:
            invocation.death = invocation.death or "Runtime.ExitError"
        except Exception as error:  # noqa: BLE001  Lambda hands it to the caller
            invocation.error = error
            self.raised.append((invocation.about, error))
        finally:
            task.invocation = before
            invocation.ended = True
            if invocation.caller:
                self.scheduler.wake(invocation.caller)

    def die(self, error: str) -> None:
        """End the process that runs now. Raises `ProcessDied`."""
        assert self.invocation
        self.invocation.death = self.invocation.death or error
        raise ProcessDied(error)

    # Calls of the store, the tables, the topic, and of a record's function

    def read(self, what: str, look: Callable[[], T]) -> T:
        """A call that changes nothing."""
        fault = self._enter(what)
        answer = look()
        if fault and fault.kind in {FaultKind.KILL_AFTER, FaultKind.KILL_IN_FLIGHT}:
            self._kill(fault, what)
        if fault and fault.kind in {FaultKind.TORN, FaultKind.LATE}:
            raise CallRefused(f"{what}: connection reset")
        return answer

    def write(self, what: str, change: Callable[[], T], *, conflict: Exception | None = None) -> T:
        """A call that changes something.

        Args:
            what: it does, in words.
            change: makes the change; raises where the condition of the call does not hold.
            conflict: what a call with a condition raises when its own first sending was in its way.
        """
        fault = self._enter(what)
        kind = fault.kind if fault else None
        if fault and kind is FaultKind.KILL_IN_FLIGHT:
            self._deliver_later(fault, what, change)
            self._kill(fault, what)
        if fault and kind is FaultKind.LATE:
            self._deliver_later(fault, what, change)
            raise CallRefused(f"{what}: timed out")
        answer = change()
        if fault and kind is FaultKind.KILL_AFTER:
            self._kill(fault, what)
        if kind is FaultKind.TORN_CONFLICT and conflict:
            raise conflict
        if kind is FaultKind.TORN:
            raise CallRefused(f"{what}: connection reset")
        return answer

    def _deliver_later(self, fault: Fault, what: str, change: Callable[[], object]) -> None:
        self._late.append((self.scheduler.clock + fault.seconds, what, change))

    def deliver_late(self, *, everything: bool = False) -> None:
        """Let writes arrive that were on their way."""
        due = [late for late in self._late if everything or late[0] <= self.scheduler.clock]
        if not due:
            return
        self._late = [late for late in self._late if late not in due]
        for _, what, change in due:
            self.tell(f"the late write arrives: {what}")
            self.trace.append(f"late {what}")
            try:
                change()
            except Exception as error:  # noqa: BLE001  nobody hears it
                self.tell(f"it is refused: {error}")

    def _kill(self, fault: Fault, what: str) -> None:
        assert self.invocation
        self.invocation.death = "Runtime.ExitError" if fault.times == 1 else "Lambda.Unknown"
        raise ProcessDied(what)

    def _enter(self, what: str) -> Fault | None:
        """What goes wrong with a call, if anything does that the call itself has to see to."""
        invocation = self.invocation
        self.scheduler.clock += CALL_SECONDS
        if self._late:
            self.deliver_late()
        if invocation is None:
            return None
        if invocation.death:
            raise ProcessDied(what)
        self.trace.append(f"{invocation.function} {invocation.number} {what}")
        if self.scheduler.clock - invocation.started_at - invocation.unseen_seconds > invocation.seconds:
            self.tell(f"{invocation.about} runs out of its own time")
            self.die("Sandbox.Timedout")
        number, invocation.calls = invocation.calls, invocation.calls + 1
        fault = invocation.fault(number)
        if fault is None or self.calm:
            self.scheduler.pause()
            return None
        self._say(fault, invocation, what)
        match fault.kind:
            case FaultKind.KILL_BEFORE:
                self._kill(fault, what)
            case FaultKind.REFUSED:
                raise CallRefused(f"{what}: 503 slow down")
            case FaultKind.SLOW:
                self.scheduler.sleep(fault.seconds)
            case FaultKind.REDEPLOY:
                self.version += 1
            case FaultKind.FREEZE | FaultKind.STOP | FaultKind.TIMED_OUT if not invocation.let_go:
                invocation.let_go = fault
                if invocation.caller:
                    self.scheduler.wake(invocation.caller)
                self.scheduler.sleep(fault.seconds)
                if fault.kind is FaultKind.FREEZE and fault.times == 1:
                    invocation.unseen_seconds += fault.seconds
                self.tell(f"{invocation.about} goes on")
        return fault

    def _say(self, fault: Fault, invocation: Invocation, what: str) -> None:
        if fault in self._hurt:
            return
        self._hurt.add(fault)
        seconds = f" ({fault.seconds:g} s)" if fault.kind in BESIDE or fault.kind.endswith(":") else ""
        self.tell(f"{invocation.about} {fault.kind}{seconds} {what}")

    @property
    def hurt(self) -> frozenset[Fault]:
        """Faults that struck."""
        return frozenset(self._hurt)
