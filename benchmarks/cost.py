"""What a happy run asks of AWS, counted, and what that costs."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from benchmarks.deployed import SITES, Deployed, RunFailedError
from benchmarks.effort import Effort
from benchmarks.rows import Row
from scripts.deployed import prices

NAME = "cost"
MOST_TRANSITIONS = 8
MOST_DOLLARS = 1.0
SIZES = {Effort.FULL: 10_000, Effort.QUICK: 10_000, Effort.TINY: 100}
MILLION = 1_000_000

REQUEST = re.compile(r"DEBUG \[ministack\] ([A-Z]+) (\S+) -> service=(\w+)")
READS = {"GET", "HEAD"}
OURS = {"states", "logs", "lambda"}
"""Services that only this benchmark asks, to see what happened."""
REPORT = re.compile(r"REPORT .*Billed Duration: (\d+) ms\s+Memory Size: (\d+) MB")
BYTES_OF_AN_EVENT = 26
"""What CloudWatch Logs charges for each event on top of its text."""
OUTPUTS = "/outputs/"
"""In the keys of what workers returned; all other objects of a run are evidence."""
GB = 1e9
CALLS_OF_A_STAGE = 4
"""Plan, the worker, Settle, Register; PlanRun and CloseRun once a run."""
CLOSED_WITHIN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What one run asked for."""

    transitions: int
    most_transitions_of_a_stage: int
    """The stage's own, and the pipeline's state that runs it."""
    s3_writes: int
    s3_reads: int
    invocations: int
    """Of Winnow's Lambdas and the workers: that is paid for apart from their time."""
    own_gb_seconds: float
    """Of Winnow's own Lambdas only."""
    other_requests: Counter[str]
    """By service; of DynamoDB's each counts as a write."""
    log_bytes: int
    metrics: int
    """Custom metrics, each with its dimensions, that got a value."""
    evidence_bytes: int
    output_bytes: int
    """Both stay in the ledger."""

    @property
    def dollars(self) -> float:
        """Without what is paid by the month: metrics and storage."""
        return (
            self.transitions * prices.STATE_TRANSITION
            + self.s3_writes * prices.S3_WRITE
            + self.s3_reads * prices.S3_READ
            + self.invocations * prices.LAMBDA_REQUEST
            + self.own_gb_seconds * prices.LAMBDA_GB_SECOND
            + self.other_requests["dynamodb"] * prices.DYNAMODB_WRITE
            + self.log_bytes / GB * prices.LOGS_GB
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "transitions": self.transitions,
            "most_transitions_of_a_stage": self.most_transitions_of_a_stage,
            "s3_writes": self.s3_writes,
            "s3_reads": self.s3_reads,
            "invocations": self.invocations,
            "own_gb_seconds": self.own_gb_seconds,
            "other_requests": dict(self.other_requests),
            "log_bytes": self.log_bytes,
            "metrics": self.metrics,
            "evidence_bytes": self.evidence_bytes,
            "output_bytes": self.output_bytes,
            "dollars": self.dollars,
        }


def benchmark(effort: Effort) -> Iterator[Row]:
    """One run, warm, whose history and whose requests in the emulator's log are counted."""
    count = SIZES[effort]
    weather = SITES.weather()
    bill = _bill(weather, weather.put_readings(count))
    numbers = {"records": count, **bill.to_json()}
    yield Row(
        benchmark=NAME,
        what=f"state transitions of a stage, happy run of {count:,} records",
        ours=str(bill.most_transitions_of_a_stage),
        measured=bill.most_transitions_of_a_stage,
        target=MOST_TRANSITIONS,
        note=f"{bill.transitions} in the whole run of three stages",
        numbers=numbers,
    )
    per_million = bill.dollars * MILLION / count
    others = ", ".join(f"{service} {number}" for service, number in sorted(bill.other_requests.items()))
    yield Row(
        benchmark=NAME,
        what=f"on top of the workers' own time, per million records in runs of {count:,}",
        ours=f"${per_million:.2f}",
        measured=per_million,
        unit="$",
        target=MOST_DOLLARS,
        note=f"a run: S3 {bill.s3_writes} writes, {bill.s3_reads} reads; {bill.invocations} Lambda calls; "
        f"{bill.log_bytes:,} bytes of logs; {others or 'no other'}",
        numbers=numbers,
    )
    yield Row(
        benchmark=NAME,
        what=f"custom metrics of a pipeline of {len(weather.pipeline.stages)} stages, when each hour has a run, a month",
        ours=f"${bill.metrics * prices.METRIC_MONTH:.2f}",
        measured=bill.metrics * prices.METRIC_MONTH,
        unit="$",
        note=f"{bill.metrics} metrics of a run without failures",
        numbers=numbers,
    )
    yield Row(
        benchmark=NAME,
        what=f"ledger of a run of {count:,} records, a record",
        ours=f"{(bill.evidence_bytes + bill.output_bytes) / count:.0f} bytes",
        measured=(bill.evidence_bytes + bill.output_bytes) / count,
        unit="bytes",
        note=f"{bill.output_bytes / count:.0f} of them outputs",
        numbers=numbers,
    )


def _bill(weather: Deployed, records: dict[str, str]) -> Bill:
    calls_before, requests_before, logged_before = _calls(weather), _requests(weather), _logged(weather)
    ended = weather.run(records)
    calls = _await_closing(weather, calls_before)
    requests = _requests(weather) - requests_before
    logged = (_logged(weather) - logged_before).elements()
    messages = list(logged)
    objects = _objects(weather, ended.output["run_id"])
    by_stage = {
        stage: sum(_transitions(weather.history(arn)) for arn in arns) + 1
        for stage, arns in weather.stage_executions(ended.output["run_id"]).items()
    }
    others = Counter({service: n for (service, _), n in requests.items() if service not in {"s3", *OURS}})
    return Bill(
        # The pipeline's state that runs a stage is in both counts.
        transitions=_transitions(weather.history(ended.arn)) + sum(by_stage.values()) - len(by_stage),
        most_transitions_of_a_stage=max(by_stage.values()),
        s3_writes=sum(n for (service, is_read), n in requests.items() if service == "s3" and not is_read),
        s3_reads=requests["s3", True],
        invocations=len(calls),
        own_gb_seconds=sum(call.gb_seconds for call in calls if call.is_own),
        other_requests=others,
        log_bytes=sum(len(text.encode()) + BYTES_OF_AN_EVENT for text in messages),
        metrics=len({metric for text in messages for metric in _metrics(text)}),
        evidence_bytes=sum(size for key, size in objects.items() if OUTPUTS not in key),
        output_bytes=sum(size for key, size in objects.items() if OUTPUTS in key),
    )


def _objects(weather: Deployed, run_id: str) -> dict[str, int]:
    """Sizes of what a run left in the ledger, by key."""
    pages = weather.s3.get_paginator("list_objects_v2").paginate(
        Bucket=weather.ledger_bucket, Prefix=f"runs/{run_id}/"
    )
    return {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", [])}


def _logged(weather: Deployed) -> Counter[str]:
    """Every event of every log group."""
    logs = weather.target.client("logs")
    found = Counter[str]()
    for groups in logs.get_paginator("describe_log_groups").paginate():
        for group in groups["logGroups"]:
            pages = logs.get_paginator("filter_log_events").paginate(logGroupName=group["logGroupName"])
            found.update(event["message"] for page in pages for event in page["events"])
    return found


def _metrics(message: str) -> Iterator[tuple[str, ...]]:
    """What CloudWatch makes of a line of the log: name and dimensions of each metric in it."""
    if '"CloudWatchMetrics"' not in message:
        return
    line = json.loads(message)
    for directive in line["_aws"]["CloudWatchMetrics"]:
        for names in directive["Dimensions"]:
            dimensions = [f"{name}={line[name]}" for name in sorted(names)]
            yield from ((metric["Name"], *dimensions) for metric in directive["Metrics"])


def _transitions(events: list[dict[str, Any]]) -> int:
    """States that were entered. A happy run retries nothing; a retry would count like one."""
    retried = sum(event["type"] in {"TaskFailed", "LambdaFunctionFailed"} for event in events)
    entered = sum(str(event["type"]).endswith("StateEntered") for event in events)
    return retried + entered


def _requests(weather: Deployed) -> Counter[tuple[str, bool]]:
    """Requests that the emulator has had, by service and whether they are priced as reads."""
    found = Counter[tuple[str, bool]]()
    for line in (weather.emulator.home / "emulator.log").read_text(errors="replace").splitlines():
        if request := REQUEST.search(line):
            method, path, service = request.groups()
            is_listing = path.count("/") == 1
            found[service, service == "s3" and method in READS and not is_listing] += 1
    return found


@dataclass(frozen=True, slots=True)
class Call:
    """An invocation of a Lambda, as Lambda itself logs it."""

    is_own: bool
    """Winnow's, not a worker."""
    gb_seconds: float


def _calls(weather: Deployed) -> list[Call]:
    lambdas, logs = weather.target.client("lambda"), weather.target.client("logs")
    calls: list[Call] = []
    for page in lambdas.get_paginator("list_functions").paginate():
        for function in page["Functions"]:
            is_own = function["Handler"].startswith("winnow.handlers.")
            group = function["LoggingConfig"]["LogGroup"]
            for events in logs.get_paginator("filter_log_events").paginate(logGroupName=group):
                messages = (REPORT.search(event["message"]) for event in events["events"])
                calls += [Call(is_own, int(m[1]) / 1000 * int(m[2]) / 1024) for m in messages if m]
    return calls


def _await_closing(weather: Deployed, before: list[Call]) -> list[Call]:
    """The calls of a run, its closing included, which comes last and a moment later."""
    deadline = time.monotonic() + CLOSED_WITHIN_SECONDS
    expected = len(before) + 1 + len(weather.pipeline.stages) * CALLS_OF_A_STAGE + 1
    while len(calls := _calls(weather)) < expected:
        if time.monotonic() > deadline:
            raise RunFailedError(f"the run was not closed within {CLOSED_WITHIN_SECONDS:g} s")
        time.sleep(0.2)
    return list((Counter(calls) - Counter(before)).elements())
