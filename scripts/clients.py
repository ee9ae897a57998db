"""Whom the commands speak to: the AWS account that the environment points at, or an emulator on this machine."""

import functools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import boto3
import click
import localstack_client.session
from botocore.config import Config

from scripts.emulator import CREDENTIALS, REGION, Endpoint
from scripts.errors import Mistake
from scripts.local_state import LocalState

CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 5},
    max_pool_connections=32,
)
LOCAL_CONFIG = CONFIG.merge(Config(retries={"mode": "standard", "max_attempts": 2}))
"""An emulator that does not answer at once is not there."""
LOOPBACK_HOSTS = {"localhost", "127.0.0.1", "::1"}

_LOCAL = "winnow.local"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where commands are aimed."""

    name: str
    """For people: runs start "in …"."""
    is_local: bool
    client: Callable[[str], Any]
    """Makes the client of an AWS service."""


def at_emulator(endpoint: Endpoint, *, region: str = REGION) -> Target:
    """Aim at an emulator."""
    keys: dict[str, Any] = {name.lower(): value for name, value in CREDENTIALS.items()}
    if endpoint.ca_bundle:
        # localstack-client does not verify certificates; under TLS plain boto3 does it.
        make = functools.partial(
            boto3.Session(**keys, region_name=region).client,
            endpoint_url=endpoint.url,
            verify=str(endpoint.ca_bundle),
        )
    else:
        # It also lets AWS_ENDPOINT_URL overrule what it is told, and the emulator that was asked for comes first.
        overruling = os.environ.pop("AWS_ENDPOINT_URL", None)
        try:
            session = localstack_client.session.Session(
                **keys, region_name=region, localstack_host=urlsplit(endpoint.url).netloc
            )
        finally:
            if overruling:
                os.environ["AWS_ENDPOINT_URL"] = overruling
        make = session.client
    return Target(
        name=f"the emulator at {endpoint.url}",
        is_local=True,
        client=functools.partial(make, config=LOCAL_CONFIG),
    )


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


def _aim_locally(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 click calls it so
    context.meta[_LOCAL] = value or context.meta.get(_LOCAL, False)


def current_target() -> Target:
    """Where the command that is being run is aimed.

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
