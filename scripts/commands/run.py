"""`winnow run`: starts a run, follows it, and says how it ended."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
from rich.console import Console
from rich.progress import Progress

from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.deployed import pipelines
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.progress import RunProgress, RunWatch
from scripts.deployed.run_uploads import RunUploads
from scripts.deployed.sources import LocalSource
from scripts.deployed.target import Target
from scripts.display.failures import print_failures
from scripts.display.runs import follow, print_end
from scripts.terminal.errors import CommandRefused, Mistake
from scripts.terminal.exit_codes import ExitCode
from winnow.batch.lines import read_rows
from winnow.core.contract import SUCCEEDED, Pointer, new_run_id
from winnow.core.errors import StageInputError
from winnow.core.keys import StageKeys, run_source
from winnow.runs.request import RunRequest
from winnow.storage.executions import StepFunctions
from winnow.storage.ledger import record_lines
from winnow.storage.upload_claims import DynamoUploadClaims, UploadClaims


@click.command(
    epilog="""
Exit codes: 0 all records went through, 3 the run succeeded but lost records,
1 the run failed, 2 the arguments are wrong and nothing was started.

\b
Examples:
  winnow run catalogue                                  everything in the source bucket
  winnow run catalogue --source ./manuscripts           upload a folder, run over its files
  winnow run catalogue --source changes.zip --local     the same on the local emulator
  winnow run catalogue --source s3://BUCKET/Arabic/     part of the source bucket
  winnow run catalogue --records ids.ndjson             exactly these records
  winnow run catalogue --environment prod --yes         in prod, which asks first otherwise
  winnow run catalogue --json | jq .status              for programs
"""
)
@click.argument("pipeline")
@click.option(
    "--source",
    metavar="PATH|S3_URI",
    help="A folder, zip or file to upload first, or s3://SOURCE_BUCKET/PREFIX. What cannot be taken is named.",
)
@click.option(
    "--include", metavar="PATTERN", default="*", help="Upload only files whose name matches, such as '*.xml'."
)
@click.option(
    "--records", metavar="FILE|S3_URI", help="A list of records: ndjson (plain, gzip, zstd) or Parquet."
)
@click.option("--id-column", metavar="NAME", help="Column or field of --records that holds the id.")
@click.option("--from", "start_at", metavar="STAGE", help="Start at this stage; needs --records.")
@click.option(
    "--watch/--no-watch", default=None, help="Show progress on standard error. [default: on a terminal]"
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@yes_option
@target_options
def run(
    pipeline: str,
    source: str | None,
    include: str,
    records: str | None,
    id_column: str | None,
    start_at: str | None,
    watch: bool | None,
    as_json: bool,
) -> None:
    """Start a run of PIPELINE, follow it to its end and print the result of each stage."""
    if source and records:
        raise Mistake("--records", records, "cannot go with --source; give one of them")
    if id_column and not records:
        raise Mistake("--id-column", id_column, "needs --records")
    target = current_target()
    new_run = _NewRun(target, pipelines.find(target, pipeline))
    console = Console(stderr=True, quiet=not (sys.stderr.isatty() if watch is None else watch))
    if source:
        new_run.over_source(source, include=include, console=console)
    if records:
        new_run.over_records(records, id_column=id_column, start_at=start_at)
    request = new_run.check(start_at)
    confirm(target, new_run.pipeline, f"run {new_run.run_id} of {pipeline}", notes=new_run.notes)
    execution = new_run.start(request)
    console.print(f"run {new_run.run_id} started", highlight=False, soft_wrap=True)
    watch_run = RunWatch.of(target, new_run.pipeline, execution)
    try:
        ended = follow(watch_run.until_it_ends(), console)
    except KeyboardInterrupt:
        click.echo(
            f"stopped watching; run {new_run.run_id} continues. To see its result: "
            f"./scripts/winnow verify {new_run.run_id}{target.options(new_run.pipeline.environment)}",
            err=True,
        )
        raise SystemExit(ExitCode.INTERRUPTED) from None
    if as_json:
        click.echo(json.dumps(ended.to_json()))
    else:
        _print(ended, target)
    raise SystemExit(exit_code(ended))


def _check_list(records: str, body: bytes) -> None:
    """Refuse what the first stage would refuse as a whole by its shape; it takes longer to say so.

    Raises:
        Mistake: the list is none.
    """
    if body.startswith((b"PAR1", b"PARE")):
        return  # Plan reads Parquet
    try:
        for _ in read_rows(iter([body]), Pointer(bucket="file", key=records), max_row_bytes=len(body)):
            pass
    except StageInputError as error:
        raise Mistake("--records", records, error.remedy) from error


def exit_code(ended: RunProgress) -> ExitCode:
    """The exit code for a run that has ended."""
    if ended.status != SUCCEEDED:
        return ExitCode.FAILED
    return ExitCode.LOST_RECORDS if ended.lost else ExitCode.DONE


def _print(ended: RunProgress, target: Target) -> None:
    console = Console(highlight=False)
    print_end(ended, console)
    if ended.cause:
        console.print(f"\n{ended.cause}", style="red", markup=False, soft_wrap=True)
    print_failures(ended, target.client("s3"), console)


class _NewRun:
    """A run that is not started yet: collects and checks its input, then uploads it and starts the run."""

    def __init__(self, target: Target, pipeline: DeployedPipeline) -> None:
        self.pipeline = pipeline
        self.run_id = new_run_id()
        self.notes: list[str] = []
        """Lines that say what of the input is left out."""
        self._to_upload: list[Callable[[RunUploads], None]] = []
        self._target = target
        self._s3 = target.client("s3")
        self._input: dict[str, Any] = {"run_id": self.run_id, "trigger": {"kind": "manual"}}

    def over_source(self, source: str, *, include: str, console: Console) -> None:
        """Use part of the source bucket, or local files and only these; `start` uploads them to it."""
        address = _S3Address.parse("--source", source)
        if address:
            if address.bucket != self.pipeline.source_bucket:
                remedy = f"must be in the source bucket, s3://{self.pipeline.source_bucket}/; copy the objects there first"
                raise Mistake("--source", source, remedy)
            if address.key:
                self._input["prefix"] = address.key
            return
        local = LocalSource.open(Path(source), include=include)
        self.notes += local.told_left_out()
        self._point_to(run_source(self.run_id))
        self._to_upload.append(partial(self._upload, local, console))

    def _upload(self, local: LocalSource, console: Console, uploads: RunUploads) -> None:
        bucket = self.pipeline.source_bucket
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("uploading", total=len(local.files))
            rows = []
            prefix = self.pipeline.source_prefix
            for key in local.upload(self._s3, bucket=bucket, prefix=prefix, uploads=uploads):
                rows.append({"id": key, "data": {"bucket": bucket, "key": key}})
                progress.advance(task)
        self._put(run_source(self.run_id), b"".join(record_lines(rows)))

    def over_records(self, records: str, *, id_column: str | None, start_at: str | None) -> None:
        """Use a list of records."""
        address = _S3Address.parse("--records", records)
        if address:
            if not address.key:
                raise Mistake("--records", records, "must name an object, as s3://BUCKET/KEY")
            self._input["records"] = {"bucket": address.bucket, "key": address.key}
        else:
            path = Path(records)
            if not path.is_file():
                raise Mistake("--records", records, "must be a file or an s3:// address that exists")
            body = path.read_bytes()
            if not body.strip():
                raise Mistake("--records", records, "must list at least one record")
            _check_list(records, body)
            key = StageKeys(self.run_id, start_at or self.pipeline.stages[0]).input
            self._point_to(key)
            self._to_upload.append(lambda _: self._put(key, body))
        if id_column:
            self._input["records"]["id_column"] = id_column

    def _point_to(self, key: str) -> None:
        self._input["records"] = {"bucket": self.pipeline.ledger_bucket, "key": key}

    def _put(self, key: str, body: bytes) -> None:
        self._s3.put_object(Bucket=self.pipeline.ledger_bucket, Key=key, Body=body)

    def check(self, start_at: str | None) -> RunRequest:
        """What the run is started with.

        Raises:
            CommandRefused: the pipeline would refuse this input.
        """
        if start_at:
            self._input["start_at"] = start_at
        try:
            return RunRequest.from_event(
                self._input, stages=self.pipeline.stages, source_prefix=self.pipeline.source_prefix
            )
        except StageInputError as error:
            raise CommandRefused(str(error)) from error

    def start(self, request: RunRequest) -> str:
        """Upload what is to be uploaded, and start the run.

        Returns:
            The ARN of its execution.
        """
        machine = StepFunctions(
            machine_arn=self.pipeline.arn, stepfunctions=self._target.client("stepfunctions")
        )
        with RunUploads(self.run_id, self._claims()) as uploads:
            for upload in self._to_upload:
                upload(uploads)
            uploads.about_to_start()
            machine.start(self.run_id, request.to_payload())
            uploads.started()
        return machine.arn(self.run_id)

    def _claims(self) -> UploadClaims | None:
        """Where uploads are claimed; None where nothing else would take them."""
        if not self.pipeline.arrivals_start_runs:
            return None
        return DynamoUploadClaims(self.pipeline.state_table, self._target.client("dynamodb"))


@dataclass(frozen=True, slots=True, kw_only=True)
class _S3Address:
    """The bucket and the key of an s3:// address."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, option: str, text: str) -> "_S3Address | None":
        """Parse an address; None for text that does not begin with s3://.

        Raises:
            Mistake: the address has no bucket.
        """
        if not text.startswith("s3://"):
            return None
        parts = urlsplit(text)
        if not parts.netloc:
            raise Mistake(option, text, "must be s3://BUCKET/KEY")
        return cls(bucket=parts.netloc, key=text.removeprefix(f"s3://{parts.netloc}").removeprefix("/"))
