"""The probe of alerts: `winnow alert test` as one check."""

from scripts.doctor.alert_trial import AlertTrial
from scripts.doctor.check import CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding, FindingStatus

WORST_FIRST = (FindingStatus.FAILED, FindingStatus.WARNING, FindingStatus.OK)


@check("test alert", CheckGroup.PROBE)
def alert_arrives(context: DoctorContext) -> Finding:
    """A test alert reaches everybody who subscribed."""
    arrivals = list(AlertTrial(context).arrivals())
    said = "; ".join(f"{each.subscriber}: {each.finding.what}" for each in arrivals)
    worst = min((each.finding for each in arrivals), key=lambda finding: WORST_FIRST.index(finding.status))
    return Finding(worst.status, said, worst.remedy, worst.command)


ALERT_PROBES = (alert_arrives,)
