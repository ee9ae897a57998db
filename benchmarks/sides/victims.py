"""Workers to be killed, and the process that runs them: each attempt in a fork of its own, so that a kill costs little time."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
import threading
import time
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.disk import DiskStore
from winnow import Output, PermanentError, Record, worker
from winnow.metrics.watch import Watch
from winnow.runtime.attempt import run_attempt
from winnow.runtime.decorator import Worker
from winnow.storage.ledger import Ledger
from winnow.testing import FakeContext

CALLS = "WINNOW_KILLS_CALLS"
"""The file to which each call of a handler is noted, before anything else is done."""
ATTEMPT = "WINNOW_KILLS_ATTEMPT"
ROUNDS = 250
"""Of work on a record: some 0.2 ms."""
FLAKY_ATTEMPTS = 2
"""So many attempts of a batch does a flaky record fail in."""
FLUSH_SECONDS = 0.02
MAX_SECONDS = 60.0
"""Of an attempt that is let be."""
PUT_SECONDS = 0.003
"""What a write takes, as on S3: so that many a kill comes between two of them."""


class WholeStore(DiskStore):
    """A bucket whose writer may be killed half way: as on S3, an object is there whole or not at all."""

    def put(self, key: str, body: bytes, *, if_absent: bool = False) -> None:
        time.sleep(PUT_SECONDS)
        coming = self._folder / "coming" / uuid.uuid4().hex
        coming.parent.mkdir(parents=True, exist_ok=True)
        coming.write_bytes(body)
        if if_absent:
            super().put(key, body, if_absent=True)  # by the harness only, which is not killed
            coming.unlink()
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        coming.replace(path)

    def put_stream(self, key: str, pieces: Iterable[bytes]) -> None:
        self.put(key, b"".join(pieces))


def ledger_in(folder: Path) -> Ledger:
    return Ledger(WholeStore(folder))


def _work(record: Record) -> dict[str, Any]:
    attempt = int(os.environ[ATTEMPT])
    calls = os.open(os.environ[CALLS], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(calls, f"{attempt} {record.id}\n".encode())
    os.close(calls)
    if record.data == "permanent":
        raise PermanentError("never")
    if record.data == "flaky" and attempt < FLAKY_ATTEMPTS:
        raise ConnectionError("later")
    digest = hashlib.blake2b(record.id.encode())
    for _ in range(ROUNDS):
        digest.update(digest.digest())
    return {"digest": digest.hexdigest()}


@worker(flush_seconds=FLUSH_SECONDS)
def one_by_one(record: Record) -> dict[str, Any]:
    return _work(record)


@worker(flush_seconds=FLUSH_SECONDS, batch=8)
def joined(records: list[Record]) -> list[Output]:
    return [Output([_work(record) for record in records], id=f"+{records[0].id}", sources=records)]


WORKERS: dict[str, Worker] = {"one by one": one_by_one, "joined": joined}


def serve() -> None:
    """Run attempts as they are asked for, a JSON object a line, and kill each after the time it is given; say how it ended."""
    for line in sys.stdin:
        asked = json.loads(line)
        process = os.fork()
        if not process:
            _attempt(asked)
        after = asked["kill_after"]
        killer = threading.Timer(MAX_SECONDS if after is None else after, os.kill, (process, signal.SIGKILL))
        killer.start()
        # Not reaped before the killer is done, so that the number cannot be a stranger's by then.
        os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
        killer.cancel()
        killer.join()
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _attempt(asked: dict[str, Any]) -> None:
    os.environ[CALLS] = asked["calls"]
    os.environ[ATTEMPT] = str(asked["order"]["attempt"])
    code = 1
    try:
        run_attempt(
            WORKERS[asked["worker"]],
            asked["order"],
            FakeContext(seconds=MAX_SECONDS),
            ledger=ledger_in(Path(asked["folder"])),
            watch=Watch(environment="test", pipeline="kills"),
            code_version="kills",
        )
        code = 0
    finally:
        os._exit(code)
