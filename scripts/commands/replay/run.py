"""`winnow replay run`: replays failed records, from the stage they failed in or an earlier one."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console

from scripts.commands.aim import current_target, target_options
from scripts.commands.confirming import confirm, yes_option
from scripts.commands.run import exit_code
from scripts.deployed.progress import RunProgress, RunWatch
from scripts.display.runs import follow, print_end
from scripts.replay.chooser import Chooser, ChosenReplays
from scripts.replay.criteria import Criteria, criteria_options
from scripts.replay.display import print_left_out, print_order, records, refusals
from scripts.replay.explaining import why_nothing
from scripts.replay.lanes import Lane
from scripts.replay.orders import ReplayOrder, first
from scripts.replay.rules import Rules
from scripts.replay.site import Site
from scripts.replay.starting import Started, start
from scripts.terminal.errors import CommandRefused, Mistake
from scripts.terminal.exit_codes import ExitCode
from winnow.register.entry import Status
from winnow.register.table import RegisterUnavailable


@click.command(
    short_help="Replay failed records.",
    epilog="""
Exit codes: 0 done (or shown), 1 a replay failed or its canary did not pass, 2 nothing can be replayed,
3 with --watch: the replay succeeded but lost records again.

\b
Examples:
  winnow replay run --stage mint                            show what would run
  winnow replay run --stage mint --execute --watch          run it and follow it
  winnow replay run --run 01M7WM2TA039VAFTG0YJE3Y714 --execute
  winnow replay run --fingerprint 3f2a9c01b7de --from start --execute
  winnow replay run --kind permanent --canary 10 --execute  ten first, then the rest
  winnow replay run --all --lane nightly --lane-limit 2 --execute
""",
)
@criteria_options
@click.option(
    "--all", "everything", is_flag=True, help="Everything that is open; needed where no filter is given."
)
@click.option("--execute", is_flag=True, help="Start the replays. Without it, the command only shows them.")
@click.option(
    "--from", "from_stage", metavar="STAGE|start", help="Start earlier. [default: where they failed]"
)
@click.option("--limit", type=click.IntRange(min=1), help="Maximum number of records of each stage.")
@click.option(
    "--canary", type=click.IntRange(min=1), help="Replay this many first; the rest only if they succeed."
)
@click.option(
    "--lane", "lane_name", metavar="NAME", help="Start only if the lane of this name has a free place."
)
@click.option(
    "--lane-limit", type=click.IntRange(min=1), default=1, show_default=True, help="Places in the lane."
)
@click.option("--watch", is_flag=True, help="Follow each replay to its end.")
@click.option("--force", is_flag=True, help="Also replay permanent failures whose stage has no new code.")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON object per replay and nothing else.")
@yes_option
@target_options
def run(
    options: dict[str, Any],
    everything: bool,
    execute: bool,
    from_stage: str | None,
    limit: int | None,
    canary: int | None,
    lane_name: str | None,
    lane_limit: int,
    watch: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Replay the failed records that match, in one run for each stage they failed in.

    Records that cannot be replayed are left out and listed with the reason. The command is idempotent: the same
    selection starts one replay.
    """
    site = Site.open(current_target(), options["pipeline"])
    criteria = site.criteria(options)
    if not (everything or criteria.are_given):
        raise CommandRefused(
            "a selection is needed, such as --stage or --run; for everything that is open add --all"
        )
    lane = (
        Lane(
            pipeline=site.pipeline.name,
            name=lane_name,
            limit=lane_limit,
            state=site.state,
            executions=site.executions,
        )
        if lane_name
        else None
    )
    rules = Rules(
        first_stage=site.pipeline.stages[0],
        code_versions=site.pipeline.code_versions,
        force=force,
        waived=Status.WAIVED in criteria.statuses or bool(criteria.ids),
    )
    command = _Command(site, canary=canary, lane=lane, watch=watch, as_json=as_json)
    choice = command.choose(criteria, from_stage, rules, limit)
    if not execute:
        command.show(choice)
        return
    raise SystemExit(command.execute(choice))


class _Command:
    """One call of `winnow replay run`."""

    def __init__(
        self, site: Site, *, canary: int | None, lane: Lane | None, watch: bool, as_json: bool
    ) -> None:
        self._site = site
        self._canary = canary
        self._lane = lane
        self._watch = watch
        self._as_json = as_json
        self._chooser = Chooser(site)
        self._console = Console(highlight=False, quiet=as_json)
        self._progress = Console(stderr=True, highlight=False, quiet=not (watch or sys.stderr.isatty()))

    def choose(self, criteria: Criteria, start: str | None, rules: Rules, limit: int | None) -> ChosenReplays:
        """Decide what is replayed.

        Raises:
            CommandRefused: nothing can be replayed; the message says why.
        """
        entries = self._site.entries(criteria)
        stages = self._site.pipeline.stages
        if start and not entries and start != "start" and start not in stages:
            raise Mistake("--from", start, f"must be start or one of {', '.join(stages)}")
        choice = self._chooser.choose(entries, start, rules, first(limit))
        if not choice.orders and not choice.started:
            said = refusals(choice.left_out) or why_nothing(self._site, criteria)
            raise CommandRefused(f"nothing to replay: {said}")
        return choice

    def show(self, choice: ChosenReplays) -> None:
        """Print the dry run."""
        if len(choice.orders) > 1:
            self._console.print(
                f"{len(choice.orders)} replays, as their records failed in different stages:\n"
            )
        for order in choice.orders:
            expected = self._chooser.estimate(order)
            print_order(order, expected, self._console, canary=self._canary or 0)
            if self._as_json:
                click.echo(
                    json.dumps(
                        {
                            "replay_id": order.replay_id,
                            "stage": order.stage,
                            "start_at": order.start_at,
                            "records": len(order.candidates),
                            "estimate": expected.to_json(),
                            "left_out": choice.left_out.by_reason,
                            "beyond_limit": choice.beyond_limit,
                        },
                        ensure_ascii=False,
                    )
                )
        self._tell_rest(choice)
        if choice.orders:
            self._console.print("\nNothing was started: this was a dry run. To do it, add --execute")

    def _tell_rest(self, choice: ChosenReplays) -> None:
        for name, status in choice.started.items():
            self._say(f"replay {name} of this selection was already started; its status is {status}")
        if choice.beyond_limit:
            self._console.print(f"not included because of --limit: {choice.beyond_limit:,}")
        if len(choice.left_out):
            self._console.print(f"left out: {len(choice.left_out):,}")
            print_left_out(choice.left_out, self._console)

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True, markup=False)

    def execute(self, choice: ChosenReplays) -> int:
        """Start what was chosen.

        Returns:
            The exit code.
        """
        if choice.orders:
            count = sum(len(order.candidates) for order in choice.orders)
            name = self._site.pipeline.name
            confirm(self._site.target, self._site.pipeline, f"replay {records(count)} of {name}")
        self._tell_rest(choice)
        if self._as_json:
            for name in choice.started:
                click.echo(json.dumps({"replay_id": name, "started": False, "started_before": True}))
        code = ExitCode.DONE
        began = bool(choice.started)
        lost: list[str] = []
        for order in choice.orders:
            for part, is_canary in self._parts(order):
                try:
                    started = self._start(part)
                except RegisterUnavailable as error:
                    raise CommandRefused(f"{error}; nothing was started, retry in a minute") from error
                if not (started.now or started.before):
                    lost.append(refusals(started.lost) or _waits(started))
                    break
                began = True
                if self._watch or is_canary:
                    ended = self._follow(part)
                    both = {code, exit_code(ended)}
                    code = ExitCode.FAILED if ExitCode.FAILED in both else max(both)
                    if is_canary and exit_code(ended):
                        rest = len(order.candidates) - len(part.candidates)
                        self._say(f"the canary did not pass, so the other {records(rest)} were not started")
                        code = ExitCode.FAILED
                        break
        if not began:
            raise CommandRefused(f"nothing was started: {'; '.join(filter(None, lost))}")
        return code

    def _parts(self, order: ReplayOrder) -> Iterator[tuple[ReplayOrder, bool]]:
        """The order, or its canary and then the rest."""
        count = self._canary
        if not count or count >= len(order.candidates) or order.is_resumed:
            yield order, False
            return
        for candidates in (order.candidates[:count], order.candidates[count:]):
            part = self._chooser.order(order.start_at, candidates)
            yield part, candidates[0] is order.candidates[0]

    def _start(self, order: ReplayOrder) -> Started:
        started = start(self._site, order, lane=self._lane)
        if started.waits_for:
            self._say(_waits(started))
        elif started.now:
            self._say(
                f"replay {started.replay_id} started: {records(started.count)}, from {order.start_at}, in {self._site.target.name}"
            )
        elif started.before:
            self._say(f"replay {started.replay_id} of this selection was already started")
        if len(started.lost):
            self._console.print(f"left out: {len(started.lost):,}")
            print_left_out(started.lost, self._console)
        if self._as_json:
            document = {
                "replay_id": started.replay_id,
                "stage": order.stage,
                "start_at": order.start_at,
                "records": started.count,
                "started": started.now,
                "started_before": started.before,
                "waits_for": list(started.waits_for),
                "left_out": started.lost.by_reason,
            }
            click.echo(json.dumps(document, ensure_ascii=False))
        elif started.now and not self._watch:
            options = self._site.target.options(self._site.pipeline.environment)
            self._say(f"  to see its result: winnow verify {started.replay_id}{options}")
        return started

    def _follow(self, order: ReplayOrder) -> RunProgress:
        site = self._site
        stages = site.pipeline.stages
        ahead = dataclasses.replace(site.pipeline, stages=stages[stages.index(order.start_at) :])
        watched = RunWatch.of(site.target, ahead, site.executions.arn(order.replay_id))
        ended = follow(watched.until_it_ends(), self._progress)
        print_end(ended, self._console)
        return ended


def _waits(started: Started) -> str:
    if not started.waits_for:
        return ""
    return f"replay {started.replay_id} was not started: its lane is full ({', '.join(started.waits_for)}); retry when a place is free, or raise --lane-limit"
