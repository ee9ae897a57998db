"""`winnow publish show`: shows one version."""

import json

import click
from rich.console import Console

from scripts.commands.aim import target_options
from scripts.commands.publish.desk import Desk, publication_option, refusals
from scripts.display.publications import VersionView, print_version


@click.command(
    short_help="Show one version.",
    epilog="""
\b
Examples:
  winnow publish show 7
  winnow publish show 7 --json | jq .gate
""",
)
@click.argument("version", metavar="N", type=click.IntRange(min=1))
@publication_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@target_options
def show(version: int, publication: str | None, as_json: bool) -> None:
    """Show version N: which run made it, how it differs from the one before, what the gate said of it, and its files."""
    with refusals():
        view = VersionView.read(Desk.open(publication).published, version)
    if as_json:
        click.echo(json.dumps(view.to_json(), ensure_ascii=False))
    else:
        print_version(view, Console(highlight=False))
