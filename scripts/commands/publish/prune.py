"""`winnow publish prune`: deletes old versions."""

import json

import click

from scripts.commands.aim import target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.commands.publish.desk import EXECUTE, Desk, change_options, publication_option, refusals
from scripts.replay.amending import check_reason
from winnow.publish.operating import Pruning


@click.command(
    short_help="Delete old versions.",
    epilog="""
\b
Examples:
  winnow publish prune --keep 30             what it would delete
  winnow publish prune --keep 30 --execute   do it
""",
)
@click.option(
    "--keep", required=True, metavar="K", type=click.IntRange(min=1), help="Keep the newest K versions."
)
@click.option("--reason", help="Why; kept in the history. [default: the number that is kept]")
@publication_option
@change_options
@yes_option
@target_options
def prune(keep: int, reason: str | None, publication: str | None, execute: bool, as_json: bool) -> None:
    """Delete versions but the newest K, and what builders that died left.

    Never the current version, the one that a rollback leads to, the one that a hold keeps, or one that a run may be building.
    """
    why = check_reason(reason) if reason is not None else f"only the newest {keep} are kept"
    desk = Desk.open(publication)
    operator = desk.operator()
    with refusals():
        pruning = operator.prune(keep, why=why, dry_run=True)
        if execute and pruning.delete:
            change = f"delete versions {_numbers(pruning)} of {desk.published.name}"
            confirm(desk.target, desk.pipeline, change)
            pruning = operator.prune(keep, why=why)
    if as_json:
        document = {
            "publication": desk.published.name,
            "executed": execute,
            "delete": list(pruning.delete),
            "keep": {str(version): reason for version, reason in sorted(pruning.keep.items())},
        }
        click.echo(json.dumps(document, ensure_ascii=False))
        return
    for version, because in sorted(pruning.keep.items()):
        click.echo(f"keeps version {version}: {because}")
    if not pruning.delete:
        click.echo("there is nothing to delete")
    elif execute:
        click.echo(f"deleted versions {_numbers(pruning)}")
    else:
        click.echo(f"would delete versions {_numbers(pruning)}\n{EXECUTE}")


def _numbers(pruning: Pruning) -> str:
    return ", ".join(map(str, pruning.delete))
