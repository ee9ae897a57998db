"""`winnow publish hold`: freezes what is published."""

import click

from scripts.commands.aim import target_options
from scripts.commands.confirming import yes_option
from scripts.commands.publish.desk import Desk, change_options, publication_option
from scripts.replay.amending import check_reason


@click.command(
    short_help="Keep runs from publishing.",
    epilog="""
\b
Examples:
  winnow publish hold --reason "the search index is rebuilt until noon" --execute
""",
)
@click.option("--reason", required=True, help="Why; kept in the history.")
@publication_option
@change_options
@yes_option
@target_options
def hold(reason: str, publication: str | None, execute: bool, as_json: bool) -> None:
    """Keep what is published as it is: runs go on, build their versions and do not publish them.

    Each says so in its result. People may still promote and roll back.
    """
    said = check_reason(reason)
    desk = Desk.open(publication)
    operator = desk.operator()
    desk.change(
        "hold",
        lambda dry_run: operator.hold(why=said, dry_run=dry_run),
        execute=execute,
        as_json=as_json,
    )
