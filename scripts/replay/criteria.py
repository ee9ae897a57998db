"""Which failures an operator means: the filters that all commands over the register share."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self

import click

from scripts.terminal.errors import Mistake
from winnow.alerts.shown_ids import typed_id
from winnow.core.contract import Kind, iso
from winnow.register.entry import Status

if TYPE_CHECKING:
    from winnow.register.item import Summary

AGO = re.compile(r"(\d+)([mhdw])")
UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Criteria:
    """What an entry has to be like; an empty field asks for nothing."""

    stage: str = ""
    kinds: tuple[str, ...] = ()
    error_types: tuple[str, ...] = ()
    fingerprints: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()
    """In which it failed last."""
    ids: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    since: str = ""
    """Failed last at this moment or later; ISO 8601, as the register has it."""
    until: str = ""
    """Failed last before this moment."""

    @classmethod
    def from_options(cls, options: dict[str, Any], *, stages: tuple[str, ...], moment: datetime) -> Self:
        """Check and read what was typed.

        Raises:
            Mistake: one of the options cannot be.
        """
        stage = options["stage"] or ""
        if stage and stage not in stages:
            raise Mistake("--stage", stage, f"must be one of {', '.join(stages)}")
        return cls(
            stage=stage,
            kinds=options["kind"],
            error_types=options["error_type"],
            fingerprints=options["fingerprint"],
            runs=options["run"],
            ids=options["record_id"],
            statuses=options["status"],
            since=read_moment("--since", options["since"], moment),
            until=read_moment("--until", options["until"], moment),
        )

    @property
    def are_given(self) -> bool:
        """Whether anything at all was asked for."""
        return any(getattr(self, field.name) for field in fields(self))

    @property
    def ask_for_resolved(self) -> bool:
        return Status.RESOLVED in self.statuses

    def match(self, entry: Summary, now: str) -> bool:
        """Whether an entry is meant."""
        return (
            (not self.stage or entry.stage == self.stage)
            and (not self.kinds or entry.kind in self.kinds)
            and (not self.error_types or entry.error_type in self.error_types)
            and (not self.fingerprints or entry.fingerprint in self.fingerprints)
            and (not self.runs or entry.run_id in self.runs)
            and (not self.ids or entry.record_id in self.ids or entry.record_id in map(typed_id, self.ids))
            and (not self.statuses or status_of(entry, now) in self.statuses)
            and (not self.since or entry.last_seen >= self.since)
            and (not self.until or entry.last_seen < self.until)
        )


def status_of(entry: Summary, now: str) -> Status:
    """An entry's status as it counts: a replay whose lease is over holds nothing any more."""
    if entry.status is Status.REPLAYING and not entry.held(now):
        return Status.OPEN
    return entry.status


def read_moment(option: str, text: str | None, moment: datetime) -> str:
    """A moment as the register spells it, from `2h`, `7d`, a date, or a date and time (UTC unless it says otherwise).

    Raises:
        Mistake: it is none of these.
    """
    if not text:
        return ""
    ago = AGO.fullmatch(text)
    try:
        age = timedelta(**{UNITS[ago[2]]: int(ago[1])}) if ago else None
        found = moment - age if age is not None else datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise Mistake(
            option,
            text,
            "must be a moment as 2026-07-25, 2026-07-25T14:30 (UTC), or an age as 90m, 12h, 7d, 2w",
        ) from None
    if found.tzinfo is None:
        found = found.replace(tzinfo=UTC)
    return iso(found)


def criteria_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The filters as options; the command gets them as one dictionary, `options`."""
    decorators = (
        click.option("--pipeline", metavar="NAME", help="Needed only where there are several."),
        click.option("--stage", metavar="NAME", help="The stage that the records failed in."),
        click.option(
            "--kind",
            type=click.Choice([each.value for each in Kind]),
            multiple=True,
            help="May be given again for more.",
        ),
        click.option("--error-type", metavar="NAME", multiple=True, help="As MissingIdentifier."),
        click.option(
            "--fingerprint", metavar="HEX", multiple=True, help="One cause, as `replay list` shows it."
        ),
        click.option("--run", metavar="RUN", multiple=True, help="The run they failed in last."),
        click.option(
            "--id",
            "record_id",
            metavar="ID",
            multiple=True,
            help="Exactly this record, by its id or as lists show it.",
        ),
        click.option(
            "--status",
            type=click.Choice([each.value for each in Status]),
            multiple=True,
            help="[default: not resolved]",
        ),
        click.option("--since", metavar="WHEN", help="Failed last at or after: 2026-07-25T14:30, 12h, 7d."),
        click.option("--until", metavar="WHEN", help="Failed last before."),
    )
    names = ("pipeline", "stage", "kind", "error_type", "fingerprint", "run", "record_id", "status")

    @functools.wraps(command)
    def gather(**given: Any) -> Any:
        options = {name: given.pop(name) for name in (*names, "since", "until")}
        return command(options=options, **given)

    decorated: Callable[..., Any] = gather
    for decorate in reversed(decorators):
        decorated = decorate(decorated)
    return decorated
