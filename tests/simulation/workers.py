"""The stages' workers, and the pure function of a record that they compute: the oracle computes it again."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tests.simulation.schedule import ALWAYS, Shape, StagePlan, Way
from tests.simulation.world import Call, World
from winnow import Output, PermanentError, Record, Skip
from winnow.core.record import Retry
from winnow.runtime.decorator import Worker
from winnow.runtime.options import Options

MODULO = 1_000_003
RETRY_SECONDS = 1.0
"""At most, between two calls near a failure."""


class MayPass(Exception):
    """Raised by a worker: the other side does not answer."""


class ChildEnded(KeyboardInterrupt):
    """A record's function ends the child process that it runs in."""

    def __init__(self, *, hung: bool) -> None:
        super().__init__("hung" if hung else "exited")
        self.hung = hung


@dataclass(frozen=True, slots=True)
class Seen:
    """A record as it is read."""

    id: str
    value: int
    manners: dict[str, list[Any]]

    @classmethod
    def of(cls, record_id: str, data: Any) -> Seen:
        return cls(record_id, data["value"], data["manners"])

    def manner(self, stage: str) -> tuple[Way, int]:
        way, times = self.manners[stage]
        return Way[way], times

    def to_data(self) -> dict[str, Any]:
        return {"value": self.value, "manners": self.manners}


def computed(stage: str, value: int) -> int:
    """What a stage makes of a value."""
    return (value * 31 + len(stage) * 7 + 5) % MODULO


def outputs_of(stage: str, seen: Seen) -> list[tuple[str, dict[str, Any]]] | None:
    """Outputs that a stage makes of one record, once it is done with it; None where it skips the record."""
    way, times = seen.manner(stage)
    made: dict[str, Any] = {"value": computed(stage, seen.value), "manners": seen.manners}
    if way is Way.SKIP:
        return None
    if way is Way.NOTHING:
        return []
    if way is Way.OWN_ID:
        return [(f"{seen.id}~{stage}", made)]
    if way is Way.MANY:
        return [(f"{seen.id}#{n}", {**made, "value": made["value"] + n}) for n in range(1, times + 1)]
    return [(seen.id, made)]


def joined(stage: str, members: list[Seen]) -> tuple[str, dict[str, Any]]:
    """The output that a joining stage makes of records, which are in the order in which they were given."""
    value = sum(computed(stage, seen.value) for seen in members) % MODULO
    return f"{members[0].id}+", {"value": value, "manners": members[0].manners}


def may_succeed(stage: str, seen: Seen) -> bool:
    """Whether the stage's worker ever returns something usable for the record."""
    way, times = seen.manner(stage)
    if way in {Way.PERMANENT, Way.GROUP, Way.NOT_JSON, Way.BAD_ID, Way.OMIT}:
        return False
    return way not in {Way.TRANSIENT, Way.EXIT, Way.HANG} or times < ALWAYS


class StageWorker:
    """One stage's function, as one process has it."""

    def __init__(self, world: World, stage: StagePlan, run_id: str) -> None:
        self._world = world
        self._stage = stage
        self._run_id = run_id
        self._earlier: Record | None = None

    def worker(self) -> Worker:
        """The function with its options, in a process that has just begun."""
        stage = self._stage
        batches = stage.shape in {Shape.BATCH, Shape.JOIN}
        return Worker(
            self._batch if batches else self._one,
            Options(
                batch=stage.batch if batches else None,
                retry=Retry(on=(MayPass,), attempts=2, wait_seconds=RETRY_SECONDS)
                if stage.shape is Shape.RETRY
                else None,
                setup=self._set_up,
                give_up_after=stage.give_up_after,
            ),
        )

    def _set_up(self) -> None:
        name = self._stage.name
        self._world.cold_starts[name] += 1
        if self._world.cold_starts[name] <= self._stage.setup_fails:
            raise MayPass("the setup does not reach the database")

    def _one(self, record: Record) -> Any:
        self._begin([record])
        return self._made(record)

    def _batch(self, records: list[Record]) -> Any:
        self._begin(records)
        if self._stage.shape is Shape.JOIN:
            return self._join(records)
        return [self._made(record) for record in records]

    def _join(self, records: list[Record]) -> Any:
        members = []
        for record in records:
            self._check(record)
            if self._way(record) is Way.OMIT:
                self._note(record, "unusable")
            else:
                members.append(record)
        earlier, self._earlier = self._earlier, records[0]
        if not members:
            return []
        name = self._stage.name
        identifier, data = joined(name, [_mutated(self._stage, record) for record in members])
        for record in members:
            self._note(record, "returned")
        foreign = [earlier] if earlier and self._stage.foreign else []
        return [Output(data, id=identifier, sources=[*members, *foreign])]

    def _begin(self, records: list[Record]) -> None:
        """Time passes; the journal is written beside; what the worker depends on may be down."""
        stage, world = self._stage, self._world
        invocation = world.invocation
        assert invocation
        since = world.monotonic()
        invocation.recorder.background()
        if invocation.child_until is not None:  # the journal is the parent's, and costs the child no time
            invocation.child_until += world.monotonic() - since
        seconds = stage.record_seconds * len(records)

        until = math.inf if invocation.child_until is None else invocation.child_until
        world.read(
            f"the function on {', '.join(record.id for record in records)}",
            lambda: world.sleep(min(seconds, max(0.0, until - world.monotonic()))),
        )
        if world.monotonic() >= until:
            for record in records:
                self._note(record, "hang")
            raise ChildEnded(hung=True)
        world.called[stage.name] += 1
        if world.called[stage.name] <= stage.down_for:
            for record in records:
                self._note(record, "raised")
            raise MayPass("the other side is down")

    def _way(self, record: Record) -> Way:
        return Seen.of(record.id, record.data).manner(self._stage.name)[0]

    def _check(self, record: Record) -> None:
        """Do what is bad about the record."""
        world, stage = self._world, self._stage
        way, times = Seen.of(record.id, record.data).manner(stage.name)
        world.handed[stage.name, record.id] += 1
        if world.handed[stage.name, record.id] > times and way is not Way.MANY:
            return
        match way:
            case Way.PERMANENT | Way.FIXABLE if way is Way.PERMANENT or world.version == 1:
                self._spoil(record)
                self._note(record, "permanent")
                raise PermanentError("no identifier")
            case Way.GROUP:
                self._note(record, "permanent")
                raise ExceptionGroup("several", [PermanentError("no title"), PermanentError("no date")])
            case Way.TRANSIENT:
                self._spoil(record)
                self._note(record, "raised")
                raise MayPass("no answer")
            case Way.EXIT | Way.HANG:
                self._end(record, hangs=way is Way.HANG)

    def _spoil(self, record: Record) -> None:
        if self._stage.mutates:
            record.data["value"] *= 100

    def _end(self, record: Record, *, hangs: bool) -> None:
        """Take the process along."""
        world = self._world
        invocation = world.invocation
        assert invocation
        self._note(record, "hang" if hangs else "exit")
        if invocation.child_until is not None:
            raise ChildEnded(hung=hangs)
        if hangs:
            invocation.recorder.hang()
            world.die("Sandbox.Timedout")
        world.die("Runtime.ExitError")

    def _made(self, record: Record) -> Any:
        """What the function returns for a record."""
        self._check(record)
        stage = self._stage
        seen = Seen.of(record.id, record.data)
        way, _ = seen.manner(stage.name)
        if way is Way.NOT_JSON:
            self._note(record, "unusable")
            return {"value": object()}
        if way is Way.BAD_ID:
            self._note(record, "unusable")
            return Output({}, id="")
        self._note(record, "returned")
        outputs = outputs_of(stage.name, _mutated(stage, record))
        if outputs is None:
            return Skip("nothing to do")
        if way is Way.NOTHING:
            return None
        if way is Way.MANY:
            return (data for _, data in outputs)
        if way is Way.WARN:
            record.warn("odd")
        ((identifier, data),) = outputs
        return Output(data, id=identifier) if way is Way.OWN_ID else data

    def _note(self, record: Record, ending: str) -> None:
        world = self._world
        invocation = world.invocation
        awaited = invocation is None or invocation.let_go is None
        moment = world.scheduler.clock
        world.calls.append(Call(self._run_id, self._stage.name, record.id, ending, moment, awaited))


def _mutated(stage: StagePlan, record: Record) -> Seen:
    """The record as the function computes from it; one that mutates works on the record's own data."""
    if stage.mutates:
        record.data["value"] *= 100
        seen = Seen.of(record.id, record.data)
        return Seen(seen.id, seen.value // 100, seen.manners)
    return Seen.of(record.id, record.data)
