"""Shows the progress of a run: a live table on a terminal, plain lines everywhere else."""

from collections.abc import Iterable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from scripts.deployed.progress import RunProgress, StageProgress, StageState
from scripts.display.publications import counts_text
from winnow.core.contract import SUCCEEDED
from winnow.runs.published_by_run import PublishedByRun

STATE_STYLES = {
    StageState.WAITING: "dim",
    StageState.NOT_RUN: "dim",
    StageState.RUNNING: "cyan",
    StageState.RETRYING: "yellow",
    StageState.DONE: "green",
    StageState.FAILED: "bold red",
}
UNPLANNED = {StageState.WAITING, StageState.NOT_RUN}
"""States of a stage that was not given any records."""
STATUS_STYLES = {"RUNNING": "cyan", "SUCCEEDED": "green"}


def follow(looks: Iterable[RunProgress], console: Console) -> RunProgress:
    """Show a run until it ends.

    Returns:
        The last progress.
    """
    if console.is_terminal:
        return _follow_on_terminal(looks, console)
    return _follow_in_lines(looks, console)


def _follow_on_terminal(looks: Iterable[RunProgress], console: Console) -> RunProgress:
    last = None
    # Transient: the caller prints the result, in the place it wants.
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        for last in looks:
            live.update(Group(_headline(last), stages_table(last)))
    assert last
    return last


def _follow_in_lines(looks: Iterable[RunProgress], console: Console) -> RunProgress:
    last = None
    said: dict[str, str] = {}
    for last in looks:
        for stage in last.stages:
            if stage.state not in UNPLANNED and said.get(stage.stage) != f"{stage.state} {stage.tries}":
                said[stage.stage] = f"{stage.state} {stage.tries}"
                console.print(_line(stage, last.seconds), highlight=False, soft_wrap=True)
    assert last
    return last


def _line(stage: StageProgress, seconds: float) -> str:
    return (
        f"  {seconds:5.1f} s  {stage.stage} {stage.state}, try {stage.tries}: {stage.records_in:,} in, {stage.succeeded:,} succeeded, "
        f"{stage.skipped:,} skipped, {stage.failed:,} failed, {stage.outstanding:,} outstanding"
    )


def _headline(progress: RunProgress) -> Text:
    return Text.assemble(
        ("run ", "dim"),
        progress.run_id,
        "  ",
        (progress.status, STATUS_STYLES.get(progress.status, "bold red")),
        (f"  {progress.seconds:.1f} s", "dim"),
    )


def stages_table(progress: RunProgress) -> Table:
    """A run's stages in counts that add up: in = succeeded + skipped + failed + outstanding."""
    table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
    table.add_column("Stage")
    for name in ("In", "Succeeded", "Skipped", "Failed", "Outstanding", "Try"):
        table.add_column(name, justify="right")
    table.add_column("")
    for stage in progress.stages:
        table.add_row(*_cells(stage))
    return table


def _cells(stage: StageProgress) -> list[RenderableType]:
    def count(number: int, style: str = "") -> Text:
        return Text(f"{number:,}", style=style if number else "dim")

    if stage.state in UNPLANNED:
        return [Text(text, style="dim") for text in (stage.stage, *"······", stage.state)]
    return [
        stage.stage,
        count(stage.records_in),
        count(stage.succeeded, "green"),
        count(stage.skipped),
        count(stage.failed, "bold red"),
        count(stage.outstanding, "yellow"),
        str(stage.tries),
        Text(stage.state, style=STATE_STYLES[stage.state]),
    ]


def print_end(progress: RunProgress, console: Console) -> None:
    """Print the final state of a run."""
    console.print(_headline(progress))
    console.print(stages_table(progress))
    for stage in progress.stages:
        if stage.repetitions:
            console.print(Text(f"{stage.stage}: {stage.repetitions}", style="dim"), soft_wrap=True)
    if progress.published:
        succeeded = progress.status == SUCCEEDED
        console.print(published_line(progress.published, succeeded=succeeded), soft_wrap=True)


def published_line(published: PublishedByRun, *, succeeded: bool) -> Text:
    """What a run published, or why not, in one line; why a run failed is said elsewhere."""
    if published.version is None:
        stays = f"; {published.publication} stays version {published.current}" if published.current else ""
        why = published.reason if succeeded else "the run failed"
        return Text(f"not published: {why}{stays}", style="yellow")
    changes = f" ({counts_text(published.counts)})" if published.counts else ""
    since = (
        f"; version {published.current} is current since" if published.current != published.version else ""
    )
    return Text(
        f"published {published.publication} version {published.version}{changes}{since}", style="green"
    )
