"""Where commands are aimed: an AWS account, or an emulator on this machine."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What a command works on, with clients for its AWS services."""

    name: str
    """For people: runs start "in …"."""
    is_local: bool
    client: Callable[[str], Any]
    """Makes the client of an AWS service."""
