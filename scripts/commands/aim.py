"""Chooses the target of a command: an AWS account, or with `--local` the emulator of `winnow local`; and the environment there."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import boto3
import click

from scripts.deployed.target import (
    CONFIG,
    ENVIRONMENT_OPTION,
    ENVIRONMENT_VARIABLE,
    LOCAL_OPTION,
    ChosenEnvironment,
    Target,
    named_region,
)
from scripts.local.emulator import REGION, Endpoint
from scripts.local.state import LocalState
from scripts.local.target import at_emulator
from scripts.terminal.errors import Mistake

LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}

_LOCAL = "winnow.local"
_ENVIRONMENT = "winnow.environment"


@contextmanager
def aimed_at(endpoint: Endpoint) -> Iterator[None]:
    """Within it, commands reach an emulator, whatever the shell names."""
    names = ("AWS_ENDPOINT_URL", ENVIRONMENT_VARIABLE)
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["AWS_ENDPOINT_URL"] = endpoint.url
    try:
        yield
    finally:
        del os.environ["AWS_ENDPOINT_URL"]
        os.environ.update(before)


def at_environment() -> Target:
    """The target that the environment variables name."""
    url = os.environ.get("AWS_ENDPOINT_URL", "")
    if url.startswith("http:") and urlsplit(url).hostname in LOOPBACK_HOSTS:
        return at_emulator(Endpoint(url=url), region=named_region() or REGION)
    session = boto3.Session(region_name=named_region())
    return Target(
        name=f"the AWS account of your credentials, region {session.region_name or 'not named'}",
        is_local=False,
        client=functools.partial(session.client, config=CONFIG),
    )


def target_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--local` and `--environment`, which say what a command works on; accepted before and after its name."""
    local = click.option(
        LOCAL_OPTION,
        is_flag=True,
        expose_value=False,
        callback=_aim_locally,
        help="Use the emulator of `winnow local`.",
    )
    environment = click.option(
        ENVIRONMENT_OPTION,
        metavar="NAME",
        expose_value=False,
        callback=_choose_environment,
        help=f"Use what is deployed in this environment, such as dev. Needed where there are several. [env var: {ENVIRONMENT_VARIABLE}]",
    )
    return environment(local(command))


def _aim_locally(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_LOCAL] = value or context.meta.get(_LOCAL, False)


def _choose_environment(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is None:
        return
    before = context.meta.setdefault(_ENVIRONMENT, value)
    if not value or value != before:
        raise Mistake(
            ENVIRONMENT_OPTION, value, "must name one environment" + (f", not {before} too" if value else "")
        )


def current_target() -> Target:
    """The target of the running command.

    Raises:
        Mistake: `--local` is given and no emulator is running.
    """
    meta = click.get_current_context().meta
    named = meta.get(_ENVIRONMENT)
    chosen = ChosenEnvironment(name=named) if named else None
    if not meta.get(_LOCAL):
        return replace(at_environment(), environment=chosen or _of_the_shell())
    # What the shell names is meant for the account; the emulator has an environment of its own.
    state = LocalState.read()
    if not state:
        raise Mistake(
            LOCAL_OPTION, "no emulator", "needs an emulator that is running; start one: winnow local up"
        )
    return replace(at_emulator(state.endpoint), environment=chosen)


def _of_the_shell() -> ChosenEnvironment | None:
    name = os.environ.get(ENVIRONMENT_VARIABLE)
    return ChosenEnvironment(name=name, named_by=ENVIRONMENT_VARIABLE) if name else None
