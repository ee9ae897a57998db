"""`winnow publish list`: lists the versions of a publication, and what was done to it."""

import json

import click
from rich.console import Console

from scripts.commands.aim import target_options
from scripts.commands.publish.desk import Desk, publication_option
from scripts.display.publications import PublicationView, print_publication


@click.command(
    name="list",
    short_help="List versions, and who moved what when.",
    epilog="""
\b
Examples:
  winnow publish list
  winnow publish list --history                    every move, not only the last ten
  winnow publish list --json | jq .current
""",
)
@click.option("--history", "all_moves", is_flag=True, help="Show every move, not only the last ten.")
@publication_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@target_options
def list_versions(all_moves: bool, publication: str | None, as_json: bool) -> None:
    """List the versions of a publication, which of them is current, and what was done to it by whom and why."""
    view = PublicationView.read(Desk.open(publication).published)
    if as_json:
        click.echo(json.dumps(view.to_json(), ensure_ascii=False))
    else:
        print_publication(view, Console(highlight=False), all_moves=all_moves)
