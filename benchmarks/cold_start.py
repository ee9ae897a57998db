"""How long our own Lambdas take to start, beside boto3 with a client for S3."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import MappingProxyType

from benchmarks.effort import Effort
from benchmarks.measuring import by_cpu, in_turn, middle, paired, run_code
from benchmarks.rows import Row

NAME = "cold-start"
TARGET = 1.3
TIMES = {Effort.FULL: 11, Effort.QUICK: 3, Effort.TINY: 1}

CLIENTS = MappingProxyType(
    {
        "alert": ("client('s3')", "client('sns')"),
        "build_version": ("client('s3')",),
        "check_quality": ("client('s3')",),
        "close_run": ("client('s3')", "client('dynamodb', QUICK)", "client('dynamodb')"),
        "close_window": ("client('s3')", "client('dynamodb', QUICK)", "client('stepfunctions')"),
        "plan": ("client('s3')",),
        "plan_run": ("client('s3')",),
        "probe": (),
        "publish": ("client('s3')",),
        "register": ("client('s3')",),
        "settle": ("client('s3')",),
        "slack": ("client('secretsmanager')",),
        "start_run": ("client('stepfunctions')",),
    }
)
"""What each handler makes in every invocation; the others are made when they are first used."""

BOTO3 = """
import time
since, cpu_since = time.perf_counter(), time.process_time()
import boto3
boto3.client("s3")
seconds, cpu_seconds = time.perf_counter() - since, time.process_time() - cpu_since
print('{"seconds": %f, "cpu_seconds": %f}' % (seconds, cpu_seconds))
"""
HANDLER = """
import time
since, cpu_since = time.perf_counter(), time.process_time()
import winnow.handlers.NAME
from winnow.storage.clients import QUICK, client
CLIENTS
seconds, cpu_seconds = time.perf_counter() - since, time.process_time() - cpu_since
print('{"seconds": %f, "cpu_seconds": %f}' % (seconds, cpu_seconds))
"""


def benchmark(effort: Effort) -> Iterator[Row]:
    """Import and clients in a fresh process, bytecode present, the start of the interpreter left out on both sides."""
    handlers = {
        name: HANDLER.replace("NAME", name).replace("CLIENTS", "; ".join(clients))
        for name, clients in CLIENTS.items()
    }
    sides = [partial(run_code, code) for code in (BOTO3, *handlers.values())]
    in_turn(1, *sides)  # writes the bytecode
    boto3, *ours = in_turn(TIMES[effort], *sides)
    for name, samples in zip(handlers, ours, strict=True):
        yield Row(
            benchmark=NAME,
            what=f"cold start of {name}",
            ours=f"{middle(samples, 'seconds') * 1000:.0f} ms",
            against=f"boto3 and S3 {middle(boto3, 'seconds') * 1000:.0f} ms",
            ratio=paired(samples, boto3, "seconds"),
            target=TARGET,
            note=by_cpu(samples, boto3, "cpu_seconds"),
            numbers={"ours": samples, "theirs": boto3},
        )
