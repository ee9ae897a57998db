"""A probe of arrivals: an object that is put twice starts one run. It is no record, so no worker gets it."""

import json
from collections.abc import Mapping
from typing import Any

from scripts.doctor.check import Check, CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding, NotExamined
from scripts.doctor.probe import ProbeFailed, ProbeSite, describe_command, finding_of
from winnow.core.probe import SOURCE_FOLDER, new_probe_id

LATE_SECONDS = 180.0
"""That a run may start after its window has ended: events, a queue, and a function that starts cold."""
LATEST_RUNS = 50
BODY = b"put by winnow doctor --probe; no record, and gone tomorrow\n"


@check("arrivals", CheckGroup.PROBE)
def arrivals(context: DoctorContext) -> Finding:
    """Objects that arrive start runs, and those that arrive together start one."""
    window_seconds = context.stack().outputs.get("ArrivalsWindowSeconds")
    if window_seconds is None:
        raise NotExamined("objects that arrive start no run in this environment")
    site, s3 = ProbeSite.of(context), context.client("s3")
    return finding_of(lambda site: put_twice(site, s3, float(window_seconds)), site)


def put_twice(site: ProbeSite, s3: Any, window_seconds: float) -> Finding:
    """Put an object twice, and look for the runs that it starts.

    Raises:
        ProbeFailed: it starts none in time.
    """
    runs = _NewRuns(site)
    where = {
        "Bucket": site.pipeline.source_bucket,
        "Key": f"{site.pipeline.source_prefix}{SOURCE_FOLDER}{new_probe_id()}",
    }
    s3.put_object(**where, Body=BODY)
    s3.put_object(**where, Body=BODY)
    within = window_seconds + LATE_SECONDS
    what = f"a run over s3://{where['Bucket']}/{where['Key']}"
    arn, told = site.wait_for(what, lambda: runs.over(where["Key"]), within=within)
    if told > 1:
        return Finding.ok(f"an object that was put twice started one run, {arn.rpartition(':')[2]}")
    try:
        other, _ = site.wait_for(
            f"the second event of {what}", lambda: runs.over(where["Key"]), within=within
        )
    except ProbeFailed:
        return Finding.failed(
            "an object that was put twice started one run, but only one of the two events came",
            "See whether arrivals wait in a dead-letter queue. The run:",
            describe_command(arn),
        )
    return Finding.warning(
        f"an object that was put twice started two runs, {arn.rpartition(':')[2]} and {other.rpartition(':')[2]}",
        "They may have fallen into two windows. Probe again: if it is two runs again, the window does not gather.",
    )


class _NewRuns:
    """The runs of the pipeline that start from now on."""

    def __init__(self, site: ProbeSite) -> None:
        self._site = site
        self._seen = set(self._latest())

    def over(self, key: str) -> tuple[str, int] | None:
        """A run that was not found before and that an object started, with the number of its events; None if there is none."""
        for arn in self._latest():
            if arn in self._seen:
                continue
            self._seen.add(arn)
            told = _probes(self._site.stepfunctions.describe_execution(executionArn=arn)).count(key)
            if told:
                return arn, told
        return None

    def _latest(self) -> list[str]:
        listed = self._site.stepfunctions.list_executions(
            stateMachineArn=self._site.pipeline.arn, maxResults=LATEST_RUNS
        )
        return [each["executionArn"] for each in listed["executions"]]


def _probes(described: Mapping[str, Any]) -> list[str]:
    """Keys of probes' objects that a run was started for, one for each event."""
    given = json.loads(described.get("input") or "{}")
    trigger = given.get("trigger") if isinstance(given, dict) else None
    return list(trigger.get("probes") or ()) if isinstance(trigger, dict) else []


ARRIVAL_PROBES: tuple[Check, ...] = (arrivals,)
