"""The ids of the outputs of a stage whose worker makes ids of its own, on disk: a share of them is another record's."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from benchmarks.disk import DiskStore
from benchmarks.sides.common import RUN, STAGE
from winnow.core.keys import StageKeys
from winnow.journal.segment import OutputIds
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.storage.ledger import Ledger

LINES_PER_SEGMENT = 40_000
"""About what a worker has in 8 MB of outputs."""
ONE_IN = 1_000
"""Of so many outputs has an id that another record's output has."""


def main(arguments: list[str]) -> None:
    """Arguments: folder, number of outputs."""
    folder, count = Path(arguments[0]), int(arguments[1])
    ledger = Ledger(DiskStore(folder))
    keys = StageKeys(RUN, STAGE)
    entries = []
    for sequence, first in enumerate(range(0, count, LINES_PER_SEGMENT)):
        ordinals = range(first, min(count, first + LINES_PER_SEGMENT))
        ids_key = keys.attempt(0).output_ids("bench", sequence)
        entries.append(
            SuccessEntry(
                key=keys.attempt(0).outputs("bench", sequence, "ndjson.gz"),
                ids_key=ids_key,
                lines=len(ordinals),
                digest="not read",
                ids_digest=ledger.write_json(ids_key, _ids(ordinals).to_json()),
                own_ids=True,
            )
        )
    manifest = SuccessManifest(
        run_id=RUN, stage=STAGE, records=count, lines=count, lost_in_run=0, entries=tuple(entries)
    )
    ledger.write_json(keys.successes, manifest.to_json())
    print("{}")


def _ids(ordinals: Sequence[int]) -> OutputIds:
    named = [ordinal - (ordinal % ONE_IN == 1) for ordinal in ordinals]
    return OutputIds(
        ids=[f"work-{ordinal:08d}" for ordinal in named],
        of=list(ordinals),
        contents=[hashlib.blake2b(b"%d" % ordinal, digest_size=8).hexdigest() for ordinal in ordinals],
    )
