from __future__ import annotations

import io

import pytest
from rich.console import Console

from scripts.deployed.progress import RunProgress, StageProgress, StageState
from scripts.display.runs import follow, print_end


def progress(status: str, *stages: StageProgress) -> RunProgress:
    return RunProgress(run_id="01JD7ZK3V5Q8W9X0Y1Z2A3B4C5", status=status, stages=stages, seconds=61.2)


RUNNING = progress(
    "RUNNING",
    StageProgress(
        stage="adapt", state=StageState.RETRYING, records_in=1_636, succeeded=1_600, failed=30, tries=2
    ),
    StageProgress(stage="mint", state=StageState.WAITING),
)
ENDED = progress(
    "SUCCEEDED",
    StageProgress(
        stage="adapt", state=StageState.DONE, records_in=1_636, succeeded=1_606, failed=30, tries=2
    ),
    StageProgress(stage="mint", state=StageState.DONE, records_in=1_606, succeeded=1_606, tries=1),
)


def lines_of(*looks: RunProgress) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    assert follow(looks, console) is looks[-1]
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    return written.splitlines()


def test_without_a_terminal_each_change_of_a_stage_is_one_line() -> None:
    lines = lines_of(RUNNING, RUNNING, ENDED)
    assert [line.split(":")[0].split("s  ")[1] for line in lines] == [
        "adapt retrying, try 2",
        "adapt done, try 2",
        "mint done, try 1",
    ]
    assert "1,636 in, 1,600 succeeded, 0 skipped, 30 failed, 6 outstanding" in lines[0]


def test_on_a_terminal_a_table_moves_and_leaves_nothing_behind() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80)
    assert follow([RUNNING, ENDED], console) is ENDED
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Outstanding" in written
    assert written.endswith("\x1b[2K")


@pytest.mark.parametrize("width", [80, 120])
def test_the_closing_table_fits_a_terminal(width: int) -> None:
    console = Console(file=io.StringIO(), width=width)
    print_end(ENDED, console)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    header, adapt, mint = (line.split() for line in written.splitlines()[1:])
    assert header == ["Stage", "In", "Succeeded", "Skipped", "Failed", "Outstanding", "Try"]
    assert adapt == ["adapt", "1,636", "1,606", "0", "30", "0", "2", "done"]
    assert mint == ["mint", "1,606", "1,606", "0", "0", "0", "1", "done"]
