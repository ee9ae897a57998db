from __future__ import annotations

import pytest

from winnow.runtime.deadline import Deadline


class Clock:
    """Stands still but for what a test lets pass."""

    def __init__(self) -> None:
        self.now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def flush(deadline: Deadline, clock: Clock, seconds: float) -> None:
    with deadline.measure_flush():
        clock.now += seconds


@pytest.mark.parametrize(
    ("seconds", "reserve"), [(900, 30), (300, 30), (100, 10), (60, 6), (10, 1), (3, 1), (1, 1), (0.5, 1)]
)
def test_keeps_a_share_of_the_time_back(seconds: float, reserve: float, clock: Clock) -> None:
    assert Deadline.of_worker(seconds, clock=clock).seconds_left == pytest.approx(seconds - reserve)


def test_comes_nearer_with_the_clock(clock: Clock) -> None:
    deadline = Deadline.of_worker(100, clock=clock)
    clock.now += 70
    assert deadline.seconds_left == pytest.approx(20)
    clock.now += 25
    assert deadline.seconds_left == pytest.approx(-5)


@pytest.mark.parametrize(("flushed", "reserve"), [(0.1, 1), (0.3, 1), (0.5, 1.5), (1, 3), (1.5, 4.5), (2, 5)])
def test_keeps_back_three_times_the_slowest_flush_up_to_half_of_the_time(
    flushed: float, reserve: float, clock: Clock
) -> None:
    deadline = Deadline.of_worker(10, clock=clock)
    flush(deadline, clock, flushed)
    assert deadline.seconds_left == pytest.approx(10 - flushed - reserve)
    flush(deadline, clock, flushed / 2)
    assert deadline.seconds_left == pytest.approx(10 - 1.5 * flushed - reserve), "the slowest counts"


def test_fast_flushes_change_nothing(clock: Clock) -> None:
    deadline = Deadline.of_worker(900, clock=clock)
    for _ in range(100):
        flush(deadline, clock, 1)
    assert deadline.seconds_left == pytest.approx(900 - 100 - 30)


def test_a_flush_that_does_not_end_brings_it_nearer_meanwhile(clock: Clock) -> None:
    deadline = Deadline.of_worker(40, clock=clock)
    clock.now += 20
    with deadline.measure_flush():
        assert deadline.seconds_left == pytest.approx(5), (
            "then it has taken 5 s, and three times that is left"
        )
        clock.now += 4
        assert deadline.seconds_left == pytest.approx(1)
    assert deadline.seconds_left == pytest.approx(40 - 24 - 3 * 4)


def test_half_of_the_time_is_for_work_however_long_a_flush_hangs(clock: Clock) -> None:
    deadline = Deadline.of_worker(16, clock=clock)
    with deadline.measure_flush():
        assert deadline.seconds_left == pytest.approx(8)
        clock.now += 9
        assert deadline.seconds_left == pytest.approx(-1)


def test_a_flush_that_fails_is_measured_too(clock: Clock) -> None:
    deadline = Deadline.of_worker(10, clock=clock)

    def refuse() -> None:
        clock.now += 1
        raise OSError("refused")

    with pytest.raises(OSError, match="refused"), deadline.measure_flush():
        refuse()
    assert deadline.seconds_left == pytest.approx(10 - 1 - 3)
