"""The lines of an output segment: what each says of itself."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from winnow.storage.formats import open_parquet
from winnow.storage.ledger import check_digest, decompress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from winnow.journal.segment import OutputSegment
    from winnow.journal.successes import SuccessEntry
    from winnow.storage.ledger import Ledger


def origins_of_outputs(
    ledger: Ledger, outputs: OutputSegment | SuccessEntry
) -> Iterator[tuple[str, list[str]]]:
    """Each line of an output segment: the output's id, and the ids of the records it came from.

    Raises:
        LedgerObjectMissing: there is no such object.
        DamagedDocument: it is not the one that the journal vouches for.
    """
    with ledger.naming(outputs.key):
        body = ledger.store.get(outputs.key).body
        check_digest(body, outputs.digest)
    if outputs.key.endswith(".parquet"):
        table = open_parquet(body, outputs.key).read(columns=["record_id", "from"]).to_pydict()
        for identifier, origin in zip(table["record_id"], table["from"], strict=True):
            yield identifier, [origin, *(json.loads(origin) if origin.startswith('["') else ())]
        return
    for line in decompress(body).split(b"\n"):
        if line:
            document = json.loads(line)
            origin = document["from"]
            yield document["id"], [origin] if isinstance(origin, str) else origin
