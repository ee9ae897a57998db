"""`winnow publish diff`: says what changed between two versions, by id."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import click

from scripts.commands.aim import target_options
from scripts.commands.publish.desk import Desk, publication_option, refusals
from winnow.alerts.shown_ids import shown_id
from winnow.publish.difference import Change, ChangeKind, differences

SIGNS = {ChangeKind.ADDED: "+", ChangeKind.CHANGED: "~", ChangeKind.REMOVED: "-"}
FIRST = 50


@click.command(
    short_help="Say what changed between two versions.",
    epilog="""
\b
Examples:
  winnow publish diff 6 7
  winnow publish diff 6 7 --all | grep '^-'
  winnow publish diff 6 7 --json | jq 'select(.kind == "changed") | .id'
""",
)
@click.argument("one", metavar="N", type=click.IntRange(min=1))
@click.argument("other", metavar="M", type=click.IntRange(min=1))
@click.option("--all", "show_all", is_flag=True, help=f"Name every id, not only the first {FIRST}.")
@publication_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print a JSON object per row that differs and nothing else."
)
@target_options
def diff(one: int, other: int, show_all: bool, publication: str | None, as_json: bool) -> None:
    """Say which rows version M has and N has not (+), the other way round (-), and which differ (~), by id."""
    desk = Desk.open(publication)
    with refusals():
        found = differences(desk.published, one, other)
        if as_json:
            for change in found:
                click.echo(json.dumps(_document(change), ensure_ascii=False))
            return
        counts: Counter[ChangeKind] = Counter()
        for change in _counted(found, counts, None if show_all else FIRST):
            click.echo(f"{SIGNS[change.kind]} {shown_id(change.id)}{_fields(change)}")
    more = counts.total() - FIRST
    if more > 0 and not show_all:
        click.echo(f"… and {more:,} more; --all names them")
    summary = " ".join(f"{SIGNS[kind]}{counts[kind]:,}" for kind in SIGNS)
    click.echo(f"{desk.published.name} version {one} to {other}: {summary}")


def _counted(found: Iterator[Change], counts: Counter[ChangeKind], first: int | None) -> Iterator[Change]:
    """The first of the changes, while all of them are counted."""
    for change in islice(found, first):
        counts[change.kind] += 1
        yield change
    for change in found:
        counts[change.kind] += 1


def _fields(change: Change) -> str:
    """The names of the fields that differ."""
    if change.before is None or change.after is None:
        return ""
    names = [
        name
        for name in dict.fromkeys((*change.before, *change.after))
        if change.before.get(name) != change.after.get(name)
    ]
    return f"  {', '.join(names)}"


def _document(change: Change) -> dict[str, object]:
    return {"id": change.id, "kind": change.kind, "before": change.before, "after": change.after}
