"""A schedule: everything that happens to a pipeline in one simulation, drawn from one number."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum


class Way(StrEnum):
    """What a stage's worker does with a record."""

    ONE = "makes one output of it"
    OWN_ID = "makes one output with an id of its own"
    MANY = "makes several outputs of it"
    NOTHING = "succeeds without an output"
    SKIP = "skips it"
    WARN = "makes one output and warns"
    PERMANENT = "raises PermanentError"
    FIXABLE = "raises PermanentError until the worker is fixed"
    GROUP = "raises a group of permanent errors"
    TRANSIENT = "raises an error that may pass"
    EXIT = "exits the process"
    HANG = "never returns"
    NOT_JSON = "returns what is not JSON"
    BAD_ID = "returns an output without a usable id"
    OMIT = "is left out of what a batch joins"


HARMLESS = (Way.ONE, Way.OWN_ID, Way.MANY, Way.NOTHING, Way.SKIP, Way.WARN)
"""What ends well whenever the worker is given the record once."""
ALWAYS = 99
"""Times, of what never passes."""


@dataclass(frozen=True, slots=True)
class Manner:
    """What a stage's worker does with a record, and how often before it does the usual instead."""

    way: Way = Way.ONE
    times: int = ALWAYS
    """Calls; of MANY, outputs."""

    def to_data(self) -> list[object]:
        """As it travels in the record's data."""
        return [self.way.name, self.times]


class Shape(StrEnum):
    """How a stage's worker takes its records."""

    SINGLE = "one by one"
    RETRY = "one by one, calling again once near a failure"
    BATCH = "in batches"
    JOIN = "in batches, joining each into one output"


@dataclass(frozen=True, slots=True, kw_only=True)
class StagePlan:
    """One stage."""

    name: str
    shape: Shape = Shape.SINGLE
    batch: int = 3
    mutates: bool = False
    """The worker's function changes the data that it is given."""
    max_tries: int = 3
    spend_tries_first: bool = False
    give_up_after: int = 100
    record_seconds: float = 0.1
    """That a record takes."""
    lambda_seconds: float = 120.0
    down_for: int = 0
    """So many first calls of the function fail: what it depends on is down."""
    setup_fails: int = 0
    """So many first cold starts fail."""
    foreign: bool = False
    """A joining worker names a record of an earlier batch, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordPlan:
    """One record of a source."""

    id: str
    value: int
    manners: tuple[Manner, ...]
    """By stage."""
    copies: int = 1
    """Rows that the source has of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """One run of the pipeline."""

    after: float
    """Seconds from the beginning."""
    name: str | None = None
    """The run id that it is given; None for one of its own."""
    records: tuple[int, ...] = ()
    """Places in the schedule's records."""
    worse: tuple[int, ...] = ()
    """Of these, those that are broken for good in this run's source."""
    unreadable: int = 0
    """Rows that are no JSON."""
    scheduled: bool = False
    """By the clock, so that it steps aside for another scheduled one."""
    again_after: float | None = None
    """The event came twice: a second execution with the same input, so many seconds later."""


class FaultKind(StrEnum):
    """What goes wrong in a Lambda."""

    KILL_BEFORE = "dies before"
    KILL_AFTER = "dies after"
    KILL_IN_FLIGHT = "dies; its write arrives later:"
    FREEZE = "freezes for a while and then goes on; nobody waits for it any more:"
    REFUSED = "is refused"
    TORN = "does not hear the answer to"
    TORN_CONFLICT = "sends twice without knowing"
    LATE = "is told that it failed, but later it arrives:"
    SLOW = "waits long for"
    REDEPLOY = "has its successors' code changed at"
    STOP = "goes on while its execution is stopped by hand at"
    TIMED_OUT = "goes on while its execution runs out of time at"
    THROTTLED = "is not let run by Lambda"
    ANSWER_LOST = "runs, but its answer is lost"
    TWICE = "runs twice at once"
    LIE = "returns counts that are not true"
    FORGED = "finds all of its batch reported as permanent in its journal"


WHOLE = frozenset(
    {FaultKind.THROTTLED, FaultKind.ANSWER_LOST, FaultKind.TWICE, FaultKind.LIE, FaultKind.FORGED}
)
"""Faults of an invocation, not of one of its calls."""
BESIDE = frozenset({FaultKind.FREEZE, FaultKind.STOP, FaultKind.TIMED_OUT})
"""After these the function goes on beside what follows."""

FUNCTIONS = ("plan_run", "plan", "worker", "settle", "register", "alert", "close")


class Scope(StrEnum):
    """Which execution is stopped."""

    INNERMOST = "its own"
    STAGE = "its stage's first"
    PIPELINE = "the pipeline's"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that goes wrong."""

    kind: FaultKind
    function: str
    invocation: int
    """Which of the function's invocations, counted over the whole schedule."""
    call: int = 0
    """Which of its calls to the store, the tables, the topic, or the record's function."""
    times: int = 1
    seconds: float = 30.0
    scope: Scope = Scope.INNERMOST


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One simulation."""

    seed: int
    stages: tuple[StagePlan, ...]
    records: tuple[RecordPlan, ...]
    runs: tuple[RunPlan, ...]
    faults: tuple[Fault, ...] = ()
    replays: tuple[float, ...] = ()
    """When an operator replays what is open, in seconds from the beginning."""
    skewed: bool = False
    """Clocks of two Lambdas differ by up to two minutes."""
    horizon: int = 10_000
    """Records that may be taken before a first segment is durable; small, so that workers have to wait."""
    block: int = 50_000
    """Ids in an object of a batch."""
    buffer: int = 8 * 1024 * 1024
    """Bytes of outputs that are buffered before a segment is written at once."""
    flushes: float = 0.1
    """Chance of a segment between any two records."""

    @property
    def calm(self) -> bool:
        """Nothing goes wrong but records."""
        return not self.faults


GAP = 2_000.0
"""Seconds between runs that do not overlap: what is done in one of them is over before the next begins."""


def draw(seed: int) -> Schedule:
    """The schedule of a seed. Small ones are the most frequent: a fault that needs little is found soon and told briefly."""
    chance = random.Random(seed)
    stages = tuple(
        _stage(chance, name) for name in ("adapt", "bind", "copy")[: chance.choice((1, 1, 2, 2, 3))]
    )
    trouble = chance.choice((0.1, 0.3, 0.6))
    records = tuple(_record(chance, number, stages, trouble) for number in range(_few(chance, 12)))
    runs = _runs(chance, len(records))
    faults = tuple(_fault(chance) for _ in range(chance.choice((0, 1, 1, 2, 3, 5, 8))))
    late = max(run.after for run in runs)
    return Schedule(
        seed=seed,
        stages=stages,
        records=records,
        runs=runs,
        faults=faults,
        replays=tuple(late + GAP * number for number in range(1, 1 + chance.choice((0, 0, 1, 1, 2)))),
        skewed=chance.random() < 0.3,
        horizon=chance.choice((1, 2, 4, 10_000)),
        block=chance.choice((2, 5, 50_000)),
        buffer=chance.choice((60, 300, 8 * 1024 * 1024)),
        flushes=chance.choice((0.0, 0.1, 0.5)),
    )


def _few(chance: random.Random, most: int) -> int:
    return 1 + min(chance.randrange(most), chance.randrange(2 * most))


def _stage(chance: random.Random, name: str) -> StagePlan:
    return StagePlan(
        name=name,
        shape=chance.choice((*Shape, Shape.SINGLE, Shape.SINGLE)),
        batch=chance.choice((1, 2, 3, 5)),
        mutates=chance.random() < 0.5,
        max_tries=chance.choice((1, 2, 3, 4)),
        spend_tries_first=chance.random() < 0.2,
        give_up_after=chance.choice((2, 100, 100)),
        record_seconds=chance.choice((0.01, 1.0, 8.0)),
        lambda_seconds=chance.choice((12.0, 60.0, 900.0)),
        down_for=chance.choice((0, 0, 0, 0, 1, 4)),
        setup_fails=chance.choice((0, 0, 0, 0, 0, 1, 2)),
        foreign=chance.random() < 0.1,
    )


PASSING = (Way.TRANSIENT, Way.EXIT, Way.HANG)
"""Over after some calls, perhaps."""
FAILING = (Way.PERMANENT, Way.FIXABLE, Way.GROUP, Way.TRANSIENT, Way.TRANSIENT, *PASSING)
ALONE = (Way.NOT_JSON, Way.BAD_ID)


def _record(chance: random.Random, number: int, stages: tuple[StagePlan, ...], trouble: float) -> RecordPlan:
    return RecordPlan(
        id=chance.choice(("r{}", "r{}", "shelf/r {}", "ö-{}")).format(number),
        value=chance.randrange(1, 100),
        manners=tuple(_manner(chance, stage, trouble) for stage in stages),
        copies=chance.choice((1, 1, 1, 1, 2, 3)),
    )


def _manner(chance: random.Random, stage: StagePlan, trouble: float) -> Manner:
    joins = stage.shape is Shape.JOIN
    if chance.random() < trouble:
        way = chance.choice((*FAILING, Way.OMIT) if joins else (*FAILING, *ALONE))
        return Manner(way, chance.choice((1, 1, 2, ALWAYS)) if way in PASSING else ALWAYS)
    way = Way.ONE if joins else chance.choice((*HARMLESS, Way.ONE, Way.ONE, Way.ONE))
    if way is not Way.MANY:
        return Manner(way)
    return Manner(Way.ONE) if stage.shape is Shape.BATCH else Manner(way, chance.choice((0, 1, 2, 3)))


def _runs(chance: random.Random, records: int) -> tuple[RunPlan, ...]:
    count = chance.choice((1, 1, 1, 2, 2, 3))
    overlap = chance.random() < 0.3
    names: list[str | None] = [None] * count
    if chance.random() < 0.3:
        names = chance.sample(("backfill", "backfill-1", "backfill-2", "backfill_1"), count)
    runs = []
    for number in range(count):
        among = tuple(place for place in range(records) if chance.random() < 0.9) or (0,)
        worse = tuple(place for place in among if chance.random() < 0.1)
        runs.append(
            RunPlan(
                after=round(chance.random() * 60, 1) if overlap else number * GAP,
                name=names[number],
                records=among,
                worse=worse,
                unreadable=chance.choice((0, 0, 0, 0, 1, 2)),
                scheduled=chance.random() < 0.2,
                again_after=round(chance.random() * 200, 1) if chance.random() < 0.15 else None,
            )
        )
    return tuple(runs)


def _fault(chance: random.Random) -> Fault:
    function = chance.choice((*FUNCTIONS, "worker", "worker", "settle", "settle", "plan"))
    of_worker = {FaultKind.LIE, FaultKind.FORGED}
    kinds = [kind for kind in FaultKind if kind not in of_worker or function == "worker"]
    if function in {"plan_run", "close"}:
        kinds = [kind for kind in kinds if kind not in {FaultKind.STOP, FaultKind.TIMED_OUT}]
    return Fault(
        kind=chance.choice((*kinds, *(kind for kind in kinds if kind in BESIDE))),
        function=function,
        invocation=min(chance.randrange(3), chance.randrange(9)),
        call=min(chance.randrange(12), chance.randrange(24)),
        times=chance.choice((1, 1, 2, 5)),
        seconds=chance.choice((1.0, 10.0, 90.0, 700.0)),
        scope=chance.choice(tuple(Scope)),
    )
