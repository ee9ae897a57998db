"""Errors that end a command: one clear line on standard error, never a traceback."""

import click


class CommandFailed(click.ClickException):
    """Something went wrong that the user did not cause; exit code 1."""

    exit_code = 1


class CommandRefused(click.ClickException):
    """The user asked for something impossible; exit code 2."""

    exit_code = 2


class Mistake(CommandRefused):
    """One option or argument is wrong or missing; the message gives its name, the remedy and the value.

    A value of None was not given. It stands without quotes, so that nobody looks for the word that they typed.
    """

    def __init__(self, field: str, value: object, remedy: str) -> None:
        got = "nothing" if value is None else repr(str(value))
        super().__init__(f"{field} {remedy}, got: {got}")
