"""Objects arrive in the source bucket: from S3 through EventBridge and SQS into windows, each of which makes one run."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts import ROOT
from tests.integration.conftest import WINNOW
from tests.integration.faults.app import LIE, PIPELINE
from tests.integration.faults.lab import Lab, Run, await_
from tests.patience import PATIENCE_SECONDS
from winnow.core.contract import ULID
from winnow.runs.window_closer import CLOCKS_APART_SECONDS
from winnow.storage.arrival_windows import DynamoArrivalWindows
from winnow.storage.window_queue import SqsWindowQueue

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

TOGETHER = [f"together/{number:02} é+%2F.xml" for number in range(40)]
"""With characters that are wrong when they are decoded twice."""
TOLD_OFTEN = "told-often.xml"
DELIVERIES = 3
UPLOADED = [f"{number}.xml" for number in range(5)]


def runs(lab: Lab) -> list[Run]:
    """The runs that were started because objects arrived."""
    pages = lab.stepfunctions.get_paginator("list_executions").paginate(stateMachineArn=lab.faults.arn)
    found = [
        Run(lab, lab.faults, execution["name"], execution["executionArn"])
        for page in pages
        for execution in page["executions"]
        if ULID.fullmatch(
            execution["name"]
        )  # all other tests but a few name theirs, and looking at each takes long
    ]
    return [run for run in found if _is_by_objects(json.loads(run.describe()["input"]))]


def _is_by_objects(given: object) -> bool:
    match given:
        case {"trigger": {"kind": "objects"}}:
            return True
    return False


def arrived(lab: Lab) -> Counter[str]:
    """Objects that such runs have brought through their first stage."""
    return sum((run.arrived(LIE) for run in runs(lab)), Counter())


def gathered(lab: Lab) -> int:
    """How many arrivals were put into windows so far."""
    pages = lab.dynamodb.get_paginator("scan").paginate(
        TableName=lab.faults.outputs["StateTable"], ConsistentRead=True
    )
    items = [item for page in pages for item in page["Items"] if item["pk"]["S"].startswith("window#")]
    return sum(int(item["objects"]["N"]) for item in items)


def close_window(lab: Lab) -> str:
    """Close the open window before its time, and wait for that; returns the id of its run."""
    table = lab.faults.outputs["StateTable"]
    window = DynamoArrivalWindows(table, lab.dynamodb, pipeline=PIPELINE).current()
    assert window
    SqsWindowQueue(lab.queue("Windows").url, lab.sqs).send(window.run_id, delay_seconds=0)

    def is_done() -> bool:
        key = {"pk": {"S": f"window#{window.run_id}"}, "sk": {"S": "arrivals"}}
        return "done" in lab.dynamodb.get_item(TableName=table, Key=key, ConsistentRead=True)["Item"]

    await_(f"the end of window {window.run_id}", is_done, lab=lab)
    return window.run_id


def over(lab: Lab, keys: Iterable[str]) -> list[Run]:
    """Runs that any of some objects came through."""
    return [run.ended() for run in runs(lab) if set(run.arrived(LIE)) & set(keys)]


def test_objects_that_arrive_within_a_window_make_one_run(lab: Lab) -> None:
    bucket, before = lab.faults.source_bucket, gathered(lab)
    with ThreadPoolExecutor(len(TOGETHER)) as pool:
        list(pool.map(lambda key: lab.s3.put_object(Bucket=bucket, Key=key, Body=b"<TEI/>"), TOGETHER))
    await_("the last arrival", lambda: gathered(lab) >= before + len(TOGETHER), lab=lab)
    run_id = close_window(lab)
    await_("every object", lambda: set(TOGETHER) <= set(arrived(lab)), lab=lab)
    [run] = over(lab, TOGETHER)
    assert run.run_id == run_id
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=TOGETHER)


def test_an_arrival_that_is_told_again_and_again_is_run_once(lab: Lab) -> None:
    """Within a window, which ends by itself, and once more when its run is over."""
    queue = lab.queue("Arrivals")
    body = json.dumps(
        {
            "source": "aws.s3",
            "detail-type": "Object Created",
            "time": "2026-11-20T12:00:00Z",
            "detail": {
                "bucket": {"name": lab.faults.source_bucket},
                "object": {"key": TOLD_OFTEN, "size": 6, "etag": "e", "version-id": "v", "sequencer": "00A1"},
            },
        }
    )
    for _ in range(DELIVERIES):
        lab.sqs.send_message(QueueUrl=queue.url, MessageBody=body)
    await_("the object", lambda: arrived(lab)[TOLD_OFTEN], lab=lab)
    before = gathered(lab)
    lab.sqs.send_message(QueueUrl=queue.url, MessageBody=body)
    await_("the last delivery", lambda: gathered(lab) > before, lab=lab)
    assert close_window(lab) not in {run.run_id for run in runs(lab)}
    assert len(over(lab, [TOLD_OFTEN])) == 1
    assert arrived(lab)[TOLD_OFTEN] == 1


def test_what_winnow_run_uploads_is_run_over_by_that_run_alone(lab: Lab, tmp_path: Path) -> None:
    for name in UPLOADED:
        (tmp_path / name).write_text(name)
    before, runs_before = gathered(lab), {run.run_id for run in runs(lab)}
    done = subprocess.run(
        [WINNOW, "run", PIPELINE, "--source", str(tmp_path), "--json", "--yes"],
        env=lab.emulator.endpoint.environment(),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = json.loads(done.stdout)
    assert next(each["in"] for each in ended["stages"]) == len(UPLOADED)
    await_("the last upload", lambda: gathered(lab) >= before + len(UPLOADED), lab=lab)
    close_window(lab)
    assert {run.run_id for run in runs(lab)} == runs_before

    # The same content, put there once more after the run began, is news.
    execution = f"{lab.faults.arn.replace(':stateMachine:', ':execution:')}:{ended['run_id']}"
    began = lab.stepfunctions.describe_execution(executionArn=execution)["startDate"].timestamp()
    await_("a later moment", lambda: time.time() > began + CLOCKS_APART_SECONDS + 1, lab=lab)
    before = gathered(lab)
    lab.s3.put_object(Bucket=lab.faults.source_bucket, Key=UPLOADED[0], Body=UPLOADED[0].encode())
    await_("the later arrival", lambda: gathered(lab) > before, lab=lab)
    close_window(lab)
    [run] = await_("its run", lambda: over(lab, UPLOADED), lab=lab)
    assert run.arrived(LIE) == Counter(UPLOADED[:1])
