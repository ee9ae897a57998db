"""Workers for tests of the careful attempt: real ones, that children import by name. A record's data says what it does."""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from winnow import Output, PermanentError, Record, Retry, Skip, worker
from winnow.runtime.decorator import Worker

HOARD: list[bytearray] = []


def note(record: Record) -> None:
    """Write down that a record was worked on, where the test asks for it."""
    path = os.environ.get("KILLERS_CALLS")
    if path:
        with Path(path).open("a") as calls:
            calls.write(f"{os.getpid()} {record.id}\n")


def fill() -> None:
    """Use all the memory there is, and say how much that was, in KB."""
    held = []
    try:
        while True:
            held.append(b"\1" * 8 * 1024**2)
    except MemoryError:
        held.clear()
    status = Path("/proc/self/status").read_text()
    raise PermanentError(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def behave(record: Record) -> Any:
    """Do what the record says."""
    note(record)
    what = record.data
    if what == "exit":
        os._exit(3)
    if what == "exit well":
        os._exit(0)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if what == "segfault":
        ctypes.string_at(0)
    if what == "loop":
        while True:
            pass
    if what == "allocate":
        return len(bytearray(8 * 1024**3))
    if what == "interrupt":
        raise KeyboardInterrupt
    if what == "leak":
        HOARD.append(bytearray(60 * 1024**2))
    if what == "fill":
        fill()
    if what == "take a descriptor":
        HOARD.append(bytearray(1))
        if len(HOARD) > 3:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    if what == "second killer" and HOARD:
        os._exit(4)
    if what == "close everything":
        os.closerange(3, 256)
    if what == "start a process":
        started = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        note(Record(str(started.pid)))
        os._exit(5)
    if what == "print":
        print("{" * 100_000, flush=True)
        sys.stderr.flush()
    if what == "raise":
        raise PermanentError("on purpose")
    if what == "raise an unpicklable error":
        raise type("Odd", (ValueError,), {"__reduce__": None})("odd")
    if what == "skip":
        return Skip("on purpose")
    if what == "warn":
        record.warn("odd")
    if what == "much":
        return "x" * 3_000_000
    return {"id": record.id}


@worker
def plain(record: Record) -> Any:
    return behave(record)


@worker(batch=4)
def batches(records: list[Record]) -> list[Any]:
    return [behave(record) for record in records]


@worker(batch=4)
def joining(records: list[Record]) -> list[Output]:
    for record in records:
        behave(record)
    return [Output([record.id for record in records], sources=records)]


@worker(concurrency=2)
def threads(record: Record) -> Any:
    return behave(record)


@worker(retry=Retry(on=(ConnectionError,), wait_seconds=0))
def retrying(record: Record) -> Any:
    return behave(record)


def unset() -> None:
    raise RuntimeError("no table")


@worker(setup=unset)
def without_setup(record: Record) -> Any:
    return behave(record)


def leave() -> None:
    os._exit(7)


@worker(setup=leave)
def leaving(record: Record) -> Any:
    return behave(record)


def hang() -> None:
    threading.Event().wait(600)


@worker(setup=hang)
def hanging_setup(record: Record) -> Any:
    return behave(record)


def _renamed(record: Record) -> Any:
    return behave(record)


under_another_name = worker(_renamed)


def logged(made: Worker) -> Callable[..., Any]:
    """Another decorator on top."""

    @functools.wraps(made)
    def wrapper(*args: Any) -> Any:
        return made(*args)

    return wrapper


@logged
@worker
def decorated(record: Record) -> Any:
    return behave(record)


def local() -> Worker:
    @worker
    def inside(record: Record) -> Any:
        return behave(record)

    return inside


@worker(batch=4)
def changing(records: list[Record]) -> list[Any]:
    """Changes each record before it does what that says."""
    made = []
    for record in records:
        record.data["n"] += 1
        record.data["seen"].append(record.id)
        behave(Record(record.id, record.data["what"]))
        made.append({"n": record.data["n"], "seen": len(record.data["seen"])})
    return made


@worker
def describing(record: Record) -> dict[str, Any]:
    """Says what it was given, in few words."""
    text = repr(record.data)
    return {
        "type": type(record.data).__name__,
        "length": len(text),
        "digest": hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
    }
