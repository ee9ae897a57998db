from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, cast

import pytest

from tests.pace import margin
from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow.gates import Memory, items
from winnow import Output, PermanentError, Record, Retry, Skip, TransientError
from winnow.core.contract import Kind
from winnow.core.errors import RecordTimeout
from winnow.runtime.engine import INTERRUPT, run
from winnow.runtime.options import Options
from winnow.runtime.sink import Line

WORKERS = {
    "one by one": Options(),
    "with a time limit": Options(record_timeout=60),
    "with retries": Options(retry=Retry(on=(ConnectionError,), attempts=2, wait_seconds=0)),
    "in threads": Options(concurrency=3),
    "in threads with a time limit": Options(concurrency=3, record_timeout=60),
    "in batches": Options(batch=4),
    "in batches in threads": Options(batch=4, concurrency=3, record_timeout=60),
}
every_way = pytest.mark.parametrize("options", WORKERS.values(), ids=WORKERS.keys())


def work(
    function: Callable[[Record], Any], options: Options, count: int = 10, gate: Memory | None = None
) -> Memory:
    """Run a function of one record in whatever way the options say."""

    def many(records: list[Record]) -> list[Any]:
        return [function(record) for record in records]

    gate = gate or Memory()
    run(many if options.batch else function, items(count), gate, options)
    assert [ordinal for ordinal, times in gate.told.items() if times > 1] == []
    return gate


def bodies(lines: list[Line]) -> list[Any]:
    return [json.loads(line.body) for line in lines]


# Isolation


class Odd(BaseException):
    """Raised by a library that does not want to be caught."""


class Speechless(Exception):
    def __str__(self) -> str:
        raise RuntimeError("nothing to say")


def recurse(n: int) -> int:
    return recurse(n + 1)


class Leaving(Exception):
    def __str__(self) -> str:
        raise SystemExit(4)


def throw(error: BaseException, cause: BaseException | None = None) -> NoReturn:
    raise error from cause


async def in_a_task_group(*errors: Exception) -> None:
    async with asyncio.TaskGroup() as group:
        for error in errors:
            group.create_task(_fail(error))


async def _fail(error: Exception) -> None:
    raise error


ERRORS: dict[str, tuple[Callable[[], object], str, str]] = {
    "an error": (lambda: throw(ValueError("bad")), "transient", "bad"),
    "a transient error": (lambda: throw(TransientError("later")), "transient", "later"),
    "a permanent error": (lambda: throw(PermanentError("never")), "permanent", "never"),
    "out of memory": (lambda: throw(MemoryError()), "crashed", "MemoryError"),
    "an exit": (lambda: throw(SystemExit(3)), "transient", "3"),
    "a cancellation": (lambda: throw(asyncio.CancelledError()), "transient", "CancelledError"),
    "a generator's exit": (lambda: throw(GeneratorExit()), "transient", "GeneratorExit"),
    "an error of its own making": (lambda: throw(Odd("odd")), "transient", "odd"),
    "a permanent error of a task group": (
        lambda: asyncio.run(in_a_task_group(PermanentError("never"))),
        "permanent",
        "never",
    ),
    "a task group with one error that may pass": (
        lambda: asyncio.run(in_a_task_group(PermanentError("never"), ValueError("bad"))),
        "transient",
        "bad",
    ),
    "a group in a group": (
        lambda: throw(ExceptionGroup("all", [ExceptionGroup("some", [PermanentError("never")])])),
        "permanent",
        "never",
    ),
    "out of memory in a group": (
        lambda: throw(ExceptionGroup("all", [PermanentError("never"), MemoryError("full")])),
        "crashed",
        "full",
    ),
    "an error with a cause": (
        lambda: throw(RuntimeError("gave up"), ValueError("bad")),
        "transient",
        "gave up; caused by ValueError: bad",
    ),
    "a permanent error that was wrapped": (
        lambda: throw(RuntimeError("gave up"), PermanentError("never")),
        "permanent",
        "gave up; caused by PermanentError: never",
    ),
    "a permanent error that was called transient": (
        lambda: throw(TransientError("later"), PermanentError("never")),
        "transient",
        "later; caused by PermanentError: never",
    ),
    "an error that exits when asked for words": (lambda: throw(Leaving()), "transient", "Leaving"),
    "an error that has no words": (lambda: throw(Speechless()), "transient", "Speechless"),
    "an error with broken text": (lambda: throw(ValueError("\ud800\n\n  x")), "transient", "? x"),
    "an error of a million characters": (lambda: throw(ValueError("x" * 10**6)), "transient", "x" * 999 + "…"),
    "endless recursion": (lambda: recurse(0), "transient", "maximum recursion depth exceeded"),
    "a failed assertion": (lambda: throw(AssertionError("no")), "transient", "no"),
}  # fmt: skip


@every_way
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS.keys())
def test_a_record_that_raises_costs_only_itself(
    options: Options, error: tuple[Callable[[], object], str, str]
) -> None:
    raising, kind, message = error

    def function(record: Record) -> object:
        return raising() if record.data in (0, 5) else {"n": record.data}

    gate = work(function, options)
    assert sorted(gate.done) == [1, 2, 3, 4, 6, 7, 8, 9]
    assert gate.kinds == {0: kind, 5: kind}
    assert gate.failures[5].message.startswith(message)
    assert gate.failures[5].record_id == "r5"


@every_way
def test_every_record_may_fail(options: Options) -> None:
    gate = work(lambda record: throw(ValueError(record.id)), options)
    assert gate.kinds == dict.fromkeys(range(10), "transient")
    assert gate.done == {}


@every_way
@pytest.mark.parametrize("count", [0, 1, 3, 4, 5])
def test_works_through_any_number_of_records(options: Options, count: int) -> None:
    assert sorted(work(lambda _: None, options, count).done) == list(range(count))


@every_way
@pytest.mark.parametrize("allowed", [0, 1, 4, 6])
def test_takes_up_no_more_than_the_gate_allows(options: Options, allowed: int) -> None:
    gate = work(lambda _: None, options, gate=Memory(take=allowed))
    assert sorted(gate.done) == gate.taken == list(range(allowed))


def test_the_operators_interrupt_passes_through() -> None:
    for options in (WORKERS["one by one"], WORKERS["with retries"], WORKERS["in batches"]):
        gate = Memory()
        with pytest.raises(KeyboardInterrupt):
            work(lambda _: throw(KeyboardInterrupt()), options, gate=gate)
        assert gate.failures == {}


def test_an_interrupt_in_a_thread_is_the_records_own_doing() -> None:
    """Python hands the operator's to the main thread only."""
    for options in (WORKERS["in threads"], WORKERS["in batches in threads"]):
        gate = work(lambda record: throw(KeyboardInterrupt()) if record.data == 2 else None, options)
        assert gate.kinds == {2: "transient"}
        assert len(gate.done) == 9


@every_way
def test_an_error_of_the_input_stops_the_work_and_passes_through(options: Options) -> None:
    def broken() -> Iterator[tuple[int, Record]]:
        yield from items(3)
        raise OSError("the source is gone")

    gate = Memory()
    function: Any = (lambda records: [None] * len(records)) if options.batch else (lambda _: None)
    with pytest.raises(OSError, match="the source is gone"):
        run(function, broken(), gate, options)
    assert set(gate.told) <= {0, 1, 2}


class Unwell(Memory):
    """A gate that breaks: the recorder has a bug, or memory is out at the wrong moment."""

    def succeeded(self, *_: Any) -> None:
        raise SystemError("the gate broke")

    def report(self, _: Any) -> None:
        raise SystemError("the gate broke")


@every_way
def test_an_error_of_the_gate_passes_through_and_leaves_no_thread_waiting(options: Options) -> None:
    with pytest.raises(SystemError, match="the gate broke"):
        work(lambda _: None, options, 50, gate=Unwell())


# Outcomes


VALUES: list[tuple[str, Any, list[tuple[str, Any]]]] = [
    ("nothing", None, []),
    ("a dict", {"a": 1}, [("r0", {"a": 1})]),
    ("an empty dict", {}, [("r0", {})]),
    ("a text", "ünï", [("r0", "ünï")]),
    ("zero", 0, [("r0", 0)]),
    ("no", False, [("r0", False)]),
    ("a list is one output", [1, 2], [("r0", [1, 2])]),
    ("an output", Output({"a": 1}), [("r0", {"a": 1})]),
    ("an output with an id of its own", Output(5, id="new/id"), [("new/id", 5)]),
    ("a generator", (n for n in (1, Output(2, id="two"), None)), [("r0#1", 1), ("two", 2), ("r0#3", None)]),
    ("a generator of nothing", iter(()), []),
    ("an iterator", iter([7]), [("r0#1", 7)]),
    ("numbers as keys become text, as JSON has it", {1: 2}, [("r0", {"1": 2})]),
]


@pytest.mark.parametrize(("value", "outputs"), [row[1:] for row in VALUES], ids=[row[0] for row in VALUES])
def test_a_value_becomes_outputs(value: Any, outputs: list[tuple[str, Any]]) -> None:
    gate = work(lambda _: value, Options(), 1)
    lines = gate.done[0]
    assert [(line.id, bodies([line])[0]["data"]) for line in lines] == outputs
    assert all(body["id"] == line.id for line, body in zip(lines, bodies(lines), strict=True))
    assert all(body["from"] == "r0" for body in bodies(lines))
    assert all(line.ordinal == 0 for line in lines)


@every_way
def test_a_skip_is_done_and_hands_nothing_on(options: Options) -> None:
    gate = work(lambda record: Skip("deleted") if record.data == 1 else Skip(), options, 2)
    assert gate.skips == {0: "", 1: "deleted"}


@every_way
def test_an_error_may_be_returned_instead_of_raised(options: Options) -> None:
    gate = work(lambda record: PermanentError("bad") if record.data == 1 else None, options, 3)
    assert gate.kinds == {1: "permanent"}


class Lazy(dict[str, Any]):
    """A dict that finds out only when it is read that its connection is gone."""

    def items(self) -> Any:
        raise ConnectionError("gone")

    def __len__(self) -> int:
        return 1


circular: list[Any] = []
circular.append(circular)

UNUSABLE: dict[str, Any] = {
    "a set": {1, 2},
    "bytes": b"x",
    "an object": object(),
    "a class": Skip,
    "a function": len,
    "not a number": float("nan"),
    "infinity": {"a": [float("inf")]},
    "a list that holds itself": circular,
    "a lone surrogate": {"a": "\ud800"},
    "a tuple as a key": {(1, 2): 3},
    "an id that is no text": Output(1, id=5),  # type: ignore[arg-type]
    "an empty id": Output(1, id=""),
    "an id with a line break": Output(1, id="a\nb"),
    "an id of 1,025 bytes": Output(1, id="x" * 1025),
    "an id with a lone surrogate": Output(1, id="\ud800"),
}


@every_way
@pytest.mark.parametrize("value", UNUSABLE.values(), ids=UNUSABLE.keys())
def test_an_output_that_cannot_be_written_fails_its_record_for_good(options: Options, value: Any) -> None:
    gate = work(lambda record: value if record.data == 3 else {"n": record.data}, options)
    assert gate.kinds == {3: "permanent"}
    assert gate.failures[3].error_type == "UnusableOutput"
    assert len(gate.done) == 9


@every_way
def test_an_output_that_fails_while_it_is_written_costs_only_its_record(options: Options) -> None:
    gate = work(lambda record: Lazy(a=1) if record.data == 3 else {"n": record.data}, options)
    assert gate.kinds == {3: "transient"}
    assert len(gate.done) == 9


def test_a_generator_that_raises_half_way_hands_nothing_on() -> None:
    def function(record: Record) -> Iterator[int]:
        yield 1
        if record.data == 1:
            raise PermanentError("half way")
        yield 2

    gate = work(function, Options(), 3)
    assert {ordinal: len(lines) for ordinal, lines in gate.done.items()} == {0: 2, 2: 2}
    assert gate.kinds == {1: "permanent"}


def test_the_numbered_ids_of_many_outputs_stay_within_the_limit() -> None:
    def function(_: Record) -> Iterator[int]:
        yield 1

    gate = Memory()
    run(function, [(0, Record("x" * 1022)), (1, Record("x" * 1023))], gate, Options())
    assert gate.done[0][0].id == "x" * 1022 + "#1"
    assert gate.kinds == {1: "permanent"}


def test_warnings_ride_with_the_outcome() -> None:
    def function(record: Record) -> Skip | None:
        record.warn("first")
        record.warn("second")
        if record.data == 2:
            raise ValueError("failed anyway")
        return Skip() if record.data == 1 else None

    gate = work(function, Options(), 3)
    assert gate.warnings == ["first", "second"] * 2


def test_warnings_of_a_call_that_is_made_again_are_not_counted_twice() -> None:
    calls: list[str] = []

    def once(record: Record) -> None:
        record.warn("odd")
        calls.append(record.id)
        if len(calls) == 1:
            raise ConnectionError("again")

    retry = Retry(on=(ConnectionError,), attempts=2, wait_seconds=0)
    assert work(once, Options(retry=retry), 1).warnings == ["odd"]

    def batch(records: list[Record]) -> list[None]:
        for record in records:
            record.warn("odd")
        if len(records) > 1:
            raise ConnectionError("one by one, please")
        return [None]

    gate = Memory()
    run(batch, items(3), gate, Options(batch=3))
    assert gate.warnings == ["odd"] * 3


@pytest.mark.parametrize("text", [7, None, ["a"], "\ud800", object()])
def test_a_warning_or_a_reason_may_be_anything(text: Any) -> None:
    def function(record: Record) -> Skip | None:
        record.warn(text)
        return Skip(text) if record.data == 1 else None

    gate = work(function, Options(), 2)
    assert gate.failures == {}
    assert gate.warnings == [str(text)] * 2
    assert gate.skips == {1: str(text)}


# Retry near the failure


def test_tries_again_what_is_named_as_often_as_is_said() -> None:
    calls: list[str] = []

    def function(record: Record) -> None:
        calls.append(record.id)
        if len(calls) < 3:
            raise ConnectionError("refused")

    retry = Retry(on=(ConnectionError,), attempts=3, wait_seconds=0)
    assert list(work(function, Options(retry=retry), 1).done) == [0]
    assert len(calls) == 3
    calls.clear()
    retry = Retry(on=(ConnectionError,), attempts=2, wait_seconds=0)
    assert work(function, Options(retry=retry), 1).kinds == {0: "transient"}
    assert len(calls) == 2


@pytest.mark.parametrize(
    "error",
    [
        ValueError("other"),
        PermanentError("never"),
        SystemExit(1),
        ExceptionGroup("all", [ConnectionError("refused"), ValueError("other")]),
        ExceptionGroup("all", [PermanentError("never")]),
    ],
    ids=repr,
)
def test_tries_nothing_else_again(error: BaseException) -> None:
    calls: list[str] = []

    def function(record: Record) -> None:
        calls.append(record.id)
        raise error

    retry = Retry(on=(ConnectionError, PermanentError), attempts=5, wait_seconds=0)
    work(function, Options(retry=retry), 1)
    assert len(calls) == 1


def test_tries_a_group_again_whose_errors_are_all_named() -> None:
    errors = [ExceptionGroup("all", [ConnectionError("refused"), ConnectionError("reset")])]

    def function(_record: Record) -> None:
        if errors:
            raise errors.pop()

    retry = Retry(on=(ConnectionError,), attempts=2, wait_seconds=0)
    assert list(work(function, Options(retry=retry), 1).done) == [0]


# Batches


def batch(function: Callable[[list[Record]], Any], count: int = 3, size: int = 3) -> Memory:
    gate = Memory()
    run(function, items(count), gate, Options(batch=size))
    assert [ordinal for ordinal, times in gate.told.items() if times > 1] == []
    return gate


def test_a_batch_worker_is_given_full_batches_and_a_rest() -> None:
    sizes: list[int] = []
    batch(lambda records: sizes.append(len(records)), count=7)
    assert sizes == [3, 3, 1]


def test_a_batch_worker_may_answer_for_each_record_in_order() -> None:
    gate = batch(lambda records: [{"n": records[0].data}, Skip("no"), PermanentError("bad")])
    assert bodies(gate.done[0]) == [{"id": "r0", "from": "r0", "data": {"n": 0}}]
    assert gate.skips == {1: "no"}
    assert gate.kinds == {2: "permanent"}


def test_a_batch_worker_that_returns_nothing_has_done_all() -> None:
    assert sorted(batch(lambda _: None).done) == [0, 1, 2]


def test_a_batch_that_raises_is_done_one_by_one() -> None:
    def function(records: list[Record]) -> list[int]:
        if any(record.data == 1 for record in records):
            raise ValueError("one is bad")
        return [record.data for record in records]

    gate = batch(function, count=6)
    assert sorted(gate.done) == [0, 2, 3, 4, 5]
    assert gate.kinds == {1: "transient"}


@pytest.mark.parametrize("value", [[], [1], [1, 2, 3, 4], "abc", {"a": 1}, 7, {1, 2, 3}], ids=str)
def test_an_answer_that_does_not_say_which_record_it_is_about_is_refused(value: Any) -> None:
    """Asked again record by record, a worker may do better; one that does not fails each, for good, for itself."""
    gate = batch(lambda records: value if len(records) > 1 else [records[0].data])
    assert sorted(gate.done) == [0, 1, 2]
    gate = batch(lambda _: value, count=2, size=2)
    if value == [1]:
        assert sorted(gate.done) == [0, 1]
    else:
        assert gate.kinds == {0: "permanent", 1: "permanent"}
        assert gate.failures[0].message.startswith("a batch worker must return")


def test_many_may_become_one() -> None:
    gate = batch(
        lambda records: [Output("ab", id="ab", sources=records[:2]), Output("c", sources=[records[2]])]
    )
    assert sorted(gate.done) == [0, 1, 2]
    assert bodies(gate.done[0]) == [{"id": "ab", "from": ["r0", "r1"], "data": "ab"}]
    assert gate.done[1] == []
    assert bodies(gate.done[2]) == [{"id": "r2", "from": ["r2"], "data": "c"}]


def test_a_record_that_no_output_names_is_not_done() -> None:
    gate = batch(lambda records: [Output("a", sources=[records[0]])])
    assert list(gate.told) == [0]


def test_one_record_may_go_into_several_outputs() -> None:
    gate = batch(lambda records: [Output(n, id=f"o{n}", sources=records) for n in range(2)])
    assert [line.id for line in gate.done[0]] == ["o0", "o1"]


def stranger(n: int) -> Record:
    return Record(f"stranger-{n}")


@pytest.mark.parametrize(
    ("lie", "lies"),
    [
        (lambda records: [Output("a", sources=[*records, stranger(1)])], 1),
        (lambda records: [Output("a", sources=records), Output("b", sources=[stranger(1), stranger(2)])], 2),
        (lambda records: [Output("a", sources=records), Output("b", sources=[Record("r0", 0)])], 1),
        (lambda records: [Output("a", sources=records), Output("b", sources=[])], 1),
        (lambda records: [Output("a", sources=[*records, *cast("list[Record]", ["r0", 7, None])])], 3),
    ],
    ids=["a stranger too", "strangers only", "a copy", "nobody", "things that are no records"],
)
def test_claims_about_records_that_were_not_given_are_counted_and_not_believed(
    lie: Callable[[list[Record]], Any], lies: int
) -> None:
    gate = batch(lie)
    assert gate.lies == lies
    assert sorted(gate.done) == [0, 1, 2]
    assert [line.id for lines in gate.done.values() for line in lines] == ["r0"]


@pytest.mark.parametrize(
    "mix",
    [
        lambda records: [Output("a", sources=records[:2]), Skip("c"), None],
        lambda records: [Output("a", sources=records[:1]), Output("b", id="b"), Output("c", id="c")],
        lambda records: [Output("a", sources=records[:1]), PermanentError("b"), {"c": 1}],
    ],
)
def test_answers_in_order_and_answers_by_name_do_not_mix(mix: Callable[[list[Record]], Any]) -> None:
    """Which record would the ones without a name be about?"""
    gate = batch(lambda records: mix(records) if len(records) > 1 else [records[0].data])
    assert {ordinal: bodies(lines)[0]["data"] for ordinal, lines in gate.done.items()} == {0: 0, 1: 1, 2: 2}


def test_outputs_that_join_records_reach_the_sink_in_one_call() -> None:
    """Told one by one they could come to lie in two segments of the journal, and count in part."""
    gate = Memory()
    told: list[list[int]] = []
    gate.joined = lambda ordinals, lines, warnings: told.append(list(ordinals))  # type: ignore[method-assign]  # noqa: ARG005
    run(lambda records: [Output("ab", sources=records[:2]), Output("c", sources=[records[2]])], items(3), gate,
        Options(batch=3))  # fmt: skip
    assert told == [[0, 1, 2]]
    assert not gate.told


def test_a_joined_output_that_cannot_be_written_fails_only_those_that_alone_fail() -> None:
    def function(records: list[Record]) -> list[Output]:
        return [Output({1, 2} if any(r.data == 1 for r in records) else "fine", sources=records)]

    gate = batch(function)
    assert sorted(gate.done) == [0, 2]
    assert gate.kinds == {1: "permanent"}


# Records that hang


def limit() -> float:
    """Seconds in which a record is done that does not hang."""
    return round(margin(0.2), 2)


class Hanging:
    """A function that never returns for some records, until the test is over."""

    def __init__(self, *hang: int) -> None:
        self.hang = hang
        self.over = threading.Event()
        self.calls: list[list[int]] = []

    def one(self, record: Record) -> int:
        return self.many([record])[0]

    def many(self, records: list[Record]) -> list[int]:
        numbers = [record.data for record in records]
        self.calls.append(numbers)
        if set(self.hang) & set(numbers):
            self.over.wait(PATIENCE_SECONDS)
        return numbers


@pytest.fixture
def hanging() -> Iterator[Callable[..., Hanging]]:
    made: list[Hanging] = []

    def make(*hang: int) -> Hanging:
        made.append(Hanging(*hang))
        return made[-1]

    yield make
    for one in made:
        one.over.set()


@pytest.mark.parametrize("concurrency", [1, 2, 5])
def test_a_record_that_hangs_costs_only_itself(hanging: Callable[..., Hanging], concurrency: int) -> None:
    worker = hanging(1, 2, 9)
    seconds = limit()
    gate = work(worker.one, Options(concurrency=concurrency, record_timeout=seconds))
    assert gate.kinds == dict.fromkeys((1, 2, 9), "transient")
    assert gate.failures[1].error_type == "RecordTimeout"
    assert gate.failures[1].message == f"took longer than {seconds:g} s"
    assert sorted(gate.done) == [0, 3, 4, 5, 6, 7, 8]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_record_that_hangs_in_a_batch_costs_only_itself(
    hanging: Callable[..., Hanging], concurrency: int
) -> None:
    worker = hanging(1, 5)
    gate = Memory()
    run(worker.many, items(9), gate, Options(batch=4, concurrency=concurrency, record_timeout=limit()))
    assert gate.kinds == dict.fromkeys((1, 5), "transient")
    assert sorted(gate.done) == [0, 2, 3, 4, 6, 7, 8]
    assert max(gate.told.values()) == 1


@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_record_that_hangs_when_its_batch_is_done_one_by_one_costs_only_itself(
    hanging: Callable[..., Hanging], concurrency: int
) -> None:
    worker = hanging(2)

    def function(records: list[Record]) -> list[int]:
        if len(records) > 1:
            raise ValueError("one by one, please")
        return worker.many(records)

    gate = Memory()
    run(function, items(6), gate, Options(batch=6, concurrency=concurrency, record_timeout=limit()))
    assert gate.kinds == {2: "transient"}
    assert sorted(gate.done) == [0, 1, 3, 4, 5]


@pytest.mark.parametrize("concurrency", [1, 2])
def test_the_time_limit_is_of_each_call_and_not_of_a_batch_done_one_by_one(
    concurrency: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time is told by calls here: each takes a second, the limit is one and a half."""
    clock = [0.0]
    monkeypatch.setattr("winnow.runtime.threads.time.monotonic", lambda: clock[0])

    def function(records: list[Record]) -> list[int]:
        clock[0] += 1.0
        if len(records) > 1:
            raise ValueError("one by one, please")
        return [records[0].data]

    gate = Memory()
    run(function, items(8), gate, Options(batch=8, concurrency=concurrency, record_timeout=1.5))
    assert sorted(gate.done) == list(range(8))


def test_a_thread_that_was_given_up_is_not_listened_to_any_more(hanging: Callable[..., Hanging]) -> None:
    worker = hanging(0)
    came_back = threading.Event()

    def function(record: Record) -> int:
        try:
            return worker.one(record)
        finally:
            if record.data == 0:
                came_back.set()

    gate = work(function, Options(concurrency=2, record_timeout=limit()), 3)
    before = dict(gate.told)
    worker.over.set()
    assert came_back.wait(PATIENCE_SECONDS)
    for thread in threading.enumerate():
        if thread.name == "record":
            thread.join(PATIENCE_SECONDS)
    assert dict(gate.told) == before
    assert gate.kinds == {0: "transient"}


def test_a_record_that_swallows_every_exception_is_still_interrupted() -> None:
    def function(record: Record) -> str:
        if record.data == 1:
            try:
                threading.Event().wait(PATIENCE_SECONDS)
            except Exception:  # noqa: BLE001  as a worker might
                return "swallowed"
        return "done"

    gate = work(function, Options(record_timeout=limit()), 3)
    assert gate.kinds == {1: "transient"}


def raising(_signal: int, _frame: object) -> NoReturn:
    raise TimeoutError("the function's own")


DEFEATS: dict[str, Callable[[], object]] = {
    "a timer that is stopped": lambda: signal.setitimer(signal.ITIMER_REAL, 0),
    "a timer that is late": lambda: signal.setitimer(signal.ITIMER_REAL, PATIENCE_SECONDS),
    "an alarm that is stopped": lambda: signal.alarm(0),
    "another handler": lambda: signal.signal(signal.SIGALRM, lambda *_: None),
    "no handler": lambda: signal.signal(signal.SIGALRM, signal.SIG_IGN),
}


@pytest.fixture
def own_alarm() -> Iterator[None]:
    before = signal.getsignal(signal.SIGALRM)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("own_alarm")
@pytest.mark.parametrize("defeat", DEFEATS.values(), ids=DEFEATS.keys())
def test_a_function_that_uses_the_timer_of_the_process_is_still_interrupted(
    defeat: Callable[[], object],
) -> None:
    def function(record: Record) -> str:
        if record.data == 1:
            defeat()
            threading.Event().wait(PATIENCE_SECONDS)
        return "done"

    gate = work(function, Options(record_timeout=limit()), 3)
    assert gate.kinds == {1: "transient"}
    assert gate.failures[1].error_type == "RecordTimeout"
    assert sorted(gate.done) == [0, 2]


@pytest.mark.usefixtures("own_alarm")
def test_the_alarm_of_a_function_is_its_own() -> None:
    def function(record: Record) -> str:
        if record.data == 1:
            signal.signal(signal.SIGALRM, raising)
            signal.setitimer(signal.ITIMER_REAL, 0.001)
            threading.Event().wait(PATIENCE_SECONDS)
        return "done"

    gate = work(function, Options(record_timeout=PATIENCE_SECONDS), 3)
    assert gate.kinds == {1: "transient"}
    assert gate.failures[1].message == "the function's own"


def test_a_function_that_swallows_its_interruption_is_interrupted_again() -> None:
    swallowed: list[BaseException] = []

    def function(record: Record) -> str:
        if record.data == 1:
            try:
                threading.Event().wait(PATIENCE_SECONDS)
            except BaseException as error:  # noqa: BLE001  as a worker might
                swallowed.append(error)
            threading.Event().wait(PATIENCE_SECONDS)
        return "done"

    gate = work(function, Options(record_timeout=limit()), 3)
    assert [type(error) for error in swallowed] == [RecordTimeout]
    assert gate.kinds == {1: "transient"}
    assert sorted(gate.done) == [0, 2]


class Ringing(Memory):
    """A gate to which the signal of an interruption comes, late."""

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None:
        signal.raise_signal(INTERRUPT)
        super().succeeded(ordinal, lines, warnings)


def test_an_interruption_that_comes_late_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def early(self: Any) -> None:
        signal.raise_signal(INTERRUPT)
        self._ended.wait(PATIENCE_SECONDS)

    monkeypatch.setattr("winnow.runtime.engine._Watchdog._watch", early)

    def function(record: Record) -> int:
        signal.raise_signal(INTERRUPT)
        return int(record.data)

    gate = work(function, Options(record_timeout=60), gate=Ringing())
    assert len(gate.done) == 10


def test_an_interruption_as_a_call_ends_is_that_records_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call's time is over, and the watchdog was not told that it ended."""
    monkeypatch.setattr("winnow.runtime.engine.NEVER", 0.0)
    gate = work(lambda record: record.data, Options(record_timeout=60), gate=Ringing())
    assert len(gate.done) == 10


def test_the_signal_is_handled_as_before_afterwards() -> None:
    before = signal.signal(INTERRUPT, raising)
    try:
        work(lambda _: None, Options(record_timeout=60))
        assert signal.getsignal(INTERRUPT) is raising
        assert "watchdog" not in {thread.name for thread in threading.enumerate()}
    finally:
        signal.signal(INTERRUPT, before)


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"concurrency": 0}, "`concurrency` must be at least 1, got: 0"),
        ({"give_up_after": 0}, "`give_up_after` must be at least 1, got: 0"),
        ({"batch": 0}, "`batch` must be at least 1, got: 0"),
        ({"record_timeout": 0}, "`record_timeout` must be more than 0 seconds, got: 0"),
        ({"flush_seconds": -1}, "`flush_seconds` must be more than 0 seconds, got: -1"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("retry", "message"),
    [
        ({"on": (ValueError,), "attempts": 1}, "`attempts` must be at least 2, got: 1"),
        ({"on": (ValueError,), "wait_seconds": -1}, "`wait_seconds` must not be negative, got: -1"),
        ({"on": ()}, r"`on` must name at least one exception, got: \(\)"),
    ],
)
def test_a_retry_that_makes_no_sense_is_refused(retry: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Retry(**retry)


def test_kinds_are_what_should_happen_next() -> None:
    assert [kind.value for kind in Kind] == ["permanent", "transient", "crashed", "missing"]
