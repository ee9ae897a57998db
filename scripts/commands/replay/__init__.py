"""`winnow replay`: failures that were recorded, and running them again."""

import click

from scripts.commands.replay.list import list_failures
from scripts.commands.replay.rebuild import rebuild
from scripts.commands.replay.reopen import reopen
from scripts.commands.replay.run import run
from scripts.commands.replay.show import show
from scripts.commands.replay.waive import waive


@click.group(
    short_help="Failures that were recorded, and running them again.",
    epilog="""
\b
Examples:
  winnow replay list                                     what failed, by cause
  winnow replay show Arabic/WMS_1.xml                    one failure whole
  winnow replay run --stage mint                         what a replay would do
  winnow replay run --stage mint --execute --watch       do it
  winnow replay run --stage mint --from start --execute  from the first stage on
  winnow replay waive --id Arabic/WMS_1.xml --reason "lost in 1941"
""",
)
def replay() -> None:
    """What failed, what became of it, and running it again after a fix.

    A failure resolves itself when the same record later succeeds in the same stage, in any run.
    """


for command in (list_failures, show, run, waive, reopen, rebuild):
    replay.add_command(command)
