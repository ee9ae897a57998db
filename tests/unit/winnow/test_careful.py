"""The careful attempt, with real child processes and records that really kill them."""

from __future__ import annotations

import os
import sys
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.pace import margin
from tests.patience import PATIENCE_SECONDS, wait_for_end_of
from tests.unit.winnow import killers
from tests.unit.winnow.gates import Memory, undecoded
from winnow import Retry
from winnow.journal.segment import Stop
from winnow.runtime.careful import (
    PARENT_GROWS_MB,
    Child,
    Killed,
    Limits,
    WorkerNotStarted,
    resident_mb,
    run_carefully,
)
from winnow.runtime.decorator import Worker
from winnow.runtime.options import Options
from winnow.runtime.units import units

LIMITS = Limits(record_seconds=PATIENCE_SECONDS, memory_mb=1024)


def carefully(worker: Worker, *data: Any, gate: Memory | None = None, **limits: Any) -> Memory:
    """Run records that do what their data says."""
    gate = gate or Memory()
    work = units(undecoded(*data), gate, worker.options.batch or 1)
    run_carefully(
        worker.name,
        work,
        gate,
        worker.options,
        Limits(**{"record_seconds": PATIENCE_SECONDS, "memory_mb": 1024, **limits}),
    )
    assert [ordinal for ordinal, times in gate.told.items() if times > 1] == []
    return gate


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Any:
    """Whatever the records did: no open pipe and no child may be left."""
    pipes, processes = {path.name for path in Path("/proc/self/fd").iterdir()}, children()
    yield
    assert {path.name for path in Path("/proc/self/fd").iterdir()} <= pipes
    assert children() <= processes  # other tests of this process may have some of their own


def children() -> set[str]:
    """This process's children, including those that no process has waited for."""
    found: set[str] = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update((task / "children").read_text().split())
    return found


@pytest.mark.parametrize(
    ("killer", "message"),
    [
        ("exit", "ended its worker (exit code 3)"),
        ("exit well", "ended its worker (exit code 0)"),
        ("kill", "killed its worker (signal 9)"),
        ("segfault", "killed its worker (signal 11)"),
        ("interrupt", "its worker ("),
        ("close everything", "its worker ("),
        ("start a process", "ended its worker (exit code 5)"),
    ],
)
def test_a_record_that_kills_its_worker_costs_only_itself(killer: str, message: str) -> None:
    gate = carefully(killers.plain, None, killer, None)
    assert sorted(gate.done) == [0, 2]
    assert gate.kinds == {1: "crashed"}
    assert gate.failures[1].error_type == "RecordKillsWorker"
    assert gate.failures[1].record_id == "r1"
    assert message in gate.failures[1].message


def test_what_a_record_started_ends_with_its_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILLERS_CALLS", str(tmp_path / "calls"))
    carefully(killers.plain, "start a process")
    pids = [line.split()[1] for line in (tmp_path / "calls").read_text().splitlines()]
    started = [int(pid) for pid in pids if pid.isdigit()]
    assert started
    for pid in started:
        wait_for_end_of(pid)


def test_the_very_first_may_be_the_killer_and_the_last_too() -> None:
    gate = carefully(killers.plain, "exit", None, "kill")
    assert sorted(gate.done) == [1]
    assert gate.kinds == {0: "crashed", 2: "crashed"}


@pytest.mark.parametrize(
    "worker", [killers.plain, killers.batches, killers.threads, killers.retrying], ids=lambda w: w.__name__
)
def test_several_killers_are_contained_in_one_attempt_however_the_worker_works(worker: Worker) -> None:
    data: list[Any] = [None] * 12
    for n, killer in ((0, "exit"), (1, "kill"), (6, "segfault"), (11, "exit")):
        data[n] = killer
    gate = carefully(worker, *data)
    assert gate.kinds == dict.fromkeys((0, 1, 6, 11), "crashed")
    assert sorted(gate.done) == [2, 3, 4, 5, 7, 8, 9, 10]


@pytest.mark.parametrize("hanging", ["loop", "stop"])
def test_a_record_that_hangs_is_stopped(hanging: str) -> None:
    seconds = round(margin(0.4), 2)
    gate = carefully(killers.plain, None, hanging, None, record_seconds=seconds)
    assert sorted(gate.done) == [0, 2]
    assert gate.kinds == {1: "crashed"}
    assert gate.failures[1].error_type == "RecordHangs"
    assert gate.failures[1].message == f"took longer than {seconds:.3g} s and was stopped"


def test_a_record_that_hangs_in_a_batch_is_found_by_taking_the_batch_apart() -> None:
    gate = carefully(killers.batches, None, "loop", None, None, None, record_seconds=margin(0.4))
    assert sorted(gate.done) == [0, 2, 3, 4]
    assert gate.kinds == {1: "crashed"}


def test_an_allocation_beyond_the_limit_fails_in_the_record_and_the_child_lives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KILLERS_CALLS", str(tmp_path / "calls"))
    gate = carefully(killers.plain, None, "allocate", None)
    assert sorted(gate.done) == [0, 2]
    assert gate.kinds == {1: "crashed"}
    assert gate.failures[1].error_type == "MemoryError"
    assert len(processes(tmp_path / "calls")) == 1


def test_what_an_innocent_record_inherits_from_those_before_it_is_not_its_fault() -> None:
    """It is asked again in a fresh child, where it is the first."""
    gate = carefully(killers.plain, "leak", "second killer", "second killer")
    assert gate.kinds == {}
    assert sorted(gate.done) == [0, 1, 2]


def test_a_child_that_runs_out_of_memory_bit_by_bit_costs_no_innocent_record() -> None:
    gate = carefully(killers.plain, *["leak"] * 20, memory_mb=256)
    assert len(gate.done) >= 1
    assert set(gate.kinds.values()) <= {"crashed"}
    assert {report.error_type for report in gate.failures.values()} <= {"MemoryError"}


def test_a_child_and_its_parent_together_stay_below_the_memory_of_the_lambda() -> None:
    """Lambda counts the memory of all processes, and ends all of them when it is too much: no neighbour would survive."""
    room_mb = 300
    gate = carefully(killers.plain, "fill", None, memory_mb=resident_mb() + room_mb)
    assert int(gate.failures[0].message) < room_mb * 1024
    assert int(gate.failures[0].message) > room_mb * 1024 / 2
    assert sorted(gate.done) == [1]


def test_a_child_that_is_used_up_is_followed_by_another() -> None:
    gate = carefully(killers.plain, *["take a descriptor"] * 10)
    assert {n for n, times in gate.told.items() if times} == set(range(10))
    assert sorted(gate.failures) == [3, 7], "the fourth record of each child"
    assert {report.error_type for report in gate.failures.values()} == {"OSError"}


def test_every_outcome_of_a_child_reaches_the_gate() -> None:
    gate = carefully(
        killers.plain, "raise", "skip", "warn", "much", "print", "raise an unpicklable error", None
    )
    assert gate.kinds == {0: "permanent", 5: "transient"}
    assert gate.failures[0].message == "on purpose"
    assert "killers.py" in gate.failures[0].traceback
    assert gate.failures[5].error_type == "Odd"
    assert gate.skips == {1: "on purpose"}
    assert gate.warnings == ["odd"]
    assert len(gate.done[3][0].body) > 3_000_000
    assert sorted(gate.done) == [2, 3, 4, 6]


def test_joined_outputs_come_through_whole_and_those_of_a_killed_batch_one_by_one() -> None:
    gate = carefully(killers.joining, *[None] * 4, None, "exit", None, None)
    assert [line.id for line in gate.done[0]] == ["r0"]
    assert gate.done[1] == []
    assert sorted(gate.done) == [0, 1, 2, 3, 4, 6, 7]
    assert [line.id for n in (4, 6, 7) for line in gate.done[n]] == ["r4", "r6", "r7"]
    assert gate.kinds == {5: "crashed"}


def test_a_child_serves_many_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KILLERS_CALLS", str(tmp_path / "calls"))
    carefully(killers.plain, *[None] * 50)
    assert list(processes(tmp_path / "calls").values()) == [50]


def processes(calls: Path) -> Counter[str]:
    """Records by the process that worked on them."""
    return Counter(line.split()[0] for line in calls.read_text().splitlines())


@pytest.mark.parametrize("memory_mb", [128, 512, 4096])
def test_as_many_children_as_threads_that_the_memory_holds(
    memory_mb: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Limits] = []

    class NoChild:
        fresh = True

        def __init__(self, _worker: str, limits: Limits, **_: Any) -> None:
            started.append(limits)
            together.wait(PATIENCE_SECONDS)

        def run(self, *_: Any, **__: Any) -> list[Any]:
            return []

        def close(self) -> None:
            pass

    lanes = max(1, min(3, memory_mb // 256))
    together = threading.Barrier(lanes)
    monkeypatch.setattr("winnow.runtime.careful.Child", NoChild)
    monkeypatch.setattr("winnow.runtime.careful.resident_mb", lambda: 60)
    records = undecoded(*[None] * 20)
    gate = Memory()
    limits = Limits(record_seconds=1, memory_mb=memory_mb)
    run_carefully("any:worker", units(records, gate, 1), gate, Options(concurrency=3), limits)
    left_mb = memory_mb - 60 - PARENT_GROWS_MB
    assert [limits.memory_mb for limits in started] == [left_mb // lanes] * lanes
    assert gate.taken == list(range(20))


# The environment's fault


@pytest.mark.parametrize(
    ("worker", "message"),
    [
        (killers.without_setup, "RuntimeError: no table"),
        (killers.leaving, "ended its worker (exit code 7)"),
        (killers.local(), "has no worker of local.<locals>.inside; give it a name at the top level"),
    ],
)
def test_a_worker_that_cannot_even_start_is_the_environments_fault(worker: Worker, message: str) -> None:
    gate = Memory()
    with pytest.raises(WorkerNotStarted) as failed:
        carefully(worker, None, None, gate=gate)
    assert message in str(failed.value)
    assert gate.failures == {}


def test_a_setup_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.runtime.careful.START_SECONDS", 0.3)
    with pytest.raises(WorkerNotStarted, match=r"took longer than 0.3 s and was stopped"):
        carefully(killers.hanging_setup, None)


def test_a_process_that_cannot_be_made_leaves_no_pipe_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(WorkerNotStarted, match="cannot be started in a child process"):
        carefully(killers.plain, None)


@pytest.mark.parametrize(
    "worker",
    [killers.under_another_name, vars(killers.decorated)["__wrapped__"]],
    ids=["renamed", "decorated"],
)
def test_finds_a_worker_under_any_name_in_its_module(worker: Worker) -> None:
    assert sorted(carefully(worker, None).done) == [0]


def test_an_error_of_the_input_passes_through() -> None:
    def broken() -> Any:
        yield undecoded(None)
        raise OSError("the source is gone")

    gate = Memory()
    with pytest.raises(OSError, match="the source is gone"):
        run_carefully(killers.plain.name, broken(), gate, killers.plain.options, LIMITS)
    assert sorted(gate.done) == [0]


# Time


def test_stops_when_the_gate_says_so() -> None:
    gate = carefully(killers.plain, *[None] * 9, gate=Memory(take=3))
    assert sorted(gate.done) == [0, 1, 2]


class Late(Memory):
    """A gate with no time left once one record is done."""

    @property
    def seconds_left(self) -> float:
        return 0.0 if self.done else 60.0

    @seconds_left.setter
    def seconds_left(self, _: float) -> None: ...


def test_a_record_whose_time_is_cut_short_by_the_workers_own_is_not_called_a_killer() -> None:
    gate = carefully(killers.plain, None, "loop", None, gate=Late())
    assert gate.kinds == {}
    assert list(gate.done) == [0]
    assert gate.stopped is Stop.TIME


def test_a_record_has_the_time_of_all_its_retries() -> None:
    options = Options(record_timeout=3, retry=Retry(on=(ConnectionError,), attempts=3, wait_seconds=2))
    assert Limits.of(options, timeout_seconds=900, memory_mb=1).record_seconds == 3 * 3 + 2 + 4
    assert Limits.of(Options(record_timeout=3), timeout_seconds=900, memory_mb=1).record_seconds == 3
    assert Limits.of(Options(), timeout_seconds=900, memory_mb=1).record_seconds == 90
    assert Limits.of(Options(), timeout_seconds=3, memory_mb=1).record_seconds == 1


# The parent


def test_a_child_ends_when_its_parent_does() -> None:
    child = Child(killers.plain.name, LIMITS)
    os.close(child._life)
    assert child._process.wait(PATIENCE_SECONDS) == 1
    child._life = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(Killed, match=r"ended its worker \(exit code 1\)"):
        child.run(undecoded(None))
    child.close()


def pipe(process: int, descriptor: int) -> str:
    return str(Path(f"/proc/{process}/fd/{descriptor}").readlink())


def test_a_child_inherits_no_pipe_of_its_siblings() -> None:
    """Else it would keep a sibling alive after their parent's death."""
    first = Child(killers.plain.name, LIMITS)
    second = Child(killers.plain.name, LIMITS)
    pipes = {pipe(os.getpid(), descriptor) for descriptor in (first._send, first._life, first._receive)}
    held = Path(f"/proc/{second._process.pid}/fd").iterdir()
    inherited = {pipe(second._process.pid, int(path.name)) for path in held}
    assert not inherited & pipes
    first.close()
    second.close()
