"""Where commands are aimed: an AWS account, or an emulator on this machine."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from botocore.config import Config

CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 5},
    max_pool_connections=32,
)


LOCAL_OPTION = "--local"
ENVIRONMENT_OPTION = "--environment"
ENVIRONMENT_VARIABLE = "WINNOW_ENVIRONMENT"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenEnvironment:
    """The environment that a person named, and by what."""

    name: str
    named_by: str = ENVIRONMENT_OPTION


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a command works on, with clients for its AWS services."""

    name: str
    """For people: runs start "in …"."""
    is_local: bool
    client: Callable[[str], Any]
    """Makes the client of an AWS service."""
    environment: ChosenEnvironment | None = None
    """Only what is deployed in this environment is looked at; None for everything there is."""

    def options(self, environment: str) -> str:
        """What aims another command at the same environment, to be put behind it: ` --environment prod`."""
        local = f" {LOCAL_OPTION}" if self.is_local else ""
        # The emulator has one environment as a rule, and then needs nobody to say which.
        if not environment or (self.is_local and not self.environment):
            return local
        return f"{local} {ENVIRONMENT_OPTION} {environment}"


def named_region() -> str | None:
    """The region that the environment variables name, in the order of CDK and the AWS CLI; boto3 reads only the second."""
    return os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or None
