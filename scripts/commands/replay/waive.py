"""`winnow replay waive`: accepts failures as they are."""

from datetime import UTC, datetime, timedelta
from typing import Any

import click

from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.replay.amending import amend, check_reason, report
from scripts.replay.criteria import AGO, UNITS, criteria_options, read_moment
from scripts.replay.site import Site
from scripts.terminal.errors import CommandRefused, Mistake
from winnow.register import entry as register


@click.command(
    short_help="Accept failures as they are.",
    epilog="""
\b
Examples:
  winnow replay waive --id Arabic/WMS_1.xml --reason "lost in 1941"
  winnow replay waive --fingerprint 3f2a9c01b7de --reason "vendor fixes it in May" --waive-until 2026-06-01
""",
)
@criteria_options
@click.option("--reason", required=True, help="Why; kept in the entry.")
@click.option("--waive-until", metavar="WHEN", help="When it is to count again: 2026-06-01, or 30d from now.")
@yes_option
@target_options
def waive(options: dict[str, Any], reason: str, waive_until: str | None) -> None:
    """Accept failures as they are: they are still counted, but no longer alerted.

    If a waived record fails for another reason, it is alerted.
    """
    said = check_reason(reason)
    site = Site.open(current_target(), options["pipeline"])
    criteria = site.criteria(options)
    if not criteria.are_given:
        raise CommandRefused("a selection is needed, such as --id or --fingerprint")
    until = _later(waive_until)
    now = site.clock()
    entries = site.entries(criteria)
    if entries:
        confirm(site.target, site.pipeline, f"waive failures of {site.pipeline.name} ({len(entries):,})")
    changed, left_out = amend(
        site, entries, lambda found: register.waive(found, reason=said, now=now, until=until)
    )
    report("waived", changed, left_out)


def _later(text: str | None) -> str:
    moment = datetime.now(UTC)
    if text and (ahead := AGO.fullmatch(text)):
        text = (moment + timedelta(**{UNITS[ahead[2]]: int(ahead[1])})).isoformat()
    until = read_moment("--waive-until", text, moment)
    if until and datetime.fromisoformat(until) <= moment:
        raise Mistake("--waive-until", text, "must be in the future")
    return until
