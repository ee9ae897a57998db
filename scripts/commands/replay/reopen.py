"""`winnow replay reopen`: opens waived or wrongly resolved failures again."""

from typing import Any

import click

from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.replay.amending import amend, check_reason, report
from scripts.replay.criteria import criteria_options
from scripts.replay.site import Site
from scripts.terminal.errors import CommandRefused
from winnow.register import entry as register


@click.command(
    short_help="Open failures again.",
    epilog="""
\b
Examples:
  winnow replay reopen --id Arabic/WMS_1.xml --reason "found again"
  winnow replay reopen --status waived --stage mint --reason "the vendor has fixed it"
""",
)
@criteria_options
@click.option("--reason", required=True, help="Why; kept in the entry.")
@yes_option
@target_options
def reopen(options: dict[str, Any], reason: str) -> None:
    """Open failures again that were waived or resolved."""
    said = check_reason(reason)
    site = Site.open(current_target(), options["pipeline"])
    criteria = site.criteria(options)
    if not criteria.are_given:
        raise CommandRefused("a selection is needed, such as --id or --status waived")
    now = site.clock()
    entries = site.entries(criteria)
    if entries:
        confirm(site.target, site.pipeline, f"reopen failures of {site.pipeline.name} ({len(entries):,})")
    changed, left_out = amend(site, entries, lambda found: register.reopen(found, reason=said, now=now))
    report("opened again", changed, left_out)
