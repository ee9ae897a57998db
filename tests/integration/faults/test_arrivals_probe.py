"""What `winnow doctor --probe` puts into the source: it comes all the way of an arrival, and no worker sees it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from scripts.deployed.pipelines import DeployedPipeline
from scripts.doctor.finding import FindingStatus
from scripts.doctor.probe import ProbeSite
from scripts.doctor.probe_arrivals import put_twice
from tests.integration.faults.lab import Lab, await_
from tests.integration.faults.test_arrivals import arrived, close_window, gathered, runs
from tests.patience import PATIENCE_SECONDS
from winnow.core import keys
from winnow.storage.ledger import Ledger
from winnow.storage.store import S3Store

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

EVENTS = 2


def test_an_object_that_the_doctor_puts_twice_starts_one_run_over_no_record(lab: Lab) -> None:
    outputs = lab.faults.outputs
    site = ProbeSite(
        pipeline=DeployedPipeline.from_outputs(outputs, stack="faults"),
        stage_machine=outputs["ProbeMachineArn"],
        errors_machine=outputs["ProbeErrorsArn"],
        ledger=Ledger(S3Store(lab.faults.ledger_bucket, lab.s3)),
        stepfunctions=lab.stepfunctions,
        is_local=True,
    )
    before, arrived_before = gathered(lab), arrived(lab)
    with ThreadPoolExecutor(1) as pool:
        finding = pool.submit(put_twice, site, lab.s3, PATIENCE_SECONDS)
        await_("both events", lambda: gathered(lab) >= before + EVENTS, lab=lab)
        run_id = close_window(lab)
        found = finding.result()
    assert (found.status, found.what) == (
        FindingStatus.OK,
        f"an object that was put twice started one run, {run_id}",
    )
    [run] = [each.ended() for each in runs(lab) if each.run_id == run_id]
    assert run.status() == "SUCCEEDED", run.cause()
    assert arrived(lab) == arrived_before
    report = await_("the report", lambda: run.ledger.find_json(keys.run_report(run_id)), lab=lab)
    assert report["proof"]["holds"] is True
