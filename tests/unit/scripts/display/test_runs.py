from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from scripts.deployed.progress import RunProgress, StageProgress, StageState
from scripts.display.runs import follow, print_end
from winnow.publish.documents import Counts
from winnow.runs.published_by_run import PublishedByRun


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


COUNTS = Counts(added=1_012, changed=3, unchanged=5, removed=1, kept=0)


@pytest.mark.parametrize(
    ("status", "version", "reason", "current", "line"),
    [
        ("SUCCEEDED", 7, None, 7, "published works version 7 (+1,012 ~3 -1)"),
        ("SUCCEEDED", 7, None, 8, "published works version 7 (+1,012 ~3 -1); version 8 is current since"),
        (
            "SUCCEEDED",
            None,
            "held by curator: broken",
            6,
            "not published: held by curator: broken; works stays version 6",
        ),
        ("SUCCEEDED", None, "held by curator: broken", None, "not published: held by curator: broken"),
        ("FAILED", None, "QualityGateFailed: …", 6, "not published: the run failed; works stays version 6"),
    ],
)
def test_one_line_says_what_was_published_or_why_not(
    status: str, version: int | None, reason: str | None, current: int | None, line: str
) -> None:
    published = PublishedByRun(
        publication="works",
        version=version,
        counts=COUNTS if version else None,
        reason=reason,
        current=current,
    )
    console = Console(file=io.StringIO(), width=60)
    print_end(replace(ENDED, status=status, published=published), console)
    written: str = console.file.getvalue()  # type: ignore[attr-defined]
    assert written.splitlines()[-1] == line


def test_a_run_of_a_pipeline_that_publishes_nothing_says_nothing_of_it() -> None:
    console = Console(file=io.StringIO(), width=80)
    print_end(ENDED, console)
    assert "published" not in console.file.getvalue()  # type: ignore[attr-defined]
