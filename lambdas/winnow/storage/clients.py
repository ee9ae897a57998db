"""AWS clients of our own Lambdas: one session, sane timeouts, made on first use.

botocore rather than boto3: the same clients, without importing boto3's resources and transfer manager at every cold start.
"""

from __future__ import annotations

import threading
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import botocore.session
from botocore.config import Config
from botocore.utils import parse_timestamp

if TYPE_CHECKING:
    from botocore.client import BaseClient

CONFIG = Config(
    connect_timeout=5,
    read_timeout=60,
    retries={"mode": "standard", "max_attempts": 5},
    max_pool_connections=32,
)
"""Standard mode: jittered exponential backoff on throttling, 5xx and broken connections, near the failure."""

QUICK = CONFIG.merge(
    Config(
        connect_timeout=2,
        read_timeout=5,
        retries={"mode": "standard", "max_attempts": 3},
        parameter_validation=False,
    )
)
"""For what answers in milliseconds or not at all, while something else waits, and is called for every record.

Looking through each request for mistakes takes botocore as long as all the rest of a write; the service looks, too.
"""

_LOCK = threading.Lock()


@cache
def _session() -> botocore.session.Session:
    made = botocore.session.get_session()
    made.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    return made


def _moment(value: Any) -> datetime:
    """A moment in an answer. botocore's own way takes half of all the time that a page of a listing costs."""
    if isinstance(value, str) and "T" in value:
        try:
            return datetime.fromisoformat(value)
        except ValueError:  # as in a header: Fri, 20 Nov 2026 12:00:00 GMT
            pass
    moment: datetime = parse_timestamp(value)
    return moment


@cache
def client(service: str, config: Config = CONFIG) -> Any:
    """The client of a service, e.g. `client("s3")`; one per process, safe to share between threads."""
    made: BaseClient = _session().create_client(service, config=config)
    return made


def lazy(service: str, config: Config = CONFIG) -> Any:
    """A client that is made when it is first used, for what a Lambda seldom needs: each costs 10 to 70 ms of a cold start."""
    return _Lazy(service, config)


class _Lazy:
    def __init__(self, service: str, config: Config) -> None:
        self._service = service
        self._config = config

    def __getattr__(self, name: str) -> Any:
        with _LOCK:  # botocore makes no two clients at the same time
            made = client(self._service, self._config)
        return getattr(made, name)
