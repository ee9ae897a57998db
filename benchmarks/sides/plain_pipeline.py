"""The same three functions in a plain script, which keeps nothing: each stage reads ndjson from S3 and writes ndjson to S3."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import boto3

from benchmarks.workers import FUNCTIONS


def main(arguments: list[str]) -> None:
    """Arguments: bucket, key of the records, how many there are."""
    bucket, key, count = arguments
    s3 = boto3.client("s3")
    since = time.perf_counter()
    for number, function in enumerate(FUNCTIONS):
        key, written = _stage(s3, bucket, key, f"plain/{number}.ndjson", function)
        assert written == int(count)
    print(json.dumps({"seconds": time.perf_counter() - since}))


def _stage(
    s3: Any, bucket: str, key: str, to: str, function: Callable[[dict[str, Any]], dict[str, Any]]
) -> tuple[str, int]:
    lines = s3.get_object(Bucket=bucket, Key=key)["Body"].read().splitlines()
    out = []
    for line in lines:
        row = json.loads(line)
        out.append(json.dumps({"id": row["id"], "data": function(row["data"])}))
    s3.put_object(Bucket=bucket, Key=to, Body="\n".join([*out, ""]).encode())
    return to, len(out)
