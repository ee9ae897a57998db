"""`winnow publish rollback`: goes back to the version before."""

import click

from scripts.commands.aim import target_options
from scripts.commands.confirming import yes_option
from scripts.commands.publish.desk import Desk, change_options, publication_option
from scripts.replay.amending import check_reason


@click.command(
    short_help="Go back to the version before.",
    epilog="""
\b
Examples:
  winnow publish rollback --reason "wrong titles"
  winnow publish rollback --reason "wrong titles" --execute
""",
)
@click.option("--reason", required=True, help="Why; kept in the history.")
@publication_option
@change_options
@yes_option
@target_options
def rollback(reason: str, publication: str | None, execute: bool, as_json: bool) -> None:
    """Make the version current that was so before. Twice goes back twice.

    The next run publishes again; `winnow publish hold` first where it is not to.
    """
    said = check_reason(reason)
    desk = Desk.open(publication)
    operator = desk.operator()
    desk.change(
        "rollback",
        lambda dry_run: operator.rollback(why=said, dry_run=dry_run),
        execute=execute,
        as_json=as_json,
    )
