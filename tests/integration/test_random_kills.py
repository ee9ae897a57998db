"""Real processes, SIGKILL at random moments. No emulator: the ledger is a folder, whose objects appear whole as S3's do."""

from __future__ import annotations

from benchmarks.kills import torment

KILLS = 200


def test_two_hundred_random_kills_lose_nothing_and_run_nothing_again_that_was_journaled() -> None:
    toll = torment(KILLS)
    assert toll.wrong == []
    assert toll.kills >= KILLS
    assert toll.calls <= toll.records + toll.retried + toll.lost_calls
    assert toll.lost_calls > 0
