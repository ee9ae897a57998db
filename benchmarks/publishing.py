"""What it takes to lay a million rows over a million others, and to publish them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from benchmarks.effort import Effort
from benchmarks.measuring import fresh
from benchmarks.rows import Row
from winnow.publish.documents import Format

NAME = "publishing"
SIZES = {Effort.FULL: 1_000_000, Effort.QUICK: 100_000, Effort.TINY: 2_000}
MOST_MB = 1024.0
SIDE = "benchmarks.sides.publish_build"


def benchmark(effort: Effort) -> Iterator[Row]:
    """Fresh processes, on files of this machine: S3's time is not in it."""
    count = SIZES[effort]
    with tempfile.TemporaryDirectory() as folder:
        fresh("benchmarks.sides.publish_fixture", folder, count)
        for form in Format:
            first = fresh(SIDE, folder, form, "run-1")
            merged = fresh(SIDE, folder, form, "run-2")
            what = f"laying {count:,} rows over {count:,}, as {form}"
            numbers = {"first": first, "merged": merged}
            yield Row(
                benchmark=NAME,
                what=f"{what}: time",
                ours=f"{merged['seconds']:.0f} s",
                note=f"{merged['seconds'] / count * 1e6:.0f} µs each; CPU {merged['cpu_seconds']:.0f} s; "
                f"the first version {first['seconds']:.0f} s",
                numbers=numbers,
            )
            yield Row(
                benchmark=NAME,
                what=f"{what}: memory",
                ours=f"{merged['peak_mb']:.0f} MB",
                measured=merged["peak_mb"],
                unit="MB",
                target=MOST_MB,
                note=f"{merged['files']} files, {merged['bytes'] / 1e6:.0f} MB",
                numbers=numbers,
            )
