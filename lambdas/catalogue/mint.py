"""The minter: gives each work its canonical id."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from catalogue import settings
from catalogue.identifiers import Identifier, IdentifierClaim, IdentifierTable, is_outage
from catalogue.tei.document import MAX_IDENTIFIER_CHARS
from winnow import Output, PermanentError, Record, worker
from winnow.core.errors import shorten
from winnow.storage.clients import client


class IdentifierTaken(PermanentError):
    """Another file owns the identifier.

    Two descriptions with one `xml:id` are a mistake only a cataloguer can mend: either may be the copy. Minting both
    under one id would let one work overwrite the other in silence, minting two ids would make a second work of what
    may be the same manuscript. So the first keeps the identifier, for good, and the other is reported.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """A work document that asks for its canonical id."""

    claim: IdentifierClaim
    document: Mapping[str, Any]

    @classmethod
    def from_record(cls, record: Record) -> Self:
        """Raises `PermanentError` when the record is no work document."""
        document = record.data
        if not isinstance(document, Mapping):
            raise PermanentError(
                f"not a work document, got: {shorten(document)}; start the pipeline at transform or before"
            )
        name = document.get("sourceIdentifier")
        if not isinstance(name, str) or not 0 < len(name) <= MAX_IDENTIFIER_CHARS:
            raise PermanentError(
                f"`sourceIdentifier` must be 1 to {MAX_IDENTIFIER_CHARS} characters, got: {shorten(name)}"
            )
        return cls(claim=IdentifierClaim(source_identifier=name, owner=record.id), document=document)

    def with_canonical_id(self, identifier: Identifier) -> Output | PermanentError:
        if identifier.owner != self.claim.owner:
            return IdentifierTaken(
                f"xml:id {self.claim.source_identifier!r} belongs to {identifier.owner}; give this description an xml:id "
                "of its own or, if that file was moved here, release the identifier (catalogue/identifiers.py)"
            )
        return Output({"canonicalId": identifier.canonical_id, **self.document}, id=identifier.canonical_id)


def connect() -> None:
    """Make the DynamoDB client once per cold start, and fail there if the table's name is missing."""
    client("dynamodb")
    settings.identifiers_table()


@worker(batch=100, setup=connect)
def mint(records: list[Record]) -> list[Output | Exception]:
    """Give each work the canonical id of its identifier, minting those that have none yet."""
    works = [_checked(record) for record in records]
    claims = [work.claim for work in works if isinstance(work, _Work)]
    table = IdentifierTable(client("dynamodb"), settings.identifiers_table())
    try:
        identifiers = table.claim(claims)
    except Exception as error:
        if not is_outage(error):
            raise
        # Not raised: that would make the runtime ask once more for every record by itself, of a table that is down.
        return [error if isinstance(work, _Work) else work for work in works]
    return [
        work.with_canonical_id(identifiers[work.claim.source_identifier]) if isinstance(work, _Work) else work
        for work in works
    ]


def _checked(record: Record) -> _Work | PermanentError:
    try:
        return _Work.from_record(record)
    except PermanentError as error:
        return error
