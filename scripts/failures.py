"""Why records were lost, for people."""

import json
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from scripts.progress import RunProgress, StageProgress
from winnow.alert import CauseTally
from winnow.ledger import Ledger
from winnow.store import S3Store

TOLD = ("record_id", "kind", "error_type", "message", "fingerprint")


def print_failures(ended: RunProgress, s3: Any, console: Console) -> None:
    """The causes of every stage's failures and the first records, as an alert has them, and where all are."""
    for stage in ended.stages:
        if stage.failures_file:
            _print_stage(stage, stage.failures_file, s3, console)


def _print_stage(stage: StageProgress, failures_file: str, s3: Any, console: Console) -> None:
    bucket, _, key = failures_file.removeprefix("s3://").partition("/")
    tally = CauseTally()
    for line in Ledger(S3Store(bucket, s3)).read_lines(key):
        record = json.loads(line)
        tally.add(**{name: record[name] for name in TOLD})
    console.print()
    console.print(
        Text.assemble((f"{stage.stage} lost {stage.failed:,}", "bold"), f"   {failures_file}"), soft_wrap=True
    )
    table = Table(box=None, pad_edge=False, padding=(0, 2), show_header=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(no_wrap=True, style="dim")
    table.add_column()
    for example in tally.examples:
        table.add_row(example.record_id, example.kind, Text(f"{example.error_type}: {example.message}"))
    console.print(table)
    if tally.count > len(tally.examples):
        console.print(f"… and {tally.count - len(tally.examples):,} more; by cause:")
        for cause in tally.causes:
            console.print(
                Text(f"  {cause.count:,} × {cause.kind}, {cause.error_type}: {cause.message}"), soft_wrap=True
            )
