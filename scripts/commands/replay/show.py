"""`winnow replay show`: shows all details of one failure."""

import json
from dataclasses import asdict
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from scripts.commands.aim import current_target, target_options
from scripts.replay.display import STATUS_STYLES, clean
from scripts.replay.history import Ancestor, Try, ancestors, tries
from scripts.replay.site import Site
from scripts.terminal.errors import Mistake
from winnow.alerts.shown_ids import shown_id
from winnow.register.entry import Entry


@click.command(
    short_help="Show all details of one failure.",
    epilog="""
\b
Examples:
  winnow replay show Arabic/WMS_1.xml
  winnow replay show Arabic/WMS_1.xml --stage adapt --json | jq .history
""",
)
@click.argument("record_id", metavar="ID")
@click.option("--pipeline", metavar="NAME", help="Needed only where there are several.")
@click.option("--stage", metavar="NAME", help="Only its failure in this stage.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per failure and nothing else.")
@target_options
def show(record_id: str, pipeline: str | None, stage: str | None, as_json: bool) -> None:
    """Show the failure of record ID: its history, the reasons of each try, and where the record came from."""
    site = Site.open(current_target(), pipeline)
    stages = site.pipeline.stages
    if stage and stage not in stages:
        raise Mistake("--stage", stage, f"must be one of {', '.join(stages)}")
    entries = [
        entry for each in ([stage] if stage else stages) for entry in site.entries_typed(each, [record_id])
    ]
    if not entries:
        raise Mistake(
            "ID", record_id, "must be the id of a record that has failed, as `winnow replay list` prints it"
        )
    console = Console(highlight=False)
    for entry in entries:
        each_try = {
            each.run_id: tries(site.ledger, each.run_id, entry.stage, entry.record_id)
            for each in entry.history
        }
        came_from = list(ancestors(site.ledger, entry))
        if as_json:
            click.echo(json.dumps(_document(entry, each_try, came_from), ensure_ascii=False))
        else:
            _print(entry, each_try, came_from, console)


def _document(
    entry: Entry, each_try: dict[str, list[Try]], came_from: list[tuple[Ancestor, ...]]
) -> dict[str, Any]:
    document = asdict(entry)
    document["history"] = [
        {**asdict(each), "attempts": [attempt.to_json() for attempt in each_try[each.run_id]]}
        for each in entry.history
    ]
    document["lineage"] = [[each.to_json() for each in generation] for generation in came_from]
    return document


def _print(
    entry: Entry, each_try: dict[str, list[Try]], came_from: list[tuple[Ancestor, ...]], console: Console
) -> None:
    def say(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    say(
        (shown_id(entry.record_id), "bold"),
        f"  {entry.pipeline}/{entry.stage}  ",
        (entry.status.value, STATUS_STYLES[entry.status]),
    )
    say(f"  {entry.last.kind}, {entry.last.error_type}: {clean(entry.last.message)}")
    times = "once" if entry.occurrences == 1 else f"{entry.occurrences:,} times"
    say(
        f"  failed {times}, first {entry.first_seen}, last {entry.last_seen}; fingerprint {entry.last.fingerprint}"
    )
    if entry.hold:
        say(f"  held by replay {entry.hold.replay_id} until {entry.hold.until}")
    if entry.waiver:
        until = f" until {entry.waiver.until}" if entry.waiver.until else ""
        say(f"  waived at {entry.waiver.at}{until}: {clean(entry.waiver.reason)}")
    if entry.reopening:
        say(f"  opened again at {entry.reopening.at}: {clean(entry.reopening.reason)}")
    if entry.resolution:
        say(f"  resolved by run {entry.resolution.run_id} at {entry.resolution.at}")
    if entry.traceback:
        say("")
        for line in entry.traceback.splitlines():
            say((f"  {clean(line)}", "dim"))
    say("")
    say(("Runs it failed in", "bold"))
    for each in entry.history:
        say(f"  {each.at}  run {each.run_id}  code {each.code_version or '-'}")
        for attempt in each_try[each.run_id]:
            say(
                (f"      try in attempt {attempt.attempt}: ", "dim"),
                f"{attempt.kind}, {attempt.error_type}: {clean(attempt.message)}",
            )
        if not each_try[each.run_id]:
            say(f"      {each.kind}, {each.error_type}: {clean(each.message)}")
    say("")
    say(("Where it came from", "bold"))
    for generation in came_from:
        for ancestor in generation:
            where = f"s3://{ancestor.source['bucket']}/{clean(str(ancestor.source['key']))}"
            say(
                f"  {ancestor.stage:<12}",
                (shown_id(ancestor.record_id), "bold"),
                (f"  run {ancestor.run_id}  {where}", "dim"),
            )
    if not came_from:
        say("  the evidence of that run is no longer in the ledger")
    source = entry.source
    if source.get("key"):
        line = f", line {source['line']}" if source.get("line") else ""
        say(f"  its input: s3://{source['bucket']}/{clean(str(source['key']))}{line}")
    say("")
