"""Where a command is aimed: at what the environment points at, or with `--local` at the emulator of `winnow local`."""

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
    """Have `at_environment` find an emulator for a while, in this process."""
    before = os.environ.get("AWS_ENDPOINT_URL")
    os.environ["AWS_ENDPOINT_URL"] = endpoint.url
    try:
        yield
    finally:
        del os.environ["AWS_ENDPOINT_URL"]
        if before is not None:
            os.environ["AWS_ENDPOINT_URL"] = before


def at_environment() -> Target:
    """Aim at what the environment points at."""
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
    """`--local`, which aims a command at the emulator of `winnow local`; understood before and after its name."""
    return click.option(
        "--local",
        is_flag=True,
        expose_value=False,
        callback=_aim_locally,
        help="Aim at the emulator of `winnow local`.",
    )(command)


def _aim_locally(context: click.Context, _: click.Parameter, value: bool) -> None:
    context.meta[_LOCAL] = value or context.meta.get(_LOCAL, False)


def current_target() -> Target:
    """Where the running command is aimed.

    Raises:
        Mistake: `--local`, and no emulator is running.
    """
    if not click.get_current_context().meta.get(_LOCAL):
        return at_environment()
    state = LocalState.read()
    if not state:
        raise Mistake(
            "--local", "no emulator", "needs an emulator that is running; start one: winnow local up"
        )
    return at_emulator(state.endpoint)
