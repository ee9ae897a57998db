"""Rows and outputs that repeat an id: how many there were, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from winnow.core.document import required


@dataclass(frozen=True, slots=True, kw_only=True)
class Repetitions:
    """Of one stage run."""

    duplicates: int = 0
    """Rows of the source that repeat an id with the same content."""
    superseded: int = 0
    """Rows that repeat an id with other content, left out because the pipeline is set to take the first or the last."""
    conflicts: int = 0
    """Records that failed because an id was taken: rows with the id of another row, records whose output has the id of another's."""
    same_outputs: int = 0
    """Outputs that repeat another record's, id and data."""

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Self:
        """Raises `ValueError` if a field is missing or wrong."""
        return cls(**{name: required(value, name, int) for name in cls.__slots__})

    def to_json(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    def __bool__(self) -> bool:
        return any(self.to_json().values())

    def __str__(self) -> str:
        """In words: what there was any of; empty where no id came twice."""
        said = (
            (self.duplicates, "duplicate"),
            (self.superseded, "superseded row"),
            (self.conflicts, "id conflict"),
            (self.same_outputs, "repeated output"),
        )
        return ", ".join(f"{count:,} {what}{'s' if count > 1 else ''}" for count, what in said if count)
