"""`winnow doctor`: whether all that a pipeline needs is as it should be, before and after the first deploy."""

import json
import sys

import click
from rich.console import Console

from scripts import ROOT
from scripts.commands.aim import current_target, target_options
from scripts.deployed.target import Target
from scripts.doctor.checks import CHECKS, PROBES
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import examine_all, has_failed
from scripts.doctor.report import Report, to_json
from scripts.doctor.settings import default_environment
from scripts.terminal.errors import Mistake
from scripts.terminal.exit_codes import ExitCode
from winnow.alerts.wording import LOCAL

FALLBACK_ENVIRONMENT = "dev"
PROBES_COST = (
    "Probes send a test alert, start a few tiny runs and put a few objects into the source bucket. "
    "They deploy nothing, take some minutes and cost some cents."
)


@click.command(
    short_help="Check that everything is as it should be.",
    epilog="""
\b
Exit codes: 0 all is well, or there are warnings only; 1 something failed; 2 the arguments are wrong.

\b
Examples:
  winnow doctor                           the account of your credentials, cdk.json's own environment
  winnow doctor --environment prod        before its first deploy, and after
  winnow doctor --local                   the emulator of winnow local
  winnow doctor --json | jq '.checks[] | select(.status == "failed")'
  winnow doctor --probe                   also try what only a run can show: minutes and cents
""",
)
@click.argument("pipeline", required=False)
@click.option("--probe", is_flag=True, help="Also start and send things, to see that they work.")
@click.option("--yes", is_flag=True, help="Do not ask before the probes.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@target_options
def doctor(pipeline: str | None, probe: bool, yes: bool, as_json: bool) -> None:
    """Check that everything PIPELINE needs is as it should be: a line per check, and what to do about it.

    Usable before and after the first deploy. It reads and changes nothing, unless --probe is given. Without --environment
    it examines the environment that is deployed, or the one that cdk.json deploys by itself.
    """
    target = current_target()
    context = _context(target, pipeline)
    checks = (*CHECKS, *PROBES) if probe else CHECKS
    if probe and not yes:
        _confirm_probes()
    report = Report(Console(quiet=as_json), checks)
    report.head(context)
    results = []
    for examined in examine_all(checks, context):
        report.show(examined)
        results.append(examined)
    report.close(results)
    if as_json:
        click.echo(json.dumps(to_json(context, results), ensure_ascii=False))
    raise SystemExit(ExitCode.FAILED if has_failed(results) else ExitCode.DONE)


def _context(target: Target, pipeline: str | None) -> DoctorContext:
    """What is to be examined.

    Raises:
        Mistake: several environments or pipelines are deployed, and the arguments do not say which is meant.
    """
    default = LOCAL if target.is_local else default_environment(ROOT) or FALLBACK_ENVIRONMENT
    environment = target.environment.name if target.environment else None
    context = DoctorContext(target=target, environment=environment or default, pipeline=pipeline)
    try:
        stacks = context.stacks()
    except Exception:  # noqa: BLE001  what is wrong is told by the checks of credentials and of the stack
        return context
    named = [stack for stack in stacks if pipeline in {None, stack.pipeline}]
    if environment is None and named:
        environments = sorted({stack.environment for stack in named})
        if len(environments) > 1:
            raise Mistake("--environment", "nothing", f"must be one of {', '.join(environments)}")
        context.environment = environments[0]
    there = sorted({stack.pipeline for stack in named if stack.environment == context.environment})
    if pipeline is None and there:
        if len(there) > 1:
            raise Mistake("PIPELINE", "nothing", f"must be one of {', '.join(there)}")
        context.pipeline = there[0]
    return context


def _confirm_probes() -> None:
    click.echo(PROBES_COST, err=True)
    if not sys.stdin.isatty():
        raise Mistake("--probe", "no terminal to ask at", "needs --yes")
    click.confirm("Go on?", abort=True, err=True)
