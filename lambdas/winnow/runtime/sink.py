"""What the engine talks to: a sink that is told outcomes, and a gate that also says whether a record may be taken."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from winnow.batch.rows import Decode
from winnow.core.contract import Kind
from winnow.core.record import Record
from winnow.journal.reports import FailureReport
from winnow.journal.segment import Stop

Item = tuple[int, Record]
"""A record and its ordinal."""


class UndecodedRecord(NamedTuple):
    """A record as it lies in its source. It is decoded where the function runs, so that no other process has to carry its data."""

    id: str
    decode: Decode
    row: Any


class Line(NamedTuple):
    """An encoded output, and what the ids file of its segment says about it."""

    id: str
    ordinal: int
    """Of the record it came from; of the first where it came from several."""
    body: Any
    content: str | None = None
    """Digest of the data, of an output with an id of its own; None where it has the record's id, empty where it has that id with a number."""
    joins: tuple[int, ...] = ()
    """Ordinals of all records that it came from; empty where that is one."""
    deletion: bool = False
    """It says that what was published under its id is to go."""


class Sink(Protocol):
    """Where outcomes go: the recorder, or the pipe of a careful child."""

    def succeeded(self, ordinal: int, lines: list[Line], warnings: list[str] | None) -> None: ...

    def joined(self, ordinals: Sequence[int], lines: list[Line], warnings: list[str] | None) -> None:
        """Several records succeeded with outputs that join them. Told in one call: such an output counts as a whole or not at all."""

    def skipped(self, ordinal: int, reason: str, warnings: list[str] | None) -> None: ...

    def failed(self, ordinal: int, record_id: str, kind: Kind, error: BaseException) -> None: ...

    def lied(self, claims: int) -> None:
        """A batch worker claimed something about records it was not given."""


class Gate(Sink, Protocol):
    """A sink that also says whether a record may be taken."""

    @property
    def stopping(self) -> bool: ...

    @property
    def seconds_left(self) -> float:
        """Until no record is taken any more."""

    def request_stop(self, stop: Stop, cause: str = "") -> None: ...

    def take(self, ordinal: int) -> bool: ...

    def report(self, report: FailureReport) -> None: ...
