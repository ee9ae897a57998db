"""`winnow replay list`: lists recorded failures, by default those that are not resolved."""

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console

from scripts.commands.aim import current_target, target_options
from scripts.replay.criteria import criteria_options, status_of
from scripts.replay.display import print_groups, print_records
from scripts.replay.grouping import group, is_worth_replaying
from scripts.replay.site import Site


@click.command(
    name="list",
    short_help="List failures, by cause.",
    epilog="""
\b
Examples:
  winnow replay list                                    everything that is not resolved
  winnow replay list --stage transform --since 7d       of the last week
  winnow replay list --kind permanent --records         one line per record
  winnow replay list --status resolved --records --json | jq .record_id
""",
)
@criteria_options
@click.option("--records", is_flag=True, help="List each failure instead of causes.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per line and nothing else.")
@target_options
def list_failures(options: dict[str, Any], records: bool, as_json: bool) -> None:
    """List failures, grouped by cause.

    Permanent failures are marked if new code of their stage was deployed after they failed: a replay may succeed.
    """
    site = Site.open(current_target(), options["pipeline"])
    entries = site.entries(site.criteria(options))
    now = site.clock()
    console = Console(highlight=False)
    if as_json and records:
        for entry in entries:
            line = asdict(entry) | {
                "status": status_of(entry, now).value,
                "new_code": site.is_new_code(entry),
            }
            click.echo(json.dumps(line, ensure_ascii=False))
        return
    groups = group(entries, now=now, is_new_code=site.is_new_code)
    if as_json:
        for each in groups:
            click.echo(json.dumps({"pipeline": site.pipeline.name, **each.to_json()}, ensure_ascii=False))
        return
    if not entries:
        console.print("no failures that match")
        return
    if records:
        print_records(entries, now, console)
    else:
        print_groups(groups, console)
    worth = sum(map(is_worth_replaying(now, site.is_new_code), entries))
    if worth:
        console.print(
            f"[green]{worth:,} may be worth replaying[/]: permanent failures whose stage has new code since; "
            "to see what a replay would do: winnow replay run, with the same filters",
            soft_wrap=True,
        )
