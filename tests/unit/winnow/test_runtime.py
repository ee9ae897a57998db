"""Whole attempts of real workers: Plan, runtime, journal, settlement; only the state machine is played."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, NoReturn

import pyarrow as pa
import pytest

from tests.pace import margin
from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow import killers
from tests.unit.winnow.stages import DIED, KEYS, MoodyStore, Stage, journal
from winnow import Output, PermanentError, Record, Skip, worker
from winnow.batch.ndjson import NdjsonDecoder
from winnow.core.contract import Kind, Policy
from winnow.core.errors import EveryRecordFailed, SourceChanged
from winnow.core.ranges import Ranges
from winnow.journal.segment import Stop
from winnow.runtime.deadline import Deadline
from winnow.runtime.flusher import JournalUnavailable
from winnow.runtime.outstanding import OutstandingWork
from winnow.runtime.recorder import Recorder
from winnow.storage.formats import ParquetOutput

SOURCE = {"bucket": "source", "key": "list.ndjson"}


def put(stage: Stage, *lines: object) -> None:
    rows = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    stage.store.objects["source", "list.ndjson"] = b"\n".join([*rows, b""])


def stage_of(
    function: Any, count: int = 10, *, policy: dict[str, Any] | None = None, store: Any = None, **options: Any
) -> tuple[Stage, Any]:
    made = worker(**options)(function) if not hasattr(function, "options") else function
    stage = Stage(worker=made, policy=Policy(**{"backoff_seconds": 0, **(policy or {})}))
    if store:
        stage.store = store
    put(stage, *({"id": f"r{n}", "data": n} for n in range(count)))
    return stage, stage.plan(SOURCE)


@pytest.fixture
def recorders(monkeypatch: pytest.MonkeyPatch) -> list[Recorder]:
    """The recorders of the invocations, which a worker's function can use, for instance to let time run out at a record."""
    made: list[Recorder] = []

    class Caught(Recorder):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr("winnow.runtime.attempt.Recorder", Caught)
    return made


def throw(error: BaseException) -> NoReturn:
    raise error


def echo(record: Record) -> Any:
    return {"n": record.data}


# The happy path


@pytest.mark.parametrize("count", [0, 1, 2, 1_000])
@pytest.mark.parametrize("options", [{}, {"batch": 7}, {"concurrency": 3}], ids=str)
def test_a_batch_of_any_size_comes_through(count: int, options: dict[str, Any]) -> None:
    function: Any = echo if "batch" not in options else lambda records: [echo(record) for record in records]
    stage, order = stage_of(function, count, **options)
    state = stage.to_end(order)
    assert state["verdict"] == "COMPLETE"
    assert sorted(stage.outputs()) == sorted((f"r{n}", {"n": n}) for n in range(count))
    assert stage.counts()["in"] == count
    assert len(json.dumps(state)) < 2_000


def test_returns_counts() -> None:
    stage, order = stage_of(
        lambda r: throw(PermanentError("x")) if r.data == 0 else Skip("y") if r.data == 1 else None
    )
    assert stage.invoke(order) == {"succeeded": 8, "skipped": 1, "failed": 1, "stopped": "end"}


def test_reads_every_kind_of_source() -> None:
    form = ParquetOutput(pa.schema([("n", pa.int64())]))
    stage, order = stage_of(echo, 5, outputs=form)
    stage.to_end(order)
    below = Stage(worker=worker(lambda record: {"twice": 2 * record.data["n"]}), store=stage.store)
    manifest = stage.ledger.read_json(KEYS.successes)
    stage.ledger.write_json("upstream.json", manifest)
    for key in [
        key for key in stage.store.objects if "/attempts/" in key[1] and "/outputs/" not in key[1]
    ] + [("ledger", KEYS.plan)]:
        del stage.store.objects[key]
    below.to_end(below.plan({"bucket": "ledger", "key": "upstream.json"}))
    assert below.outputs() == [(f"r{n}", {"twice": 2 * n}) for n in range(5)]


def test_lineage_names_the_records_that_an_output_came_from() -> None:
    stage, order = stage_of(lambda records: [Output("all", id="all", sources=records)], 4, batch=4)
    stage.to_end(order)
    (entry,) = stage.evidence().entries
    assert json.loads(next(stage.ledger.read_lines(entry.key)))["from"] == ["r0", "r1", "r2", "r3"]


# Failures


def test_a_failure_is_recorded_with_its_reason_and_its_place_in_the_source() -> None:
    stage = Stage(
        worker=worker(lambda r: throw(PermanentError("no\n identifier")) if r.id == "bad" else None)
    )
    put(stage, "a", b"", {"id": "bad", "data": 1}, b"{", "b")
    stage.to_end(stage.plan(SOURCE))
    found = {record["record_id"]: record for record in stage.failures()}
    assert found["bad"]["source"] == {"bucket": "source", "key": "list.ndjson", "line": 3}
    assert found["bad"]["message"] == "no identifier"
    assert found["bad"]["code_version"] == "v1"
    assert "test_runtime.py" in found["bad"]["traceback"]
    unreadable = found[stage.the_plan.source.row_id(4)]
    assert unreadable["error_type"] == "UnreadableRow"
    assert unreadable["source"] == {"bucket": "source", "key": "list.ndjson", "line": 4}
    assert len(found) == 2


def test_transient_failures_are_tried_again_and_only_those() -> None:
    calls = Counter[str]()

    def function(record: Record) -> Any:
        calls[record.id] += 1
        if record.data % 3 == 0 and calls[record.id] < 3:
            raise ConnectionError("refused")
        if record.data == 1:
            raise PermanentError("never")
        return {"n": record.data}

    stage, order = stage_of(function)
    state = stage.to_end(order)
    assert stage.verdicts == ["RETRY", "RETRY", "EXHAUSTED"]
    assert calls == {f"r{n}": 3 if n % 3 == 0 else 1 for n in range(10)}
    assert stage.failed_ids() == {"r1": "permanent"}
    assert sorted(i for i, _ in stage.outputs()) == [f"r{n}" for n in range(10) if n != 1]
    assert state["output"]["tries"] == 3


@pytest.mark.parametrize("permanent", [0, 1, 3])
def test_when_nothing_succeeds_the_call_fails_so_that_step_functions_waits_and_calls_once_more(
    permanent: int,
) -> None:
    """A few bad records in the batch must not cost it the wait that would have covered the outage."""
    down = [True]

    def function(record: Record) -> Any:
        if record.data < permanent:
            raise PermanentError("bad")
        if down[0]:
            raise ConnectionError("refused")
        return {"n": record.data}

    stage, order = stage_of(function)
    with pytest.raises(
        EveryRecordFailed, match=f"none of 10 records succeeded; {10 - permanent} failed transiently"
    ):
        stage.invoke(order)
    down[0] = False
    state = stage.settle(order, worker=stage.invoke(order))
    assert state["verdict"] == ("EXHAUSTED" if permanent else "COMPLETE")
    assert len(stage.outputs()) == 10 - permanent
    assert stage.settlement(0).counters["retried"] == 10 - permanent
    assert not stage.settlement(0).careful


def test_when_all_are_rejected_as_permanent_there_is_nothing_to_wait_for() -> None:
    stage, order = stage_of(lambda _: throw(PermanentError("bad")))
    state = stage.attempt(order)
    assert state["verdict"] == "TOTAL_FAILURE"
    assert "rejected as permanent" in state["cause"]


def test_a_dependency_that_stays_down_fails_the_stage_and_everything_is_recorded() -> None:
    stage, order = stage_of(lambda _: throw(ConnectionError("refused")), 50, give_up_after=5)
    state = stage.attempt(order)
    assert stage.verdicts == ["TOTAL_FAILURE"]
    assert "5 records in a row failed, the last with ConnectionError: refused" in state["cause"]
    assert Counter(record["error_type"] for record in stage.failures()) == {
        "ConnectionError": 5,
        "DependencyDown": 45,
    }


def test_a_dependency_that_goes_down_half_way_leaves_the_rest_untried() -> None:
    calls: list[int] = []
    down_from = [20]

    def function(record: Record) -> Any:
        calls.append(record.data)
        if record.data >= down_from[0]:
            raise ConnectionError("refused")
        return None

    stage, order = stage_of(function, 100, give_up_after=5)
    state = stage.attempt(order)
    assert (state["verdict"], len(calls)) == ("RETRY", 25)
    down_from[0] = 1_000
    assert stage.attempt(stage.deeper(state))["verdict"] == "COMPLETE"
    assert len(calls) == 25 + 80


def test_setup_that_fails_is_the_environments_fault_and_leaves_the_lambda_as_it_is() -> None:
    calls: list[int] = []

    def setup() -> None:
        calls.append(1)
        raise KeyError("TABLE")

    stage, order = stage_of(echo, setup=setup)
    with pytest.raises(KeyError, match="TABLE"):
        stage.invoke(order)
    assert stage.evidence().stop is Stop.ERROR
    assert not stage.evidence().died
    state = stage.settle(order, **stage.work(order))
    assert state["verdict"] == "TOTAL_FAILURE"
    assert "KeyError: 'TABLE'" in state["cause"]
    assert len(calls) == 3
    assert {record["kind"] for record in stage.failures()} == {"missing"}


def test_a_source_that_changed_since_plan_is_not_mixed() -> None:
    stage, order = stage_of(echo)
    put(stage, "another", "list")
    with pytest.raises(SourceChanged):
        stage.invoke(order)
    state = stage.settle(order, **stage.work(order))
    assert state["verdict"] == "TOTAL_FAILURE"
    assert "changed after the batch was fixed from it" in state["cause"]


def test_a_row_that_only_the_worker_cannot_decode_costs_only_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan reads with more of the stack to spare than a worker does."""
    stage, order = stage_of(echo, 5)
    decode = NdjsonDecoder.decode

    def shallow(self: NdjsonDecoder, row: Any) -> Any:
        return throw(RecursionError("too deep")) if "r2" in row else decode(self, row)

    monkeypatch.setattr(NdjsonDecoder, "decode", shallow)
    stage.to_end(order)
    assert stage.failed_ids() == {"r2": "permanent"}
    assert stage.failures()[0]["source"]["line"] == 3
    assert [i for i, _ in stage.outputs()] == ["r0", "r1", "r3", "r4"]


def test_the_error_that_stopped_the_worker_is_the_one_that_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.runtime.segment_writer.time.sleep", lambda _: None)
    stage, order = stage_of(echo, setup=lambda: throw(KeyError("TABLE")), store=MoodyStore())
    assert isinstance(stage.store, MoodyStore)
    stage.store.refuse = lambda key: "/journal/" in key
    with pytest.raises(KeyError, match="TABLE"):
        stage.invoke(order)


# S3


@pytest.mark.parametrize("refused", ["/journal/", "/outputs/", ".ids.", "/failures/"])
def test_when_s3_refuses_for_good_the_call_fails_and_nothing_is_claimed(
    refused: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.runtime.segment_writer.time.sleep", lambda _: None)
    stage, order = stage_of(
        lambda r: throw(PermanentError("bad")) if r.data == 1 else echo(r), store=MoodyStore()
    )
    assert isinstance(stage.store, MoodyStore)
    stage.store.refuse = lambda key: refused in key
    with pytest.raises(JournalUnavailable):
        stage.invoke(order)
    stage.store.refuse = lambda _: False
    state = stage.settle(order, worker_error={"Error": "JournalUnavailable", "Cause": "{}"})
    assert state["verdict"] == "TOTAL_FAILURE"
    assert stage.settlement(0).succeeded == Ranges.empty()


def test_when_s3_is_back_for_the_second_call_only_the_rest_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.runtime.segment_writer.time.sleep", lambda _: None)
    calls = Counter[str]()
    writes = Counter[str]()

    def function(record: Record) -> Any:
        calls[record.id] += 1
        return {"x": "y" * 100}

    def refuse(key: str) -> bool:
        writes["outputs"] += "/outputs/" in key
        return "/outputs/" in key and 3 < writes["outputs"] <= 7

    monkeypatch.setattr("winnow.runtime.recorder.FLUSH_BYTES", 200)
    stage, order = stage_of(function, 40, store=MoodyStore())
    assert isinstance(stage.store, MoodyStore)
    stage.store.refuse = refuse
    ending = stage.work(order)
    assert stage.settle(order, **ending)["verdict"] == "COMPLETE"
    assert set(calls.values()) == {1}
    assert len(stage.outputs()) == 40


# Time


def test_stops_for_time_goes_on_and_spends_no_try(recorders: list[Recorder]) -> None:
    calls: list[int] = []

    def function(record: Record) -> Any:
        calls.append(record.data)
        if record.data % 4 == 3:
            recorders[-1].request_stop(Stop.TIME, "little time was left")
        return {"n": record.data}

    stage, order = stage_of(function, 18)
    state = stage.to_end(order)
    assert stage.verdicts == ["CONTINUE"] * 4 + ["COMPLETE"]
    assert state["output"]["tries"] == 1
    assert calls == list(range(18))
    assert len(stage.outputs()) == 18


def test_a_worker_without_any_time_takes_nothing_and_says_why() -> None:
    stage, order = stage_of(echo)
    assert stage.invoke(order, seconds=0.5)["stopped"] == "time"
    state = stage.settle(order, worker=stage.invoke(order, seconds=0.5))
    assert state["verdict"] == "TOTAL_FAILURE"
    assert "ran out of time before the first was done" in state["cause"]


@pytest.mark.parametrize(("seconds", "left"), [(900, 870), (100, 90), (3, 2)])
def test_keeps_time_back_to_journal_and_return(
    seconds: float, left: float, recorders: list[Recorder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "winnow.runtime.attempt.Deadline.of_worker", partial(Deadline.of_worker, clock=lambda: 0.0)
    )
    stage, order = stage_of(echo, 1)
    stage.invoke(order, seconds=seconds)
    assert recorders[0].seconds_left == pytest.approx(left, abs=0.01)


# What is logged


def test_the_first_failures_and_warnings_are_logged_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[tuple[str, dict[str, Any]]] = []

    class Log:
        def warning(self, text: str, **keys: Any) -> None:
            logged.append((text, keys))

    def function(record: Record) -> None:
        record.warn(f"odd {record.data}")
        if record.data % 2:
            raise PermanentError("bad")

    monkeypatch.setattr("winnow.runtime.attempt.get_logger", Log)
    monkeypatch.setattr("winnow.runtime.attempt.LOGGED", 2)
    stage, order = stage_of(function, 20)
    stage.invoke(order)
    assert [text for text, _ in logged] == [
        "odd 0", "bad", "odd 2", "bad",
        "more records warned; all are counted in the stage's result", "more records failed; all are in the ledger",
    ]  # fmt: skip
    assert logged[1][1] == {"record_id": "r1", "error_type": "PermanentError", "failure_kind": "permanent"}
    assert logged[2][1]["source_line"] == 3


# Several calls in one attempt


def test_a_second_call_does_only_what_the_first_did_not(recorders: list[Recorder]) -> None:
    calls = Counter[str]()

    def function(record: Record) -> Any:
        calls[record.id] += 1
        if record.data == 4:
            recorders[-1].request_stop(Stop.ERROR, "for the test")
        if record.data == 1 and calls[record.id] == 1:
            raise ConnectionError("refused")
        if record.data == 2:
            raise PermanentError("never")
        return None

    stage, order = stage_of(function)
    stage.invoke(order)
    assert sorted(calls) == ["r0", "r1", "r2", "r3", "r4"]
    stage.invoke(order)
    # A report of failure never decides: what failed for good is called again in the same attempt, and not in a later one.
    assert calls == {**{f"r{n}": 1 for n in range(10)}, "r1": 2, "r2": 2}
    assert stage.evidence().recovered == 1


def test_after_a_death_a_call_in_the_same_attempt_is_careful_and_takes_suspects_last() -> None:
    stage = Stage(worker=killers.plain)
    put(stage, *({"id": f"r{n}", "data": "exit" if n == 2 else None} for n in range(8)))
    order = stage.plan(SOURCE)
    journal(stage, succeeded=[0, 1], horizon=5)
    stage.invoke(order)
    found = stage.evidence()
    assert found.succeeded == Ranges.of([0, 1, 3, 4, 5, 6, 7])
    assert found.failed == {Kind.CRASHED: Ranges.of([2])}


def outstanding(stage: Stage, attempt: int = 0) -> OutstandingWork:
    return OutstandingWork.of(stage.the_plan, stage.settlement(attempt - 1), stage.evidence(attempt))


def test_what_is_outstanding_is_the_order_minus_the_journal_whatever_is_reported() -> None:
    stage = Stage()
    put(stage, "a", b"{", "c", "d", "e")
    stage.plan(SOURCE)
    assert outstanding(stage).parts == (Ranges.of([0, 2, 3, 4]), Ranges.empty(), Ranges.empty())
    journal(
        stage, succeeded=[0], skipped=[3], failed={Kind.PERMANENT: [2], Kind.TRANSIENT: [4]}, stop=Stop.END
    )
    found = outstanding(stage)
    assert (found.ordinals, found.again, found.careful) == (Ranges.of([2, 4]), True, False)


def test_a_forged_report_that_all_failed_for_good_keeps_no_record_from_its_worker() -> None:
    """V7: a segment of no invocation says that all records are permanent failures, before the worker begins."""
    stage, order = stage_of(echo)
    journal(
        stage,
        invocation="FORGED",
        failed={Kind.PERMANENT: range(10)},
        failures_key=None,
        stop=Stop.END,
        written_at="2999-01-01T00:00:00.000Z",
    )
    stage.to_end(order)
    assert stage.verdicts == ["COMPLETE"]
    assert len(stage.outputs()) == 10
    assert stage.failures() == []


def test_killers_come_after_suspects_and_suspects_after_all_others() -> None:
    stage = Stage()
    order = stage.plan([f"r{n}" for n in range(9)])
    journal(stage, succeeded=[8], horizon=6)
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, failed={Kind.CRASHED: [1, 3]}, stop=Stop.DEPENDENCY)
    stage.deeper(stage.settle(stage.deeper(state), worker={}))
    assert outstanding(stage, 2).parts == (Ranges.of([6, 7]), Ranges.of([0, 2, 4, 5]), Ranges.of([1, 3]))
    assert outstanding(stage, 2).careful
    assert outstanding(stage, 2).horizon == 9


def test_an_attempt_is_not_run_before_the_one_it_follows_is_settled() -> None:
    stage, order = stage_of(echo)
    with pytest.raises(LookupError, match="attempt 2 was ordered before attempt 1 was settled"):
        stage.invoke(replace(order, attempt=2))


# Careful attempts


@pytest.mark.parametrize("first", [True, False], ids=["the first", "in the middle"])
def test_killers_cost_only_themselves_within_the_normal_tries(*, first: bool) -> None:
    data = (
        ["exit", "kill", None, None, "segfault", None]
        if first
        else [None, None, "exit", "kill", None, "segfault"]
    )
    stage = Stage(worker=killers.plain, policy=Policy(backoff_seconds=0, max_tries=3))
    put(stage, *({"id": f"r{n}", "data": what} for n, what in enumerate(data)))
    state = stage.settle(stage.plan(SOURCE), worker_error=DIED)
    while state["next"]:
        state = stage.attempt(stage.deeper(state))
    assert state["verdict"] == "EXHAUSTED"
    assert stage.failed_ids() == {f"r{n}": "crashed" for n, what in enumerate(data) if what}
    assert sorted(i for i, _ in stage.outputs()) == [f"r{n}" for n, what in enumerate(data) if not what]
    assert {record["tries"] for record in stage.failures()} == {3}
    assert stage.failures()[0]["source"]["key"] == "list.ndjson"


def test_a_worker_that_cannot_be_started_in_a_child_fails_as_a_whole() -> None:
    stage = Stage(worker=killers.without_setup)
    put(stage, "a", "b")
    state = stage.settle(stage.plan(SOURCE), worker_error=DIED)
    state = stage.attempt(stage.deeper(state))
    assert state["verdict"] == "RETRY"
    assert "WorkerNotStarted" in stage.settlement(1).default_reason.message
    assert stage.settlement(1).careful


# Lies


@pytest.mark.parametrize(
    ("lie", "refused"),
    [
        (lambda records: [Output("x", sources=[*records, Record("never")])], 3),
        (lambda records: [Output("x", id="x", sources=records[:1])], 0),
        (lambda _: [Output("x", sources=[])], 12),
    ],
    ids=["of strangers", "of one for all", "of nobody"],
)
def test_a_batch_worker_that_lies_is_not_believed_and_it_shows(
    lie: Callable[[list[Record]], Any], refused: int
) -> None:
    stage, order = stage_of(lie, 9, batch=3)
    stage.to_end(order)
    books(stage)
    assert (stage.counts()["refused"] > 0) == (refused > 0)


def test_a_worker_that_swallows_an_error_and_forgets_its_records_has_not_done_them() -> None:
    def function(records: list[Record]) -> Any:
        kept = [record for record in records if record.data % 2]
        return [Output(record.data, id=record.id, sources=[record]) for record in kept] or [
            Output(0, sources=[])
        ]

    stage, order = stage_of(function, 10, batch=4)
    stage.to_end(order)
    assert stage.failed_ids() == {f"r{n}": "missing" for n in range(0, 10, 2)}
    assert sorted(i for i, _ in stage.outputs()) == [f"r{n}" for n in range(1, 10, 2)]


def books(stage: Stage) -> None:
    """In = succeeded + skipped + failed, and each list says the same."""
    counts = stage.counts()
    assert counts["in"] == counts["succeeded"] + counts["skipped"] + counts["failed"]
    assert counts["failed"] == len(stage.failed_ids())


# Ids and texts


@pytest.mark.parametrize(
    "identifier",
    ["a/b/../c", "..", "x" * 1024, "é" * 512, "👩‍👩‍👧", 'quo"te', "back\\slash", "%00", "line 1"],
)
def test_ids_of_any_shape_come_through_from_source_to_output_and_failure(identifier: str) -> None:
    stage = Stage(worker=worker(lambda r: throw(PermanentError("bad")) if r.data == "bad" else {"id": r.id}))
    put(stage, {"id": identifier, "data": 1}, {"id": "other", "data": "bad"})
    stage.to_end(stage.plan(SOURCE))
    assert stage.outputs() == [(identifier, {"id": identifier})]
    stage = Stage(worker=stage.worker)
    put(stage, {"id": identifier, "data": "bad"}, {"id": "other", "data": 1})
    stage.to_end(stage.plan(SOURCE))
    assert stage.failed_ids() == {identifier: "permanent"}


@pytest.mark.parametrize("odd", ["\ud800", "\x00", "\u2028", "\n\r\t"])
def test_odd_text_in_data_messages_warnings_and_reasons_does_not_stop_other_records(odd: str) -> None:
    def function(record: Record) -> Any:
        record.warn(odd)
        if record.data["n"] == 0:
            return record.data
        if record.data["n"] == 1:
            raise PermanentError(odd)
        if record.data["n"] == 2:
            return Skip(odd)
        return None

    stage = Stage(worker=worker(function))
    put(stage, *({"id": f"r{n}", "data": {"n": n, "text": odd}} for n in range(5)))
    stage.to_end(stage.plan(SOURCE))
    books(stage)
    assert set(stage.failed_ids()) == ({"r0", "r1"} if odd == "\ud800" else {"r1"})
    assert stage.counts()["skipped"] == 1


@pytest.fixture
def blocked() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_record_that_hangs_in_a_thread_is_reported_and_the_rest_is_done(blocked: threading.Event) -> None:
    def function(record: Record) -> Any:
        if record.data == 2:
            blocked.wait(PATIENCE_SECONDS)
        return {"n": record.data}

    stage, order = stage_of(function, concurrency=3, record_timeout=margin(0.2), policy={"max_tries": 2})
    stage.to_end(order)
    assert stage.failed_ids() == {"r2": "transient"}
    assert len(stage.outputs()) == 9
