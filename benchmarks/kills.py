"""Workers killed at random moments: real processes, SIGKILL, and then the books.

Many short batches, each killed in one attempt after another until chance lets it be. The ledger is a folder, so that what is
killed is our code and not the emulator. `tests/integration/test_random_kills.py` does 200 kills of this, the benchmark 1,000.
"""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Self

from benchmarks.effort import Effort
from benchmarks.measuring import environment
from benchmarks.rows import Row
from benchmarks.sides.victims import WORKERS, ledger_in
from scripts import ROOT
from winnow.batch.plan import ids_of, read_plan
from winnow.core.contract import Order, Policy, StageInput
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.journal.evidence import fold, read_segments
from winnow.planning.stage_planner import continue_stage, plan_stage
from winnow.settlement.settle import settle
from winnow.settlement.settlement import read_settlement
from winnow.storage.ledger import Ledger

NAME = "kills"
KILLS = {Effort.FULL: 1_000, Effort.QUICK: 60, Effort.TINY: 4}
RECORDS = 200
"""A batch; too few to be done between two flushes, few enough to be done in a tenth of a second."""
STAGE = "kills"
POLICY = Policy(max_tries=50, backoff_seconds=0)
KILLED = {"Error": "Runtime.ExitError", "Cause": "killed"}
LANES = 2


@dataclass(slots=True)
class Toll:
    """What the kills cost, and whatever should not have been."""

    kills: int = 0
    """Of processes that were at work."""
    batches: int = 0
    records: int = 0
    calls: int = 0
    """Of handlers."""
    retried: int = 0
    """Calls whose failure was journaled, and those of a batch that fell back to one by one."""
    lost_calls: int = 0
    """Calls whose outcome died with the process, and that were made again."""
    most_lost: int = 0
    """By one kill."""
    wrong: list[str] = field(default_factory=list)
    """Records lost, doubled, or run again after they were journaled; in words."""

    def __add__(self, other: Toll) -> Toll:
        return Toll(
            kills=self.kills + other.kills,
            batches=self.batches + other.batches,
            records=self.records + other.records,
            calls=self.calls + other.calls,
            retried=self.retried + other.retried,
            lost_calls=self.lost_calls + other.lost_calls,
            most_lost=max(self.most_lost, other.most_lost),
            wrong=self.wrong + other.wrong,
        )


class Victims:
    """A process that runs attempts in forks of itself."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from benchmarks.sides.victims import serve; serve()"],
            cwd=ROOT,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()

    def attempt(self, asked: dict[str, Any]) -> tuple[bool, float]:
        """Run an attempt and kill it after a time: whether that came in time, and how long it ran."""
        assert self._process.stdin
        assert self._process.stdout
        began = time.monotonic()
        print(json.dumps(asked), file=self._process.stdin, flush=True)
        code = int(self._process.stdout.readline())
        return code == -signal.SIGKILL, time.monotonic() - began


@dataclass(slots=True, kw_only=True)
class Batch:
    """One stage run, killed again and again."""

    folder: Path
    worker: str
    victims: Victims
    chance: random.Random
    number: int
    toll: Toll = field(default_factory=Toll)

    @property
    def ledger(self) -> Ledger:
        return ledger_in(self.folder)

    @property
    def keys(self) -> StageKeys:
        return StageKeys(f"run-{self.number}", STAGE)

    @property
    def calls(self) -> Path:
        return self.folder / f"calls-{self.number}"

    def run(self, kills: int, usual: dict[bool, float]) -> Toll:
        """Kill up to `kills` of its attempts, let it end, then compare the ledger with what was expected.

        Args:
            kills: at most.
            usual: seconds that an attempt takes, by whether it is the first; a careful one starts a child.
        """
        data = {n: self.chance.choices((None, "permanent", "flaky"), (90, 4, 6))[0] for n in range(RECORDS)}
        order = self._plan(data)
        attempts = []
        for attempt in count():
            kill_after = self.chance.uniform(0, usual[attempt == 0]) if attempt < kills else None
            asked = {
                "order": order.to_payload(),
                "worker": self.worker,
                "folder": str(self.folder),
                "calls": str(self.calls),
                "kill_after": kill_after,
            }
            killed, seconds = self.victims.attempt(asked)
            if not killed:
                usual[attempt == 0] = seconds
            self.toll.kills += killed
            attempts.append(killed)
            state = settle(
                self.ledger,
                {"order": order.to_payload(), **({"worker_error": KILLED} if killed else {"worker": {}})},
                lambda _metric, _value: None,
            )
            if not state["next"]:
                break
            order = continue_stage(
                self.ledger,
                state["next"],
                pipeline="kills",
                stage=STAGE,
                policy=POLICY,
                execution=f"{self.number}-{attempt + 1}",
            )
        self._audit(data, attempts)
        return self.toll

    def _plan(self, data: dict[int, str | None]) -> Order:
        records = [{"id": f"{self.number}-{n}", "data": what} for n, what in data.items()]
        event = {"run_id": f"run-{self.number}", "records": [*records, *records[::50]]}
        return plan_stage(
            self.ledger,
            StageInput.from_event(event),
            pipeline="kills",
            stage=STAGE,
            policy=POLICY,
            execution=f"{self.number}-0",
        )

    def _audit(self, data: dict[int, str | None], attempts: list[bool]) -> None:
        self.toll.batches += 1
        self.toll.records += len(data)
        self._audit_calls(attempts)
        self._audit_results(data)

    def _audit_calls(self, attempts: list[bool]) -> None:
        """No call of a handler for what was journaled before; of each attempt that was killed, only the last calls are lost."""
        plan = read_plan(self.ledger, self.keys)
        ordinals = {i: n for n, i in ids_of(self.ledger, plan, plan.everything)}
        made: dict[int, list[int]] = {}
        for line in self.calls.read_text().splitlines():
            number, _, record_id = line.partition(" ")
            made.setdefault(int(number), []).append(ordinals[record_id])
        done = Ranges.empty()
        for attempt, killed in enumerate(attempts):
            before = read_settlement(self.ledger, plan, attempt - 1)
            assert before
            segments = read_segments(self.ledger, self.keys.attempt(attempt))
            evidence = fold(segments, digest=plan.digest, order=before.next, ledger=self.ledger)
            reported = Ranges.of(n for ranges in evidence.failed.values() for n in ranges)
            calls = made.get(attempt, [])
            self.toll.calls += len(calls)
            if again := [n for n in calls if n in done]:
                self._complain(f"attempt {attempt} ran {again} again, which were journaled")
            known = [n in evidence.done or n in reported for n in calls]
            lost = known.count(False)
            fell_back = sum(known) - len({n for n in calls if n in evidence.done or n in reported})
            if fell_back and self.worker == "one by one":
                self._complain(f"attempt {attempt} ran {fell_back} records twice")
            self.toll.retried += fell_back + len({n for n in calls if n in reported})
            self.toll.lost_calls += lost
            self.toll.most_lost = max(self.toll.most_lost, lost)
            if lost and not killed:
                self._complain(f"attempt {attempt} was not killed and lost {lost} calls")
            if self.worker == "one by one" and any(known[len(known) - lost :]):
                self._complain(f"attempt {attempt} lost calls that were not its last")
            done |= evidence.done

    def _audit_results(self, data: dict[int, str | None]) -> None:
        """Each good record's output exactly once, the failures exactly those that had to fail, and sums that add up."""
        good = {f"{self.number}-{n}" for n, what in data.items() if what != "permanent"}
        outputs = Counter[str]()
        for entry in self.ledger.read_json(self.keys.successes)["entries"]:
            for line in self.ledger.read_lines(entry["key"]):
                origin = json.loads(line)["from"]
                outputs.update([origin] if isinstance(origin, str) else origin)
        result = self.ledger.read_json(self.keys.result)
        listed = self.ledger.read_lines(self.keys.failures) if result["output"]["failures"] else ()
        failed = Counter(json.loads(line)["record_id"] for line in listed)
        bad = {f"{self.number}-{n}" for n in data} - good
        if outputs != Counter(good):
            self._complain(
                f"outputs lost or doubled: {sorted((outputs - Counter(good)) + (Counter(good) - outputs))[:5]}"
            )
        if failed != Counter(bad):
            self._complain(
                f"failures lost, doubled or made up: {sorted((failed - Counter(bad)) + (Counter(bad) - failed))[:5]}"
            )
        counts = result["counts"]
        if (
            counts["in"] != len(data)
            or counts["in"] != counts["succeeded"] + counts["skipped"] + counts["failed"]
        ):
            self._complain(f"the sums do not add up: {counts}")

    def _complain(self, what: str) -> None:
        self.toll.wrong.append(f"batch {self.number} ({self.worker}): {what}")


def torment(kills: int, *, seed: int = 0, lanes: int = LANES) -> Toll:
    """Kill workers until so many kills came in time.

    Args:
        kills: of processes at work; a few more may happen.
        seed: of what can be chosen; when a process is where cannot be.
        lanes: batches at a time.
    """
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(lanes) as pool:
        shares = [(kills + lane) // lanes for lane in range(lanes)]
        chances = [random.Random(f"{seed} {lane}") for lane in range(lanes)]
        folders = [Path(folder) / str(lane) for lane in range(lanes)]
        return sum(pool.map(_lane, shares, chances, folders), Toll())


def _lane(kills: int, chance: random.Random, folder: Path) -> Toll:
    toll = Toll()
    usual = {True: 0.15, False: 0.4}
    folder.mkdir()
    names = list(WORKERS)
    with Victims() as victims:
        for number in count():
            if toll.kills >= kills:
                return toll
            batch = Batch(
                folder=folder,
                worker=names[number % len(names)],
                victims=victims,
                chance=chance,
                number=number,
            )
            toll += batch.run(chance.randint(2, 7), usual)
    return toll


def benchmark(effort: Effort) -> Iterator[Row]:
    """A thousand kills, and what they cost."""
    began = time.monotonic()
    toll = torment(KILLS[effort])
    allowed = toll.records + toll.retried + toll.lost_calls
    yield Row(
        benchmark=NAME,
        what=f"{toll.kills:,} kills of workers at random moments",
        ours=f"{len(toll.wrong)} records lost, doubled or run again",
        against=f"{toll.records:,} records in {toll.batches} batches",
        measured=len(toll.wrong),
        target=0,
        note=f"{toll.calls:,} calls of handlers, at most {allowed:,}; one kill cost {toll.most_lost} calls at most",
        numbers={
            "calls": toll.calls,
            "retried": toll.retried,
            "lost_calls": toll.lost_calls,
            "seconds": time.monotonic() - began,
            "wrong": toll.wrong,
        },
    )
