"""What a pipeline publishes: the data set's name, how versions are made, and when they are too old."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from winnow.core.contract import STAGE_NAME
from winnow.publish.documents import Format, Mode
from winnow.quality.rules import checked_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from winnow.quality.rules import Rule

MOST_HOURS = 24 * 365
STALE_MEANS = "Consumers read data that is older than it should be."
EXPIRED_MEANS = "Consumers should treat it as if there were no data."


@dataclass(frozen=True, slots=True)
class Publication:
    """A named data set that a pipeline publishes after its last stage.

    With `mode="replace"` a version is what one run made (snapshots). With `mode="merge"` it is the version before, with the run's
    outputs laid over it by id (changes): a record that failed keeps its last good row, and only `Delete()` removes one.
    """

    name: str
    """In the keys of its objects and on the command line: lower-case letters, digits and -, at most 32."""
    mode: Literal["replace", "merge"]
    format: Literal["ndjson", "parquet"] = "ndjson"
    """Of the part files. Nested values stay as they are in ndjson."""
    quality: Sequence[Rule] = ()
    """The gate: what a version has to be before it is published."""
    stale_after_hours: int | None = 48
    """From this age on an alarm warns; None for never."""
    expired_after_hours: int | None = None
    """From this age on a second alarm says that the data is not to be used any more; None for never."""
    stale_means: str = STALE_MEANS
    """What staleness means for consumers, in words, for the alarm's text."""
    expired_means: str = EXPIRED_MEANS

    def __post_init__(self) -> None:
        if not STAGE_NAME.fullmatch(self.name):
            raise ValueError(
                f"a publication's name must be lower-case letters, digits and -, at most 32, got: {self.name!r}"
            )
        if self.mode not in list(Mode):
            raise ValueError(f"mode must be one of {', '.join(Mode)}, got: {self.mode!r}")
        if self.format not in list(Format):
            raise ValueError(f"format must be one of {', '.join(Format)}, got: {self.format!r}")
        object.__setattr__(self, "quality", checked_rules(self.quality))
        for name in ("stale_after_hours", "expired_after_hours"):
            hours = getattr(self, name)
            if hours is not None and (type(hours) is not int or not 1 <= hours <= MOST_HOURS):
                raise ValueError(
                    f"{name} must be a whole number of hours from 1 to {MOST_HOURS}, or None, got: {hours!r}"
                )
        stale, expired = self.stale_after_hours, self.expired_after_hours
        if stale is not None and expired is not None and expired <= stale:
            raise ValueError(
                f"expired_after_hours must be more than stale_after_hours, which is {stale}, got: {expired}"
            )
