"""Writes rows for the quality gate as Parquet parts; one row in a thousand violates each rule."""

import json
from pathlib import Path

import duckdb

PART_ROWS = 250_000
LANGUAGES = ("ar", "fa", "he", "syr")
SHELF = "^WMS [0-9]+$"
YEARS = (0, 2100)

ROWS = """
SELECT printf('record-%08d', i) AS id,
       CASE WHEN i % 1000 = 1 THEN NULL ELSE 'A title of work ' || i END AS title,
       CASE WHEN i % 1000 = 2 THEN 'xx' ELSE ['ar', 'fa', 'he', 'syr'][1 + i % 4] END AS language,
       CASE WHEN i % 1000 = 3 THEN 'no shelf ' || i WHEN i % 1000 = 4 THEN 'WMS ' || (i + 2)
            ELSE 'WMS ' || i END AS shelf,
       CASE WHEN i % 1000 = 5 THEN 9999 ELSE i % 2000 END AS year
FROM range({first}, {last}) r(i)
"""


def main(arguments: list[str]) -> None:
    """Arguments: folder, rows. Row 4 of each thousand has the shelf of row 6."""
    folder, count = Path(arguments[0]), int(arguments[1])
    connection = duckdb.connect()
    for number, first in enumerate(range(0, count, PART_ROWS)):
        rows = ROWS.format(first=first, last=min(count, first + PART_ROWS))
        path = folder / f"part-{number:05d}.parquet"
        connection.execute(f"COPY ({rows}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
    print(json.dumps({"rows": count}))
