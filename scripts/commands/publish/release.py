"""`winnow publish release`: ends a hold."""

import click

from scripts.commands.aim import target_options
from scripts.commands.confirming import yes_option
from scripts.commands.publish.desk import Desk, change_options, publication_option
from scripts.replay.amending import check_reason


@click.command(
    short_help="End a hold.",
    epilog="""
\b
Examples:
  winnow publish release --reason "the search index is rebuilt" --execute
""",
)
@click.option("--reason", required=True, help="Why; kept in the history.")
@publication_option
@change_options
@yes_option
@target_options
def release(reason: str, publication: str | None, execute: bool, as_json: bool) -> None:
    """End a hold. The next run publishes; what runs built meanwhile is published by `winnow publish promote`."""
    said = check_reason(reason)
    desk = Desk.open(publication)
    operator = desk.operator()
    desk.change(
        "release",
        lambda dry_run: operator.release(why=said, dry_run=dry_run),
        execute=execute,
        as_json=as_json,
    )
