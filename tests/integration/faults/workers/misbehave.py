"""A worker that does with each record what its data says, and whose misbehaviour is as real as can be."""

from __future__ import annotations

import errno
import os
import signal
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import quote

from winnow import Output, PermanentError, Record, Skip, worker


@worker(flush_seconds=1)
def misbehave(record: Record) -> dict[str, Any] | Output | Skip:
    orders = record.data if isinstance(record.data, dict) else {}
    match orders.get("do"):
        case "exit":
            os._exit(orders.get("code", 3))
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "allocate":
            _allocate_past_the_limit()
        case "loop":
            while True:
                pass
        case "hang":
            signal.pause()
            time.sleep(3600)
        case "reject":
            raise PermanentError("the record says that it is wrong")
        case "fail":
            raise RuntimeError("the record says that it fails")
        case "call":
            _call(orders["url"], record.id)
        case "work":
            time.sleep(orders["seconds"])
        case "skip":
            return Skip("the record says so")
        case "warn":
            record.warn("the record is odd")
        case "leak":
            _leak(orders["limit"])
        case "name":
            return Output({"n": orders["n"]}, id=orders["as"])
    return {"was": orders.get("do")}


_leaked: list[int] = []
"""What records have taken in this process and not given back."""


def _leak(limit: int) -> None:
    if len(_leaked) >= limit:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    _leaked.append(1)


def _call(url: str, record_id: str) -> None:
    """Ask the dependency, once: there is no retry near the failure that could hide what the stage does."""
    request = urllib.request.Request(
        f"{url}/{quote(record_id, safe='')}", headers={"X-Process": str(os.getpid())}
    )
    with urllib.request.urlopen(request) as answer:
        answer.read()


def _allocate_past_the_limit() -> None:
    """Grow until the memory is used up, and then die as Lambda has it: the emulator enforces no limit itself.

    Where the machine enforces one, this ends earlier.
    """
    limit = int(os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"]) * 1024 * 1024
    hoard = []
    while True:
        hoard.append(bytearray(8 * 1024 * 1024))
        if _resident_bytes() > limit:
            os.kill(os.getpid(), signal.SIGKILL)


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
