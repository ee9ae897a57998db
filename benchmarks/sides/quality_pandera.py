"""The same rules by pandera over polars. Runs in an environment of its own, so it imports nothing of ours."""

import json
import resource
import sys
import time


def main(arguments: list[str]) -> None:
    """Arguments: folder."""
    import pandera.polars as pa  # noqa: PLC0415  only in that environment
    import polars as pl  # noqa: PLC0415  only in that environment

    languages, shelf, years = ("ar", "fa", "he", "syr"), "^WMS [0-9]+$", (0, 2100)
    since = time.process_time()
    rows = pl.read_parquet(f"{arguments[0]}/*.parquet")
    schema = pa.DataFrameSchema(
        {
            "id": pa.Column(str, unique=True),
            "title": pa.Column(str, nullable=False),
            "language": pa.Column(str, pa.Check.isin(languages)),
            "shelf": pa.Column(str, pa.Check.str_matches(shelf), unique=True),
            "year": pa.Column(pl.Int64, pa.Check.in_range(*years)),
        }
    )
    try:
        schema.validate(rows, lazy=True)
        cases = []
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases.group_by("column", "check").len().rows()
    cpu_seconds = time.process_time() - since
    found = {_name(column, check): number for column, check, number in cases}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"found": found, "cpu_seconds": cpu_seconds, "peak_mb": peak_mb}))


def _name(column: str, check: str) -> str:
    return f"unique {column}" if "unique" in check else column


if __name__ == "__main__":
    main(sys.argv[1:])
