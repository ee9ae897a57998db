"""`winnow replay rebuild`: rebuilds the failure register from the ledger."""

import json

import click
from rich.console import Console

from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.replay.rebuilding import Difference, compare, replay_history
from scripts.replay.runs import documents, run_ids
from scripts.replay.site import Site
from scripts.terminal.errors import CommandRefused
from winnow.alerts.shown_ids import shown_id
from winnow.register.table import RegisterUnavailable
from winnow.testing import MemoryRegister

DIFFERS = 1
"""The register is not, or not for certain, what the ledger says."""


@click.command(
    short_help="Rebuild the failure register from the ledger.",
    epilog="""
Exit codes: 0 the register is what the ledger says (now), 1 a run in the ledger is damaged and was skipped,
or, with --dry-run, the register differs.

\b
Examples:
  winnow replay rebuild --dry-run
  winnow replay rebuild
""",
)
@click.option("--pipeline", metavar="NAME", help="Needed only where there are several.")
@click.option("--dry-run", is_flag=True, help="Only compare.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@yes_option
@target_options
def rebuild(pipeline: str | None, dry_run: bool, as_json: bool) -> None:
    """Read all runs in the ledger, in order, and correct the failure register.

    What only the register knows cannot be made again and is kept as it is: who holds an entry, waivers and reopenings with
    their reasons, and occurrences in runs whose evidence has expired. Do not run it while runs are under way: what they register meanwhile may be put back by it.
    """
    site = Site.open(current_target(), pipeline)
    console = Console(stderr=True, highlight=False)
    if not dry_run:
        confirm(site.target, site.pipeline, f"rebuild the failure register of {site.pipeline.name}")
    damaged: dict[str, str] = {}
    runs = list(documents(site.ledger, run_ids(site.s3, site.ledger.bucket), damaged))
    console.print(f"reading {len(runs):,} runs in s3://{site.ledger.bucket}", soft_wrap=True)
    rebuilt = MemoryRegister()
    history = replay_history(site.ledger, runs, rebuilt)
    damaged |= history.damaged
    try:
        difference = compare(
            site.register,
            rebuilt,
            pipeline=site.pipeline.name,
            stages=site.pipeline.stages,
            known_runs=frozenset(run.run_id for run in runs) - damaged.keys(),
            now=site.clock(),
            write=not dry_run,
            say=lambda text: console.print(f"  {text}"),
        )
    except RegisterUnavailable as error:
        raise CommandRefused(f"{error}; what was put right stays so, do it again to complete it") from error
    difference.stage_runs, difference.damaged = history.stage_runs, damaged
    if as_json:
        click.echo(json.dumps(difference.to_json()))
    else:
        _print(difference, dry_run=dry_run)
    for problem in damaged.values():
        console.print(f"skipped: {problem}", soft_wrap=True, markup=False)
    if damaged or (dry_run and difference.to_write):
        raise SystemExit(DIFFERS)


def _print(difference: Difference, *, dry_run: bool) -> None:
    verb = "would be" if dry_run else "were"
    click.echo(
        f"{difference.same:,} entries agree with the ledger, over {difference.stage_runs:,} stage runs"
    )
    for name, ids in (("missing", difference.missing), ("different", difference.changed)):
        if ids:
            click.echo(f"{len(ids):,} {verb} put right that are {name}, e.g. {shown_id(ids[0])}")
    if difference.damaged:
        click.echo(
            f"{len(difference.damaged):,} runs are damaged and were skipped; what the register knows of them is kept"
        )
    if difference.kept:
        click.echo(
            f"{difference.kept:,} have a hold, a waiver, a reopening or older occurrences that the ledger does not have; kept"
        )
    if difference.beyond:
        click.echo(
            f"{len(difference.beyond):,} belong to runs that the ledger no longer has, e.g. {shown_id(difference.beyond[0])}; kept"
        )
