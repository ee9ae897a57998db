"""Two runs' outputs on disk: the first made all rows, the second nine tenths of them again, some of them new."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.disk import DiskStore
from benchmarks.sides.common import STAGE
from winnow.core import keys
from winnow.core.contract import Pointer
from winnow.core.run_document import RunDocument
from winnow.journal.segment import OutputIds
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.storage.formats import NDJSON
from winnow.storage.ledger import Ledger, digest_of

LINES_PER_SEGMENT = 20_000
RUNS = ("run-1", "run-2")


def main(arguments: list[str]) -> None:
    """Arguments: folder, rows."""
    folder, count = Path(arguments[0]), int(arguments[1])
    ledger = Ledger(DiskStore(folder, "ledger"))
    for number, run_id in enumerate(RUNS):
        _run(ledger, run_id, number, range(number * (count // 10), number * (count // 10) + count))
    print("{}")


def _run(ledger: Ledger, run_id: str, number: int, rows: range) -> None:
    stage = keys.StageKeys(run_id, STAGE)
    entries = []
    shuffled = list(rows)
    random.Random(run_id).shuffle(shuffled)
    for sequence, first in enumerate(range(0, len(shuffled), LINES_PER_SEGMENT)):
        some = shuffled[first : first + LINES_PER_SEGMENT]
        ids = [f"work-{row:08d}" for row in some]
        key = stage.attempt(0).outputs("bench", sequence, NDJSON.suffix)
        ids_key = stage.attempt(0).output_ids("bench", sequence)
        body = NDJSON.body(
            [NDJSON.line(i, i, data) for i, data in zip(ids, _data(some, number), strict=True)]
        )
        ledger.store.put(key, body)
        entries.append(
            SuccessEntry(
                key=key,
                ids_key=ids_key,
                lines=len(some),
                digest=digest_of(body),
                ids_digest=ledger.write_json(ids_key, OutputIds(ids=ids, of=some).to_json()),
            )
        )
    manifest = SuccessManifest(
        run_id=run_id,
        stage=STAGE,
        records=len(shuffled),
        lines=len(shuffled),
        lost_in_run=0,
        entries=tuple(entries),
    )
    ledger.write_json(stage.successes, manifest.to_json())
    run = RunDocument(
        run_id=run_id,
        pipeline="bench",
        stages=(STAGE,),
        start_at=STAGE,
        trigger={},
        replay_id=None,
        execution="bench",
        started_at=f"2026-11-0{number + 1}T00:00:00.000Z",
        records=Pointer(bucket="ledger", key="list"),
        stepped_aside=None,
    )
    ledger.write_json(keys.run(run_id), run.to_json())


def _data(rows: list[int], number: int) -> Iterator[dict[str, Any]]:
    """About 300 bytes a row, as a catalogue has them; every third differs between the runs."""
    for row in rows:
        yield {
            "title": f"A history of number {row}, its uses and abuses in the long century before it was counted",
            "year": 1500 + row % 500,
            "price": row / 7,
            "languages": ["eng", "wel"][: 1 + row % 2],
            "contributors": [{"name": f"Author {row % 10_007}", "role": "author"}],
            "edition": number if row % 3 == 0 else 0,
            "note": None if row % 5 else f"bound with {row + 1}",
        }
