"""The emulator as a target of commands."""

import functools
import os
from typing import Any
from urllib.parse import urlsplit

import boto3
import localstack_client.session
from botocore.config import Config

from scripts.deployed.target import CONFIG, Target
from scripts.local.emulator import CREDENTIALS, REGION, Endpoint

LOCAL_CONFIG = CONFIG.merge(Config(retries={"mode": "standard", "max_attempts": 2}))
"""An emulator that does not answer at once is not there."""


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
        # It also lets AWS_ENDPOINT_URL overrule its arguments. The caller's endpoint has to win.
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
