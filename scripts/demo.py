"""Behind ./scripts/demo: what Winnow does, shown on this machine from start to end."""

import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from scripts import ROOT, emulator, local_state
from scripts.clients import at_emulator
from scripts.commands.local import print_state
from scripts.deployment import deploy_to_emulator
from scripts.display import follow, print_end
from scripts.errors import Failure, Refused
from scripts.failures import lost_records
from scripts.local_state import FOLDER, LocalState
from scripts.pipelines import find
from scripts.progress import RunProgress, RunWatch
from scripts.proofs import print_proof, print_trace
from scripts.repairs import mend
from scripts.slack_receiver import SlackReceiver, render
from scripts.sources import LocalSource
from scripts.steps import step
from winnow.conservation import prove
from winnow.contract import now
from winnow.ledger import Ledger
from winnow.store import S3Store
from winnow.trace import Outcome, trace

MANUSCRIPTS = ROOT / "tests" / "data" / "manuscripts"
CORRECTIONS = ROOT / "tests" / "data" / "corrections"
PIPELINE = "catalogue"
WAIT_SCALE = 0.1
"""Nobody wants to watch a backoff of half a minute."""
STARTS_WITHIN_SECONDS = 30
ALERT_WITHIN_SECONDS = 20


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--source", type=click.Path(exists=True, path_type=Path), help="Your own TEI files: a folder or a zip."
)
@click.option("--keep", is_flag=True, help="Leave the system running at the end, for `winnow … --local`.")
def main(source: Path | None, keep: bool) -> None:  # noqa: FBT001 click passes options by name
    """Show what Winnow does, on this machine and nowhere else: no account, no Docker, nothing installed globally."""
    # Both even where whoever started this has them ignored, as shells do for what runs in the background.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    home = local_state.HOME if keep else FOLDER / f"demo-{os.getpid()}"
    if keep and emulator.is_running(local_state.HOME):
        raise Refused(
            "--keep needs the place of the local emulator, which is up; stop it first: winnow local down"
        )
    try:
        _Demo(console, home, source or MANUSCRIPTS, is_sample=source is None).play(keep=keep)
    except _Interrupted as interrupted:
        console.print("\nStopped; nothing is left running.")
        sys.exit(128 + interrupted.signal)


class _Interrupted(BaseException):
    """Raised where a signal comes in, so that on the way out everything is closed in order."""

    def __init__(self, number: int) -> None:
        self.signal = number


def _interrupt(number: int, _: object) -> NoReturn:
    # A second one must not come in between while things are being closed.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Interrupted(number)


class _Demo:
    """The acts, in order."""

    def __init__(self, console: Console, home: Path, source: Path, *, is_sample: bool) -> None:
        self._console = console
        self._home = home
        self._is_sample = is_sample
        self._source = LocalSource.open(source, include="*.xml")
        self._since = time.monotonic()

    def play(self, *, keep: bool) -> None:
        """Show everything."""
        self._banner()
        with ExitStack() as stack:
            self._slack = stack.enter_context(SlackReceiver())
            with self._act("1. The system"):
                running = stack.enter_context(
                    deploy_to_emulator(
                        self._home, self._console, wait_scale=WAIT_SCALE, webhook=self._slack.url
                    )
                )
                self._target = at_emulator(running.endpoint)
                self._pipeline = find(self._target, PIPELINE)
                self._s3 = self._target.client("s3")
                self._ledger = Ledger(S3Store(self._pipeline.ledger_bucket, self._s3))
            with self._act("2. A run, with whatever is wrong in its records"):
                self._upload(self._source)
                first = self._run()
                self._tell(first)
            second = None
            with self._act("3. Somebody corrects the records, and the pipeline runs again"):
                second = self._correct_and_run(first)
            self._close(first, second)
            if keep:
                state = LocalState(endpoint=running.endpoint, started_at=now())
                state.write()
                running.release()
                print_state(state, self._console)
                self._say("\nStop it with: ./scripts/winnow local down")

    def _banner(self) -> None:
        files = f"{len(self._source.files):,}"
        if self._is_sample:
            broken = len(LocalSource.open(CORRECTIONS, include="*.xml").files)
            run = f"a run over {files} made-up manuscript descriptions, {broken} of them broken"
        else:
            run = f"a run over the {files} files of {self._source.path}"
        self._say("")
        self._say("[bold]Winnow[/]: pipelines in which one bad record never sinks a batch,")
        self._say("and nothing is ever lost in silence.")
        self._say("")
        self._say("On this machine, and nowhere else, you will see:")
        self._say("  1. the very app that goes to AWS, deployed to an embedded AWS")
        self._say(f"  2. {run}, and the alert it sends")
        self._say("  3. a second run after somebody corrected what was wrong")

    def _say(self, text: str) -> None:
        # Lines are as long as they are meant to be; the terminal may break them, so that addresses can be copied.
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def _act(self, title: str) -> Iterator[None]:
        since = time.monotonic()
        self._console.print()
        self._console.print(Rule(f"[bold]{title}[/]", align="left"))
        yield
        self._console.print(
            f"[dim]{title.split('.', maxsplit=1)[0]}. took {time.monotonic() - since:.1f} s[/]"
        )

    def _upload(self, source: LocalSource) -> None:
        bucket, prefix = self._pipeline.source_bucket, self._pipeline.source_prefix
        with step(self._console, "uploading to the source bucket") as say:
            for number, _ in enumerate(source.upload(self._s3, bucket=bucket, prefix=prefix), start=1):
                say(f"{number:,} of {len(source.files):,} files")

    def _run(self, records: Sequence[Mapping[str, Any]] = ()) -> RunProgress:
        """Have EventBridge start a run, over everything in the source or over some records, and show it."""
        detail: dict[str, Any] = {"pipeline": PIPELINE}
        if records:
            detail["records"] = records
        with step(self._console, 'putting an event "Run requested" on the bus') as say:
            execution = self._request(detail)
            say(f"it started run {execution.rsplit(':', 1)[-1]}")
        watch = RunWatch.of(self._target, self._pipeline, execution)
        ended = follow(watch.until_it_ends(), self._console)
        self._console.print()
        print_end(ended, self._console)
        if ended.status != "SUCCEEDED":
            raise Failure(f"the run ended {ended.status}: {ended.cause}")
        return ended

    def _request(self, detail: dict[str, Any]) -> str:
        stepfunctions = self._target.client("stepfunctions")

        def executions() -> set[str]:
            page = stepfunctions.list_executions(stateMachineArn=self._pipeline.arn)
            return {each["executionArn"] for each in page["executions"]}

        before = executions()
        event = {"Source": "winnow", "DetailType": "Run requested", "Detail": json.dumps(detail)}
        answer = self._target.client("events").put_events(Entries=[event])
        if answer["FailedEntryCount"]:
            raise Failure(f"the event was refused: {answer['Entries']}")
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not (started := executions() - before):
            if time.monotonic() > deadline:
                raise Failure(
                    f"the event started no run within {STARTS_WITHIN_SECONDS} s; see {self._home}/emulator.log"
                )
            time.sleep(0.1)
        return started.pop()

    def _tell(self, ended: RunProgress) -> None:
        """What people get to know of a run: the alert, the lost records, and the proof that these are all."""
        stages = sum(stage.failed > 0 for stage in ended.stages)
        if stages:
            self._say("\nThis is what arrived at the Slack webhook:\n")
        messages = self._slack.receive(stages, within_seconds=ALERT_WITHIN_SECONDS)
        for message in messages:
            self._console.print(render(message))
        if len(messages) < stages:
            raise Failure(f"only {len(messages)} of {stages} alerts arrived within {ALERT_WITHIN_SECONDS} s")
        self._prove(ended.run_id)

    def _prove(self, run_id: str) -> None:
        self._say(f"\n[bold]winnow verify {run_id}[/]\n")
        proof = prove(self._ledger, run_id)
        print_proof(proof, self._console)
        if not proof.holds:
            raise Failure("the ledger does not add up, which must never happen: please report it")

    def _correct_and_run(self, first: RunProgress) -> RunProgress | None:
        if not first.lost:
            self._say("Every record went through: there is nothing to correct.")
            return None
        if self._is_sample:
            self._upload(LocalSource.open(CORRECTIONS, include="*.xml"))
            second = self._run()
        else:
            corrections = self._mend(first)
            if not corrections.files:
                return None
            self._upload(corrections)
            bucket, prefix = self._pipeline.source_bucket, self._pipeline.source_prefix
            keys = [prefix + key for key in corrections.files]
            second = self._run([{"id": key, "data": {"bucket": bucket, "key": key}} for key in keys])
        self._tell(second)
        self._follow_one_record(first, second)
        return second

    def _follow_one_record(self, first: RunProgress, second: RunProgress) -> None:
        """The first record that was lost, in the run that lost it and in the one that did not."""
        for record_id in lost_records(first.stages[0], self._s3):
            after = trace(self._ledger, second.run_id, record_id)
            if after.steps and after.steps[-1].outcome is Outcome.SUCCEEDED:
                for run_id in (first.run_id, second.run_id):
                    self._say(f"\n[bold]winnow verify {run_id} --id {record_id}[/]")
                    print_trace(trace(self._ledger, run_id, record_id), self._console)
                return

    def _mend(self, first: RunProgress) -> LocalSource:
        """Corrected versions of those broken files that a machine can correct."""
        prefix = self._pipeline.source_prefix
        broken = [key.removeprefix(prefix) for key in lost_records(first.stages[0], self._s3)]
        mended = {key: content for key in broken if (content := mend(key, self._source.files[key]()))}
        self._say(
            f"Of {len(broken):,} broken files a machine can mend {len(mended):,}, by rules that a cataloguer would agree to:"
        )
        self._say(
            "an identifier taken from the file's name, a bare & escaped, a comment moved out of an attribute."
        )
        self._say("The others wait, by name in the list of failures, for somebody who knows the manuscripts.")
        return LocalSource(path=self._source.path, files={key: partial(bytes, mended[key]) for key in mended})

    def _close(self, first: RunProgress, second: RunProgress | None) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
        table.add_column("Run")
        for name in ("Records in", "=", "Came out", "+", "Skipped", "+", "Lost"):
            table.add_column(name, justify="right")
        for title, run in (("as they were", first), ("corrected", second)):
            if run:
                came_out, skipped = run.stages[-1].succeeded, sum(stage.skipped for stage in run.stages)
                counts = (run.stages[0].records_in, came_out, skipped, run.lost)
                table.add_row(title, *_sum(counts))
        self._say("")
        self._console.print(Rule("[bold]What you saw[/]", align="left"))
        self._console.print(table)
        self._say(f"\nAll in {time.monotonic() - self._since:.0f} s. Next:")
        self._say("  ./scripts/demo --source FOLDER_OR_ZIP   the same with TEI files of your own")
        self._say("  ./scripts/demo --keep                   the same, and the system stays up to play with")
        self._say("  ./scripts/winnow --help                 the command line")
        self._say(
            "  README.md                               your own pipeline in ten minutes; the way to AWS"
        )


def _sum(counts: Sequence[int]) -> Iterator[str]:
    total, *parts = (f"{count:,}" for count in counts)
    yield total
    for sign, part in zip("=++", parts, strict=True):
        yield sign
        yield part


if __name__ == "__main__":
    main()
