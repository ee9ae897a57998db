"""TLS and IAM enforced: what starts a run and what closes it may do what they have to.

The functions in between are exercised by the command line's own strict test, on the same deployment.
"""

from __future__ import annotations

import json
from typing import Any

from scripts import ROOT
from scripts.deployed.sources import LocalSource
from tests.integration.conftest import Deployment
from tests.integration.faults.lab import await_
from winnow.core import keys
from winnow.proof.prove import prove
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

MANUSCRIPTS = ROOT / "tests" / "data" / "manuscripts" / "Hebrew"


def ask_for(deployment: Deployment, **detail: Any) -> None:
    event = {"pipeline": "catalogue", "environment": deployment.pipeline.environment, **detail}
    answer = deployment.target.client("events").put_events(
        Entries=[{"Source": "winnow", "DetailType": "Run requested", "Detail": json.dumps(event)}]
    )
    assert answer["FailedEntryCount"] == 0


def slack_on(deployment: Deployment, run_id: str) -> str:
    """What Slack is told of a run; waits for it."""

    def told() -> str | None:
        messages = map(json.dumps, deployment.slack.receive(1, within_seconds=1))
        return next((message for message in messages if run_id in message), None)

    return await_(f"Slack on {run_id}", told)


def test_a_run_that_an_event_asks_for_is_started_proved_and_reported(strict_deployment: Deployment) -> None:
    s3, pipeline = strict_deployment.target.client("s3"), strict_deployment.pipeline
    uploaded = list(LocalSource.open(MANUSCRIPTS).upload(s3, bucket=pipeline.source_bucket, prefix="Hebrew/"))
    ask_for(strict_deployment, run_id="strictly-asked-for", prefix="Hebrew/")

    ledger = Ledger(S3Store(pipeline.ledger_bucket, s3))
    report = await_("the report", lambda: ledger.find_json(keys.run_report("strictly-asked-for")))
    assert report["status"] == "SUCCEEDED"
    assert report["proof"]["holds"]
    assert report["published"]["version"] == report["published"]["current"]
    proof = prove(ledger, "strictly-asked-for", status="SUCCEEDED")
    assert proof.holds, proof.all_problems
    assert (proof.stages[0].records_in, proof.lost) == (len(uploaded), 1)
    assert "Hebrew/MS_Hebrew_3.xml" in slack_on(strict_deployment, "strictly-asked-for")


def test_a_run_over_a_list_that_it_may_not_read_is_alerted(strict_deployment: Deployment) -> None:
    elsewhere = {"bucket": strict_deployment.pipeline.ledger_bucket, "key": "outside-of-runs.ndjson"}
    ask_for(strict_deployment, run_id="strictly-forbidden", records=elsewhere)
    said = slack_on(strict_deployment, "strictly-forbidden")
    assert "records: may not be read by this pipeline; put the list into the source bucket" in said
