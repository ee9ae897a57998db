"""Runs benchmarks and prints what they found beside what was to be reached."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.deployed import SITES
from benchmarks.effort import Effort
from benchmarks.rows import Row
from scripts import ROOT
from scripts.terminal.interrupts import closing_first

MODULES = {
    "runtime": "runtime",
    "flushing": "flushing",
    "settling": "settling",
    "publishing": "publishing",
    "quality": "quality",
    "cold-start": "cold_start",
    "pipeline": "pipeline",
    "growth": "growth",
    "kills": "kills",
    "cost": "cost",
    "simulate": "simulate",
}
"""Benchmarks by name, in the order in which they run; each module has a `benchmark`."""
ONLY_BY_NAME = frozenset({"simulate"})
"""These measure nothing that a target is about, and take as long as all others together."""
WIDTH = 150
"""Where there is no terminal that has one."""
RESULTS = ROOT / "benchmarks" / "results" / "latest.json"


@click.command(
    epilog="""
\b
Examples:
  bench                      everything, about half an hour on a quiet machine
  bench --quick              all of it at a small size, a minute and a half
  bench runtime cold-start   only these
  bench simulate             100,000 simulated schedules, on all processors, for about an hour
  bench simulate --seeds 5000
"""
)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--quick", is_flag=True, help="Small sizes: shows whether something broke, not how fast it is.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    help="Of simulate: how many.  [default: 100000; 1000 with --quick]",
)
@click.option(
    "--json",
    "results",
    type=click.Path(dir_okay=False, path_type=Path),
    default=RESULTS,
    help="Where to write every number.  [default: benchmarks/results/latest.json]",
)
def main(names: tuple[str, ...], *, quick: bool, seeds: int | None, results: Path) -> None:
    """Measure Winnow's speed and cost, each beside something else in the same run, and write the numbers down.

    Numbers of a busy machine are noisy; ratios are taken from neighbours in time.
    """
    unknown = [name for name in names if name not in MODULES]
    if unknown:
        raise click.UsageError(f"NAME must be one of {', '.join(MODULES)}, got: {unknown[0]!r}")
    if seeds is not None and "simulate" not in names:
        raise click.UsageError(f"--seeds is of simulate, got: {', '.join(names) or 'no NAME'}; add simulate")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    effort = Effort.QUICK if quick else Effort.FULL
    facts, since = machine.facts(), time.monotonic()
    rows: list[Row] = []
    with closing_first(), SITES:
        for name in names or [name for name in MODULES if name not in ONLY_BY_NAME]:
            for row in measured(name, effort, **({"seeds": seeds} if name == "simulate" else {})):
                rows.append(row)
                console.print(f"  {_sign(row, effort)} {row.what}: {_found(row)}", soft_wrap=True)
    console.print()
    console.print(table(rows, effort))
    missed = [row for row in rows if row.met is False]
    console.print(
        f"{_verdict(rows, missed, effort)}; {time.monotonic() - since:.0f} s on {facts['processors']} processors, "
        f"load {facts['load_average'][0]:.1f} at the start"
    )
    write(results, rows, facts, effort)
    console.print(f"every number: {results}", soft_wrap=True)
    sys.exit(bool(missed) and effort is Effort.FULL)


def measured(name: str, effort: Effort, **options: int | None) -> Iterator[Row]:
    """Run one benchmark."""
    rows: Iterator[Row] = importlib.import_module(f"benchmarks.{MODULES[name]}").benchmark(effort, **options)
    return rows


def _verdict(rows: list[Row], missed: list[Row], effort: Effort) -> str:
    if effort is not Effort.FULL:
        return "small sizes, at which fixed costs show; the targets are about the full ones"
    return f"{sum(row.met is True for row in rows)} targets reached, {len(missed)} missed"


def table(rows: list[Row], effort: Effort) -> Table:
    """What was found, for people."""
    shown = Table(show_edge=False, pad_edge=False)
    shown.add_column("what")
    shown.add_column("ours", justify="right")
    shown.add_column("against", justify="right")
    shown.add_column("ratio", justify="right")
    shown.add_column("target", justify="right")
    shown.add_column("met?")
    for row in rows:
        ratio = "" if row.ratio is None else f"{row.ratio:.3g}"
        what = f"{row.what}\n[dim]{row.note}[/]" if row.note else row.what
        shown.add_row(what, row.ours, row.against, ratio, _target(row), _sign(row, effort))
    return shown


def _target(row: Row) -> str:
    return "" if row.target is None else f"≤ {row.target:g}{row.unit and ' ' + row.unit}"


def _sign(row: Row, effort: Effort) -> str:
    met = row.met if effort is Effort.FULL else None
    return {True: "[green]yes[/]", False: "[red]no[/]", None: "[dim]–[/]"}[met]


def _found(row: Row) -> str:
    against = f" against {row.against}" if row.against else ""
    ratio = f", ratio {row.ratio:.3g}" if row.ratio is not None else ""
    return f"{row.ours}{against}{ratio}"


def write(results: Path, rows: list[Row], facts: dict[str, Any], effort: Effort) -> None:
    """All rows and samples, and where they come from."""
    document = {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "effort": effort,
        "machine": facts,
        "rows": [row.to_json() for row in rows],
    }
    results.parent.mkdir(parents=True, exist_ok=True)
    results.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
