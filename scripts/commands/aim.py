"""Chooses the target of a command: the AWS account of the environment, or with `--local` the emulator of `winnow local`."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import boto3
import click

from scripts.deployed.target import CONFIG, Target
from scripts.local.emulator import REGION, Endpoint
from scripts.local.state import LocalState
from scripts.local.target import at_emulator
from scripts.terminal.errors import Mistake

LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}

_LOCAL = "winnow.local"


@contextmanager
def aimed_at(endpoint: Endpoint) -> Iterator[None]:
    """Within it, `at_environment` returns an emulator."""
    before = os.environ.get("AWS_ENDPOINT_URL")
    os.environ["AWS_ENDPOINT_URL"] = endpoint.url
    try:
        yield
    finally:
        del os.environ["AWS_ENDPOINT_URL"]
        if before is not None:
            os.environ["AWS_ENDPOINT_URL"] = before


def at_environment() -> Target:
    """The target that the environment variables name."""
    url = os.environ.get("AWS_ENDPOINT_URL", "")
    if url.startswith("http:") and urlsplit(url).hostname in LOOPBACK_HOSTS:
        named = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        return at_emulator(Endpoint(url=url), region=named or REGION)
    session = boto3.Session()
    return Target(
        name=f"the AWS account of your credentials, region {session.region_name}",
        is_local=False,
        client=functools.partial(session.client, config=CONFIG),
    )


def local_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add `--local`, which runs a command against the emulator of `winnow local`; accepted before and after its name."""
    return click.option(
        "--local",
        is_flag=True,
        expose_value=False,
        callback=_aim_locally,
        help="Use the emulator of `winnow local`.",
    )(command)


def _aim_locally(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_LOCAL] = value or context.meta.get(_LOCAL, False)


def current_target() -> Target:
    """The target of the running command.

    Raises:
        Mistake: `--local` is given and no emulator is running.
    """
    if not click.get_current_context().meta.get(_LOCAL):
        return at_environment()
    state = LocalState.read()
    if not state:
        raise Mistake(
            "--local", "no emulator", "needs an emulator that is running; start one: winnow local up"
        )
    return at_emulator(state.endpoint)
