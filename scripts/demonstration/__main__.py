"""Behind ./scripts/demo: what Winnow does, shown on this machine from start to end."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NoReturn

import click
from rich.console import Console
from rich.rule import Rule
from rich.table import Table

from scripts import ROOT
from scripts.commands.local import print_state
from scripts.demonstration.exhibit import Exhibit
from scripts.demonstration.repairs import mend
from scripts.demonstration.slack_receiver import SlackReceiver
from scripts.deployed.progress import RunProgress
from scripts.deployed.sources import LocalSource
from scripts.display.failures import lost_records
from scripts.local import emulator
from scripts.local import state as local_state
from scripts.local.deployment import deploy_to_emulator
from scripts.local.emulator import Emulator
from scripts.local.state import FOLDER, LocalState
from scripts.terminal.errors import CommandRefused
from winnow.core.contract import now
from winnow.proof.trace import Outcome

MANUSCRIPTS = ROOT / "tests" / "data" / "manuscripts"
CORRECTIONS = ROOT / "tests" / "data" / "corrections"
PIPELINE = "catalogue"
WAIT_SCALE = 0.1
"""A demonstration does not wait half a minute for a backoff."""
HIT = 20
"""Records that the mistaken deployment is shown with."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--source", type=click.Path(exists=True, path_type=Path), help="Your own TEI files: a folder or a zip."
)
@click.option("--keep", is_flag=True, help="Leave the system running at the end, for `winnow … --local`.")
def main(source: Path | None, keep: bool) -> None:  # noqa: FBT001 click passes options by name
    """Show what Winnow does, on this machine and nowhere else: no account, no Docker, nothing installed globally."""
    # Both, even where the parent process ignores them, as shells do for background jobs.
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    console = Console(highlight=False)
    if keep and emulator.is_running(local_state.HOME):
        raise CommandRefused(
            "--keep takes the place of the local emulator, which is up; stop it first: winnow local down"
        )
    home = local_state.HOME if keep else FOLDER / f"demo-{os.getpid()}"
    try:
        _Demo(console, source or MANUSCRIPTS, is_sample=source is None).play(home, keep=keep)
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

    def __init__(self, console: Console, source: Path, *, is_sample: bool) -> None:
        self._console = console
        self._is_sample = is_sample
        self._source = LocalSource.open(source, include="*.xml")
        self._since = time.monotonic()

    def play(self, home: Path, *, keep: bool) -> None:
        """Show everything."""
        self._banner()
        with ExitStack() as stack:
            slack = stack.enter_context(SlackReceiver())
            with self._act("1. The system"):
                running = stack.enter_context(
                    deploy_to_emulator(home, self._console, wait_scale=WAIT_SCALE, webhook=slack.url)
                )
                exhibit = Exhibit(self._console, running, slack, pipeline=PIPELINE)
            with self._act("2. A run, with whatever is wrong in its records"):
                exhibit.upload(self._source)
                first = exhibit.run()
                if first.lost:
                    self._say("\nEach failure is on record until its record succeeds, by cause:")
                    exhibit.winnow("replay", "list")
            with self._act("3. The records are corrected, and the pipeline runs again"):
                second = self._correct_and_run(exhibit, first)
            with self._act("4. A worker is deployed with a mistake, and what that cost is replayed"):
                rest = self._break_and_replay(exhibit, second or first)
            self._close([("as they were", first), ("corrected", second), *rest])
            if keep:
                self._leave_running(running)

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
        for line in self._source.told_left_out():
            self._console.print(f"     {line}", soft_wrap=True, markup=False)
        self._say("  3. a second run after the records were corrected")
        self._say("  4. a deployment that breaks a stage, and a replay of exactly what it cost")

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    @contextmanager
    def _act(self, title: str) -> Iterator[None]:
        since = time.monotonic()
        self._console.print()
        self._console.print(Rule(f"[bold]{title}[/]", align="left"))
        yield
        self._say(f"[dim]{title.split('.', maxsplit=1)[0]}. took {time.monotonic() - since:.1f} s[/]")

    def _correct_and_run(self, exhibit: Exhibit, first: RunProgress) -> RunProgress | None:
        """None where there is nothing to correct, or nothing that a machine could."""
        if not first.lost:
            self._say("Every record went through: there is nothing to correct.")
            return None
        if self._is_sample:
            exhibit.upload(LocalSource.open(CORRECTIONS, include="*.xml"))
            second = exhibit.run()
        else:
            corrections = self._mend(exhibit, first)
            if not corrections.files:
                return None
            exhibit.upload(corrections)
            bucket, prefix = exhibit.pipeline.source_bucket, exhibit.pipeline.source_prefix
            keys = [prefix + key for key in corrections.files]
            second = exhibit.run([{"id": key, "data": {"bucket": bucket, "key": key}} for key in keys])
        for record_id in lost_records(first.stages[0], exhibit.s3):
            after = exhibit.trace(second.run_id, record_id)
            if after.steps and after.steps[-1].outcome is Outcome.SUCCEEDED:
                exhibit.show_trace(exhibit.trace(first.run_id, record_id))
                exhibit.show_trace(after)
                break
        if resolved := exhibit.resolved():
            self._say(
                f"\nNobody has to report that; {resolved:,} failures on record have resolved themselves:"
            )
        exhibit.winnow("replay", "list")
        return second

    def _break_and_replay(self, exhibit: Exhibit, last: RunProgress) -> Sequence[tuple[str, RunProgress]]:
        """A run that fails although nothing is wrong with its records, and its replay from where it failed."""
        stage = exhibit.pipeline.stages[-1]
        keys = exhibit.passed(last.run_id, stage, at_most=HIT)
        if not keys:
            self._say("No record came through, so there is none that a mistake could stop.")
            return ()
        bucket = exhibit.pipeline.source_bucket
        self._say(
            f"{stage} is told the wrong name of its table; {len(keys)} of the files that went well come again:"
        )
        with exhibit.mistaken(stage, "IDENTIFIERS_TABLE", "no-such-table"):
            failed = exhibit.run(
                [{"id": key, "data": {"bucket": bucket, "key": key}} for key in keys], ends="FAILED"
            )
        self._say(
            "\nThe name is put right. Nothing is lost, and nothing has to be done over but what is owed:"
        )
        selection = ("replay", "run", "--stage", stage, "--run", failed.run_id)
        exhibit.winnow(*selection)
        exhibit.winnow(*selection, "--execute", "--watch")
        exhibit.winnow("replay", "list")
        replay = exhibit.resolved_by(stage, keys[0])
        return ("mistaken", failed), ("replayed", exhibit.progress(replay, start_at=stage))

    def _mend(self, exhibit: Exhibit, first: RunProgress) -> LocalSource:
        """Corrected versions of those broken files that a machine can correct."""
        prefix = exhibit.pipeline.source_prefix
        broken = [key.removeprefix(prefix) for key in lost_records(first.stages[0], exhibit.s3)]
        mended = {key: content for key in broken if (content := mend(key, self._source.files[key]()))}
        self._say(
            f"Of {len(broken):,} broken files a machine can mend {len(mended):,}, by rules no cataloguer would mind:"
        )
        self._say(
            "an identifier taken from the file's name, a bare & escaped, a comment moved out of an attribute."
        )
        self._say(
            "The others stay in the list of failures, by name, until an expert on the manuscripts corrects them."
        )
        return LocalSource(path=self._source.path, files={key: partial(bytes, mended[key]) for key in mended})

    def _close(self, runs: Sequence[tuple[str, RunProgress | None]]) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 1), header_style="bold")
        table.add_column("Run")
        for name in ("Records in", "=", "Came out", "+", "Skipped", "+", "Lost"):
            table.add_column(name, justify="right")
        for title, run in runs:
            if run:
                came_out, skipped = run.stages[-1].succeeded, sum(stage.skipped for stage in run.stages)
                table.add_row(title, *_sum((run.stages[0].records_in, came_out, skipped, run.lost)))
        self._say("")
        self._console.print(Rule("[bold]What you saw[/]", align="left"))
        self._console.print(table)
        self._say(f"\nAll in {time.monotonic() - self._since:.0f} s. Next:")
        self._say("  ./scripts/demo --source FOLDER_OR_ZIP   the same with TEI files of your own")
        self._say("  ./scripts/demo --keep                   the same, and the system stays up to play with")
        self._say("  ./scripts/winnow --help                 the command line")
        self._say(
            "  README.md                               your own pipeline in ten minutes, and the way to AWS"
        )

    def _leave_running(self, running: Emulator) -> None:
        state = LocalState(endpoint=running.endpoint, started_at=now())
        state.write()
        running.release()
        self._say("")
        print_state(state, self._console)
        self._say("\nStop it with: ./scripts/winnow local down")


def _sum(counts: Sequence[int]) -> Iterator[str]:
    total, *parts = (f"{count:,}" for count in counts)
    yield total
    for sign, part in zip("=++", parts, strict=True):
        yield sign
        yield part


if __name__ == "__main__":
    main()
