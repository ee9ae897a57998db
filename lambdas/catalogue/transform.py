"""The transformer: from a changeset's row to a work document."""

from __future__ import annotations

import re
from typing import Any

from catalogue.changeset import ChangesetRow
from catalogue.tei.document import parse
from catalogue.tei.manuscript import describe
from winnow import PermanentError, Record, Skip, worker

_TEMPLATE = re.compile(r"(?:^|[^a-z])templates?(?:$|[^a-z])")


@worker
def transform(record: Record) -> dict[str, Any] | Skip:
    """Make the work that a description is of."""
    row = ChangesetRow.from_data(record.data)
    if row.deleted:
        return Skip("deleted at the source")
    if is_template(row):
        return Skip("template")
    warnings: list[str] = []
    try:
        work = describe(parse(row.content), row, warnings.append)
    except RecursionError:
        raise PermanentError(
            "elements are nested too deeply for a description; look for an end tag in the wrong place"
        ) from None
    for warning in dict.fromkeys(
        warnings
    ):  # each once, however often the same mistake occurs in the description
        record.warn(warning)
    return work.to_document()


def is_template(row: ChangesetRow) -> bool:
    """A form for cataloguers to fill in, by where it lies (`Templates/`) or what it is called (`…_Template.xml`)."""
    return any(_TEMPLATE.search(name.casefold()) for name in (row.source, row.id))
