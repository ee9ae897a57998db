"""The only module of the example that reads the environment."""

from __future__ import annotations

import os


class SettingMissing(Exception):
    """An environment variable that a worker needs is not set."""


def identifiers_table() -> str:
    """Name of the DynamoDB table that mint keeps identifiers in."""
    return _need("IDENTIFIERS_TABLE")


def source_bucket() -> str | None:
    """Bucket of records that are given as a bare key; a listing names the bucket itself."""
    return os.environ.get("SOURCE_BUCKET") or None


def _need(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise SettingMissing(f"{name} is not set for this Lambda: the example's stack sets it")
    return value
