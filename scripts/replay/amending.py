"""Changing single entries by hand, each with a reason, and saying which could not be."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from scripts.replay.display import refusals
from scripts.replay.orders import by_stage
from scripts.replay.rules import LeftOut
from scripts.terminal.errors import CommandRefused, Mistake
from winnow.register import entry as register
from winnow.register.table import RegisterUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scripts.replay.site import Site
    from winnow.register.entry import Entry
    from winnow.register.item import Summary

MAX_REASON_CHARS = 500


def check_reason(reason: str) -> str:
    """The reason on one line. Raises `Mistake` where there is none."""
    line = " ".join(reason.split())
    if not line or len(line) > MAX_REASON_CHARS:
        raise Mistake("--reason", line[:60], f"must say why, in at most {MAX_REASON_CHARS} characters")
    return line


def amend(site: Site, entries: Sequence[Summary], rule: Callable[[Entry], Entry]) -> tuple[int, LeftOut]:
    """Change entries by a rule.

    Returns:
        How many were changed, and those that were not.

    Raises:
        CommandRefused: the register cannot be changed.
    """
    left_out = LeftOut()
    changed = 0
    for stage, some in by_stage(entries, site.pipeline.stages):
        refused: dict[str, str] = {}

        def change(record_id: str, found: Entry | None, refused: dict[str, str] = refused) -> Entry | None:
            refused.pop(record_id, None)
            try:
                return rule(found) if found else None
            except register.Refused as why:
                refused[record_id] = str(why)
                return None

        try:
            changed += site.register.apply(
                site.pipeline.name, stage, (entry.record_id for entry in some), change
            )
        except RegisterUnavailable as error:
            raise CommandRefused(f"{error}; try again in a minute") from error
        for record_id in sorted(refused):
            left_out.add(refused[record_id], record_id)
    return changed, left_out


def report(what: str, changed: int, left_out: LeftOut) -> None:
    """Say what was changed.

    Raises:
        CommandRefused: nothing was.
    """
    if not changed:
        raise CommandRefused(f"nothing was {what}: {refusals(left_out) or 'no failure matches'}")
    click.echo(f"{what}: {changed:,}")
    if len(left_out):
        click.echo(f"left out: {refusals(left_out)}")
