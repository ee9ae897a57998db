"""What every command does before it changes something: it says in which environment, and asks where the environment wants that."""

import sys
from collections.abc import Callable, Iterable
from typing import Any

import click

from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import Target
from scripts.terminal.errors import CommandRefused

_YES = "winnow.yes"


def yes_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--yes`, for commands that call `confirm`."""
    return click.option(
        "--yes",
        is_flag=True,
        expose_value=False,
        callback=_take_for_granted,
        help="Do not ask first, in an environment whose changes are to be confirmed.",
    )(command)


def _take_for_granted(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_YES] = value


def confirm(target: Target, pipeline: DeployedPipeline, change: str, *, notes: Iterable[str] = ()) -> None:
    """Say on standard error what is about to be changed, and where; ask where the environment is set to `confirm_changes`.

    To be called when everything is checked and nothing is done yet. The command has `yes_option`.

    Args:
        target: where the change is made.
        pipeline: of which something is changed.
        change: what will be done, such as `run 01… of catalogue`.
        notes: lines to read before one agrees.

    Raises:
        CommandRefused: it was not confirmed, or there is nobody to ask.
    """
    environment = pipeline.environment or "environment not named"
    click.echo(f"{environment}: {change}, in {target.name}", err=True)
    for line in notes:
        click.echo(line, err=True)
    if not pipeline.confirm_changes or click.get_current_context().meta.get(_YES):
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise CommandRefused(
            f"changes in {environment} have to be confirmed and there is no terminal to ask at, so nothing was done; "
            "add --yes"
        )
    click.echo(f"Type {environment} to go on: ", err=True, nl=False)
    answer = sys.stdin.readline().strip()
    if answer != environment:
        raise CommandRefused(f"{environment} was not typed, so nothing was done, got: {answer!r}")
