"""What a worker's function is given and may return."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Record:
    """One record: its id, and what the source carries for it."""

    __slots__ = ("_as_read", "_fields", "_id", "_warnings", "data")

    def __init__(self, id: str, data: Any = None, fields: Mapping[str, Any] | None = None) -> None:  # noqa: A002  the word that users know
        if (
            fields is not None
        ):  # set only where there are some: most rows have none, and a million records are made
            self._fields = fields
        self._id = id
        self.data = data
        self._warnings: list[str] | None = None
        self._as_read: Callable[[], tuple[Any, ...]] | None = None
        """Reads id, data and fields again; None where the record is handed to the function once only."""

    @property
    def id(self) -> str:
        """Its id in the batch; it cannot be changed."""
        return self._id

    @id.setter  # noqa: A003
    def id(self, value: object) -> None:
        raise AttributeError(
            f"record.id cannot be changed; return Output(data, id=…) for an output with another id, got: {value!r}"
        )

    @property
    def fields(self) -> Mapping[str, Any]:
        """What its row holds beside `id` and `data`, such as `type` and `source` of a CloudEvent; empty where the whole row is the data."""
        return getattr(self, "_fields", {})

    def warn(self, message: str) -> None:
        """Note something odd that does not stop the record: logged, counted and reported; the record succeeds."""
        if self._warnings is None:
            self._warnings = []
        self._warnings.append(str(message))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warnings so far."""
        return tuple(self._warnings or ())

    def _begin_again(self) -> None:
        """Reset the record to what was read, before it is handed to the function again: changes of its data and warnings are dropped."""
        self._warnings = None
        if self._as_read is not None:
            _, self.data, *fields = self._as_read()
            for each in fields:
                self._fields = each

    def _copy_as_read(self) -> Record:
        """A new record of the same row, for another thread."""
        copy = Record(self._id, self.data, self.fields)
        copy._as_read = self._as_read
        copy._begin_again()
        return copy

    def __repr__(self) -> str:
        return f"Record(id={self.id!r})"


@dataclass(frozen=True, slots=True)
class Skip:
    """Returned by a worker's function: deliberately nothing to do. The record is done, and hands nothing on."""

    reason: str = ""


@dataclass(frozen=True, slots=True)
class Delete:
    """Returned by a worker's function: what was published under the record's id, or under that of `Output(Delete(), id=…)`, is to go.

    The record succeeds, and the deletion is its output. Later stages hand it on without calling their workers.
    """


@dataclass(frozen=True, slots=True)
class Output:
    """Returned by a worker's function whose output has an id of its own, or joins several records."""

    data: Any
    id: str | None = None
    """The output's id; the input's when None."""
    sources: Sequence[Record] | None = None
    """Batch workers that give many to one: the records that went into this output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Trying again near the failure, in the process, before the record counts as failed in this try.

    For errors that pass in seconds, such as a refused connection. The stage's tries are for the rest.
    """

    on: tuple[type[Exception], ...]
    attempts: int = 3
    """Calls in all."""
    wait_seconds: float = 0.2
    """Before the second call, at most; doubles with each, with full jitter."""

    @property
    def longest_wait(self) -> float:
        """Seconds that all waits together may take."""
        return float(self.wait_seconds * (2 ** (self.attempts - 1) - 1))

    def __post_init__(self) -> None:
        if self.attempts < 2:
            raise ValueError(f"`attempts` must be at least 2, got: {self.attempts}")
        if self.wait_seconds < 0:
            raise ValueError(f"`wait_seconds` must not be negative, got: {self.wait_seconds}")
        if not self.on:
            raise ValueError("`on` must name at least one exception, got: ()")
