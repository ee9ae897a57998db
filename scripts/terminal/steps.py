"""Progress of long work: a spinner on a terminal, and a line at the end everywhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console


@contextmanager
def step(console: Console, doing: str) -> Iterator[Callable[[str], None]]:
    """Show that a step is in progress, and at its end how long it took.

    Yields:
        To say more about it: what it is doing now, and with the last call its result.
    """
    said = doing
    since = time.monotonic()
    status = console.status(f"{doing} …")

    def say(more: str) -> None:
        nonlocal said
        said = f"{doing}: {more}"
        status.update(f"{said} …")

    # A spinner in a log file is noise.
    if console.is_terminal:
        with status:
            yield say
    else:
        yield say
    console.print(
        f"  [green]✓[/] {said} [dim]({time.monotonic() - since:.1f} s)[/]", highlight=False, soft_wrap=True
    )
