"""Prints why records were lost."""

import json
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from scripts.deployed.progress import RunProgress, StageProgress
from winnow.alerts.content import CauseTally
from winnow.alerts.shown_ids import shown_id
from winnow.settlement.failure_records import FailureRecord
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store


def lost_records(stage: StageProgress, s3: Any) -> list[str]:
    """Ids of all records that a stage lost."""
    return [record["record_id"] for record in _read(stage.failures_file, s3)] if stage.failures_file else []


def print_failures(ended: RunProgress, s3: Any, console: Console) -> None:
    """Print for every stage the causes of its failures, the first failed records, and the file that lists all."""
    for stage in ended.stages:
        if stage.failures_file:
            _print_stage(stage, stage.failures_file, s3, console)


def _read(failures_file: str, s3: Any) -> Iterator[dict[str, Any]]:
    bucket, _, key = failures_file.removeprefix("s3://").partition("/")
    yield from map(json.loads, Ledger(S3Store(bucket, s3)).read_lines(key))


def _print_stage(stage: StageProgress, failures_file: str, s3: Any, console: Console) -> None:
    tally = CauseTally()
    for record in _read(failures_file, s3):
        FailureRecord.from_json(record).count_in(tally)
    console.print()
    console.print(
        Text.assemble((f"{stage.stage} lost {stage.failed:,}", "bold"), f"   {failures_file}"), soft_wrap=True
    )
    for example in tally.examples:
        reason = Text.assemble((f"{example.kind}  ", "dim"), f"{example.error_type}: {example.message}")
        console.print(
            Text.assemble("  ", (shown_id(example.record_id), "bold"), "\n      ", reason), soft_wrap=True
        )
    if tally.count > len(tally.examples):
        console.print(f"… and {tally.count - len(tally.examples):,} more; by cause:")
        for cause in tally.causes:
            console.print(
                Text(f"  {cause.count:,} × {cause.kind}, {cause.error_type}: {cause.message}"), soft_wrap=True
            )
