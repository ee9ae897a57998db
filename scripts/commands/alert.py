"""`winnow alert`: whether alerts reach people."""

import json

import click
from rich.console import Console

from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.deployed import pipelines
from scripts.doctor.alert_trial import AlertTrial
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import aimed
from scripts.doctor.finding import FindingStatus, NotExamined
from scripts.doctor.report import FindingLines
from scripts.terminal.errors import CommandFailed
from scripts.terminal.exit_codes import ExitCode


@click.group(
    epilog="""
\b
Examples:
  winnow alert test                       does an alert reach Slack and the mailboxes?
  winnow alert test catalogue --local     the same on the emulator of winnow local
"""
)
def alert() -> None:
    """Alerts, and whether they reach people."""


@alert.command(
    epilog="""
Exit codes: 0 it arrived, as far as that can be seen; 1 it did not arrive somewhere, or nobody subscribed;
2 the arguments are wrong and nothing was sent.

\b
Examples:
  winnow alert test
  winnow alert test catalogue --environment prod
  winnow alert test --json | jq '.arrivals[] | select(.status == "failed")'
"""
)
@click.argument("pipeline", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@yes_option
@target_options
def test(pipeline: str | None, as_json: bool) -> None:
    """Send a test alert of PIPELINE to everybody who gets its alerts, and follow it until it arrives.

    It takes the way of real alerts, is marked as a test, and names who sent it. For Slack the command waits, at most a
    minute and a half, until the function that posts to Slack says that Slack took it, or why not.
    """
    target = current_target()
    found = pipelines.find(target, pipeline) if pipeline else pipelines.only_one(target, field="PIPELINE")
    confirm(target, found, f"test alert of {found.name}")
    context = DoctorContext(target=target, environment=found.environment, pipeline=found.name)
    try:
        trial = AlertTrial(context)
    except NotExamined as reason:
        raise CommandFailed(f"no test alert was sent: {reason}") from reason
    lines = FindingLines(Console(quiet=as_json), trial.subscribers())
    arrivals = []
    for arrival in trial.arrivals():
        finding = aimed(arrival.finding, context)
        lines.show(arrival.subscriber, finding)
        arrivals.append((arrival.subscriber, finding))
    failed = any(finding.status is FindingStatus.FAILED for _, finding in arrivals)
    if as_json:
        document = {
            "pipeline": found.name,
            "environment": found.environment,
            "failed": failed,
            "arrivals": [{"subscriber": subscriber, **finding.to_json()} for subscriber, finding in arrivals],
        }
        click.echo(json.dumps(document, ensure_ascii=False))
    raise SystemExit(ExitCode.FAILED if failed else ExitCode.DONE)
