"""`winnow publish promote`: makes a version current."""

import click

from scripts.commands.aim import target_options
from scripts.commands.confirming import yes_option
from scripts.commands.publish.desk import Desk, change_options, publication_option
from scripts.replay.amending import check_reason


@click.command(
    short_help="Make a version current.",
    epilog="""
\b
Examples:
  winnow publish promote 7 --reason "the titles are right, checked by hand"
  winnow publish promote 7 --reason "the titles are right, checked by hand" --execute
""",
)
@click.argument("version", metavar="N", type=click.IntRange(min=1))
@click.option("--reason", required=True, help="Why; kept in the history.")
@publication_option
@change_options
@yes_option
@target_options
def promote(version: int, reason: str, publication: str | None, execute: bool, as_json: bool) -> None:
    """Make version N current, whatever the gate said of it, and also while a hold keeps runs from publishing.

    A merge builds on what is current: what later versions changed is not in it, until their records come again.
    """
    said = check_reason(reason)
    desk = Desk.open(publication)
    operator = desk.operator()
    desk.change(
        "promote",
        lambda dry_run: operator.promote(version, why=said, dry_run=dry_run),
        execute=execute,
        as_json=as_json,
    )
