"""What every command on a publication begins with, and how each change is made: looked at first, done with `--execute`."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import click

from scripts.commands.aim import current_target
from scripts.commands.confirming import confirm
from scripts.deployed import pipelines
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.publications import open_published
from scripts.deployed.target import Target
from scripts.terminal.errors import CommandRefused, Mistake
from winnow.core.errors import PublishRefused
from winnow.publish.documents import Move
from winnow.publish.operating import Operator
from winnow.publish.published_set import PublishedSet

EXECUTE = "nothing was changed; add --execute to do it"


def publication_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--publication`."""
    return click.option(
        "--publication", metavar="NAME", help="Needed only where there are several publications."
    )(command)


def change_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--execute` and `--json`, for commands that change something."""
    execute = click.option(
        "--execute", is_flag=True, help="Do it. Without it, the command says what it would do."
    )
    as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
    return execute(as_json(command))


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """One publication, and who acts on it."""

    target: Target
    pipeline: DeployedPipeline
    published: PublishedSet

    @classmethod
    def open(cls, name: str | None) -> Self:
        """The publication of a name; without one, the only one there is.

        Raises:
            Mistake: there is no such publication, none, or several.
        """
        target = current_target()
        publishing = [each for each in pipelines.deployed(target) if each.publication]
        names = list(dict.fromkeys(each.publication for each in publishing))
        if not names:
            raise Mistake(
                "--publication",
                name or "nothing",
                f"needs a pipeline that publishes, and {target.name} has none; docs/publishing.md says how to make one",
            )
        found = [each for each in publishing if each.publication == name] if name else publishing
        if len(found) == 1:
            published = open_published(target, found[0])
            assert published is not None, "it has a publication"
            return cls(target=target, pipeline=found[0], published=published)
        if found and len({each.publication for each in found}) == 1:
            where = " or ".join(dict.fromkeys(each.environment or each.stack for each in found))
            raise Mistake(
                "--environment", "nothing", f"must say whose {found[0].publication} is meant, of {where}"
            )
        raise Mistake(
            "--publication", name or "nothing", f"must be one of {', '.join(names)} ({target.name})"
        )

    def operator(self) -> Operator:
        """Acts for whoever AWS says we are: that needs no permission, and nobody can act in another's name."""
        who = self.target.client("sts").get_caller_identity()["Arn"]
        return Operator(self.published, who=who)

    def change(self, what: str, act: Callable[[bool], Move], *, execute: bool, as_json: bool) -> None:
        """Check a move, say what it does, and make it where that is wanted.

        Args:
            what: the verb, as in "promote works: version 7 to 5".
            act: makes the move; given true, it only checks it.
            execute: whether to make it.
            as_json: print it as JSON.
        """
        with refusals():
            move = act(True)
            change = f"{what} {self.published.name}{_from_to(move)}"
            if execute:
                confirm(self.target, self.pipeline, change)
                move = act(False)
        if as_json:
            document = {"publication": self.published.name, "executed": execute, "move": move.to_json()}
            click.echo(json.dumps(document, ensure_ascii=False))
        else:
            click.echo(f"done: {change}" if execute else f"would {change}\n{EXECUTE}")


@contextmanager
def refusals() -> Iterator[None]:
    """Report what cannot be done in one line, with exit code 2."""
    try:
        yield
    except PublishRefused as error:
        raise CommandRefused(str(error)) from error


def _from_to(move: Move) -> str:
    if move.before == move.after:
        return "" if move.after is None else f" at version {move.after}"
    before = "nothing" if move.before is None else f"version {move.before}"
    return f": {before} to version {move.after}"
