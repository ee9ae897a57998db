"""What the gate said of versions before. Without DuckDB: the run closer reads it, too."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from winnow.core.document import fields_of
from winnow.core.errors import LedgerObjectMissing
from winnow.quality.result import GateResult

if TYPE_CHECKING:
    from winnow.publish.published_set import PublishedSet


def find_gate(published: PublishedSet, version: int) -> GateResult | None:
    """The results of the rules for a version; None where the gate has not judged it. Raises `DamagedDocument`."""
    key = published.keys.version(version).gate
    try:
        body = published.store.get(key).body
    except LedgerObjectMissing:
        return None
    with published.naming(key):
        return GateResult.from_json(fields_of(json.loads(body)))


def candidate_of(published: PublishedSet, run_id: str) -> int | None:
    """The last version that a run began to build; None where it built none. Raises `DamagedDocument`."""
    for number in reversed(published.versions()):
        claim = published.claim(number)
        if claim and claim.run_id == run_id:
            return number
    return None
