"""`winnow publish`: looks at what is published, and moves it between its versions."""

import click

from scripts.commands.publish.diff import diff
from scripts.commands.publish.hold import hold
from scripts.commands.publish.list import list_versions
from scripts.commands.publish.promote import promote
from scripts.commands.publish.prune import prune
from scripts.commands.publish.release import release
from scripts.commands.publish.rollback import rollback
from scripts.commands.publish.show import show


@click.group(
    short_help="Look at what is published, and move between its versions.",
    epilog="""
\b
Exit codes: 0 done, or what would be done was shown; 1 AWS refused it, or a document is damaged;
2 it cannot be done, and nothing was.

\b
Examples:
  winnow publish list                                           versions, and who moved what when
  winnow publish diff 6 7                                       what changed between two versions, by id
  winnow publish rollback --reason "wrong titles"               what it would do
  winnow publish rollback --reason "wrong titles" --execute     do it
  winnow publish promote 7 --reason "checked by hand" --execute publish what the gate stopped
  winnow publish hold --reason "index is rebuilt" --execute     no run publishes from now on
""",
)
def publish() -> None:
    """Look at what is published, and move it between its versions.

    Runs publish by themselves. These commands are for what comes between: to see a version, to go back, to publish a candidate
    that the gate stopped, to freeze what consumers read, and to delete what nobody needs. Each change is written to the history,
    with who made it and why.
    """


for command in (list_versions, show, diff, promote, rollback, hold, release, prune):
    publish.add_command(command)
