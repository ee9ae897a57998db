from __future__ import annotations

import json
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest

from tests.unit.winnow.stages import DIED, KEYS, MoodyStore, Stage, journal
from winnow.core.contract import Kind, Order, Policy
from winnow.core.errors import LedgerConflict
from winnow.core.ranges import Ranges
from winnow.journal.reports import FailureReport, write_reports
from winnow.journal.segment import Segment, Stop
from winnow.journal.successes import SuccessManifest
from winnow.metrics.metric import Metric
from winnow.settlement.settle import settle

TRANSIENT, PERMANENT, CRASHED = Kind.TRANSIENT, Kind.PERMANENT, Kind.CRASHED
RETURNED: dict[str, Any] = {"worker": {"succeeded": 0, "skipped": 0}}


def report(
    stage: Stage, attempt: int, kinds: dict[Kind, list[int]], *, invocation: str = "INV1", **fields: Any
) -> Segment:
    """A segment of failures with their reasons."""
    key = KEYS.attempt(attempt).failures(invocation, fields.get("sequence", 0))
    reports = [
        FailureReport(
            ordinal=n, record_id=f"r{n}", kind=kind, error_type=kind.name.title(), message=f"{n} in attempt {attempt}",
            source_bucket="source", source_key="list", source_line=n + 1, code_version="v1",
        )
        for kind, numbers in kinds.items()
        for n in numbers
    ]  # fmt: skip
    write_reports(stage.ledger, key, KEYS.stage, reports)
    return journal(stage, attempt=attempt, invocation=invocation, failed=kinds, failures_key=key, **fields)


@pytest.fixture
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time stands still, so that two ledgers can be compared whole."""
    for module in (
        "settlement.derive",
        "journal.reports",
        "planning.stage_planner",
        "planning.claim",
        "core.contract",
    ):
        monkeypatch.setattr(f"winnow.{module}.now", lambda: "2026-11-20T12:00:00.000Z")
    monkeypatch.setattr("winnow.planning.stage_planner.new_run_id", lambda: "B1")


@pytest.fixture
def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two looks at the clock show the same time."""
    seconds = count()
    for module in (
        "settlement.derive",
        "journal.reports",
        "planning.stage_planner",
        "planning.claim",
        "core.contract",
    ):
        monkeypatch.setattr(f"winnow.{module}.now", lambda: f"2026-11-20T12:{next(seconds):05d}Z")


def planned(store: MoodyStore | None = None, **policy: Any) -> tuple[Stage, Any]:
    stage = Stage(store=store or MoodyStore(), policy=Policy(**{"backoff_seconds": 0, **policy}))
    return stage, stage.plan([f"r{n}" for n in range(8)])


def completes(store: MoodyStore) -> tuple[Stage, Any, dict[str, Any]]:
    stage, order = planned(store)
    journal(stage, succeeded=range(6), skipped=[6, 7], stop=Stop.END)
    return stage, order, RETURNED


def retries(store: MoodyStore) -> tuple[Stage, Any, dict[str, Any]]:
    stage, order = planned(store)
    report(stage, 0, {PERMANENT: [6], TRANSIENT: [7]}, succeeded=range(6), stop=Stop.END)
    return stage, order, RETURNED


def exhausts(store: MoodyStore) -> tuple[Stage, Any, dict[str, Any]]:
    stage, order = planned(store, max_tries=2)
    report(stage, 0, {PERMANENT: [5], TRANSIENT: [6, 7]}, succeeded=range(4), stop=Stop.END)
    order = stage.deeper(stage.settle(order, **RETURNED))
    report(stage, 1, {CRASHED: [7]}, succeeded=[4], stop=Stop.END)
    return stage, order, {"worker_error": DIED}


def fails(store: MoodyStore) -> tuple[Stage, Any, dict[str, Any]]:
    stage, order = planned(store)
    report(stage, 0, {TRANSIENT: list(range(8))}, stop=Stop.DEPENDENCY, cause="all down")
    return stage, order, {"worker_error": {"Error": "EveryRecordFailed", "Cause": ""}}


def dies_below(store: MoodyStore) -> tuple[Stage, Any, dict[str, Any]]:
    stage, order = planned(store)
    report(stage, 0, {TRANSIENT: [6]}, succeeded=range(4), stop=Stop.END)
    stage.deeper(stage.settle(order, **RETURNED))
    journal(stage, attempt=1, succeeded=[4, 5])
    return stage, order, {"nested_error": {"Error": "States.TaskFailed", "Cause": "ABORTED"}}


SCENES: list[Callable[[MoodyStore], tuple[Stage, Any, dict[str, Any]]]] = [
    completes,
    retries,
    exhausts,
    fails,
    dies_below,
]


class Interrupted(MoodyStore):
    """Settle's process ends at its n-th write: before it, or right after."""

    def __init__(self) -> None:
        super().__init__()
        self.left = float("inf")
        self.after = False

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise ConnectionError("killed before the write")
        super().put(key, body, if_absent=if_absent)
        if self.left < 0:
            raise ConnectionError("killed after the write")


@pytest.mark.usefixtures("still")
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("scene", SCENES)
def test_settle_that_was_stopped_at_any_write_and_run_again_is_idempotent(
    *, scene: Callable[[MoodyStore], tuple[Stage, Any, dict[str, Any]]], after: bool
) -> None:
    whole, order, ending = scene(Interrupted())
    assert isinstance(whole.store, MoodyStore)
    before = len(whole.store.written)
    state = whole.settle(order, **ending)
    writes = len(whole.store.written) - before
    assert writes >= 2
    for write in range(writes):
        store = Interrupted()
        stage, order, ending = scene(store)
        store.left, store.after = write, after
        with pytest.raises(ConnectionError):
            stage.settle(order, **ending)
        store.left = float("inf")
        assert stage.settle(order, **ending) == state
        assert store.objects == whole.store.objects


@pytest.mark.usefixtures("ticking")
@pytest.mark.parametrize("scene", SCENES)
def test_settle_run_twice_does_no_harm(
    scene: Callable[[MoodyStore], tuple[Stage, Any, dict[str, Any]]],
) -> None:
    stage, order, ending = scene(MoodyStore())
    state = stage.settle(order, **ending)
    before = dict(stage.store.objects)
    assert stage.settle(order, **ending) == state
    assert stage.store.objects == before


def test_what_was_settled_first_stands_whatever_a_zombie_writes_later() -> None:
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    state = stage.settle(order, **RETURNED)
    journal(stage, invocation="ZOMBIE", sequence=5, succeeded=[4, 5, 6, 7], stop=Stop.END)
    assert stage.settle(order, worker_error=DIED) == state
    assert stage.settlement(0).next.to_json() == [4, 8]


def test_of_two_settles_at_the_same_moment_one_decides() -> None:
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    key = KEYS.attempt(0).settlement
    rival = Stage(store=MoodyStore())
    rival.store.objects.update(stage.store.objects)
    assert rival.settle(order, worker_error=DIED)["verdict"] == "RETRY"

    class Late(MoodyStore):
        def put(self, key_: str, body: bytes, *, if_absent: bool = False) -> None:
            if key_ == key and (self.bucket, key_) not in self.objects:
                self.objects[self.bucket, key_] = rival.store.objects["ledger", key]
                raise LedgerConflict("another Settle was first")
            super().put(key_, body, if_absent=if_absent)

    late = Late()
    late.objects.update(stage.store.objects)
    Stage(store=late).settle(order, **RETURNED)
    assert Stage(store=late).settlement(0) == rival.settlement(0)
    assert Stage(store=late).settlement(0).careful


def test_an_attempt_is_not_settled_before_the_one_it_follows() -> None:
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    deeper = stage.deeper(stage.settle(order, **RETURNED))
    del stage.store.objects["ledger", KEYS.attempt(0).settlement]
    with pytest.raises(LookupError, match="attempt 1 of transform cannot be settled before attempt 0"):
        stage.settle(deeper, **RETURNED)


# The result


def test_the_output_has_the_shape_that_consumers_know() -> None:
    stage, order, ending = exhausts(MoodyStore())
    state = stage.settle(order, **ending)
    assert state["output"] == {
        "run_id": KEYS.run_id,
        "stage": "transform",
        "tries": 2,
        "successes": {"count": 5, "batch_file_location": {"bucket": "ledger", "key": KEYS.successes}},
        "skipped": {"count": 0},
        "failures": {"count": 3, "error_file_location": {"bucket": "ledger", "key": KEYS.failures}},
        "lost": {"stage": 3, "run": 3},
    }
    assert state["next"] is None
    assert state["alert"] is True
    assert stage.ledger.read_json(KEYS.result)["counts"]["in"] == 8


def test_a_stage_without_failures_says_so_with_null() -> None:
    stage, order, ending = completes(MoodyStore())
    output = stage.settle(order, **ending)["output"]
    assert output["failures"] is None
    assert output["skipped"] == {"count": 2}
    assert ("ledger", KEYS.failures) not in stage.store.objects


def test_a_batch_of_zero_completes_with_an_empty_list_of_successes() -> None:
    stage = Stage()
    stage.store.objects["source", "list"] = b""
    order = stage.plan({"bucket": "source", "key": "list"})
    output = stage.settle(order, **RETURNED)["output"]
    assert output["successes"]["count"] == 0
    assert stage.outputs() == []


def test_losses_of_the_run_add_up_from_stage_to_stage() -> None:
    stage, order, ending = exhausts(MoodyStore())
    manifest = SuccessManifest.from_json(
        stage.ledger.read_json(
            stage.settle(order, **ending)["output"]["successes"]["batch_file_location"]["key"]
        )
    )
    assert manifest.lost_in_run == 3


def test_the_next_attempt_is_asked_for_with_pointers_only() -> None:
    stage, order, ending = retries(MoodyStore())
    state = stage.settle(order, **ending)
    assert state["next"] == {
        "run_id": KEYS.run_id, "attempt": 1, "try_count": 1, "plan": {"bucket": "ledger", "key": KEYS.plan},
    }  # fmt: skip
    assert state["next_name"] == f"{KEYS.run_id}.1"
    assert len(json.dumps(state)) < 1_500


# Failure records


def test_each_lost_record_is_listed_once_by_the_last_reason_given_for_it() -> None:
    stage, order, ending = exhausts(MoodyStore())
    stage.settle(order, **ending)
    found = {record["record_id"]: record for record in stage.failures()}
    assert {i: (record["kind"], record["message"], record["tries"]) for i, record in found.items()} == {
        "r5": ("permanent", "5 in attempt 0", 1),
        "r6": ("transient", "6 in attempt 0", 2),
        "r7": ("crashed", "7 in attempt 1", 2),
    }
    assert found["r7"] == {
        "ordinal": 7, "run_id": KEYS.run_id, "pipeline": "catalogue", "stage": "transform", "record_id": "r7",
        "kind": "crashed", "error_type": "Crashed", "message": "7 in attempt 1", "traceback": "",
        "fingerprint": found["r7"]["fingerprint"], "tries": 2, "first_seen": stage.settlement(0).settled_at,
        "last_seen": found["r7"]["last_seen"], "source": {"bucket": "source", "key": "list", "line": 8},
        "code_version": "v1",
    }  # fmt: skip


def test_a_record_that_nobody_reported_failed_when_its_attempt_was_heard_of_last() -> None:
    """Not when it was settled: another run may have done the record before that, and then it is no failure any more."""
    stage, order = planned(max_tries=1)
    heard_at = "2026-11-20T12:00:05.000Z"
    journal(stage, succeeded=range(6), written_at=heard_at)
    stage.settle(order, worker_error=DIED)
    assert {each["last_seen"] for each in stage.failures()} == {heard_at}
    assert stage.settlement(0).settled_at > heard_at


def test_a_record_that_was_reported_twice_in_one_segment_is_listed_once() -> None:
    stage, order = planned(max_tries=1)
    report(stage, 0, {TRANSIENT: [6, 6, 7]}, succeeded=range(6), stop=Stop.END)
    stage.settle(order, **RETURNED)
    assert stage.failed_ids() == {"r6": "transient", "r7": "transient"}


def test_reasons_are_never_capped() -> None:
    stage = Stage(policy=Policy(max_tries=1))
    order = stage.plan([f"r{n}" for n in range(3_000)])
    report(stage, 0, {PERMANENT: list(range(1, 3_000))}, succeeded=[0], stop=Stop.END)
    stage.settle(order, **RETURNED)
    assert len(stage.failed_ids()) == 2_999


# The recursion died


def nested(stage: Stage, order: Any) -> dict[str, Any]:
    return stage.settle(order, nested_error={"Error": "States.TaskFailed", "Cause": "ABORTED"})


def test_a_recursion_that_died_is_settled_by_what_its_journal_proves() -> None:
    stage, order, ending = dies_below(MoodyStore())
    state = stage.settle(order, **ending)
    assert state["verdict"] == "EXHAUSTED"
    assert state["order"]["attempt"] == 1
    assert state["output"]["successes"]["count"] == 6
    assert stage.failed_ids() == {"r6": "transient", "r7": "missing"}
    assert state["output"]["tries"] == 2


def test_a_recursion_that_died_after_all_was_done_is_complete() -> None:
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    stage.deeper(stage.settle(order, **RETURNED))
    journal(stage, attempt=1, succeeded=range(4, 8))
    assert nested(stage, order)["verdict"] == "COMPLETE"


def test_a_recursion_that_never_began_spends_no_try_and_blames_no_record() -> None:
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    stage.settle(order, **RETURNED)
    state = nested(stage, order)
    assert state["verdict"] == "EXHAUSTED"
    assert state["output"]["tries"] == 1
    assert {record["tries"] for record in stage.failures()} == {1}


def test_a_recursion_that_died_says_of_what() -> None:
    """Such as a name that is taken: records and alert name the cause, so that an operator finds it."""
    stage, order = planned()
    journal(stage, stop=Stop.END)
    stage.settle(order, worker_error=DIED)
    taken = {
        "Error": "StepFunctions.ExecutionAlreadyExistsException",
        "Cause": "Execution Already Exists: 'R.1'",
    }
    state = stage.settle(order, nested_error=taken)
    assert "StepFunctions.ExecutionAlreadyExistsException: Execution Already Exists: 'R.1'" in state["cause"]
    assert {"Execution Already Exists: 'R.1'" in record["message"] for record in stage.failures()} == {True}


def stopped(stage: Stage, order: Any, status: str = "ABORTED") -> dict[str, Any]:
    """Step Functions tells of a nested execution that ended as it describes it."""
    described = {"ExecutionArn": "arn:nested", "Status": status, "Error": "Operator", "Cause": "by hand"}
    caught = {"Error": "States.TaskFailed", "Cause": json.dumps(described)}
    return stage.settle(order, nested_error=caught)


def test_an_attempt_that_somebody_stopped_costs_a_try_and_the_parent_goes_on_with_what_is_left() -> None:
    stage, order, _ = dies_below(MoodyStore())
    state = stopped(stage, order)
    assert (state["verdict"], state["next_name"]) == ("RETRY", f"{KEYS.run_id}.2")
    assert (state["next"]["attempt"], state["next"]["try_count"]) == (2, 2)
    assert stage.settlement(1).next == Ranges.of([6, 7])
    assert stopped(stage, order) == state, "settling again finds what was settled, and goes no further"
    order = stage.deeper(state)
    journal(stage, attempt=2, succeeded=[6, 7], stop=Stop.END)
    assert stage.settle(order, **RETURNED)["verdict"] == "COMPLETE"


def test_the_parent_of_a_stopped_attempt_settles_the_next_one_if_that_is_stopped_too() -> None:
    stage, order, _ = dies_below(MoodyStore())
    state = stopped(stage, order)
    stage.deeper(state)
    journal(stage, attempt=2, succeeded=[6])
    again = stage.settle(
        Order.from_event(state["order"]),
        nested_error={"Error": "x", "Cause": json.dumps({"Status": "ABORTED"})},
    )
    assert (again["verdict"], again["next_name"]) == ("RETRY", f"{KEYS.run_id}.3")
    assert stage.settlement(2).next == Ranges.of([7])


def test_the_execution_above_a_chain_that_was_stopped_twice_goes_on_after_its_last_attempt() -> None:
    """Attempt 1 is stopped and settled, attempt 2 begins, and then all of them but the first execution are stopped."""
    stage, order, _ = dies_below(MoodyStore())
    stage.deeper(stopped(stage, order))
    journal(stage, attempt=2, succeeded=[6])
    state = stopped(stage, order)
    assert (state["verdict"], state["next_name"]) == ("RETRY", f"{KEYS.run_id}.3")
    assert stopped(stage, order) == state


def test_an_execution_that_was_stopped_while_it_waited_is_followed_by_the_attempt_that_it_asked_for() -> None:
    stage, order = planned()
    report(stage, 0, {TRANSIENT: [6]}, succeeded=range(4), stop=Stop.END)
    below = stage.deeper(stage.settle(order, **RETURNED))
    report(stage, 1, {TRANSIENT: [6]}, succeeded=[4, 5], stop=Stop.END)
    asked = stage.settle(below, **RETURNED)
    state = stopped(stage, order)
    assert (state["verdict"], state["next"]) == ("RETRY", asked["next"])
    journal(stage, attempt=2, succeeded=[6, 7], stop=Stop.END)
    assert stage.settle(stage.deeper(state), **RETURNED)["verdict"] == "COMPLETE"


def test_a_stopped_attempt_of_the_last_try_is_the_end() -> None:
    stage, order = planned(max_tries=2)
    report(stage, 0, {TRANSIENT: [6]}, succeeded=range(4), stop=Stop.END)
    stage.deeper(stage.settle(order, **RETURNED))
    state = stopped(stage, order)
    assert state["verdict"] == "EXHAUSTED"
    assert "Operator: by hand" in next(
        each["message"] for each in stage.failures() if each["record_id"] == "r7"
    )


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT"])
def test_an_attempt_that_ended_otherwise_is_given_up(status: str) -> None:
    stage, order, _ = dies_below(MoodyStore())
    assert stopped(stage, order, status)["verdict"] == "EXHAUSTED"


def test_an_attempt_that_was_stopped_before_it_began_is_followed_by_another() -> None:
    """Its name is used, so it cannot be started again; its records are blamed for nothing."""
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    stage.settle(order, **RETURNED)
    state = stopped(stage, order)
    assert (state["verdict"], state["next_name"]) == ("RETRY", f"{KEYS.run_id}.2")
    assert (stage.settlement(1).careful, stage.settlement(1).suspects) == (False, Ranges.empty())
    journal(stage, attempt=2, succeeded=range(4, 8), stop=Stop.END)
    assert stage.settle(stage.deeper(state), **RETURNED)["verdict"] == "COMPLETE"


def test_a_recursion_that_failed_totally_passes_its_verdict_up() -> None:
    stage, order = planned(max_tries=2)
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, stop=Stop.END)
    total = stage.settle(stage.deeper(state), **RETURNED)
    assert total["verdict"] == "TOTAL_FAILURE"
    assert nested(stage, order) == total


def test_the_parent_goes_on_from_the_deepest_attempt_that_was_settled() -> None:
    stage, order = planned(max_tries=9)
    state = stage.settle(order, worker_error=DIED)
    for attempt in (1, 2, 3):
        journal(stage, attempt=attempt, succeeded=[attempt], stop=Stop.END)
        state = stage.settle(stage.deeper(state), **RETURNED)
    stage.deeper(state)
    journal(stage, attempt=4, succeeded=[4])
    last = nested(stage, order)
    assert (last["verdict"], last["order"]["attempt"], last["output"]["tries"]) == ("EXHAUSTED", 4, 5)
    assert last["output"]["successes"]["count"] == 4
    assert len(stage.outputs()) == 4


def test_a_nested_attempt_that_settles_at_the_same_moment_is_followed() -> None:
    """The parent must not come out with a RETRY: it would start an attempt that is the nested execution's to start."""
    stage, order = planned()
    journal(stage, succeeded=range(4), stop=Stop.END)
    state = stage.settle(order, **RETURNED)
    deeper = stage.deeper(state)
    journal(stage, attempt=1, succeeded=[4], stop=Stop.END)
    rival = Stage(store=MoodyStore())
    rival.store.objects.update(stage.store.objects)
    assert rival.settle(deeper, **RETURNED)["verdict"] == "RETRY"
    key = KEYS.attempt(1).settlement

    class Late(MoodyStore):
        def put(self, key_: str, body: bytes, *, if_absent: bool = False) -> None:
            if key_ == key:
                self.objects[self.bucket, key_] = rival.store.objects["ledger", key]
            super().put(key_, body, if_absent=if_absent)

    late = Late()
    late.objects.update(stage.store.objects)
    last = nested(Stage(store=late), order)
    assert (last["verdict"], last["order"]["attempt"]) == ("EXHAUSTED", 2)
    assert last["output"]["successes"]["count"] == 5


# Alerts and metrics


def alert(stage: Stage, attempt: int) -> dict[str, Any]:
    found: dict[str, Any] = stage.ledger.read_json(KEYS.attempt(attempt).alert)
    return found


def test_an_alert_names_exactly_the_failures_that_no_alert_has_named() -> None:
    stage, order, ending = retries(MoodyStore())
    stage.settle(order, **ending)
    first = alert(stage, 0)
    assert (first["verdict"], first["severity"], first["counts"]["new"]) == ("RETRY", "error", 1)
    assert [example["record_id"] for example in first["examples"]] == ["r6"]
    assert first["counts"]["failed"] == 1, "what is still worked on has not failed"
    lines = [json.loads(line) for line in stage.ledger.read_lines(first["failures_file"]["key"])]
    assert [line["record_id"] for line in lines] == ["r6"]


def test_the_last_alert_points_at_the_list_of_all_that_was_lost() -> None:
    stage, order, ending = exhausts(MoodyStore())
    assert alert(stage, 0)["counts"]["new"] == 1
    stage.settle(order, **ending)
    last = alert(stage, 1)
    assert last["counts"] == {**last["counts"], "in": 8, "succeeded": 5, "skipped": 0, "failed": 3, "new": 2}
    assert last["failures_file"] == {"bucket": "ledger", "key": KEYS.failures}
    assert {cause["example_id"] for cause in last["causes"]} == {"r6", "r7"}


def test_a_total_failure_is_critical_and_says_its_cause() -> None:
    stage, order, ending = fails(MoodyStore())
    state = stage.settle(order, **ending)
    assert alert(stage, 0)["severity"] == "critical"
    assert "all down" in alert(stage, 0)["cause"]
    assert state["cause"] == alert(stage, 0)["cause"]


def test_nothing_is_alerted_that_may_still_succeed() -> None:
    stage, order = planned()
    report(stage, 0, {TRANSIENT: [6, 7]}, succeeded=range(6), stop=Stop.END)
    assert stage.settle(order, **RETURNED)["alert"] is False
    assert ("ledger", KEYS.attempt(0).alert) not in stage.store.objects


def test_metrics_count_the_stage_once_it_is_over() -> None:
    counted: dict[Metric, float] = {}
    stage, order, ending = exhausts(MoodyStore())
    settle(
        stage.ledger,
        {"order": order.to_payload(), **ending},
        lambda metric, value: counted.update({metric: value}),
    )
    assert counted[Metric.RECORDS_IN] == 8
    assert counted[Metric.SUCCEEDED] == 5
    assert [counted[Metric.failed(kind)] for kind in (PERMANENT, TRANSIENT, CRASHED, Kind.MISSING)] == [
        1,
        1,
        1,
        0,
    ]


def test_the_settlement_is_written_before_anything_that_follows_from_it() -> None:
    for scene in SCENES:
        stage, order, ending = scene(MoodyStore())
        assert isinstance(stage.store, MoodyStore)
        before = len(stage.store.written)
        state = stage.settle(order, **ending)
        written = stage.store.written[before:]
        assert written[0] == KEYS.attempt(state["order"]["attempt"]).settlement
