"""Prints the proof that a run lost no record silently."""

from collections.abc import Iterator
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.alerts.shown_ids import shown_id
from winnow.core.contract import SUCCEEDED, Verdict
from winnow.proof.prove import Proof, Reached, StageProof
from winnow.proof.trace import Outcome, Step, Trace
from winnow.storage.executions import RUNNING

OUTCOME_STYLES = {Outcome.SUCCEEDED: "green", Outcome.FAILED: "bold red", Outcome.OUTSTANDING: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A run's proof, and what became of the run."""

    proof: Proof
    status: str | None
    """Step Functions' word; None where it does not know the execution any more, which is 90 days after its end."""
    stepped_aside: str | None = None
    """Why the run did nothing; None if it ran."""
    deep: bool = False
    """The outputs themselves were read, too."""

    @property
    def has_ended(self) -> bool:
        return self.status not in RUNNING

    @property
    def failed(self) -> bool:
        """Whether the run ended otherwise than with success. A run that Step Functions forgot is judged by its ledger."""
        if self.stepped_aside:
            return False
        if self.status is None:
            stopped = any(stage.verdict == Verdict.TOTAL_FAILURE for stage in self.proof.stages)
            return stopped or not self.proof.finished
        return self.has_ended and self.status != SUCCEEDED


def print_proof(verified: Verified, console: Console) -> None:
    """Print a run's proof: the input and the results of each stage, every number derived from evidence."""
    proof = verified.proof
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("Stage")
    # The header is the law itself.
    for name in ("In", "=", "Succeeded", "+", "Skipped", "+", "Failed", "Handed on", "Tries"):
        table.add_column(name, justify="right")
    table.add_column("")
    for stage in proof.stages:
        table.add_row(*_cells(stage))
    console.print(table)
    console.print()
    for problem in proof.all_problems:
        console.print(Text.assemble(("✗ ", "bold red"), problem), soft_wrap=True)
    for stage in proof.stages:
        if stage.repetitions:
            console.print(Text(f"{stage.stage}: {stage.repetitions}", style="dim"), soft_wrap=True)
        for note in stage.notes:
            console.print(Text(f"{stage.stage}: {note}", style="dim"), soft_wrap=True)
    console.print(_conclusion(verified), soft_wrap=True)


def _cells(stage: StageProof) -> Iterator[Text]:
    if stage.reached is Reached.NOT_REACHED:
        yield from (Text(each, style="dim") for each in (stage.stage, *"·=·+·+···", "not reached"))
        return
    yield Text(stage.stage)
    yield _count(stage.records_in)
    for sign, number in zip("=++", (stage.succeeded, stage.skipped, stage.failed), strict=True):
        yield Text(sign, style="dim")
        yield _count(number)
    yield _count(stage.outputs)
    yield Text(str(stage.tries))
    if stage.problems:
        yield Text("does not add up", style="bold red")
    elif stage.reached is Reached.UNFINISHED:
        yield Text(f"{stage.outstanding:,} outstanding", style="yellow")
    else:
        yield Text("adds up", style="green")


def _count(number: int) -> Text:
    return Text(f"{number:,}", style="" if number else "dim")


def _conclusion(verified: Verified) -> Text:
    proof = verified.proof
    if not proof.holds:
        return Text(f"The ledger of run {proof.run_id} does not add up.", style="bold red")
    if verified.stepped_aside:
        return Text(f"Run {proof.run_id} did nothing: {verified.stepped_aside}.", style="yellow")
    if verified.failed:
        return _never(verified)
    if not proof.finished or not verified.has_ended:
        return Text(f"Run {proof.run_id} is not finished; so far its ledger adds up.", style="yellow")
    read = " Every output was read." if verified.deep else ""
    return Text.assemble(("✓ ", "green"), f"The ledger of run {proof.run_id} adds up: {_lost(proof)}.{read}")


def _never(verified: Verified) -> Text:
    """Of a run that ended before it was done."""
    proof = verified.proof
    ended = f"ended as {verified.status}" if verified.status else "ended; Step Functions has forgotten how"
    outstanding = sum(stage.outstanding for stage in proof.stages)
    were = "record was" if outstanding == 1 else "records were"
    left = f"; {outstanding:,} {were} left outstanding" if outstanding else ""
    return Text(
        f"Run {proof.run_id} {ended} and never will finish{left}. "
        f"What it did is in its ledger, which adds up: {_lost(proof)}.",
        style="bold red",
    )


def _lost(proof: Proof) -> str:
    return f"{proof.lost:,} lost, each by name" if proof.lost else "nothing lost"


def print_trace(trace: Trace, console: Console) -> None:
    """Print the results of one record, stage by stage."""
    for step in trace.steps:
        console.print(Text("\n").join(_step(step)), soft_wrap=True)
    if trace.cut:
        console.print("[dim]Not all records made from it are shown: there are too many.[/]")


def _step(step: Step) -> Iterator[Text]:
    where = f"  attempt {step.attempt}" if step.attempt else ""
    yield Text.assemble(
        (f"{step.stage:<12}", "bold"),
        (f"{step.outcome.value:<12}", OUTCOME_STYLES.get(step.outcome, "")),
        shown_id(step.record_id),
        (where, "dim"),
    )
    if step.outputs and step.outputs != (step.record_id,):
        yield Text.assemble((" " * 24 + "became ", "dim"), ", ".join(map(shown_id, step.outputs)))
    if step.failure:
        said = f"{step.failure.kind}, {step.failure.error_type}: {step.failure.message}"
        yield Text(" " * 24 + said)
