"""`winnow doctor`: whether all that a pipeline needs is as it should be, before and after the first deploy."""

import json

import click
from rich.console import Console

from scripts import ROOT
from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import ENVIRONMENT_OPTION, ENVIRONMENT_VARIABLE, Target
from scripts.doctor.checks import CHECKS, PROBES
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import examine_all, examine_together, has_failed
from scripts.doctor.finding import NotExamined
from scripts.doctor.probe_cost import words as probe_words
from scripts.doctor.report import Report, to_json
from scripts.doctor.settings import default_environment
from scripts.terminal.errors import Mistake
from scripts.terminal.exit_codes import ExitCode
from winnow.alerts.wording import LOCAL

FALLBACK_ENVIRONMENT = "dev"
PROBES_GO_ON = (
    "stopped looking: executions called probe-… that were started end by themselves within minutes, and an alarm that was set "
    "goes back by itself; nothing is left to tidy up"
)


@click.command(
    short_help="Check that everything is as it should be.",
    epilog="""
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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@yes_option
@target_options
def doctor(pipeline: str | None, probe: bool, as_json: bool) -> None:
    """Check that everything PIPELINE needs is as it should be: a line per check, and what to do about it.

    Usable before and after the first deploy. It reads and changes nothing, unless --probe is given. Without --environment
    it examines the environment that is deployed, or the one that cdk.json deploys by itself.
    """
    target = current_target()
    context = _context(target, pipeline)
    checks = (*CHECKS, *PROBES) if probe else CHECKS
    if probe:
        _confirm_probes(context)
    report = Report(Console(quiet=as_json), checks)
    report.head(context)
    results = []
    for examined in examine_all(CHECKS, context):
        report.show(examined)
        results.append(examined)
    if probe:
        try:
            for examined in examine_together(PROBES, context):
                report.show(examined)
                results.append(examined)
        except KeyboardInterrupt:
            click.echo(PROBES_GO_ON, err=True)
            raise
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
            raise Mistake(
                ENVIRONMENT_OPTION,
                None,
                f"or {ENVIRONMENT_VARIABLE} must say which environment is meant, {' or '.join(environments)}",
            )
        context.environment = environments[0]
    there = sorted({stack.pipeline for stack in named if stack.environment == context.environment})
    if pipeline is None and there:
        if len(there) > 1:
            raise Mistake("PIPELINE", None, f"must be one of {', '.join(there)}")
        context.pipeline = there[0]
    return context


def _confirm_probes(context: DoctorContext) -> None:
    """Say what probes do, and ask where the environment wants that; not where nothing is deployed that could be probed."""
    try:
        stack = context.stack()
        pipeline = DeployedPipeline.from_outputs(stack.outputs, stack=stack.name)
    except (NotExamined, KeyError):
        return
    window_seconds = stack.outputs.get("ArrivalsWindowSeconds")
    words = probe_words(len(pipeline.stages), float(window_seconds) if window_seconds else None)
    confirm(context.target, pipeline, f"probes of {pipeline.name}", notes=[words])
