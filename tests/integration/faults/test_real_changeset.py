"""What a cataloguer really uploaded one day: five of sixty-two files are bad."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.deployed.sources import LocalSource
from tests.integration.faults.lab import CATALOGUE, Lab, Run, about
from winnow.storage.ledger import record_lines

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

CHANGESET = ROOT.parent / "shared" / "data" / "tei" / "changesets" / "2021-05-13-83f5770c.zip"


def real_changeset(lab: Lab) -> Run:
    if not CHANGESET.exists():
        pytest.skip(f"the real catalogue is not at {CHANGESET}")
    pipeline = lab.pipelines[CATALOGUE]
    keys = list(LocalSource.open(Path(CHANGESET)).upload(lab.s3, bucket=pipeline.source_bucket))
    rows = [{"id": key, "data": {"bucket": pipeline.source_bucket, "key": key}} for key in keys]
    where = {"Bucket": pipeline.ledger_bucket, "Key": "inputs/changeset.ndjson"}
    lab.s3.put_object(**where, Body=b"".join(record_lines(rows)))
    pointer = {"bucket": where["Bucket"], "key": where["Key"]}
    return lab.start_with(
        {"records": pointer, "run_id": "changeset"}, name="changeset", pipeline=CATALOGUE
    ).ended()


@about(real_changeset)
def test_a_real_changeset_passes_without_its_bad_files(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    failures = run.failures()
    assert Counter(each["error_type"] for each in failures.values()) == {"MalformedXml": 4, "NoIdentifier": 1}
    assert all(each["message"] for each in failures.values())
    assert run.counts() == run.counts() | {"in": 62, "succeeded": 57, "failed": 5}
    run.assert_sound(good=list(run.arrived()), lost=failures)
    assert len(run.arrived()) == 57 - run.counts("transform")["skipped"]
    [alert] = run.alerts()
    assert alert["counts"]["failed"] == 5
    run.assert_slack_heard()
