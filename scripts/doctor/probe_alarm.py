"""A probe of the way from an alarm to people: one alarm is set to ALARM for a moment."""

from collections.abc import Mapping
from typing import Any

from scripts.doctor.check import Check, CheckGroup, check
from scripts.doctor.context import DoctorContext
from scripts.doctor.finding import Finding
from scripts.doctor.probe import ProbeSite, finding_of

ACTION_SECONDS = 60.0
REASON = "winnow doctor --probe sets this alarm for a moment, to see that it reaches people; nothing is wrong"
NAMES_AT_ONCE = 100
"""That DescribeAlarms takes."""
QUIET = ("OK", "INSUFFICIENT_DATA")
"""States of an alarm that tells of nothing."""

Alarm = Mapping[str, Any]
"""As DescribeAlarms gives it."""


@check("alarm", CheckGroup.PROBE)
def alarm_action(context: DoctorContext) -> Finding:
    """An alarm that goes off publishes to its topic."""
    names = [each.physical_id for each in context.resources("AWS::CloudWatch::Alarm")]
    cloudwatch = context.client("cloudwatch")
    alarms = [each for each in _described(cloudwatch, names) if each["AlarmActions"]]
    if not alarms:
        return Finding.warning(
            "no alarm of the stack notifies anybody", "Nobody hears that alerting is broken."
        )
    quiet = [each for each in alarms if each["StateValue"] in QUIET]
    if not quiet:
        return Finding.warning(
            "each alarm that notifies somebody is in ALARM, so none was tried", "Look at them first."
        )
    site = ProbeSite.of(context)
    chosen = min(quiet, key=lambda each: str(each["AlarmName"]))
    return finding_of(lambda site: _set_off(site, cloudwatch, chosen), site)


def _set_off(site: ProbeSite, cloudwatch: Any, alarm: Alarm) -> Finding:
    name, before = alarm["AlarmName"], alarm["StateValue"]
    known = {str(item) for item in _actions(cloudwatch, name)}
    cloudwatch.set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason=REASON)
    try:
        if site.is_local:
            return Finding.ok(
                f"{name} was set to ALARM and back; the emulator keeps no record of what it publishes"
            )
        taken = site.wait_for(
            f"an action of alarm {name}",
            lambda: _taken(cloudwatch, alarm, known),
            within=ACTION_SECONDS,
            command=f"aws cloudwatch describe-alarm-history --alarm-name {name} --history-item-type Action",
        )
    finally:
        # It goes back by itself, too, when CloudWatch looks at it next.
        cloudwatch.set_alarm_state(AlarmName=name, StateValue=before, StateReason=REASON)
    failed = [summary for summary in taken if "success" not in summary.lower()]
    if failed:
        return Finding.failed(
            f"{name} cannot publish: {'; '.join(failed)}",
            "Look at the policies of its topic and of the topic's key.",
        )
    return Finding.ok(f"{name} was set to ALARM and back, and published: {'; '.join(taken)}")


def _taken(cloudwatch: Any, alarm: Alarm, known: set[str]) -> list[str] | None:
    """What became of the alarm's actions; None before all of them were taken."""
    found = [
        str(each["HistorySummary"])
        for each in _actions(cloudwatch, alarm["AlarmName"])
        if str(each) not in known
    ]
    return found if len(found) >= len(alarm["AlarmActions"]) else None


def _described(cloudwatch: Any, names: list[str]) -> list[Alarm]:
    found: list[Alarm] = []
    for start in range(0, len(names), NAMES_AT_ONCE):
        some = names[start : start + NAMES_AT_ONCE]
        found += cloudwatch.describe_alarms(AlarmNames=some, MaxRecords=NAMES_AT_ONCE)["MetricAlarms"]
    return found


def _actions(cloudwatch: Any, name: str) -> list[Mapping[str, Any]]:
    """What the alarm did of late, the newest first."""
    answer = cloudwatch.describe_alarm_history(AlarmName=name, HistoryItemType="Action")
    items: list[Mapping[str, Any]] = answer["AlarmHistoryItems"]
    return items


ALARM_PROBES: tuple[Check, ...] = (alarm_action,)
