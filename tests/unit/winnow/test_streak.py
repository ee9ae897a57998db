"""A streak is only a cheaper way to report to the recorder: the journal says the same with and without it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.patience import PATIENCE_SECONDS, await_
from winnow import PermanentError, Record, Skip
from winnow.batch.plan import Plan, read_plan
from winnow.core.contract import Policy, StageInput
from winnow.core.keys import StageKeys
from winnow.core.record import Retry
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.journal.segment import Stop
from winnow.planning.stage_planner import plan_stage
from winnow.runtime.deadline import Deadline
from winnow.runtime.engine import run
from winnow.runtime.options import Options
from winnow.runtime.recorder import Recorder, RecorderSettings
from winnow.runtime.segment_writer import SegmentWriter
from winnow.storage.formats import NDJSON
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

COUNT = 200


class Lab:
    """A batch, and a recorder that journals a function's outcomes."""

    def __init__(self, *, horizon: int = 10_000, flush_seconds: float = 60.0) -> None:
        self.ledger = Ledger(MemoryStore())
        stage_input = StageInput.from_event({"run_id": "r", "records": [f"r{n}" for n in range(COUNT)]})
        plan_stage(self.ledger, stage_input, pipeline="p", stage="s", policy=Policy(), execution="e")
        self.plan: Plan = read_plan(self.ledger, StageKeys("r", "s"))
        self.keys = self.plan.keys.attempt(0)
        self.recorder = Recorder(
            SegmentWriter(
                self.ledger,
                self.plan,
                self.keys,
                invocation="i",
                form=NDJSON,
                deadline=Deadline(PATIENCE_SECONDS),
            ),
            RecorderSettings(flush_seconds=flush_seconds, horizon=horizon, give_up_after=10),
        )

    def work(
        self,
        function: Callable[[Record], Any],
        ordinals: list[int] | None = None,
        options: Options | None = None,
    ) -> Evidence:
        items = ((n, Record(f"r{n}", n)) for n in ([*range(COUNT)] if ordinals is None else ordinals))
        run(function, items, self.recorder, options or Options(), self.recorder.streak)
        self.recorder.close()
        return self.evidence()

    def evidence(self) -> Evidence:
        segments = list(read_segments(self.ledger, self.keys))
        return fold(segments, digest=self.plan.digest, order=self.plan.everything, ledger=self.ledger)


def mixed(record: Record) -> Any:
    """Every kind of outcome, in no regular order."""
    outcome = random.Random(record.data).randrange(6)
    if outcome == 0:
        raise PermanentError("never")
    if outcome == 1:
        return Skip("nothing to do")
    if outcome == 2:
        return {"n": record.data}
    if outcome == 3:
        record.warn("odd")
    return None


def told(evidence: Evidence) -> tuple[object, ...]:
    return (
        evidence.succeeded,
        evidence.skipped,
        evidence.failed,
        evidence.warnings,
        sum(entry.lines for entry in evidence.entries),
        evidence.repeated,
        evidence.refused,
    )


@pytest.mark.parametrize("flush_seconds", [60.0, 0.001], ids=["one segment", "many segments"])
@pytest.mark.parametrize(
    "ordinals",
    [
        [*range(COUNT)],
        [*range(0, COUNT, 3)],
        [*range(50, 120), *range(3, 40), *range(150, 151)],
        [],
    ],
    ids=["all", "gaps", "suspects last", "none"],
)
def test_journals_what_is_journaled_without_one(ordinals: list[int], flush_seconds: float) -> None:
    with_streak = Lab(flush_seconds=flush_seconds).work(mixed, ordinals)
    never_retried = Options(retry=Retry(on=(ZeroDivisionError,)))
    without = Lab(flush_seconds=flush_seconds).work(mixed, ordinals, never_retried)
    assert told(with_streak) == told(without)
    assert with_streak.stop is Stop.END


def test_counts_what_it_got_done() -> None:
    lab = Lab()
    lab.work(mixed)
    evidence, totals = lab.evidence(), lab.recorder.totals
    assert (totals.succeeded, totals.skipped) == (len(evidence.succeeded), len(evidence.skipped))
    assert totals.succeeded + totals.skipped + totals.all_failed == COUNT


def test_is_journaled_while_it_goes_on() -> None:
    lab = Lab(flush_seconds=0.01)

    def function(record: Record) -> None:
        if record.data == COUNT - 1:
            await_("the others' segments", lambda: len(lab.evidence().succeeded) == COUNT - 1)

    assert len(lab.work(function).succeeded) == COUNT


def test_asks_before_it_goes_beyond_the_horizon() -> None:
    lab = Lab(horizon=10)
    horizons: list[int] = []

    def function(record: Record) -> None:
        horizons.append(max(10, lab.evidence().horizon))
        assert record.data < horizons[-1]

    assert len(lab.work(function).succeeded) == COUNT
    assert horizons[0] == 10 < horizons[-1]


def test_takes_no_record_after_it_is_told_to_stop() -> None:
    lab = Lab()

    def function(record: Record) -> None:
        if record.data == 20:
            lab.recorder.request_stop(Stop.TIME, "enough")

    evidence = lab.work(function)
    assert (evidence.succeeded.to_json(), evidence.stop) == ([0, 21], Stop.TIME)


def test_success_ends_a_row_of_failures() -> None:
    def function(record: Record) -> None:
        if record.data % 10:
            raise TimeoutError

    evidence = Lab().work(function)
    assert (len(evidence.succeeded), evidence.stop) == (COUNT // 10, Stop.END)


def test_a_row_of_failures_stops_it() -> None:
    def function(record: Record) -> None:
        if record.data >= 50:
            raise TimeoutError

    evidence = Lab().work(function)
    assert (evidence.succeeded.to_json(), evidence.stop) == ([0, 50], Stop.DEPENDENCY)


def test_journal_knows_the_record_that_is_stuck_when_time_runs_out() -> None:
    lab = Lab(flush_seconds=0.01)

    def function(record: Record) -> None:
        if record.data == 7:
            lab.recorder.request_stop(Stop.TIME)
            await_("a segment that names it", lambda: lab.evidence().in_hand)

    in_hand = lab.work(function).in_hand
    assert 7 in in_hand
    assert 8 not in in_hand


def test_what_ends_the_worker_leaves_what_was_done() -> None:
    lab = Lab()

    def items() -> Iterator[tuple[int, Record]]:
        for n in range(30):
            yield n, Record(f"r{n}", n)
        raise OSError("the source broke")

    with pytest.raises(OSError, match="the source broke"):
        run(lambda _: None, items(), lab.recorder, Options(), lab.recorder.streak)
    lab.recorder.close()
    assert lab.evidence().succeeded.to_json() == [0, 30]
