"""Objects arrive in the source bucket: from S3 through EventBridge and SQS, in which those that come together wait for each other."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.faults.app import LIE
from tests.integration.faults.lab import Lab, Run, await_
from winnow.core.contract import ULID

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

TOGETHER = [f"together/{number:02} é+%2F.xml" for number in range(40)]
"""With characters that are wrong when they are decoded twice."""
TOLD_OFTEN = "told-often.xml"
DELIVERIES = 3


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


def is_empty(lab: Lab, url: str) -> bool:
    numbers = ("ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible")
    found = lab.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(numbers))["Attributes"]
    return not any(int(found[number]) for number in numbers)


def test_objects_that_arrive_together_come_through_once_and_in_fewer_runs(lab: Lab) -> None:
    bucket = lab.faults.source_bucket
    with ThreadPoolExecutor(len(TOGETHER)) as pool:
        list(pool.map(lambda key: lab.s3.put_object(Bucket=bucket, Key=key, Body=b"<TEI/>"), TOGETHER))
    await_("every object", lambda: set(TOGETHER) <= set(arrived(lab)), lab=lab)
    queue = lab.queue("Arrivals")
    await_("the queue's last message", lambda: is_empty(lab, queue.url), lab=lab)
    over_them = [run.ended() for run in runs(lab) if set(run.arrived(LIE)) & set(TOGETHER)]
    assert len(over_them) < len(TOGETHER)  # how few depends on how fast they could be put
    for run in over_them:
        assert run.status() == "SUCCEEDED", run.cause()
        run.assert_sound(good=list(run.arrived(LIE)))
    found = arrived(lab)
    assert {key: found[key] for key in TOGETHER} == dict.fromkeys(TOGETHER, 1)


def test_an_arrival_that_is_told_again_and_again_is_run_once(lab: Lab) -> None:
    """At the same moment, and once more when its run is over."""
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
    lab.sqs.send_message(QueueUrl=queue.url, MessageBody=body)
    await_("the queue's last message", lambda: is_empty(lab, queue.url), lab=lab)
    for run in runs(lab):
        run.ended()
    assert arrived(lab)[TOLD_OFTEN] == 1
