"""A later try starts clean: setup runs again, and a process that is used up is left."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.winnow.stages import Stage
from winnow import Record, worker
from winnow.core.contract import Policy
from winnow.journal.segment import Stop
from winnow.runtime.decorator import Worker
from winnow.runtime.process_state import SICK_FAILURES, ProcessState, is_used_up


def stage_of(made: Worker, count: int) -> tuple[Stage, Any]:
    stage = Stage(worker=made, policy=Policy(backoff_seconds=0))
    return stage, stage.plan([{"id": f"r{n}", "data": n} for n in range(count)])


def test_a_connection_that_died_in_one_try_is_made_again_before_the_next() -> None:
    connections: list[dict[str, int]] = []

    def connect() -> None:
        connections.append({"left": 50})

    @worker(setup=connect)
    def send(_record: Record) -> None:
        connection = connections[-1]
        if not connection["left"]:
            raise ConnectionResetError("closed by the other side")
        connection["left"] -= 1

    stage, order = stage_of(send, 100)
    stage.to_end(order)
    assert stage.verdicts == ["RETRY", "COMPLETE"]
    assert len(connections) == 2
    assert send.process.leaving == ""


def test_setup_runs_once_for_tries_that_end_well() -> None:
    calls: list[int] = []

    @worker(setup=lambda: calls.append(1))
    def echo(record: Record) -> None:
        if record.data == 3:
            raise ConnectionError("refused")

    stage, order = stage_of(echo, 10)
    state = stage.attempt(order)  # the failure is not at the end
    assert stage.settlement(0).next.to_json() == [3, 4]
    stage.attempt(stage.deeper(state))
    assert calls == [1]


def test_the_process_is_left_when_setup_has_run_again_in_vain() -> None:
    state = ProcessState(None)
    for _ in range(2):
        state.prepare()
        assert state.leaving == ""
        state.end_try(failed_in_a_row=SICK_FAILURES, used_up=False)
    assert "failed again after setup had run again" in state.leaving


def test_a_record_or_two_that_fail_again_are_no_reason_to_leave() -> None:
    state = ProcessState(None)
    for _ in range(4):
        state.prepare()
        state.end_try(failed_in_a_row=SICK_FAILURES - 1, used_up=False)
    assert state.leaving == ""


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EMFILE, "Too many open files"),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("can't start new thread"),
        RuntimeError("Event loop is closed"),
        ExceptionGroup("two", [ValueError("x"), OSError(errno.EMFILE, "Too many open files")]),
    ],
)
def test_errors_of_the_process_are_known_also_within_others(error: Exception) -> None:
    assert is_used_up(error)
    outer = ConnectionError("cannot connect")
    outer.__cause__ = error
    assert is_used_up(outer)
    hidden = ConnectionError("cannot connect")
    hidden.__context__ = outer
    assert is_used_up(hidden)


@pytest.mark.parametrize(
    "error", [OSError(errno.ECONNREFUSED, "refused"), RuntimeError("another"), RuntimeError(), ValueError("Too many open files")]
)  # fmt: skip
def test_errors_of_records_are_not_taken_for_the_process(error: Exception) -> None:
    assert not is_used_up(error)


def test_a_chain_without_end_is_not_followed_for_ever() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert not is_used_up(first)


def leaking(limit: int) -> tuple[Worker, list[int]]:
    """A worker that never gives back what it takes, of which a process has so many."""
    held: list[int] = []

    @worker
    def leak(_record: Record) -> None:
        if len(held) >= limit:
            raise OSError(errno.EMFILE, "Too many open files")
        held.append(1)

    return leak, held


def with_new_processes(stage: Stage, order: Any, made: Worker, renew: Callable[[], None]) -> Counter[str]:
    """Attempts to the end, each in a new process where the one before was left."""
    left: Counter[str] = Counter()
    state = stage.attempt(order)
    while True:
        if made.process.leaving:
            left[made.process.leaving] += 1
            made.process = ProcessState(None)
            renew()
        if not state["next"]:
            return left
        state = stage.attempt(stage.deeper(state))


def test_a_worker_that_leaks_goes_on_in_new_processes_and_loses_nothing() -> None:
    made, held = leaking(40)
    stage, order = stage_of(made, 300)
    left = with_new_processes(stage, order, made, held.clear)
    assert stage.failures() == []
    assert stage.counts()["succeeded"] == 300
    assert set(stage.verdicts[:-1]) == {"CONTINUE", "RETRY"}
    assert sum(left.values()) >= 7
    assert stage.settlement(0).verdict == "CONTINUE"
    assert stage.evidence(0).stop is Stop.USED_UP


def test_a_process_that_is_used_up_before_its_first_record_costs_a_try_and_not_the_stage() -> None:
    made, held = leaking(40)
    held.extend([1] * 40)
    stage, order = stage_of(made, 5)
    with_new_processes(stage, order, made, held.clear)
    assert stage.verdicts == ["RETRY", "COMPLETE"]


def test_a_worker_that_is_used_up_for_ever_ends_with_its_reason() -> None:
    made, _ = leaking(0)
    stage, order = stage_of(made, 5)
    with_new_processes(stage, order, made, lambda: None)
    assert stage.verdicts == ["RETRY", "RETRY", "RETRY", "TOTAL_FAILURE"]
    assert "OSError: [Errno 24] Too many open files" in stage.states[-1]["cause"]


LEAVES = """
import os
from winnow import worker
from winnow.runtime import attempt

os.environ |= {"WINNOW_PIPELINE": "p", "WINNOW_LEDGER_BUCKET": "b", "AWS_DEFAULT_REGION": "eu-west-1"}

@worker
def echo(record): ...

def tried(worker, *_, **__):
    worker.process.end_try(failed_in_a_row=0, used_up=True)
    return {"succeeded": 1}

attempt.run_attempt = tried
from winnow.testing import FakeContext
echo({}, FakeContext())
print("still here")
"""


def test_the_handler_leaves_the_process_after_its_try() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEAVES],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": "lambdas", "POWERTOOLS_TRACE_DISABLED": "true"},
    )
    assert done.returncode == 1, done.stderr
    assert "still here" not in done.stdout
    assert "the next try begins in a new process" in done.stdout


def test_a_real_process_without_descriptors_is_told() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened: list[int] = []

    def open_many() -> None:
        while True:
            opened.append(os.open(os.devnull, os.O_RDONLY))

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    try:
        with pytest.raises(OSError, match="Too many open files") as caught:
            open_many()
    finally:
        for descriptor in opened:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert is_used_up(caught.value)
