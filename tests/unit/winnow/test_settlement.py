"""One attempt after another, as Settle sees them: journals are written by hand, a fake plays the state machine."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest

from tests.unit.winnow.stages import DIED, KEYS, Stage, journal
from winnow.core.contract import Kind, Policy
from winnow.core.ranges import Ranges
from winnow.journal.segment import Stop
from winnow.settlement.derive import derive_settlement
from winnow.settlement.ended_attempt import EndedAttempt, WorkerEnd
from winnow.settlement.settlement import FIRST_HORIZON, Settlement

TRANSIENT, PERMANENT, CRASHED = Kind.TRANSIENT, Kind.PERMANENT, Kind.CRASHED
RETURNED: dict[str, Any] = {"worker": {"succeeded": 0, "skipped": 0, "failed": 0, "stopped": "end"}}


def start(count: int = 10, **policy: Any) -> tuple[Stage, Any]:
    stage = Stage(policy=Policy(**{"backoff_seconds": 0, **policy}))
    return stage, stage.plan([f"r{n}" for n in range(count)])


def found(stage: Stage) -> Settlement:
    return stage.settlement(len(stage.verdicts) - 1)


def ordinals(*numbers: int) -> Ranges:
    return Ranges.of(numbers)


# What is outstanding is what no journal names


@pytest.mark.parametrize(
    "ending",
    [
        RETURNED,
        {"worker": {"succeeded": 10, "skipped": 0, "failed": 0}},
        {"worker": {"succeeded": 4}},
        {"worker": None},
        {"worker": "done!"},
        {"worker": {"succeeded": "many", "skipped": -7}},
        {"worker_error": DIED},
        {"worker_error": {"Error": "ValueError", "Cause": "{}"}},
        {"worker_error": {}},
        {},
    ],
    ids=str,
)
def test_what_the_worker_says_of_itself_never_decides(ending: dict[str, Any]) -> None:
    stage, order = start()
    journal(stage, succeeded=[0, 1, 2], skipped=[3], stop=Stop.END)
    state = stage.settle(order, **ending)
    assert state["verdict"] == "RETRY"
    assert found(stage).next == ordinals(4, 5, 6, 7, 8, 9)


@pytest.mark.parametrize(
    ("claim", "refused"),
    [({"succeeded": 3, "skipped": 1}, 0), ({"succeeded": 9, "skipped": 1}, 6), ({"succeeded": 1}, 0), ({"succeeded": True}, 0)],
    ids=str,
)  # fmt: skip
def test_a_claim_beyond_the_journal_is_counted_as_a_lie(claim: dict[str, Any], refused: int) -> None:
    stage, order = start()
    journal(stage, succeeded=[0, 1, 2], skipped=[3], stop=Stop.END)
    stage.settle(order, worker=claim)
    assert found(stage).counters["refused"] == refused


def test_settlements_survive_the_ledger() -> None:
    stage, order = start(400)
    journal(stage, succeeded=range(0, 400, 2), failed={PERMANENT: [1], CRASHED: [3]}, stop=Stop.TIME)
    stage.settle(order, **RETURNED)
    settlement = found(stage)
    assert Settlement.from_json(json.loads(json.dumps(settlement.to_json()))) == settlement


# Tries


def test_a_retry_spends_a_try_and_takes_all_that_may_still_succeed() -> None:
    stage, order = start()
    journal(stage, succeeded=range(6), failed={TRANSIENT: [6, 7], PERMANENT: [8]}, stop=Stop.END)
    state = stage.settle(order, **RETURNED)
    assert state["next"]["try_count"] == 1
    assert state["next"]["attempt"] == 1
    assert found(stage).next == ordinals(6, 7, 9)


def test_going_on_for_time_spends_no_try_and_takes_only_what_was_not_tried() -> None:
    stage, order = start()
    journal(stage, succeeded=range(4), failed={TRANSIENT: [4], PERMANENT: [5]}, stop=Stop.TIME)
    state = stage.settle(order, **RETURNED)
    assert (state["verdict"], state["next"]["try_count"], state["wait_seconds"]) == ("CONTINUE", 0, 0)
    assert found(stage).next == ordinals(6, 7, 8, 9)


def test_what_failed_in_any_pass_of_a_try_is_tried_again_once_the_try_is_over() -> None:
    stage, order = start()
    journal(stage, succeeded=[0, 1], failed={TRANSIENT: [2]}, stop=Stop.TIME)
    state = stage.settle(order, **RETURNED)
    journal(stage, attempt=1, succeeded=[3, 4], failed={TRANSIENT: [5], PERMANENT: [6]}, stop=Stop.TIME)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert found(stage).next == ordinals(7, 8, 9)
    journal(stage, attempt=2, succeeded=[7, 8, 9], stop=Stop.END)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert stage.verdicts == ["CONTINUE", "CONTINUE", "RETRY"]
    assert found(stage).next == ordinals(2, 5)
    assert state["next"]["try_count"] == 1
    journal(stage, attempt=3, succeeded=[2], failed={TRANSIENT: [5]}, stop=Stop.END)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert state["next"]["try_count"] == 2
    assert found(stage).next == ordinals(5)


def test_a_pass_that_gets_nowhere_spends_a_try() -> None:
    stage, order = start()
    journal(stage, succeeded=[0], stop=Stop.TIME)
    state = stage.settle(order, **RETURNED)
    journal(stage, attempt=1, stop=Stop.TIME)
    stage.settle(stage.deeper(state), **RETURNED)
    assert stage.verdicts == ["CONTINUE", "RETRY"]


def test_tries_end() -> None:
    stage, order = start(2, max_tries=3)
    journal(stage, succeeded=[0], failed={TRANSIENT: [1]}, stop=Stop.END)
    state = stage.settle(order, **RETURNED)
    for attempt in (1, 2):
        order = stage.deeper(state)
        journal(stage, attempt=attempt, failed={TRANSIENT: [1]}, stop=Stop.END)
        state = stage.settle(order, **RETURNED)
    assert stage.verdicts == ["RETRY", "RETRY", "EXHAUSTED"]
    assert state["output"]["tries"] == 3


@pytest.mark.parametrize(
    ("failed", "stop", "waits"),
    [({TRANSIENT: [1]}, Stop.END, True), ({}, Stop.DEPENDENCY, True), ({CRASHED: [1]}, Stop.END, False), ({}, Stop.END, False)],
)  # fmt: skip
def test_waits_longer_each_time_and_only_where_another_side_may_need_to_recover(
    *, failed: dict[Kind, list[int]], stop: Stop, waits: bool
) -> None:
    stage, _ = start()
    journal(stage, succeeded=[0], failed=failed, stop=stop)
    attempts = [
        EndedAttempt(
            plan=stage.the_plan,
            before=stage.settlement(-1),
            evidence=stage.evidence(),
            number=0,
            try_count=tries,
            policy=Policy(max_tries=9, backoff_seconds=40, max_backoff_seconds=100),
            end=WorkerEnd(),
        )
        for tries in range(4)
    ]
    for jitter, ceilings in ((1.0, [40, 80, 100, 100]), (0.5, [20, 40, 50, 50]), (0.0, [0, 0, 0, 0])):
        settled = [derive_settlement(each, jitter=partial(float, jitter)) for each in attempts]
        assert [each.verdict for each in settled] == ["RETRY"] * 4
        assert [each.wait_seconds for each in settled] == (ceilings if waits else [0] * 4)


# Deaths


def test_a_worker_that_died_makes_the_next_attempt_careful_with_those_it_may_have_had_in_hand() -> None:
    stage, order = start()
    journal(stage, succeeded=[0, 1], failed={TRANSIENT: [2]}, horizon=6)
    stage.settle(order, worker_error=DIED)
    assert found(stage).careful
    assert found(stage).suspects == ordinals(3, 4, 5)
    assert found(stage).failed == ordinals(2, 3, 4, 5)
    assert found(stage).next == ordinals(2, 3, 4, 5, 6, 7, 8, 9)


def test_a_death_before_the_first_segment_is_blamed_on_those_that_may_be_taken_without_one() -> None:
    stage, order = start(FIRST_HORIZON + 10)
    state = stage.settle(order, worker_error=DIED)
    assert state["verdict"] == "RETRY"
    assert found(stage).suspects == Ranges.span(0, FIRST_HORIZON)


def test_what_plan_rejected_is_never_suspected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.settlement.derive.FIRST_HORIZON", 3)
    stage = Stage()
    stage.store.objects["source", "list"] = b'{\n{\n{\n{\n"a"\n"b"\n"c"\n"d"\n'
    order = stage.plan({"bucket": "source", "key": "list"})
    stage.settle(order, worker_error=DIED)
    assert found(stage).suspects == ordinals(4, 5, 6)


def test_known_killers_stay_suspected_and_the_attempts_careful() -> None:
    stage, order = start()
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, succeeded=range(9), failed={CRASHED: [9]}, stop=Stop.END)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert found(stage).careful
    assert found(stage).crashed == found(stage).suspects == found(stage).next == ordinals(9)
    journal(stage, attempt=2, succeeded=[9], stop=Stop.END)
    assert stage.settle(stage.deeper(state), **RETURNED)["verdict"] == "COMPLETE"


def test_a_careful_attempt_that_found_no_killer_clears_all_suspects() -> None:
    stage, order = start()
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, succeeded=range(8), failed={TRANSIENT: [8, 9]}, stop=Stop.END)
    stage.settle(stage.deeper(state), **RETURNED)
    assert not found(stage).careful
    assert found(stage).suspects == Ranges.empty()


@pytest.mark.parametrize("stop", [Stop.TIME, Stop.DEPENDENCY, Stop.ERROR])
def test_a_careful_attempt_that_did_not_get_to_the_suspects_leaves_them_to_a_careful_one(stop: Stop) -> None:
    """Otherwise the killer would meet an ordinary worker again, and each round would cost all records a try."""
    stage, order = start()
    journal(stage, succeeded=[0], horizon=3)
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, succeeded=[3, 4, 5, 6], stop=stop)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert state["verdict"] == ("CONTINUE" if stop is Stop.TIME else "RETRY")
    assert found(stage).careful
    assert found(stage).suspects == ordinals(1, 2)


def test_containing_a_record_that_hangs_is_getting_somewhere() -> None:
    """So that any number of hanging records is got over in one try, however little fits into one invocation."""
    stage, order = start()
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, failed={CRASHED: [0, 1]}, stop=Stop.TIME)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert state["verdict"] == "CONTINUE"
    assert found(stage).next == Ranges.span(2, 10)
    journal(stage, attempt=2, failed={CRASHED: [2, 3]}, stop=Stop.TIME)
    state = stage.settle(stage.deeper(state), **RETURNED)
    journal(stage, attempt=3, succeeded=range(4, 10), stop=Stop.END)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert stage.verdicts == ["RETRY", "CONTINUE", "CONTINUE", "RETRY"]
    assert state["next"]["try_count"] == 2
    assert found(stage).next == found(stage).crashed == ordinals(0, 1, 2, 3)


def test_known_killers_that_kill_again_are_no_progress() -> None:
    stage, order = start()
    state = stage.settle(order, worker_error=DIED)
    journal(stage, attempt=1, succeeded=range(2, 10), failed={CRASHED: [0, 1]}, stop=Stop.END)
    state = stage.settle(stage.deeper(state), **RETURNED)
    journal(stage, attempt=2, failed={CRASHED: [0]}, stop=Stop.TIME)
    state = stage.settle(stage.deeper(state), **RETURNED)
    assert stage.verdicts == ["RETRY", "RETRY", "RETRY"]


def test_a_worker_that_died_and_was_called_once_more_leaves_its_suspects_to_a_careful_attempt() -> None:
    """Not every death goes by a name that says so: then Step Functions calls the worker a second time in the same attempt."""
    stage, order = start()
    journal(stage, invocation="A", succeeded=[0], horizon=4)
    journal(stage, invocation="B", sequence=1, succeeded=[4, 5, 6], stop=Stop.TIME, horizon=9)
    stage.settle(order, **RETURNED)
    assert found(stage).careful
    assert found(stage).suspects == ordinals(1, 2, 3, 7, 8)


@pytest.mark.parametrize(
    ("error", "stop", "lived"),
    [
        ("", None, True),
        ("EveryRecordFailed", Stop.END, True),
        ("ValueError", None, True),
        ("Sandbox.Timedout", Stop.END, False),
        ("States.Timeout", None, False),
        ("Lambda.Unknown", None, False),
        ("Runtime.ExitError", Stop.END, False),
        ("Runtime.OutOfMemory", None, False),
        ("Lambda.ClientExecutionTimeoutException", None, False),
        ("Runtime.HandlerError", None, False),
        ("Runtime.HandlerError", Stop.ERROR, True),
        ("Runtime.ImportModuleError", None, False),
    ],
)
def test_tells_a_worker_that_died_from_one_that_lived_to_say_so(
    *, error: str, stop: Stop | None, lived: bool
) -> None:
    stage, _ = start()
    journal(stage, succeeded=[0], stop=stop)
    assert WorkerEnd(error=error).lived(stage.evidence()) is lived


def test_a_first_worker_that_died_without_a_word_gets_the_careful_attempt_before_anything_is_called_total() -> (
    None
):
    stage, order = start(1)
    state = stage.settle(order, worker_error=DIED)
    assert state["verdict"] == "RETRY"
    journal(stage, attempt=1, failed={CRASHED: [0]}, stop=Stop.END)
    assert stage.settle(stage.deeper(state), **RETURNED)["verdict"] == "RETRY"


# Words


@pytest.mark.parametrize(
    ("written", "ending", "cause"),
    [
        ({"failed": {PERMANENT: range(10)}}, RETURNED, "all 10 that failed were rejected as permanent"),
        ({"stop": Stop.DEPENDENCY, "cause": "100 records in a row"}, RETURNED, "100 records in a row"),
        ({"stop": Stop.ERROR, "cause": "no table"}, {"worker_error": {"Error": "KeyError", "Cause": ""}}, "no table"),
        (
            {},
            {"worker_error": {"Error": "KeyError", "Cause": '{"errorMessage": "a\\n  b"}'}},
            "the worker failed with KeyError: a b",
        ),
        ({}, {"worker_error": {"Error": "KeyError", "Cause": "not JSON"}}, "failed with KeyError: not JSON"),
        ({}, {"worker_error": {"Error": "KeyError", "Cause": "[1]"}}, "failed with KeyError: [1]"),
        ({}, {"worker_error": {"Error": "KeyError"}}, "the worker failed with KeyError"),
        ({"stop": Stop.TIME}, RETURNED, "ran out of time before the first was done"),
        ({}, RETURNED, "most likely its environment"),
    ],
)  # fmt: skip
def test_a_total_failure_says_why_in_one_short_line(
    written: dict[str, Any], ending: dict[str, Any], cause: str
) -> None:
    stage, order = start()
    journal(stage, **{"stop": Stop.END, **written})
    state = stage.settle(order, **ending)
    assert state["verdict"] == "TOTAL_FAILURE"
    assert state["cause"].startswith("stage transform of run ")
    assert cause in state["cause"]
    assert "\n" not in state["cause"]
    assert len(state["cause"]) < 2_000


@pytest.mark.parametrize("size", [10, 100_000])
def test_every_state_stays_small_whatever_the_worker_raised(size: int) -> None:
    stage, order = start()
    journal(stage, stop=Stop.ERROR, cause="x" * size)
    state = stage.settle(order, worker_error={"Error": "KeyError", "Cause": "y" * size})
    assert len(json.dumps(state)) < 16_384


@pytest.mark.parametrize(
    ("stop", "ending", "kind", "error_type", "words"),
    [
        (Stop.DEPENDENCY, RETURNED, "transient", "DependencyDown", "not tried any more: table down"),
        (None, {"worker_error": DIED}, "missing", "NotJournaled", "the worker died (Sandbox.Timedout)"),
        (
            Stop.ERROR,
            {"worker_error": {"Error": "KeyError", "Cause": "no table"}},
            "missing",
            "NotJournaled",
            "the worker failed as a whole (KeyError: no table)",
        ),
        (Stop.END, RETURNED, "missing", "NotJournaled", "not journaled and not reported"),
    ],
)
def test_a_record_that_no_worker_reported_is_described_by_what_is_known_of_the_attempt(
    stop: Stop | None, ending: dict[str, Any], kind: str, error_type: str, words: str
) -> None:
    stage, order = start(3, max_tries=1)
    journal(stage, succeeded=[0, 1], stop=stop, cause="table down")
    stage.settle(order, **ending)
    (record,) = stage.failures()
    assert (record["record_id"], record["kind"], record["error_type"]) == ("r2", kind, error_type)
    assert words in record["message"]
    assert record["source"] == {"bucket": "ledger", "key": KEYS.input, "line": 3}


def test_permanent_failures_are_alerted_when_they_are_found_and_never_again() -> None:
    stage, order = start(max_tries=2)
    journal(stage, succeeded=range(5), failed={PERMANENT: [5], TRANSIENT: [6]}, stop=Stop.END)
    state = stage.settle(order, **RETURNED)
    assert state["alert"]
    assert found(stage).alert_now == ordinals(5)
    journal(stage, attempt=1, failed={PERMANENT: [6]}, succeeded=[7, 8], stop=Stop.END)
    stage.settle(stage.deeper(state), **RETURNED)
    assert found(stage).verdict == "EXHAUSTED"
    assert found(stage).alert_now == ordinals(6, 9)
    assert found(stage).alerted == ordinals(5, 6, 9)


def test_a_permanent_failure_that_is_found_while_going_on_is_alerted_with_the_try() -> None:
    stage, order = start()
    journal(stage, succeeded=range(5), failed={PERMANENT: [5]}, stop=Stop.TIME)
    state = stage.settle(order, **RETURNED)
    assert not state["alert"]
    journal(stage, attempt=1, succeeded=range(6, 9), stop=Stop.END)
    stage.settle(stage.deeper(state), **RETURNED)
    assert found(stage).alert_now == ordinals(5)
