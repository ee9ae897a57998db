"""The laws, each by name, as far as they can be shown without AWS. Six and nine are about alerts, and tested with them."""

from __future__ import annotations

import json
import threading
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, find, given, settings
from hypothesis import strategies as st

from tests.unit.winnow import killers
from tests.unit.winnow.stages import DIED, KEYS, DyingStore, MoodyStore, Stage, journal
from winnow import Output, PermanentError, Record, Skip, worker
from winnow.batch.plan import ids_of, read_plan
from winnow.core.contract import Kind, Order, Policy, StageInput, Verdict
from winnow.core.errors import DuplicateAttempt, LedgerConflict, StageInputError
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.segment import Stop
from winnow.planning.stage_planner import plan_stage
from winnow.runtime.deadline import Deadline
from winnow.runtime.outstanding import OutstandingWork
from winnow.runtime.recorder import Recorder, RecorderSettings
from winnow.runtime.segment_writer import SegmentWriter
from winnow.runtime.sink import Line
from winnow.storage.formats import NDJSON
from winnow.storage.ledger import Ledger, decompress

SOURCE = {"bucket": "source", "key": "list.ndjson"}
BIGGEST_STATE = 16 * 1024


def put(stage: Stage, *lines: object) -> None:
    rows = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    stage.store.objects["source", "list.ndjson"] = b"\n".join([*rows, b""])


class AnswersLost(MoodyStore):
    """S3 takes each conditional write, its answer is lost, and the client sends it again: refused, by the first sending."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: set[str] = set()

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        super().put(key, body, if_absent=if_absent)
        if if_absent:
            self.lost.add(key.rsplit("/", 1)[-1].split(".", maxsplit=1)[0])
            raise LedgerConflict(f"{key} exists already")


@worker
def by_data(record: Record) -> Any:
    """Does what its record says."""
    if record.data == "permanent":
        raise PermanentError("on purpose")
    if record.data == "transient":
        raise ConnectionError("on purpose")
    return Skip("on purpose") if record.data == "skip" else {"by": record.id}


def stage_of(*data: Any, made: Any = by_data, **policy: Any) -> tuple[Stage, Order]:
    stage = Stage(worker=made, policy=Policy(**{"backoff_seconds": 0, **policy}))
    put(stage, *({"id": f"r{n}", "data": what} for n, what in enumerate(data)))
    return stage, stage.plan(SOURCE)


# 1


ENDINGS: dict[str, dict[str, Any]] = {
    "returned the truth": {"worker": {"succeeded": 3, "skipped": 1, "failed": 1, "stopped": "end"}},
    "claimed all": {"worker": {"succeeded": 10, "skipped": 0, "failed": 0, "stopped": "end"}},
    "claimed more than there is": {"worker": {"succeeded": 10**9, "skipped": 10**9}},
    "claimed nothing": {"worker": {"succeeded": 0, "skipped": 0, "failed": 10}},
    "returned something else": {"worker": ["done", None]},
    "raised": {"worker_error": {"Error": "ValueError", "Cause": "{}"}},
    "timed out": {"worker_error": {"Error": "Sandbox.Timedout", "Cause": ""}},
    "was killed": {"worker_error": {"Error": "Runtime.ExitError", "Cause": ""}},
    "ran out of memory": {"worker_error": {"Error": "Runtime.OutOfMemory", "Cause": ""}},
    "was given up": {"worker_error": {"Error": "States.Timeout", "Cause": ""}},
}


@pytest.mark.parametrize("ending", ENDINGS.values(), ids=ENDINGS.keys())
def test_law_1_failure_is_the_absence_of_success(ending: dict[str, Any]) -> None:
    stage, order = stage_of(*[None] * 10)
    journal(stage, succeeded=[0, 1, 2], skipped=[3], failed={Kind.TRANSIENT: [4]}, stop=Stop.END)
    stage.settle(order, **ending)
    assert stage.settlement(0).outstanding(stage.the_plan) == Ranges.of([4, 5, 6, 7, 8, 9])
    assert stage.settlement(0).next == Ranges.of([4, 5, 6, 7, 8, 9])


def test_law_1_reports_of_failure_add_reasons_and_never_decide() -> None:
    stage, order = stage_of(*[None] * 4, max_tries=1)
    journal(stage, succeeded=[0, 1], failed={Kind.PERMANENT: [0], Kind.CRASHED: [1, 2]}, stop=Stop.END)
    stage.settle(order, worker={})
    assert stage.failed_ids().keys() == {"r2", "r3"}


# 2


def test_law_2_evidence_comes_after_effects_at_whatever_write_the_worker_is_killed() -> None:
    for writes in range(30):
        store = DyingStore()
        stage = Stage(worker=by_data, store=store)
        put(stage, *({"id": f"r{n}", "data": [None, "skip", "permanent"][n % 3]} for n in range(9)))
        order = stage.plan(SOURCE)
        store.writes_left = writes
        stage.invoke(order)
        store.writes_left = float("inf")
        for segment in stage.evidence().segments:
            if segment.outputs:
                assert decompress(store.get(segment.outputs.key).body).count(b"\n") == segment.outputs.lines
                assert len(stage.ledger.read_json(segment.outputs.ids_key)["of"]) == segment.outputs.lines
            if segment.failures_key:
                assert list(stage.ledger.read_lines(segment.failures_key))


def test_law_2_journaling_twice_is_harmless() -> None:
    stage, order = stage_of(*[None] * 4)
    segment = journal(stage, succeeded=[0, 1], skipped=[2])
    for sequence in range(1, 4):
        stage.ledger.write_json(KEYS.attempt(0).segment("AGAIN", sequence), segment.to_json())
    journal(stage, sequence=9, succeeded=[3], stop=Stop.END)
    assert stage.settle(order, worker={})["verdict"] == "COMPLETE"
    assert [i for i, _ in stage.outputs()] == ["out-0", "out-1", "out-3"]
    assert stage.counts()["succeeded"] == 3


# 3


@pytest.mark.parametrize("position", [0, 2, 4], ids=["first", "middle", "last"])
@pytest.mark.parametrize("what", ["raise", "exit", "kill", "segfault", "allocate"])
def test_law_3_a_record_costs_only_itself(what: str, position: int) -> None:
    data: list[Any] = [None] * 5
    data[position] = what
    stage, order = stage_of(*data, made=killers.plain, max_tries=2)
    state = stage.attempt(order) if what == "raise" else stage.settle(order, worker_error=DIED)
    if state["next"]:
        state = stage.attempt(stage.deeper(state), memory_mb=512)
    assert stage.failed_ids().keys() == {f"r{position}"}
    assert len(stage.outputs()) == 4


# 4


def test_law_4_what_goes_in_comes_out_and_the_next_stage_is_given_what_this_one_succeeded_in() -> None:
    stage = Stage(worker=by_data, policy=Policy(backoff_seconds=0, max_tries=2))
    put(stage, "a", {"id": "b", "data": "skip"}, {"id": "c", "data": "permanent"}, {"id": "d", "data": "transient"}, "e",
        "a", b"", b"{unreadable", {"id": "f"})  # fmt: skip
    stage.to_end(stage.plan(SOURCE))
    counts = stage.counts()
    assert counts["in"] == 7 == counts["succeeded"] + counts["skipped"] + counts["failed"]
    assert (counts["succeeded"], counts["skipped"], counts["duplicates"]) == (3, 1, 1)
    assert stage.failed_ids() == {
        "c": "permanent",
        "d": "transient",
        stage.the_plan.source.row_id(8): "permanent",
    }

    below = Stage(store=stage.store)
    keys = StageKeys(KEYS.run_id, "mint")
    pointer = stage.states[-1]["output"]["successes"]["batch_file_location"]
    event = StageInput.from_event({"run_id": KEYS.run_id, "records": pointer})
    order = plan_stage(
        below.ledger, event, pipeline="catalogue", stage="mint", policy=Policy(), execution="x"
    )
    assert order.count == counts["succeeded"]
    assert (
        [i for _, i in ids_of(below.ledger, read_plan(below.ledger, keys), Ranges.span(0, 3))]
        == [i for i, _ in stage.outputs()]
        == ["a", "e", "f"]
    )


# 5


@pytest.mark.parametrize(
    "data", [["permanent", None], ["transient", None], ["skip", "permanent", None]], ids=str
)
def test_law_5_a_stage_that_lost_records_says_so_in_its_output_and_in_an_alert(data: list[Any]) -> None:
    stage, order = stage_of(*data)
    state = stage.to_end(order)
    assert state["verdict"] == "EXHAUSTED"
    assert state["output"]["failures"]["count"] == state["output"]["lost"]["stage"] == 1
    alerts = [s for s in stage.states if s["alert"]]
    assert len(alerts) == 1
    alert = stage.ledger.read_json(KEYS.attempt(alerts[0]["order"]["attempt"]).alert)
    assert alert["counts"]["new"] == 1


@pytest.mark.parametrize(
    "data", [["permanent"], ["transient"], ["permanent", "transient"], ["skip", "permanent"]], ids=str
)
def test_law_5_a_stage_in_which_nothing_succeeded_fails(data: list[str]) -> None:
    stage, order = stage_of(*data)
    state = stage.to_end(order)
    assert state["verdict"] == "TOTAL_FAILURE"
    assert state["alert"]
    assert state["cause"]


def test_law_5_nothing_is_alerted_when_nothing_is_lost() -> None:
    stage, order = stage_of(None, "skip", None)
    assert stage.to_end(order)["verdict"] == "COMPLETE"
    assert not any(state["alert"] for state in stage.states)


# 7


def test_law_7_states_carry_pointers_only_whatever_the_batch() -> None:
    sizes = []
    for count in (20, 20_000):
        data = [["permanent", "transient", "skip", None, None][n % 5] for n in range(count)]
        stage, order = stage_of(*data, max_tries=2)
        stage.to_end(order)
        states = [order.to_payload(), *stage.states]
        assert all(f'"r{count - 1}"' not in json.dumps(state) for state in states)
        sizes.append([len(json.dumps(state)) for state in states])
    assert max(map(max, sizes)) < BIGGEST_STATE
    assert all(abs(large - small) < 60 for small, large in zip(*sizes, strict=True))


# 8


def test_law_8_the_same_stage_of_the_same_run_is_planned_by_one_execution_only() -> None:
    stage, _ = stage_of(None)
    with pytest.raises(DuplicateAttempt):
        stage.plan(SOURCE, execution="second")


def test_law_8_a_redriven_execution_does_nothing_twice() -> None:
    """Native redrive runs the same execution on from the state that failed, with the same input."""
    calls = Counter[str]()

    @worker
    def counting(record: Record) -> Any:
        calls[record.id] += 1
        return {"n": calls[record.id]}

    stage, order = stage_of(*[None] * 5, made=counting)
    assert stage.plan(SOURCE) == order
    state = stage.attempt(order)
    assert stage.plan(SOURCE) == order
    assert stage.settle(order, **stage.work(order)) == state
    assert set(calls.values()) == {1}
    assert stage.outputs() == [(f"r{n}", {"n": 1}) for n in range(5)]


def test_law_8_a_zombie_that_still_writes_after_its_time_changes_nothing() -> None:
    stage, order = stage_of(*[None] * 6)
    journal(stage, succeeded=[0, 1])
    state = stage.settle(order, worker_error=DIED)
    deeper = stage.deeper(state)
    journal(stage, invocation="INV1", sequence=7, succeeded=[2, 3], stop=Stop.END)
    assert stage.settle(order, worker_error=DIED) == state
    journal(stage, attempt=1, invocation="NEXT", sequence=9, succeeded=[2, 3, 4, 5], stop=Stop.END)
    assert stage.settle(deeper, worker={})["verdict"] == "COMPLETE"
    assert sorted(i for i, _ in stage.outputs()) == [f"out-{n}" for n in range(6)]
    assert {i: data["by"] for i, data in stage.outputs()}["out-2"] == "NEXT"


def test_law_8_a_conditional_write_whose_answer_was_lost_is_not_taken_for_a_strangers() -> None:
    store = AnswersLost()
    stage = Stage(worker=by_data, store=store, policy=Policy(backoff_seconds=0, max_tries=2))
    put(stage, "a", {"id": "b", "data": "transient"})
    stage.to_end(stage.plan(SOURCE))
    assert stage.verdicts == ["RETRY", "EXHAUSTED"]
    assert store.lost == {"plan", "claim", "settlement"}
    assert stage.counts()["succeeded"] == 1
    assert stage.failed_ids() == {"b": "transient"}


def test_law_8_an_attempt_that_was_not_ordered_is_refused() -> None:
    stage, order = stage_of(None, None)
    journal(stage, succeeded=[0], stop=Stop.END)
    state = stage.settle(order, worker={})
    with pytest.raises(StageInputError, match="attempt 4 has not asked for it"):
        stage.deeper({**state, "next": {**state["next"], "attempt": 5}})


# 4 again: any interleaving of deaths, partial flushes, lies and repetitions


NATURES = ("good", "good", "good", "many", "silent", "skip", "permanent", "twice", "killer")


class Scripted(Recorder):
    """A recorder without a thread of its own: it flushes when the script says so."""

    def _start_threads(self) -> list[threading.Thread]:
        return []

    def take(self, ordinal: int) -> bool:
        if ordinal >= self.streak.limit and self.stop is None:
            self.admission.wanted = max(self.admission.wanted, ordinal + 1)
            self.flusher.flush()
        return ordinal < self.streak.limit and super().take(ordinal)


class Invocation:
    """One call of a worker's Lambda, as a script: it goes on record by record, flushes now and then, and may be killed."""

    def __init__(
        self,
        scene: Scene,
        order: Order,
        name: str,
        *,
        writes: float,
        flush_every: int,
        stop_after: int | None,
    ) -> None:
        self._scene = scene
        self._store = DyingStore()
        self._store.objects = scene.stage.store.objects
        self._store.writes_left = writes
        self._flush_every, self._stop_after = flush_every, stop_after
        plan, before = scene.stage.the_plan, scene.stage.settlement(order.attempt - 1)
        evidence = scene.stage.evidence(order.attempt)
        outstanding = OutstandingWork.of(plan, before, evidence)
        assert not outstanding.ordinals & (before.succeeded | before.skipped | evidence.done | plan.rejected)
        self._careful = outstanding.careful
        self._recorder = Scripted(
            SegmentWriter(
                Ledger(self._store),
                plan,
                plan.keys.attempt(order.attempt),
                invocation=name,
                form=NDJSON,
                deadline=Deadline(1e6),
            ),
            RecorderSettings(flush_seconds=1e6, horizon=outstanding.horizon, give_up_after=10**6),
        )
        self._todo = [ordinal for part in outstanding.parts for ordinal in part]
        self._began = 0
        self.died = False

    def step(self) -> bool:
        """Work on one more record. False when the call is over, one way or the other."""
        if self.died:
            return False
        if self._began == self._stop_after:
            self._recorder.request_stop(Stop.TIME)
        if self._began == len(self._todo) or not self._recorder.take(self._todo[self._began]):
            self._recorder.close()
            self.died = self._store.writes_left <= 0
            return False
        ordinal = self._todo[self._began]
        self._began += 1
        self._work(ordinal)
        if self._began % self._flush_every == 0 and not self.died:
            self._recorder.flusher.flush()
        if self._store.writes_left <= 0:
            self.died = True
        return not self.died

    def _work(self, ordinal: int) -> None:
        scene, recorder = self._scene, self._recorder
        record_id = scene.ids[ordinal]
        nature = scene.natures[record_id]
        scene.calls[record_id] += 1
        if nature == "killer" and not self._careful:
            self.died = True
        elif nature == "killer":
            recorder.failed(ordinal, record_id, Kind.CRASHED, RuntimeError("killed its worker"))
        elif nature == "permanent":
            recorder.failed(ordinal, record_id, Kind.PERMANENT, PermanentError("never"))
        elif nature == "twice" and scene.calls[record_id] <= 2:
            recorder.failed(ordinal, record_id, Kind.TRANSIENT, ConnectionError("later"))
        elif nature == "skip":
            recorder.skipped(ordinal, "no", None)
        else:
            outputs = {"silent": 0, "many": 2}.get(nature, 1)
            names = [f"{record_id}#{n}" for n in range(outputs)]
            recorder.succeeded(
                ordinal, [Line(i, ordinal, NDJSON.line(i, record_id, None)) for i in names], None
            )


class Scene:
    """A stage run of records of known natures."""

    def __init__(self, natures: list[str], repeated: list[int], max_tries: int) -> None:
        self.stage = Stage(store=MoodyStore(), policy=Policy(max_tries=max_tries, backoff_seconds=0))
        lines: list[object] = [f"r{n}" for n in range(len(natures))]
        for n in repeated:
            lines.insert((n * 7) % (len(lines) + 1), f"r{n % len(natures)}")
        put(self.stage, *lines)
        self.order = self.stage.plan(SOURCE)
        self.natures = {f"r{n}": nature for n, nature in enumerate(natures)}
        self.ids = self.stage.batch_ids()
        self.calls = Counter[str]()

    def lie(self, order: Order, what: str) -> None:
        """Something in the journal's folder that is no evidence."""
        keys = KEYS.attempt(order.attempt)
        count = len(self.ids)
        if what == "garbage":
            self.stage.store.put(keys.segment("LIAR", 0), b"not even gzip")
        elif what == "foreign":
            journal(
                self.stage,
                attempt=order.attempt,
                invocation="LIAR",
                succeeded=range(count),
                batch="another batch",
            )
        elif what == "out of range":
            journal(
                self.stage,
                attempt=order.attempt,
                invocation="LIAR",
                sequence=2,
                succeeded=range(count, count + 5),
            )
        elif what == "done before":
            before = self.stage.settlement(order.attempt - 1)
            done = before.succeeded | before.skipped
            journal(self.stage, attempt=order.attempt, invocation="LIAR", sequence=3, succeeded=done)
        elif what == "again":
            segments = [segment for segment in self.stage.segments(order.attempt) if segment]
            for n, segment in enumerate(segments):
                self.stage.ledger.write_json(keys.segment("LIAR", 10 + n), segment.to_json())

    def settle(self, order: Order, writes: int | None, **ending: Any) -> dict[str, Any]:
        """Settle, killed at a write first if the script says so."""
        if writes is not None:
            store = DyingStore()
            store.objects = self.stage.store.objects
            store.writes_left = writes
            Stage(store=store).settle(order, **ending)
        return self.stage.settle(order, **ending)

    def check(self) -> None:
        stage = self.stage
        last = stage.states[-1]
        settlement = stage.settlement(last["order"]["attempt"])
        succeeded = {self.ids[n] for n in settlement.succeeded}
        skipped = {self.ids[n] for n in settlement.skipped}
        failed = set(stage.failed_ids())
        counts = stage.counts()
        assert sorted(self.ids) == sorted(self.natures)
        assert counts["in"] == len(self.ids) == counts["succeeded"] + counts["skipped"] + counts["failed"]
        assert (len(succeeded), len(skipped), len(failed)) == (
            counts["succeeded"],
            counts["skipped"],
            counts["failed"],
        )
        assert succeeded | skipped | failed == set(self.ids)
        assert Counter(i for i, _ in stage.outputs()) == Counter(
            f"{i}#{n}" for i in succeeded for n in range({"silent": 0, "many": 2}.get(self.natures[i], 1))
        )
        assert all(self.natures[i] == "skip" for i in skipped)
        assert not {i for i in succeeded if self.natures[i] in ("permanent", "killer", "skip")}
        assert (last["verdict"] == "COMPLETE") == (not failed)
        assert (last["output"]["failures"] or {"count": 0})["count"] == len(failed)
        assert all(len(json.dumps(state)) < BIGGEST_STATE for state in stage.states)


scripts = st.fixed_dictionaries(
    {
        "writes": st.one_of(st.just(float("inf")), st.integers(0, 12)),
        "flush_every": st.integers(1, 6),
        "stop_after": st.one_of(st.none(), st.integers(0, 12)),
    }
)
attempts = st.fixed_dictionaries(
    {
        "first": scripts,
        "second": st.one_of(st.none(), scripts),
        "zombie": st.booleans(),
        "turns": st.lists(st.booleans(), max_size=20),
        "lies": st.lists(
            st.sampled_from(["garbage", "foreign", "out of range", "done before", "again"]), max_size=2
        ),
        "claims": st.integers(0, 100),
        "settle_writes": st.one_of(st.none(), st.integers(0, 4)),
        "abort": st.integers(0, 12),
    }
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    st.lists(st.sampled_from(NATURES), min_size=1, max_size=14),
    st.lists(st.integers(0, 13), max_size=4),
    st.integers(1, 4),
    st.lists(attempts, min_size=1, max_size=6),
)
def test_law_4_holds_for_any_interleaving_of_deaths_partial_flushes_lies_and_repetitions(
    natures: list[str], repeated: list[int], max_tries: int, script: list[dict[str, Any]]
) -> None:
    scene = Scene(natures, repeated, max_tries)
    order = scene.order
    for number in range(60):
        one = script[number % len(script)]
        if number >= 2 * len(script):  # let it come to an end
            one = {
                **one,
                "first": {**one["first"], "writes": float("inf"), "stop_after": None},
                "second": None,
                "abort": 9,
            }
        first = Invocation(scene, order, f"A{number}", **one["first"])
        calls = [first]
        if one["second"] and one["zombie"]:
            second = Invocation(scene, order, f"B{number}", **one["second"])
            calls.append(second)
            for turn in one["turns"]:
                (first if turn else second).step()
            while second.step():
                pass
        while first.step():
            pass
        if one["second"] and not one["zombie"]:
            second = Invocation(scene, order, f"B{number}", **one["second"])
            calls.append(second)
            while second.step():
                pass
        for lie in one["lies"]:
            scene.lie(order, lie)
        claim = {"worker": {"succeeded": one["claims"], "skipped": 0}}
        ending = {"worker_error": DIED} if calls[-1].died else claim
        state = scene.settle(order, one["settle_writes"], **ending)
        if not state["next"]:
            break
        below = scene.stage.deeper(state)
        if one["abort"] == 0:  # the nested execution is stopped by hand, after it worked a little
            nested = Invocation(scene, below, f"C{number}", writes=3, flush_every=1, stop_after=None)
            while nested.step():
                pass
            state = scene.settle(
                order, one["settle_writes"], nested_error={"Error": "States.TaskFailed", "Cause": ""}
            )
            assert not state["next"]
            break
        order = below
    scene.check()


def _verdicts(natures: list[str], max_tries: int, script: list[dict[str, Any]]) -> set[str]:
    seen: set[str] = set()
    scene = Scene(natures, [], max_tries)
    order = scene.order
    for one in script:
        invocation = Invocation(scene, order, "A", **one["first"])
        while invocation.step():
            pass
        state = scene.settle(order, None, **({"worker_error": DIED} if invocation.died else {"worker": {}}))
        seen.add(state["verdict"])
        if not state["next"]:
            break
        order = scene.stage.deeper(state)
    return seen


@pytest.mark.parametrize("verdict", [verdict.value for verdict in Verdict])
def test_the_script_reaches_each_verdict(verdict: str) -> None:
    """A property that only ever sees the easy case proves nothing."""
    scenes = st.tuples(
        st.lists(st.sampled_from(NATURES), min_size=1, max_size=14),
        st.integers(1, 4),
        st.lists(attempts, min_size=1, max_size=3),
    )
    found = find(
        scenes,
        lambda scene: verdict in _verdicts(*scene),
        settings=settings(
            # The same search each time: whether it finds one is no matter of luck.
            derandomize=True,
            database=None,
            max_examples=2000,
            phases=[Phase.generate],
        ),
    )
    assert verdict in _verdicts(*found)


def test_joined_outputs_count_whole_whatever_write_the_worker_is_killed_at() -> None:
    @worker(batch=3)
    def join(records: list[Record]) -> list[Output]:
        return [Output(None, id="+".join(record.id for record in records), sources=records)]

    for writes in range(12):
        store = DyingStore()
        stage = Stage(worker=join, store=store, policy=Policy(backoff_seconds=0))
        put(stage, *(f"r{n}" for n in range(9)))
        order = stage.plan(SOURCE)
        store.writes_left = writes
        stage.invoke(order)
        died = store.writes_left <= 0
        store.writes_left = float("inf")
        found = stage.evidence()
        named = [i for i, _ in zip(found.succeeded, range(9), strict=False)]
        assert len(named) in (0, 9)
        assert died or len(named) == 9
