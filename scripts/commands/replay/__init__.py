"""`winnow replay`: lists recorded failures and replays them."""

import click

from scripts.commands.replay.list import list_failures
from scripts.commands.replay.rebuild import rebuild
from scripts.commands.replay.reopen import reopen
from scripts.commands.replay.run import run
from scripts.commands.replay.show import show
from scripts.commands.replay.waive import waive


@click.group(
    short_help="List recorded failures and replay them.",
    epilog="""
\b
Examples:
  winnow replay list                                     open failures, by cause
  winnow replay show Arabic/WMS_1.xml                    all details of one failure
  winnow replay run --stage mint                         what a replay would do
  winnow replay run --stage mint --execute --watch       do it
  winnow replay run --stage mint --from start --execute  from the first stage on
  winnow replay waive --id Arabic/WMS_1.xml --reason "lost in 1941"
""",
)
def replay() -> None:
    """List recorded failures, and replay them after a fix.

    A failure becomes resolved when the same record later succeeds in the same stage, in any run.
    """


for command in (list_failures, show, run, waive, reopen, rebuild):
    replay.add_command(command)
