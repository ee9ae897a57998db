"""Winnow's errors, sorted by what should happen next."""

from __future__ import annotations


class WinnowError(Exception):
    """Base of everything Winnow itself raises."""


class PermanentError(WinnowError):
    """Raised by a worker's function: this record will never succeed as it is. No retries; recorded and alerted at once."""


class TransientError(WinnowError):
    """Raised by a worker's function: this record may succeed later. Any other error is treated the same."""


class StageInputError(WinnowError):
    """The input of a stage or a run is invalid: one line that names the field, the value and the remedy.

    Step Functions sees this class name as the error name.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field}: {remedy}, got: {shorten(value)}")
        self.field = field
        self.value = value
        self.remedy = remedy

    def under(self, field: str) -> StageInputError:
        """The same error under another field than `records`, the name that a source uses for its list."""
        return StageInputError(self.field.replace("records", field, 1), self.value, self.remedy)


class DuplicateAttempt(WinnowError):
    """An execution tried to run an attempt that another execution owns (redrive, hand-started duplicate)."""


class LedgerConflict(WinnowError):
    """A write-once object of the ledger already exists."""


class LedgerObjectMissing(WinnowError):
    """An object is missing from the ledger or a source."""


class DamagedDocument(WinnowError):
    """An object of the ledger cannot be read as what it should be; the message names the object and what is wrong."""


class ObjectForbidden(WinnowError):
    """This Lambda may not read an object that a caller pointed at."""


class SourceChanged(WinnowError):
    """The source object changed since Plan fixed the batch."""


class PublishConflict(WinnowError):
    """Another actor moved the pointer of a publication first."""


class PublishContended(WinnowError):
    """Other runs published again and again while this one laid its outputs over their versions."""


class PublishRefused(WinnowError):
    """What a person asked of a publication cannot be done; one line with the remedy."""


class UnpublishableRows(WinnowError):
    """Rows of a run cannot be one data set; one line that names the column, the ids and the remedy."""


class QualityGateFailed(WinnowError):
    """A candidate violates a rule that blocks, so it is not published. Step Functions sees this class name as the error name."""


class EveryRecordFailed(WinnowError):
    """Raised by the worker's Lambda when not one record succeeded and all failed transiently.

    Step Functions then waits and tries the worker once more, which covers a brief outage.
    """


class RecordTimeout(BaseException):
    """A record ran longer than the worker's `record_timeout`.

    Not an `Exception`, so that a worker's own `except Exception` cannot swallow it.
    """


MAX_VALUE_CHARS = 120
"""An offending value is quoted up to this length: an error message is one line, not a dump."""


def shorten(value: object, limit: int = MAX_VALUE_CHARS) -> str:
    """`repr` of a value, on one line, at most `limit` characters."""
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 1] + "…"
