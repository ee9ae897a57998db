"""Every benchmark runs at a tiny size and yields rows that make sense; how fast anything is, no test says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from benchmarks import cold_start, machine, month
from benchmarks.__main__ import MODULES, main, measured, table, write
from benchmarks.deployed import SITES
from benchmarks.effort import Effort
from benchmarks.growth import longest
from benchmarks.rows import Row
from scripts import ROOT

ON_EMULATOR = {"pipeline", "growth", "cost"}


@pytest.fixture(scope="module", autouse=True)
def sites() -> Iterator[None]:
    with SITES:
        yield


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.emulator, pytest.mark.xdist_group("weather")] if name in ON_EMULATOR else (),
        )
        for name in MODULES
    ],
)
def test_yields_rows_that_make_sense(name: str, tmp_path: Path) -> None:
    rows = list(measured(name, Effort.TINY))
    assert rows
    for row in rows:
        assert row.benchmark == name
        assert row.what
        assert row.ours
        assert (row.met is None) == (row.target is None)
    if name == "cost":
        assert rows[0].numbers["metrics"] == month.METRICS, "docs/deploying.md has to be worked out again"
    results = tmp_path / "results.json"
    write(results, rows, machine.facts(), Effort.TINY)
    assert len(json.loads(results.read_text())["rows"]) == len(rows)
    console = Console(width=200)
    with console.capture() as captured:
        console.print(table(rows, Effort.TINY))
    assert all(row.ours in captured.get() for row in rows)


def row(**fields: float) -> Row:
    return Row(benchmark="x", what="something", ours="1 s", **fields)  # type: ignore[arg-type]


def test_a_target_is_the_most_that_is_allowed() -> None:
    assert row(ratio=1.0, target=1.0).met is True
    assert row(ratio=1.01, target=1.0).met is False
    assert row(measured=5.1, target=5.0).met is False
    assert row(ratio=1.0).met is None


def test_a_target_needs_a_number() -> None:
    with pytest.raises(ValueError, match="must have a number"):
        row(target=1.0)


def test_every_handler_is_started_cold() -> None:
    handlers = {file.stem for file in (ROOT / "lambdas" / "winnow" / "handlers").glob("[!_]*.py")}
    assert set(cold_start.CLIENTS) == handlers


def test_the_longest_state_data_is_found_wherever_an_event_carries_it() -> None:
    event = {
        "id": 1,
        "type": "TaskScheduled",
        "taskScheduledEventDetails": {"parameters": "é" * 10, "region": "x"},
    }
    assert longest(event) == 20
    assert longest({"id": 1, "type": "TaskStarted"}) == 0


def test_refuses_a_name_that_is_none() -> None:
    result = CliRunner().invoke(main, ["speed"])
    assert result.exit_code == 2
    assert "NAME must be one of runtime, flushing" in result.output
    assert "got: 'speed'" in result.output
