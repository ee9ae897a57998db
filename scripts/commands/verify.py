"""`winnow verify`: proves from the ledger alone that a run lost no record silently."""

import json

import click
from rich.console import Console

from scripts.commands.aim import current_target, target_options
from scripts.deployed import pipelines
from scripts.deployed.runs import FoundRun, find_run
from scripts.deployed.target import ENVIRONMENT_OPTION, ENVIRONMENT_VARIABLE, Target
from scripts.display.proofs import Verified, print_proof, print_trace
from scripts.terminal.errors import Mistake
from scripts.terminal.exit_codes import ExitCode
from winnow.alerts.shown_ids import typed_id


@click.command(
    short_help="Prove that a run lost no record silently.",
    epilog="""
Exit codes, as of winnow run: 0 the run succeeded and all records went through, or it is still under way
and adds up so far; 3 it succeeded but lost records; 1 it failed, timed out or was aborted, or its ledger
does not add up; 2 there is no such run or record. With --id: 0 wherever the record is found.

\b
Examples:
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714 --id Arabic/MS_Arabic_4.xml
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714 --deep
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714 --json | jq .holds
  winnow verify nightly-backfill                        by the name of its execution
""",
)
@click.argument("run")
@click.option("--id", "record_id", metavar="ID", help="Show the result of this record in each stage instead.")
@click.option("--pipeline", metavar="PIPELINE", help="Look in this pipeline only. [default: all]")
@click.option("--deep", is_flag=True, help="Also read all outputs, and compare each line with the journal.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@target_options
def verify(run: str, record_id: str | None, pipeline: str | None, deep: bool, as_json: bool) -> None:
    """Prove that RUN lost no record silently: at every stage in = succeeded + skipped + failed.

    RUN is a run id, or the name or the ARN of an execution. It may also be a stage that was started by itself.

    The command derives every count again from the evidence in the ledger: the batch, the journal, the outputs and the
    list of failures. It then compares these counts with those that the run reported.
    """
    target = current_target()
    found = find_in_ledgers(target, run, pipeline)
    console = Console(highlight=False)
    if record_id is not None:
        traced = found.trace(record_id)
        if not traced.steps and typed_id(record_id) != record_id:
            traced = found.trace(typed_id(record_id))
        if not traced.steps:
            raise Mistake(
                "--id",
                record_id,
                f"must be a record that run {run} was given, spelt as the source or a list of failures has it",
            )
        if as_json:
            click.echo(json.dumps(traced.to_json(), ensure_ascii=False))
        else:
            print_trace(traced, console)
        return
    status = found.status(target.client("stepfunctions"))
    proof = found.prove(status=status, deep=deep)
    verified = Verified(proof=proof, status=status, stepped_aside=found.stepped_aside, deep=deep)
    if as_json:
        click.echo(json.dumps({**proof.to_json(), "status": status}, ensure_ascii=False))
    else:
        print_proof(verified, console)
    raise SystemExit(exit_code(verified))


def exit_code(verified: Verified) -> ExitCode:
    """The exit code for a run that was verified."""
    if not verified.proof.holds or verified.failed:
        return ExitCode.FAILED
    return ExitCode.LOST_RECORDS if verified.has_ended and verified.proof.lost else ExitCode.DONE


def find_in_ledgers(target: Target, run: str, name: str | None) -> FoundRun:
    """The run that a person means.

    Args:
        target: where to look.
        run: its id, or the name or the ARN of an execution.
        name: of its pipeline; None to look in all.

    Raises:
        Mistake: there is no such run, or it is in several environments.
    """
    candidates = [pipelines.find(target, name)] if name else pipelines.deployed(target)
    found = {}
    for environment in dict.fromkeys(pipeline.environment for pipeline in candidates):
        here = [pipeline for pipeline in candidates if pipeline.environment == environment]
        if in_it := find_run(target, run, here):
            found[environment] = in_it
    if len(found) == 1:
        return found.popitem()[1]
    if found:
        raise Mistake(
            ENVIRONMENT_OPTION,
            None,
            f"or {ENVIRONMENT_VARIABLE} must say which run {run} is meant, that of {' or '.join(found)}",
        )
    among = ", ".join(dict.fromkeys(pipeline.name for pipeline in candidates)) or "no pipeline"
    raise Mistake(
        "RUN", run, f"must be in a ledger of {target.name}, which has {among}, as a run id or an execution"
    )
