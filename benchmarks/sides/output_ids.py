"""Which outputs of a stage have an id that another has: as Settle finds it, or with a dictionary of all ids."""

from __future__ import annotations

import json
import time
from pathlib import Path

from benchmarks.disk import DiskStore
from benchmarks.sides.common import RUN, STAGE, peak_mb
from winnow.core.keys import StageKeys
from winnow.journal.segment import read_output_ids
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.settlement.clashes import OutputIdCheck
from winnow.storage.ledger import Ledger


def main(arguments: list[str]) -> None:
    """Arguments: folder; `check` or `dictionary`."""
    folder, how = Path(arguments[0]), arguments[1]
    ledger = Ledger(DiskStore(folder))
    entries = ledger.read(StageKeys(RUN, STAGE).successes, SuccessManifest.from_json).entries
    since = time.perf_counter()
    if how == "check":
        found = sum(len(clashes) for _, clashes in OutputIdCheck(ledger, entries).clashes())
    else:
        found = _with_dictionary(ledger, entries)
    print(json.dumps({"seconds": time.perf_counter() - since, "peak_mb": peak_mb(), "found": found}))


def _with_dictionary(ledger: Ledger, entries: tuple[SuccessEntry, ...]) -> int:
    owners: dict[str, str | None] = {}
    found = 0
    for entry in entries:
        side = read_output_ids(ledger, entry)
        for output_id, content in zip(side.ids, side.contents or (), strict=True):
            found += owners.setdefault(output_id, content) != content
    return found
