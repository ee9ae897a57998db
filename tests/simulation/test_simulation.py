from __future__ import annotations

import subprocess
import sys

import pytest

from scripts import ROOT
from tests.simulation.checking import check
from tests.simulation.schedule import FaultKind, draw
from tests.simulation.story import shrink, tell

SEEDS = 1_000
CHUNK = 50


@pytest.mark.parametrize("first", range(0, SEEDS, CHUNK))
def test_every_law_holds_after_each_schedule(first: int) -> None:
    for seed in range(first, first + CHUNK):
        checked = check(draw(seed))
        if checked.violations:
            pytest.fail(tell(shrink(checked)), pytrace=False)


class TestASeed:
    @pytest.mark.parametrize("seed", [3, 118, 270])
    def test_gives_the_same_trace_each_time(self, seed: int) -> None:
        first, second = check(draw(seed)), check(draw(seed))
        assert first.trace
        assert first == second

    def test_gives_the_same_trace_in_another_process(self) -> None:
        code = (
            "from tests.simulation.checking import check; from tests.simulation.schedule import draw; "
            "import zlib; print(zlib.crc32(repr(check(draw(118))).encode()))"
        )
        told = {
            subprocess.run(
                [sys.executable, "-c", code],
                cwd=ROOT,
                env={"PYTHONHASHSEED": hashing, "AWS_DEFAULT_REGION": "eu-west-1"},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for hashing in ("1", "2")
        }
        assert len(told) == 1
        assert told.pop().strip().isdigit()


def test_all_kinds_of_faults_are_drawn() -> None:
    drawn = {fault.kind for seed in range(500) for fault in draw(seed).faults}
    assert drawn == set(FaultKind)
