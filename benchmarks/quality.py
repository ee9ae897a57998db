"""The quality gate over a million rows, beside pandera (polars) and Great Expectations with the same rules; and over ten million."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.effort import Effort
from benchmarks.measuring import Sample, fresh, in_turn, middle, paired, run_file
from benchmarks.rows import Row
from scripts import ROOT

NAME = "quality"
SIZES = {Effort.FULL: (1_000_000, 5), Effort.QUICK: (200_000, 2), Effort.TINY: (3_000, 1)}
"""Rows, and how often each side is measured."""
MANY = {Effort.FULL: 10_000_000, Effort.QUICK: 1_000_000, Effort.TINY: 10_000}
MANY_MB = 1_000.0
SIDES = ROOT / "benchmarks" / "sides"
OTHERS = {
    "pandera (polars)": (SIDES / "quality_pandera.py", 1.0),
    "Great Expectations": (SIDES / "quality_expectations.py", 0.2),
}
"""Programs, and the most that the gate may take of the processor time that each takes."""
PACKAGES = ("pandera[polars]==0.35.0", "great_expectations==1.24.1", "pyarrow==26.0.0")
ENVIRONMENT = ROOT / ".local" / "bench-quality"


def benchmark(effort: Effort) -> Iterator[Row]:
    """Whole fresh processes, imports included: each run of a gate pays for them."""
    count, times = SIZES[effort]
    python = None if effort is Effort.TINY else other_python()
    with tempfile.TemporaryDirectory() as folder:
        fresh("benchmarks.sides.quality_rows", folder, count)
        sides = [partial(fresh, "benchmarks.sides.quality_ours", folder, count)]
        others = OTHERS if python else {}
        if python:
            sides += [partial(run_file, python, program, folder) for program, _ in others.values()]
        ours, *measured = in_turn(times, *sides)
        what = f"six rules over {count:,} rows, one in a thousand violating each"
        if not others:
            yield Row(
                benchmark=NAME,
                what=what,
                ours=_cpu(ours),
                note="" if effort is Effort.TINY else "pandera and Great Expectations could not be installed",
                numbers={"ours": ours},
            )
        for (name, (_, target)), theirs in zip(others.items(), measured, strict=True):
            check_same(ours, theirs, name)
            yield Row(
                benchmark=NAME,
                what=f"{what}: processor time",
                ours=_cpu(ours),
                against=f"{name} {_cpu(theirs)}",
                ratio=paired(ours, theirs, "process_cpu_seconds"),
                target=target,
                note=(
                    f"whole processes, the same violations; without imports {middle(ours, 'cpu_seconds'):.2f} and "
                    f"{middle(theirs, 'cpu_seconds'):.2f} s; memory {middle(ours, 'peak_mb'):.0f} and "
                    f"{middle(theirs, 'peak_mb'):.0f} MB"
                ),
                numbers={"ours": ours, "theirs": theirs, "rows": count},
            )
    yield _many(MANY[effort])


def _many(count: int) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        fresh("benchmarks.sides.quality_rows", folder, count)
        sample = fresh("benchmarks.sides.quality_ours", folder, count)
    return Row(
        benchmark=NAME,
        what=f"the same over {count:,} rows: memory",
        ours=f"{sample['peak_mb']:.0f} MB",
        measured=sample["peak_mb"],
        target=MANY_MB,
        unit="MB",
        note=f"{sample['process_cpu_seconds']:.1f} s of the processor",
        numbers={"sample": sample},
    )


def check_same(ours: list[Sample], theirs: list[Sample], name: str) -> None:
    """Raises `ValueError` where two sides find other violations: then their times mean nothing."""
    found = {rule: number for rule, number in ours[0]["found"].items() if number}
    other = {rule: number for rule, number in theirs[0]["found"].items() if number}
    if found != other:
        raise ValueError(f"{name} finds other violations, got: {other} and {found}")


def other_python() -> Path | None:
    """The Python of an environment with the other libraries; None where they cannot be installed."""
    python = ENVIRONMENT / "bin" / "python"
    stamp = ENVIRONMENT / "packages.txt"
    if stamp.is_file() and stamp.read_text() == "\n".join(PACKAGES):
        return python
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES]
    for command in ([sys.executable, "-m", "venv", "--clear", str(ENVIRONMENT)], install):
        if subprocess.run(command, capture_output=True, check=False).returncode:
            return None
    stamp.write_text("\n".join(PACKAGES))
    return python


def _cpu(samples: list[Sample]) -> str:
    return f"{middle(samples, 'process_cpu_seconds'):.2f} s"
