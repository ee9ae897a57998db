"""The deployed system, as the demonstration shows it at work."""

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from scripts.clients import at_emulator
from scripts.display import follow, print_end
from scripts.emulator import Emulator
from scripts.errors import Failure
from scripts.pipelines import find
from scripts.progress import RunProgress, RunWatch
from scripts.proofs import print_proof, print_trace
from scripts.slack_receiver import SlackReceiver, render
from scripts.sources import LocalSource
from scripts.steps import step
from winnow.conservation import prove
from winnow.keys import AttemptKeys, StageKeys
from winnow.ledger import Ledger
from winnow.store import S3Store
from winnow.trace import Trace, trace

STARTS_WITHIN_SECONDS = 30
ALERT_WITHIN_SECONDS = 20


class Exhibit:
    """A pipeline in an emulator, the webhook that its alerts go to, and the console on which all of it is shown."""

    def __init__(self, console: Console, emulator: Emulator, slack: SlackReceiver, *, pipeline: str) -> None:
        self._console = console
        self._emulator = emulator
        self._slack = slack
        self._target = at_emulator(emulator.endpoint)
        self.pipeline = find(self._target, pipeline)
        self.s3 = self._target.client("s3")
        self.ledger = Ledger(S3Store(self.pipeline.ledger_bucket, self.s3))

    def say(self, text: str) -> None:
        """Print a line, as long as it is meant to be; the terminal may break it, so that addresses can be copied."""
        self._console.print(text, soft_wrap=True)

    def upload(self, source: LocalSource) -> None:
        """Put files into the source bucket, over those that have the same names."""
        bucket, prefix = self.pipeline.source_bucket, self.pipeline.source_prefix
        with step(self._console, "uploading to the source bucket") as say:
            for number, _ in enumerate(source.upload(self.s3, bucket=bucket, prefix=prefix), start=1):
                say(f"{number:,} of {len(source.files):,} files")

    def run(self, records: Sequence[Mapping[str, Any]] = ()) -> RunProgress:
        """Have EventBridge start a run, over everything in the source or over some records, and show it to its end."""
        detail: dict[str, Any] = {"pipeline": self.pipeline.name}
        if records:
            detail["records"] = records
        with step(self._console, 'putting an event "Run requested" on the bus') as say:
            execution = self._request(detail)
            say(f"it started run {execution.rsplit(':', 1)[-1]}")
        watch = RunWatch.of(self._target, self.pipeline, execution)
        ended = follow(watch.until_it_ends(), self._console)
        self._console.print()
        print_end(ended, self._console)
        self._show_alerts(ended)
        if ended.status != "SUCCEEDED":
            raise Failure(f"the run ended {ended.status}: {ended.cause}")
        self._prove(ended.run_id)
        return ended

    def trace(self, run_id: str, record_id: str) -> Trace:
        """What became of a record."""
        return trace(self.ledger, run_id, record_id)

    def show_trace(self, traced: Trace) -> None:
        """Show it as the command line does."""
        self.say(f"\n[bold]winnow verify {traced.run_id} --id {traced.record_id}[/]")
        print_trace(traced, self._console)

    def _request(self, detail: Mapping[str, Any]) -> str:
        """Put an event on the bus, and wait for the execution that comes of it."""
        before = self._executions()
        event = {"Source": "winnow", "DetailType": "Run requested", "Detail": json.dumps(detail)}
        answer = self._target.client("events").put_events(Entries=[event])
        if answer["FailedEntryCount"]:
            raise Failure(f"the event was refused: {answer['Entries']}")
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not (started := self._executions() - before):
            if time.monotonic() > deadline:
                log = self._emulator.log_tail()
                raise Failure(
                    f"the event started no run in {STARTS_WITHIN_SECONDS} s; the emulator's log ends with:\n{log}"
                )
            time.sleep(0.1)
        return started.pop()

    def _executions(self) -> set[str]:
        page = self._target.client("stepfunctions").list_executions(stateMachineArn=self.pipeline.arn)
        return {each["executionArn"] for each in page["executions"]}

    def _show_alerts(self, ended: RunProgress) -> None:
        sent = self._alerts_sent(ended.run_id)
        if sent:
            self.say("\nThis is what arrived at the Slack webhook:\n")
        elif ended.lost:
            self.say("\nNo alert: these failures were alerted before, and nothing about them has changed.")
        messages = self._slack.receive(sent, within_seconds=ALERT_WITHIN_SECONDS)
        for message in messages:
            self._console.print(render(message))
        if len(messages) < sent:
            raise Failure(f"only {len(messages)} of {sent} alerts arrived within {ALERT_WITHIN_SECONDS} s")

    def _alerts_sent(self, run_id: str) -> int:
        """How many alerts of a run's stages the topic has accepted, by the ledger."""
        attempts = [StageKeys(run_id, stage).attempts for stage in self.pipeline.stages]
        written = [key for prefix in attempts for key in self.ledger.store.keys(prefix)]
        return sum(key.endswith(AttemptKeys("/").alerted) for key in written)

    def _prove(self, run_id: str) -> None:
        self.say(f"\n[bold]winnow verify {run_id}[/]\n")
        proof = prove(self.ledger, run_id)
        print_proof(proof, self._console)
        if not proof.holds:
            raise Failure("the ledger does not add up, which must never happen: please report it")
