"""Which runs a ledger has, and in which order they came."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from winnow.core import keys
from winnow.core.contract import ULID
from winnow.core.errors import DamagedDocument
from winnow.core.run_document import RunDocument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from winnow.storage.ledger import Ledger

READERS = 16


def run_ids(s3: Any, bucket: str) -> list[str]:
    """Every run that has left something, by id; costs a request per thousand runs."""
    found: list[str] = []
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=keys.RUNS, Delimiter="/")
    for page in pages:
        found += [each["Prefix"].split("/")[1] for each in page.get("CommonPrefixes", ())]
    return sorted(found)


def newest_first(ids: Iterable[str]) -> list[str]:
    """Runs whose ids tell when they started, the latest first; not those that bear a name of their own, as replays do."""
    return sorted((run for run in ids if ULID.fullmatch(run)), reverse=True)


def documents(
    ledger: Ledger, ids: Iterable[str], damaged: dict[str, str] | None = None
) -> Iterator[RunDocument]:
    """The `run.json` of each run that has one.

    Args:
        ledger: of the pipeline.
        ids: of runs.
        damaged: takes, by run id, why a document cannot be read.

    Raises:
        DamagedDocument: one cannot be read, and `damaged` is not given.
    """

    def find(run_id: str) -> RunDocument | None:
        try:
            return ledger.find(keys.run(run_id), RunDocument.from_json)
        except DamagedDocument as error:
            if damaged is None:
                raise
            damaged[run_id] = str(error)
            return None

    with ThreadPoolExecutor(max_workers=READERS) as pool:
        for found in pool.map(find, ids):
            if found:
                yield found
