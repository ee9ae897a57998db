"""The gate over Parquet parts, as CheckQuality runs it, without S3."""

import json
import shutil
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.sides.common import Clock, peak_mb
from benchmarks.sides.quality_rows import LANGUAGES, SHELF, YEARS
from winnow.quality.database import Database
from winnow.quality.engine import Examination, RowSource
from winnow.quality.facts import CandidateFacts
from winnow.quality.rules import Allowed, InRange, NullShare, Pattern, Unique

WHY = "it is measured"
RULES = (
    NullShare("title", at_most=0, reason=WHY, name="title"),
    Allowed("language", values=LANGUAGES, reason=WHY, name="language"),
    Pattern("shelf", pattern=SHELF, reason=WHY, name="shelf"),
    InRange("year", minimum=YEARS[0], maximum=YEARS[1], reason=WHY, name="year"),
    Unique("shelf", reason=WHY, name="unique shelf"),
    Unique("id", reason=WHY, name="unique id"),
)


def main(arguments: list[str]) -> None:
    """Arguments: folder, rows."""
    folder, count = Path(arguments[0]), int(arguments[1])
    clock = Clock()
    source = RowSource(
        format="parquet", keys=[str(path) for path in sorted(folder.glob("*.parquet"))], fetch=_copy
    )
    facts = CandidateFacts(rows=count, changed=0, removed=0, base=None, base_rows=0, began=datetime.now(UTC))
    with TemporaryDirectory() as scratch, closing(Database(Path(scratch))) as database:
        examination = Examination(RULES, rows=source, facts=facts, others=lambda _: None, database=database)
        examination.measure()
        for _ in examination.violating_ids():
            pass
        results = examination.results()
    _, cpu_seconds = clock.taken()
    found = {result.rule.name: result.violations for result in results}
    print(json.dumps({"found": found, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb()}))


def _copy(key: str, path: Path) -> None:
    shutil.copy(key, path)


if __name__ == "__main__":
    main(sys.argv[1:])
