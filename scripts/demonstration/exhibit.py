"""The deployed system, as the demonstration shows it at work."""

import json
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

from rich.console import Console
from rich.markup import escape

from scripts.commands import cli
from scripts.commands.aim import aimed_at
from scripts.demonstration.slack_receiver import SlackReceiver, render
from scripts.deployed.pipelines import find
from scripts.deployed.progress import RunProgress, RunWatch
from scripts.deployed.sources import LocalSource
from scripts.display.proofs import Verified, print_proof, print_trace
from scripts.display.runs import follow, print_end
from scripts.local.emulator import Emulator
from scripts.local.target import at_emulator
from scripts.replay.site import Site
from scripts.terminal.errors import CommandFailed
from scripts.terminal.steps import step
from winnow.alerts.shown_ids import shown_id
from winnow.batch.plan import ids_of, read_plan
from winnow.core.contract import SUCCEEDED
from winnow.core.keys import AttemptKeys, StageKeys
from winnow.proof.prove import prove
from winnow.proof.trace import Trace, trace
from winnow.register.entry import Status
from winnow.register.table import RegisterTable
from winnow.settlement.result import StageResult
from winnow.settlement.settlement import read_settlement
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

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

    def run(self, records: Sequence[Mapping[str, Any]] = (), *, ends: str = SUCCEEDED) -> RunProgress:
        """Have EventBridge start a run, over everything in the source or over some records, and show it to its end.

        Raises:
            CommandFailed: it did not end as it should.
        """
        detail: dict[str, Any] = {
            "pipeline": self.pipeline.name,
            "environment": self.pipeline.environment,
        }
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
        if ended.status != ends:
            raise CommandFailed(f"the run ended {ended.status}: {ended.cause}")
        if ended.status == SUCCEEDED:
            self._prove(ended.run_id)
        return ended

    def winnow(self, *arguments: str) -> None:
        """Run a command of the command line, here and now, and show what it says.

        Raises:
            CommandFailed: it did not end with 0.
        """
        self.say(f"\n[bold]{escape(shlex.join(('winnow', *arguments)))}[/]\n")
        with aimed_at(self._emulator.endpoint):
            try:
                cli.main.main(arguments, standalone_mode=False)
            except SystemExit as ended:
                if ended.code:
                    raise CommandFailed(f"winnow {arguments[0]} ended with exit code {ended.code}") from ended

    def progress(self, run_id: str, *, start_at: str) -> RunProgress:
        """How far a run is that began at a later stage."""
        stages = self.pipeline.stages[self.pipeline.stages.index(start_at) :]
        execution = f"{self.pipeline.arn.replace(':stateMachine:', ':execution:')}:{run_id}"
        return RunWatch.of(self._target, replace(self.pipeline, stages=stages), execution).look()

    def passed(self, run_id: str, stage: str, *, at_most: int) -> list[str]:
        """Ids of records that succeeded in a stage, as it knew them; the first so many."""
        plan = read_plan(self.ledger, StageKeys(run_id, stage))
        last = self.ledger.read(plan.keys.result, StageResult.from_json).attempts - 1
        settled = read_settlement(self.ledger, plan, last)
        assert settled
        return [record_id for _, record_id in islice(ids_of(self.ledger, plan, settled.succeeded), at_most)]

    @property
    def _register(self) -> RegisterTable:
        return Site.open(self._target, self.pipeline.name).register

    def resolved(self) -> int:
        """Failures on record that have resolved themselves."""
        register = self._register
        entries = (each for stage in self.pipeline.stages for each in register.all(self.pipeline.name, stage))
        return sum(each.status is Status.RESOLVED for each in entries)

    def resolved_by(self, stage: str, record_id: str) -> str:
        """The run in which a failed record succeeded.

        Raises:
            CommandFailed: in none.
        """
        entry = self._register.find(self.pipeline.name, stage, record_id)
        if entry is None or entry.resolution is None:
            raise CommandFailed(f"{record_id} was not resolved")
        return entry.resolution.run_id

    @contextmanager
    def mistaken(self, stage: str, variable: str, value: str) -> Iterator[None]:
        """A worker deployed with a mistake in its environment, for a while."""
        lambdas = self._target.client("lambda")
        function = self.pipeline.workers[stage]
        found = lambdas.get_function_configuration(FunctionName=function)["Environment"]["Variables"]
        changed = {"Variables": found | {variable: value}}
        lambdas.update_function_configuration(FunctionName=function, Environment=changed)
        try:
            yield
        finally:
            lambdas.update_function_configuration(FunctionName=function, Environment={"Variables": found})

    def trace(self, run_id: str, record_id: str) -> Trace:
        """What became of a record."""
        return trace(self.ledger, run_id, record_id)

    def show_trace(self, traced: Trace) -> None:
        """Show it as the command line does."""
        command = shlex.join(("winnow", "verify", traced.run_id, "--id", shown_id(traced.record_id)))
        self.say(f"\n[bold]{escape(command)}[/]")
        print_trace(traced, self._console)

    def _request(self, detail: Mapping[str, Any]) -> str:
        """Put an event on the bus, and wait for the execution that comes of it."""
        before = self._executions()
        event = {"Source": "winnow", "DetailType": "Run requested", "Detail": json.dumps(detail)}
        answer = self._target.client("events").put_events(Entries=[event])
        if answer["FailedEntryCount"]:
            raise CommandFailed(f"the event was refused: {answer['Entries']}")
        deadline = time.monotonic() + STARTS_WITHIN_SECONDS
        while not (started := self._executions() - before):
            if time.monotonic() > deadline:
                log = self._emulator.log_tail()
                raise CommandFailed(
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
            raise CommandFailed(
                f"only {len(messages)} of {sent} alerts arrived within {ALERT_WITHIN_SECONDS} s"
            )

    def _alerts_sent(self, run_id: str) -> int:
        """How many alerts of a run's stages the topic has accepted, by the ledger."""
        attempts = [StageKeys(run_id, stage).attempts for stage in self.pipeline.stages]
        written = [key for prefix in attempts for key in self.ledger.store.keys(prefix)]
        return sum(key.endswith(AttemptKeys("/").alerted) for key in written)

    def _prove(self, run_id: str) -> None:
        self.say(f"\n[bold]winnow verify {run_id}[/]\n")
        proof = prove(self.ledger, run_id)
        print_proof(Verified(proof=proof, status=SUCCEEDED), self._console)
        if not proof.holds:
            raise CommandFailed("the ledger does not add up, which must never happen: please report it")
