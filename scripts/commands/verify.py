"""`winnow verify`: proves from the ledger alone that a run lost no record silently."""

import json

import click
from rich.console import Console

from scripts.commands.aim import current_target, local_option
from scripts.deployed import pipelines
from scripts.deployed.target import Target
from scripts.display.proofs import print_proof, print_trace
from scripts.terminal.errors import Mistake
from winnow.core import keys
from winnow.core.run_document import RunDocument
from winnow.proof.prove import Proof, prove
from winnow.proof.trace import trace
from winnow.storage.executions import StepFunctions
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

DOES_NOT_ADD_UP = 1


@click.command(
    short_help="Prove that a run lost no record silently.",
    epilog="""
\b
Exit codes: 0 the ledger adds up, 1 it does not, 2 there is no such run or record.

\b
Examples:
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714 --id Arabic/MS_Arabic_4.xml
  winnow verify 01M7WM2TA039VAFTG0YJE3Y714 --json | jq .holds
""",
)
@click.argument("run")
@click.option("--id", "record_id", metavar="ID", help="Show the result of this record in each stage instead.")
@click.option("--pipeline", metavar="PIPELINE", help="Look in this pipeline only. [default: all]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
@local_option
def verify(run: str, record_id: str | None, pipeline: str | None, as_json: bool) -> None:
    """Prove that RUN lost no record silently: at every stage in = succeeded + skipped + failed.

    The command derives every count again from the evidence in the ledger: the batch, the journal, the outputs and the
    list of failures. It then compares these counts with those that the run reported.
    """
    target = current_target()
    ledger, document = _find(target, run, pipeline)
    console = Console(highlight=False)
    if record_id is not None:
        traced = trace(ledger, run, record_id)
        if not traced.steps:
            raise Mistake(
                "--id", record_id, f"must be a record that run {run} was given, spelt as the source has it"
            )
        if as_json:
            click.echo(json.dumps(traced.to_json(), ensure_ascii=False))
        else:
            print_trace(traced, console)
        return
    proof = prove_run(target, ledger, document)
    if as_json:
        click.echo(json.dumps(proof.to_json(), ensure_ascii=False))
    else:
        print_proof(proof, console)
    if not proof.holds:
        raise SystemExit(DOES_NOT_ADD_UP)


def prove_run(target: Target, ledger: Ledger, run: RunDocument) -> Proof:
    """The proof of a run, given its `run.json`."""
    machine = StepFunctions(machine_arn="", stepfunctions=target.client("stepfunctions"))
    return prove(ledger, run.run_id, status=machine.status(run.execution))


def _find(target: Target, run: str, name: str | None) -> tuple[Ledger, RunDocument]:
    """The ledger that has a run, and its `run.json`."""
    candidates = [pipelines.find(target, name)] if name else pipelines.deployed(target)
    s3 = target.client("s3")
    for pipeline in candidates:
        ledger = Ledger(S3Store(pipeline.ledger_bucket, s3))
        document = ledger.find(keys.run(run), RunDocument.from_json)
        if document:
            return ledger, document
    among = ", ".join(pipeline.name for pipeline in candidates) or "no pipeline"
    raise Mistake("RUN", run, f"must be in a ledger of {target.name}, which has {among}")
