from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow.stages import KEYS, DyingStore, MoodyStore, Stage
from winnow import PermanentError, Record, Skip
from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.journal.reports import FailureReport
from winnow.journal.segment import MAX_REASONS, Segment, Stop
from winnow.runtime.deadline import Deadline
from winnow.runtime.engine import run
from winnow.runtime.flusher import JournalUnavailable
from winnow.runtime.options import Options
from winnow.runtime.recorder import Observer, Recorder, RecorderSettings
from winnow.runtime.segment_writer import WRITE_ATTEMPTS, SegmentWriter
from winnow.runtime.sink import Line
from winnow.storage.formats import NDJSON
from winnow.storage.ledger import decompress

TRANSIENT, PERMANENT, CRASHED = Kind.TRANSIENT, Kind.PERMANENT, Kind.CRASHED
ATTEMPT = KEYS.attempt(0)


def line(ordinal: int, size: int = 1) -> Line:
    return Line(f"out-{ordinal}", ordinal, NDJSON.line(f"out-{ordinal}", f"r{ordinal}", "x" * size))


class Bench:
    """A recorder on a store that can refuse writes."""

    def __init__(self, store: MoodyStore | None = None, count: int = 100) -> None:
        self.stage = Stage(store=store or MoodyStore())
        self.stage.plan([f"r{n}" for n in range(count)])
        self.store = self.stage.store
        assert isinstance(self.store, MoodyStore)
        self.planned = len(self.store.written)

    def recorder(
        self, *, deadline: Deadline | None = None, observer: Observer | None = None, **changes: Any
    ) -> Recorder:
        usual: dict[str, Any] = {"flush_seconds": 900, "horizon": 10_000, "give_up_after": 100}
        writer = SegmentWriter(
            self.stage.ledger,
            self.stage.the_plan,
            ATTEMPT,
            invocation="INV1",
            form=NDJSON,
            deadline=deadline or Deadline(900),
        )
        return Recorder(writer, RecorderSettings(**{**usual, **changes}), observer)

    @property
    def written(self) -> list[str]:
        """What was written since the plan, by kind of object."""
        assert isinstance(self.store, MoodyStore)
        return [key.removeprefix(ATTEMPT.prefix).split("/")[0] + (" ids" if ".ids." in key else "") for key in self.store.written[self.planned :]]  # fmt: skip

    @property
    def segments(self) -> list[Segment]:
        return [segment for segment in self.stage.segments() if segment]


def ask_to_flush(recorder: Recorder) -> None:
    with recorder.admission.changed:
        recorder.admission.ask_to_flush()


def wait_for_thread(recorder: Recorder, name: str) -> None:
    for thread in recorder._threads:
        if thread.name == name:
            thread.join()


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Records the waits instead of waiting."""
    noted: list[float] = []
    monkeypatch.setattr("winnow.runtime.segment_writer.time.sleep", noted.append)
    return noted


# What is written, and in what order


def test_outputs_and_reasons_are_written_before_the_evidence_that_vouches_for_them() -> None:
    bench = Bench()
    recorder = bench.recorder()
    recorder.succeeded(0, [line(0)], None)
    recorder.failed(1, "r1", PERMANENT, ValueError("bad"))
    recorder.close()
    assert bench.written == ["outputs", "outputs ids", "failures", "journal"]


@pytest.mark.parametrize("refused", ["outputs/", ".ids.", "failures/"])
def test_journals_nothing_whose_outputs_or_reasons_cannot_be_written(
    refused: str, waits: list[float]
) -> None:
    bench = Bench(MoodyStore(lambda key: refused in key))
    recorder = bench.recorder()
    recorder.succeeded(0, [line(0)], None)
    recorder.failed(1, "r1", PERMANENT, ValueError("bad"))
    with pytest.raises(JournalUnavailable, match="the journal could not be written: S3 refuses"):
        recorder.close()
    assert bench.segments == []
    assert len(waits) == WRITE_ATTEMPTS - 1


class Located(Observer):
    """Knows where each record came from."""

    def locate(self, ordinal: int) -> dict[str, Any]:
        return {"source_bucket": "b", "source_key": "k", "source_line": ordinal + 1}


def test_a_segment_holds_every_outcome_and_its_details() -> None:
    bench = Bench()
    recorder = bench.recorder(code_version="v7", observer=Located())
    recorder.succeeded(0, [line(0), line(0)], ["odd", "odd"])
    recorder.succeeded(1, [], None)
    recorder.skipped(2, "deleted", ["odd"])
    recorder.failed(3, "r3", TRANSIENT, ValueError("later"))
    recorder.failed(4, "r4", PERMANENT, PermanentError("never"))
    recorder.lied(3)
    recorder.close()
    (segment,) = bench.segments
    assert (segment.succeeded, segment.skipped) == (Ranges.of([0, 1]), Ranges.of([2]))
    assert segment.failed == {TRANSIENT: Ranges.of([3]), PERMANENT: Ranges.of([4])}
    assert (segment.warnings, segment.warned, segment.skip_reasons) == (3, {"odd": 3}, {"deleted": 1})
    assert (segment.lies, segment.stop, segment.cause, segment.whole) == (3, Stop.END, "", False)
    assert segment.outputs
    assert segment.outputs.lines == 2
    assert bench.stage.ledger.read_json(segment.outputs.ids_key) == {"ids": ["out-0", "out-0"], "of": [0, 0]}
    assert segment.failures_key
    reports = [json.loads(text) for text in bench.stage.ledger.read_lines(segment.failures_key)]
    assert [(r["ordinal"], r["record_id"], r["kind"], r["source"]["line"], r["code_version"]) for r in reports] == [
        (3, "r3", "transient", 4, "v7"), (4, "r4", "permanent", 5, "v7"),
    ]  # fmt: skip


def test_says_at_the_end_why_it_stopped_even_if_nothing_was_done() -> None:
    bench = Bench()
    bench.recorder().close()
    assert [segment.stop for segment in bench.segments] == [Stop.END]


def test_outputs_that_join_records_lie_in_one_segment_that_counts_as_a_whole() -> None:
    bench = Bench()
    recorder = bench.recorder()
    recorder.joined([0, 1, 2], [line(0)], ["odd"])
    recorder.flusher.flush()
    recorder.succeeded(3, [line(3)], None)
    recorder.close()
    first, second = (segment for segment in bench.segments if segment.done)
    assert (first.succeeded, first.whole, first.warnings) == (Ranges.span(0, 3), True, 1)
    assert (second.succeeded, second.whole) == (Ranges.of([3]), False)
    assert recorder.totals.succeeded == 4


@pytest.mark.parametrize("odd", ["\ud800", "a\nb", "x" * 100_000, ""])
def test_odd_texts_of_a_record_do_not_cost_the_others_their_evidence(odd: str) -> None:
    bench = Bench()
    recorder = bench.recorder(give_up_after=2)
    recorder.succeeded(0, [line(0)], [odd])
    recorder.skipped(1, odd, [odd])
    for n in (2, 3):
        recorder.failed(n, f"r{n}", TRANSIENT, ValueError(odd))
    recorder.close()
    (segment,) = bench.segments
    assert segment.done == Ranges.of([0, 1])
    assert segment.stop is Stop.DEPENDENCY
    assert len(segment.cause) < 1_200
    assert all(len(reason) <= 200 for reason in (*segment.warned, *segment.skip_reasons))


def test_counts_different_reasons_up_to_a_limit() -> None:
    bench = Bench(count=300)
    recorder = bench.recorder()
    for n in range(200):
        recorder.skipped(n, f"reason {n}", None)
    recorder.close()
    (segment,) = bench.segments
    assert len(segment.skip_reasons) == MAX_REASONS + 1
    assert segment.skip_reasons["other"] == 200 - MAX_REASONS


class FullLog(Observer):
    """Cannot log."""

    def failure(self, report: FailureReport) -> None:  # noqa: ARG002
        raise OSError("the log is full")

    def warning(self, ordinal: int, text: str) -> None:  # noqa: ARG002
        raise OSError("the log is full")


def test_an_observer_that_raises_cannot_break_the_journal() -> None:
    bench = Bench()
    recorder = bench.recorder(observer=FullLog())
    recorder.failed(0, "r0", TRANSIENT, ValueError("bad"))
    recorder.succeeded(1, [], ["odd"])
    recorder.close()
    (segment,) = bench.segments
    assert segment.failed == {TRANSIENT: Ranges.of([0])}
    assert (segment.succeeded, segment.warned) == (Ranges.of([1]), {"odd": 1})


# S3 refuses


class Refusing(MoodyStore):
    """Refuses a number of writes, then takes all."""

    def __init__(self, times: int) -> None:
        super().__init__(self.next)
        self.times = 0
        self.later = times

    def next(self, _key: str) -> bool:
        self.times -= 1
        return self.times >= 0


@pytest.mark.parametrize("times", range(WRITE_ATTEMPTS))
def test_s3_refusing_for_a_while_costs_only_time(times: int, waits: list[float]) -> None:
    store = Refusing(times)
    bench = Bench(store)
    store.times = times
    recorder = bench.recorder()
    recorder.succeeded(0, [line(0)], None)
    recorder.close()
    assert bench.stage.evidence().succeeded == Ranges.of([0])
    assert waits == [2.0, 4.0, 8.0][:times]


def test_waits_less_when_little_time_is_left(waits: list[float]) -> None:
    store = Refusing(2)
    bench = Bench(store)
    store.times = 2
    recorder = bench.recorder(deadline=Deadline(4))
    recorder.succeeded(0, [line(0)], None)
    recorder.close()
    assert all(0 <= wait <= 1 for wait in waits)


@pytest.mark.usefixtures("waits")
def test_s3_refusing_for_good_stops_the_work_and_claims_nothing() -> None:
    store = Refusing(0)
    bench = Bench(store)
    store.times = 1_000_000
    recorder = bench.recorder()
    recorder.succeeded(0, [line(0)], None)
    ask_to_flush(recorder)
    wait_for_thread(recorder, "journal")
    assert recorder.stopping
    assert not recorder.take(1)
    with pytest.raises(JournalUnavailable, match="the journal could not be written: S3 refuses"):
        recorder.close()
    assert bench.segments == []


@pytest.mark.usefixtures("waits")
def test_writes_at_the_end_what_s3_refused_before() -> None:
    """The call fails all the same, so that the rest is done by another call; but what was done is not done again."""
    store = Refusing(0)
    bench = Bench(store)
    store.times = WRITE_ATTEMPTS
    recorder = bench.recorder()
    recorder.succeeded(0, [line(0)], None)
    ask_to_flush(recorder)
    wait_for_thread(recorder, "journal")
    recorder.succeeded(1, [line(1)], None)
    with pytest.raises(JournalUnavailable):
        recorder.close()
    found = bench.stage.evidence()
    assert found.succeeded == Ranges.of([0, 1])
    assert found.stop is Stop.ERROR
    assert not found.died


def test_a_process_that_is_killed_at_any_write_leaves_no_evidence_without_outputs() -> None:
    for writes in range(9):
        store = DyingStore()
        bench = Bench(store)
        store.writes_left = writes
        recorder = bench.recorder()
        for n in range(4):
            recorder.succeeded(2 * n, [line(2 * n)], None)
            recorder.failed(2 * n + 1, f"r{2 * n + 1}", TRANSIENT, ValueError("later"))
            recorder.flusher.flush()
        recorder.close()
        found = bench.stage.evidence()
        assert len(found.succeeded) == writes // 4
        for entry in found.entries:
            assert decompress(store.get(entry.key).body).count(b"\n") == entry.lines


# How far a worker may go


def test_takes_no_record_beyond_what_the_journal_has_announced(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a death can be blamed on no more than the journal says could have been in hand."""
    monkeypatch.setattr("winnow.runtime.admission.FIRST_HORIZON", 7)
    bench = Bench(count=2_000)
    recorder = bench.recorder(horizon=5)
    announced = 5
    for n in range(2_000):
        assert recorder.take(n)
        if n >= announced:
            announced = max(segment.horizon for segment in bench.segments)
        assert n < announced
        recorder.succeeded(n, [], None)
    recorder.close()
    assert len(bench.segments) < 20


class Slow(MoodyStore):
    """A bucket that takes outputs only once the test lets it."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.go_on = threading.Event()

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        if "/outputs/" in key:
            self.begun.set()
            assert self.go_on.wait(PATIENCE_SECONDS)
        super().put(key, body, if_absent=if_absent)


@pytest.fixture
def slow() -> Iterator[Slow]:
    store = Slow()
    yield store
    store.go_on.set()


@pytest.mark.parametrize("told", ["succeeded", "joined"])
def test_bounds_the_bytes_that_are_buffered_while_s3_is_slow(
    slow: Slow, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.runtime.recorder.FLUSH_BYTES", 1_000)
    monkeypatch.setattr("winnow.runtime.recorder.HELD_BYTES", 2_000)
    bench = Bench(slow)
    recorder = bench.recorder()

    def work(ordinal: int) -> None:
        assert recorder.take(ordinal)
        lines = [line(ordinal, size=400)]
        recorder.succeeded(ordinal, lines, None) if told == "succeeded" else recorder.joined(
            [ordinal], lines, None
        )

    for n in range(3):
        work(n)
    assert slow.begun.wait(PATIENCE_SECONDS)
    taken = 3
    while not recorder.admission.paused:
        work(taken)
        taken += 1
        assert taken < 20
    assert recorder.progress.buffer.bytes < 2_000 + 500
    slow.go_on.set()
    work(taken)
    recorder.close()
    assert bench.stage.evidence().succeeded == Ranges.span(0, taken + 1)


def test_bounds_the_reports_that_are_buffered_while_s3_is_slow(
    slow: Slow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.runtime.recorder.FLUSH_FAILURES", 3)
    monkeypatch.setattr("winnow.runtime.recorder.HELD_FAILURES", 6)
    bench = Bench(slow)
    recorder = bench.recorder()
    recorder.succeeded(0, [line(0)], None)
    ask_to_flush(recorder)
    assert slow.begun.wait(PATIENCE_SECONDS)
    for n in range(1, 7):
        assert not recorder.admission.paused
        recorder.failed(n, f"r{n}", PERMANENT, ValueError("bad"))
    assert recorder.admission.paused
    slow.go_on.set()
    assert recorder.take(7)
    recorder.close()


def test_a_pause_does_not_outlast_a_stop(slow: Slow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.runtime.recorder.HELD_BYTES", 0)
    monkeypatch.setattr("winnow.runtime.recorder.FLUSH_BYTES", 0)
    recorder = Bench(slow).recorder()
    recorder.succeeded(0, [line(0)], None)
    assert slow.begun.wait(PATIENCE_SECONDS)
    recorder.succeeded(1, [line(1)], None)
    recorder.request_stop(Stop.TIME)
    assert not recorder.take(2)
    slow.go_on.set()
    recorder.close()
    assert not recorder.take(3)


# When it stops


def test_takes_nothing_when_the_time_is_over_already() -> None:
    bench = Bench()
    recorder = bench.recorder(deadline=Deadline(-1))
    assert not recorder.take(0)
    assert recorder.stop is Stop.TIME
    recorder.close()
    assert bench.segments[-1].stop is Stop.TIME


def test_the_deadline_is_kept_though_a_write_hangs(slow: Slow) -> None:
    bench = Bench(slow)
    recorder = bench.recorder(deadline=Deadline(0.2))
    recorder.succeeded(0, [line(0)], None)
    ask_to_flush(recorder)
    assert slow.begun.wait(PATIENCE_SECONDS)
    with recorder.admission.changed:
        while recorder.stop is None:
            recorder.admission.changed.wait(PATIENCE_SECONDS)
    assert recorder.stop is Stop.TIME
    assert not recorder.take(1)
    slow.go_on.set()
    recorder.close()


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


class Costly(MoodyStore):
    """A bucket in which each segment takes a number of seconds to write."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        super().__init__()
        self._clock = clock
        self._seconds = seconds

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        super().put(key, body, if_absent=if_absent)
        if "/journal/" in key:
            self._clock.now += self._seconds


def test_stops_earlier_where_flushes_are_slow() -> None:
    """The one that may be under way at the deadline, and the last, have to end before Lambda ends the worker."""
    clock = Clock()
    bench = Bench(Costly(clock, 2.0))
    recorder = bench.recorder(deadline=Deadline(20, reserve=1, clock=clock))
    recorder.succeeded(0, [line(0)], None)
    recorder.flusher.flush()
    assert recorder.seconds_left == 20 - 2 - 3 * 2
    assert not recorder.stopping
    clock.now += recorder.seconds_left
    recorder.succeeded(1, [line(1)], None)
    recorder.flusher.flush()
    wait_for_thread(recorder, "deadline")
    assert (recorder.stop, recorder.cause) == (Stop.TIME, "little time was left")
    assert not recorder.take(2)
    recorder.close()
    assert clock.now <= 1_000 + 20
    assert bench.stage.evidence().succeeded == Ranges.of([0, 1])


def test_journals_what_is_in_hand_when_it_stops() -> None:
    bench = Bench()
    recorder = bench.recorder()
    for n in range(5):
        recorder.take(n)
    recorder.succeeded(0, [], None)
    recorder.request_stop(Stop.TIME)
    while not bench.segments:
        with recorder.admission.changed:
            recorder.admission.changed.wait(1)
    assert bench.segments[0].in_hand == Ranges.span(1, 5)
    assert bench.segments[0].horizon == 5
    recorder.close()


def test_many_transient_failures_in_a_row_mean_that_the_other_side_is_down() -> None:
    bench = Bench()
    recorder = bench.recorder(give_up_after=3)
    tell: list[Callable[[int], None]] = [
        lambda n: recorder.succeeded(n, [], None),
        lambda n: recorder.skipped(n, "", None),
        lambda n: recorder.joined([n], [], None),
        lambda n: recorder.failed(n, f"r{n}", PERMANENT, ValueError("bad")),
        lambda n: recorder.failed(n, f"r{n}", CRASHED, MemoryError()),
    ]
    n = 0
    for reset in tell:
        for _ in range(2):
            recorder.failed(n, f"r{n}", TRANSIENT, ConnectionError("refused"))
            n += 1
        assert not recorder.stopping
        reset(n)
        n += 1
    for _ in range(3):
        recorder.failed(n, f"r{n}", TRANSIENT, ConnectionError("refused"))
        n += 1
    assert recorder.stop is Stop.DEPENDENCY
    assert recorder.cause == "3 records in a row failed, the last with ConnectionError: refused"
    recorder.close()


def test_the_first_reason_to_stop_stands() -> None:
    recorder = Bench().recorder()
    recorder.request_stop(Stop.TIME, "late")
    recorder.request_stop(Stop.ERROR, "second")
    assert (recorder.stop, recorder.cause) == (Stop.TIME, "late")
    recorder.close()


# Together with the engine, at full speed


def mixed(record: Record) -> Any:
    n = record.data
    if n % 97 == 0:
        raise PermanentError("never")
    if n % 89 == 0:
        return Skip("no")
    if n % 7 == 0:
        return {"n": n}
    if n % 83 == 0:
        record.warn("odd")
    return None


@pytest.mark.parametrize("concurrency", [1, 4])
@pytest.mark.parametrize("streak", [True, False])
def test_journals_exactly_what_happened_however_flushes_and_records_interleave(
    *, concurrency: int, streak: bool
) -> None:
    count = 20_000
    bench = Bench(count=count)
    recorder = bench.recorder(flush_seconds=0.0005)
    items = ((n, Record(f"r{n}", n)) for n in range(count))
    run(mixed, items, recorder, Options(concurrency=concurrency), recorder.streak if streak else None)
    recorder.close()
    found = bench.stage.evidence()
    failed = {n for n in range(count) if n % 97 == 0}
    skipped = {n for n in range(count) if n % 89 == 0} - failed
    assert found.failed == {PERMANENT: Ranges.of(failed)}
    assert found.skipped == Ranges.of(skipped)
    assert found.succeeded == Ranges.span(0, count) - Ranges.of(failed | skipped)
    assert found.repeated == 0
    outputs = [n for entry in found.entries for n in bench.stage.ledger.read_json(entry.ids_key)["of"]]
    assert sorted(outputs) == [n for n in range(count) if n % 7 == 0 and n not in failed | skipped]
    totals = recorder.totals
    assert (totals.succeeded, totals.skipped, totals.all_failed) == (
        len(found.succeeded),
        len(skipped),
        len(failed),
    )
    assert len(bench.segments) > 2
    assert found.warnings == sum(n % 83 == 0 and n % 7 != 0 for n in range(count)) - sum(
        n % 83 == 0 and n % 7 != 0 and (n in failed or n in skipped) for n in range(count)
    )


def test_a_loop_may_leave_gaps_and_go_back() -> None:
    """Suspects come last, whatever their ordinals."""
    bench = Bench()
    recorder = bench.recorder()
    order = [0, 1, 2, 5, 6, 20, 21, 50, 3, 4, 51, 52]
    run(lambda _: None, ((n, Record(f"r{n}")) for n in order), recorder, Options(), recorder.streak)
    recorder.close()
    assert bench.stage.evidence().succeeded == Ranges.of(order)
    assert recorder.totals.succeeded == len(order)
    assert recorder.progress.position == 53
