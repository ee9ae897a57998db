"""`winnow doctor --probe` on the emulator with TLS and IAM enforced: the probe may do what it has to, and differences to AWS are named."""

from __future__ import annotations

from scripts.doctor.check import CheckGroup
from scripts.doctor.checks import PROBES
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import examine_together
from scripts.doctor.finding import FindingStatus
from tests.integration.conftest import Deployment

NOT_ON_THE_EMULATOR = {"arrivals", "error: out of memory", "error: 6 MB answered", "error: 256 KB answered"}


def test_every_probe_of_what_is_deployed_passes(strict_deployment: Deployment) -> None:
    context = DoctorContext(target=strict_deployment.target, environment="local")
    probes = [each for each in PROBES if each.group is CheckGroup.PROBE]

    findings = {each.check.name: each.finding for each in examine_together(probes, context)}

    skipped = {name for name, finding in findings.items() if finding.status is FindingStatus.SKIPPED}
    wrong = {
        name: finding
        for name, finding in findings.items()
        if finding.status not in {FindingStatus.OK, FindingStatus.SKIPPED}
    }
    assert skipped == NOT_ON_THE_EMULATOR
    assert wrong == {}
    assert findings["error: process ends"].what == (
        "Runtime.HandlerError, as the emulator calls it; on AWS Runtime.ExitError"
    )
    assert findings["error: out of time"].what == "Sandbox.Timedout"
    assert findings["memory of a child"].what.startswith(
        "a record that took 512 MB in a careful child cost itself only"
    )
