"""What is tried again near the failure because the client does not: bodies that break while they are read, and write conflicts."""

from __future__ import annotations

import logging
import random
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any

from botocore.exceptions import BotoCoreError

if TYPE_CHECKING:
    from collections.abc import Callable

TRIES = 7
FIRST_PAUSE_SECONDS = 0.1
"""At most; the next is at most twice as long, and so on. Seven tries wait six seconds at most, three on average."""

log = logging.getLogger(__name__)


class Tries:
    """How often something may still be tried again."""

    def __init__(self, sleep: Callable[[float], object] = time.sleep) -> None:
        """`sleep`: takes seconds."""
        self._sleep = sleep
        self._made = 1

    def again(self) -> bool:
        """Wait before another try; False when none is left. The wait is random, so that two that conflict do not conflict again."""
        if self._made == TRIES:
            return False
        self._sleep(random.random() * FIRST_PAUSE_SECONDS * 2 ** (self._made - 1))  # noqa: S311
        self._made += 1
        return True


def is_broken_body(error: Exception) -> bool:
    """Whether reading a body ended in an error of the connection: reset, timed out, too short, or with another checksum."""
    # Imported here: whoever reads a body has loaded it, and others need not wait for it.
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    return isinstance(error, (BotoCoreError, HTTPError, HTTPException, OSError))


def read_body(
    ask: Callable[[], Any], *, sleep: Callable[[float], object] = time.sleep
) -> tuple[dict[str, Any], bytes]:
    """Ask S3 for an object and read its body; ask again while the body breaks.

    Args:
        ask: makes the request, and gives S3's answer. An error that it raises is not tried again: the client has done that.
        sleep: takes seconds.

    Returns:
        The answer, and the whole body.

    Raises:
        Exception: what the body broke with last, as it was.
    """
    tries = Tries(sleep)
    while True:
        answer: dict[str, Any] = ask()
        try:
            return answer, answer["Body"].read()
        except Exception as error:
            if not is_broken_body(error) or not tries.again():
                raise
            log.warning("a body broke while it was read, so it is read again: %s", error)
