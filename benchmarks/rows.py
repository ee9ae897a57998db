"""A row: one claim about speed or cost, measured against something else in the same run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What was measured, and what was to be reached. Numbers in the row's own unit; ratios are what counts."""

    benchmark: str
    what: str
    ours: str
    """With its unit, for people."""
    against: str = ""
    """The other side, measured beside it; empty where the claim is about ours alone."""
    ratio: float | None = None
    target: float | None = None
    """The most that the ratio, or the number under `measured`, may be; None for a row that only informs."""
    measured: float | None = None
    """What is held against the target where there is no ratio."""
    unit: str = ""
    """Of `measured`."""
    note: str = ""
    numbers: dict[str, Any] = field(default_factory=dict)
    """Every sample, for the JSON."""

    def __post_init__(self) -> None:
        if self.target is not None and self.value is None:
            raise ValueError(f"a row with a target must have a number to hold against it, got: {self.what!r}")

    @property
    def value(self) -> float | None:
        """What is held against the target."""
        return self.ratio if self.ratio is not None else self.measured

    @property
    def met(self) -> bool | None:
        """Whether the target is reached; None where there is none."""
        return None if self.target is None or self.value is None else self.value <= self.target

    def to_json(self) -> dict[str, Any]:
        return {
            "benchmark": self.benchmark,
            "what": self.what,
            "ours": self.ours,
            "against": self.against,
            "ratio": self.ratio,
            "measured": self.measured,
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
            "note": self.note,
            "numbers": self.numbers,
        }
