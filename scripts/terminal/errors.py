"""How commands end when they cannot do what was asked: one clear line on standard error, never a traceback."""

import click


class CommandFailed(click.ClickException):
    """Something went wrong that the user did not cause; exit code 1."""

    exit_code = 1


class CommandRefused(click.ClickException):
    """What the user asked for cannot be; exit code 2."""

    exit_code = 2


class Mistake(CommandRefused):
    """One option or argument is wrong: says which, the remedy and the value, as everywhere in Winnow."""

    def __init__(self, field: str, value: object, remedy: str) -> None:
        super().__init__(f"{field} {remedy}, got: {str(value)!r}")
