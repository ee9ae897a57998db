"""The doctor's probes: what each makes of what AWS answers."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scripts.doctor.check import Check, CheckGroup
from scripts.doctor.checks import PROBES
from scripts.doctor.context import DoctorContext
from scripts.doctor.examination import examine, examine_together
from scripts.doctor.finding import Finding, FindingStatus
from scripts.doctor.probe import ProbeSite, finding_of
from scripts.doctor.probe_alarm import REASON, alarm_action
from scripts.doctor.probe_arrivals import BODY, arrivals, put_twice
from scripts.doctor.probe_cost import dollars, words
from scripts.doctor.probe_errors import FAULTS, Fault, look_at_start, try_fault
from scripts.doctor.probe_run import look_at_empty_run
from scripts.doctor.probe_runtime import look_at_conditions, look_at_runtime
from scripts.doctor.probe_stage import look_at_child, look_at_memory, look_at_reading, look_at_settle
from tests.unit.scripts.doctor.accounts import context, denied, stack
from tests.unit.scripts.doctor.probing import (
    ERRORS_MACHINE,
    PROBE_OUTPUTS,
    STAGE_MACHINE,
    Play,
    answered,
    caught,
    ended,
    leave_result,
    site,
)
from winnow.core import keys
from winnow.core.contract import Kind
from winnow.core.keys import StageKeys
from winnow.core.probe import Ask, is_probe, is_probe_object
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

OK, WARNING, FAILED, SKIPPED = (
    FindingStatus.OK,
    FindingStatus.WARNING,
    FindingStatus.FAILED,
    FindingStatus.SKIPPED,
)

AS_DOCUMENTED = {
    "error: raised": "ProbeError",
    "error: raised, invoked": "ProbeError",
    "error: process ends": "Runtime.ExitError",
    "error: out of memory": "Runtime.OutOfMemory",
    "error: 6 MB answered": "Function.ResponseSizeTooLarge",
    "error: 256 KB answered": "States.DataLimitExceeded",
    "error: out of time": "Sandbox.Timedout",
}
BY_NAME = {fault.name: fault for fault in FAULTS}


def always(described: Mapping[str, Any]) -> Play:
    return lambda _machine, _name, _given: described


class TestErrors:
    @pytest.mark.parametrize(("name", "error"), AS_DOCUMENTED.items())
    def test_a_name_that_aws_documents_is_fine(self, name: str, error: str) -> None:
        found = try_fault(BY_NAME[name], site(always(caught(error))))
        assert found == Finding.ok(error)

    def test_every_fault_is_among_them(self) -> None:
        assert set(AS_DOCUMENTED) == set(BY_NAME)

    @pytest.mark.parametrize("name", ["error: process ends", "error: out of memory", "error: out of time"])
    @pytest.mark.parametrize("error", ["Lambda.Unknown", "Runtime.ExitError"])
    def test_a_death_may_have_the_name_of_another_death(self, name: str, error: str) -> None:
        assert try_fault(BY_NAME[name], site(always(caught(error)))).status is OK

    @pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.ask.value)
    def test_a_name_that_no_rule_has_is_a_failure_that_names_it(self, fault: Fault) -> None:
        found = try_fault(fault, site(always(caught("Runtime.Unheard"))))
        assert found.status is FAILED
        assert found.what.startswith(f"Step Functions calls it Runtime.Unheard, not {fault.usual}: ")
        assert "sfn_errors.py" in found.remedy
        assert found.command.startswith(
            "aws stepfunctions describe-execution --execution-arn arn:aws:states:"
        )

    def test_an_answer_that_no_state_can_hold_ends_the_execution(self) -> None:
        """No Catch sees it."""
        found = try_fault(
            BY_NAME["error: 256 KB answered"], site(always(ended("FAILED", error="States.DataLimitExceeded")))
        )
        assert found == Finding.ok("States.DataLimitExceeded")

    def test_a_fault_that_does_not_happen_is_a_failure(self) -> None:
        found = try_fault(BY_NAME["error: out of memory"], site(always(answered(None))))
        assert found.status is FAILED
        assert found.what.startswith("nothing failed, not Runtime.OutOfMemory")

    @pytest.mark.parametrize("name", ["error: raised", "error: raised, invoked", "error: process ends"])
    def test_the_emulators_own_name_is_told_with_what_aws_says(self, name: str) -> None:
        found = try_fault(BY_NAME[name], site(always(caught("Runtime.HandlerError")), is_local=True))
        assert found == Finding.ok(
            f"Runtime.HandlerError, as the emulator calls it; on AWS {AS_DOCUMENTED[name]}"
        )

    def test_the_emulators_own_name_is_a_failure_on_aws(self) -> None:
        found = try_fault(BY_NAME["error: raised"], site(always(caught("Runtime.HandlerError"))))
        assert found.status is FAILED

    @pytest.mark.parametrize(
        "name", ["error: out of memory", "error: 6 MB answered", "error: 256 KB answered"]
    )
    def test_limits_that_the_emulator_does_not_have_are_not_tried_there(self, name: str) -> None:
        where = site(always(caught("never")), is_local=True)
        assert try_fault(BY_NAME[name], where).status is SKIPPED
        assert where.stepfunctions.started == []

    def test_the_worker_is_called_as_run_worker_does_it_and_invoked_as_our_own_functions_are(self) -> None:
        started = []
        for name in ("error: raised", "error: raised, invoked"):
            where = site(always(caught("ProbeError")))
            try_fault(BY_NAME[name], where)
            started += where.stepfunctions.started
        assert [(machine, given["how"]) for machine, given in started] == [
            (ERRORS_MACHINE, "call"),
            (ERRORS_MACHINE, "invoke"),
        ]
        assert [given["input"]["probe"] for _, given in started] == [Ask.RAISE, Ask.RAISE]
        assert is_probe(started[0][1]["input"]["run_id"])

    def test_an_execution_that_does_not_end_is_a_failure(self) -> None:
        where = site(always({"status": "RUNNING"}))
        found = finding_of(lambda where: try_fault(BY_NAME["error: raised"], where), where)
        assert found.status is FAILED
        assert "did not come within 240 s" in found.what
        assert "probe-errors" in found.command

    def test_a_refused_start_tells_how_limits_are_called(self) -> None:
        found = look_at_start(site(always(caught("StepFunctions.ExecutionAlreadyExistsException"))))
        assert found.status is OK

    @pytest.mark.parametrize(
        ("described", "name"),
        [
            (caught("StepFunctions.ExecutionAlreadyExists"), "StepFunctions.ExecutionAlreadyExists"),
            (answered({}), "no error at all"),
        ],
    )
    def test_a_refused_start_of_another_name_is_a_failure(self, described: dict[str, Any], name: str) -> None:
        found = look_at_start(site(always(described)))
        assert found.status is FAILED
        assert f"is taken {name}, not" in found.what


def stage_run(
    store: MemoryStore, *, succeeded: int, lost: Mapping[str, Kind], status: str = "SUCCEEDED"
) -> Play:
    """The probe's stage, which comes to this; the probe's function answers with a pointer."""

    def play(machine: str, _: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
        if machine != STAGE_MACHINE:
            key = StageKeys(given["input"]["run_id"], "probe").input
            return answered({"bucket": store.bucket, "key": key})
        leave_result(store, given["run_id"], succeeded=succeeded, lost=lost)
        return ended(status, output={} if status == "SUCCEEDED" else None, error="StageTotalFailure")

    return play


class TestStage:
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore("ledger")

    def test_a_list_that_is_read_to_its_end_is_fine(self, store: MemoryStore) -> None:
        where = site(stage_run(store, succeeded=200, lost={}), store=store)
        assert look_at_reading(where) == Finding.ok(
            "200 records of a list of 20 MB succeeded, with a pause of 25 s half way"
        )
        (_, ordered), (machine, given) = where.stepfunctions.started
        assert ordered["input"]["rows"] * ordered["input"]["row_bytes"] == 20_000_000
        assert ordered["input"]["seconds"] > 20
        assert machine == STAGE_MACHINE
        assert given["records"] == {"bucket": "ledger", "key": f"runs/{given['run_id']}/probe/input.ndjson"}

    def test_a_list_that_breaks_off_is_a_failure_that_says_why(self, store: MemoryStore) -> None:
        lost = {f"row-{number:04d}": Kind.MISSING for number in range(140)}
        found = look_at_reading(site(stage_run(store, succeeded=60, lost=lost), store=store))
        assert found.status is FAILED
        assert found.what == (
            "200 records of a list of 20 MB should have succeeded, got: 60 succeeded, 140 failed; "
            "row-0000: missing, no memory"
        )

    def test_a_list_that_cannot_be_written_is_a_failure_that_says_why(self) -> None:
        where = site(always(caught("ClientError", '{"errorMessage": "AccessDenied"}')))
        found = finding_of(look_at_reading, where)
        assert (found.status, found.what) == (
            FAILED,
            "the probe's function failed: ClientError: AccessDenied",
        )

    def test_a_killer_that_costs_itself_only_is_fine(self, store: MemoryStore) -> None:
        where = site(stage_run(store, succeeded=10, lost={"killer": Kind.CRASHED}), store=store)
        found = look_at_memory(where)
        assert found.status is OK
        ((_, given),) = where.stepfunctions.started
        assert [each["id"] for each in given["records"]].index("killer") == 5

    @pytest.mark.parametrize(
        ("succeeded", "lost"),
        [
            (9, {"killer": Kind.CRASHED, "neighbour-3": Kind.CRASHED}),
            (11, {}),
            (10, {"neighbour-3": Kind.CRASHED}),
        ],
    )
    def test_a_killer_that_costs_a_neighbour_is_a_failure(
        self, store: MemoryStore, succeeded: int, lost: dict[str, Kind]
    ) -> None:
        found = look_at_memory(site(stage_run(store, succeeded=succeeded, lost=lost), store=store))
        assert found.status is FAILED

    def test_a_stage_that_fails_is_a_failure_even_if_the_counts_are_right(self, store: MemoryStore) -> None:
        play = stage_run(store, succeeded=10, lost={"killer": Kind.CRASHED}, status="FAILED")
        assert look_at_memory(site(play, store=store)).status is FAILED

    @pytest.mark.parametrize(("status", "said"), [("RUNNING", "goes on"), ("ABORTED", "is ABORTED")])
    def test_what_becomes_of_a_child_is_told(self, status: str, said: str) -> None:
        where = site(always(caught("States.Timeout")), others={"-child": status})
        found = look_at_child(where)
        assert found.status is OK
        assert found.what.startswith(said)
        ((_, given),) = where.stepfunctions.started
        assert given["name"].startswith("probe-")

    def test_a_parent_that_waits_for_ever_is_a_failure(self) -> None:
        assert look_at_child(site(always(answered({})))).status is FAILED

    @pytest.mark.parametrize(("status", "expected"), [("ABORTED", OK), ("RUNNING", FAILED)])
    def test_settle_has_to_stop_an_attempt_that_it_settles_past(
        self, store: MemoryStore, status: str, expected: FindingStatus
    ) -> None:
        play = stage_run(store, succeeded=1, lost={"slow": Kind.MISSING})
        found = look_at_settle(site(play, store=store, others={".1": status}))
        assert found.status is expected
        assert expected is OK or "states:StopExecution" in found.remedy


RIGHT = {
    "if absent": "200",
    "if absent, again": "412 PreconditionFailed",
    "if unchanged, changed": "412 PreconditionFailed",
    "if unchanged": "200",
    "left": "4",
}
FACTS = {
    "python": "3.14.2",
    "machine": "aarch64",
    "packages": {"botocore": "1.43", "pyarrow": None},
    "zstd": "compression.zstd",
    "start_seconds": 1.25,
    "conditions": RIGHT,
}


class TestRuntime:
    def test_conditional_writes_that_are_honoured_are_fine(self) -> None:
        assert look_at_conditions(site(always(answered(FACTS)))).status is OK

    @pytest.mark.parametrize("tried", [each for each in RIGHT if each != "left"])
    def test_a_condition_that_is_ignored_is_a_failure_that_names_it(self, tried: str) -> None:
        wrong = {**FACTS, "conditions": {**RIGHT, tried: "204"}}
        found = look_at_conditions(site(always(answered(wrong))))
        assert found.status is FAILED
        assert f"write {tried}: 204, not {RIGHT[tried]}" in found.what

    def test_versions_and_the_start_are_told(self) -> None:
        assert look_at_runtime(site(always(answered(FACTS)))) == Finding.ok(
            "Python 3.14.2 on aarch64, botocore 1.43, zstd by compression.zstd; a process of 256 MB starts in 1.2 s"
        )

    @pytest.mark.parametrize("zstd", ["backports.zstd", "No module named 'compression'"])
    def test_a_runtime_without_zstd_is_a_failure(self, zstd: str) -> None:
        assert look_at_runtime(site(always(answered({**FACTS, "zstd": zstd})))).status is FAILED

    def test_on_the_emulator_a_package_stands_in_for_zstd(self) -> None:
        facts = {**FACTS, "zstd": "backports.zstd"}
        assert look_at_runtime(site(always(answered(facts)), is_local=True)).status is OK

    def test_a_slow_start_is_a_warning(self) -> None:
        found = look_at_runtime(site(always(answered({**FACTS, "start_seconds": 9.5}))))
        assert found.status is WARNING


class TestEmptyRun:
    ENDED = datetime(2026, 1, 1, tzinfo=UTC)

    def reported(self, store: MemoryStore, *, after: float | None, problems: tuple[str, ...] = ()) -> Play:
        def play(_: str, name: str, given: Mapping[str, Any]) -> Mapping[str, Any]:
            assert store.get(given["records"]["key"]).body == b""
            proof = {"holds": not problems, "problems": [], "stages": [{"problems": list(problems)}]}
            if after is not None:
                report = {
                    "proof": proof,
                    "stopped_at": self.ENDED.isoformat(),
                    "closed_at": (self.ENDED + timedelta(seconds=after)).isoformat(),
                }
                Ledger(store).write_json(keys.run_report(name), report)
            return ended(output={})

        return play

    def test_a_run_that_is_reported_within_a_minute_is_fine(self) -> None:
        store = MemoryStore("ledger")
        where = site(self.reported(store, after=3), store=store)
        assert look_at_empty_run(where) == Finding.ok(
            "a run over an empty list went through clean, index; its proof holds, reported after 3 s"
        )
        ((machine, given),) = where.stepfunctions.started
        assert machine == where.pipeline.arn
        assert is_probe(given["run_id"])
        assert given["trigger"]["by"] == "winnow doctor --probe"

    def test_a_report_that_comes_late_is_a_warning(self) -> None:
        store = MemoryStore("ledger")
        assert look_at_empty_run(site(self.reported(store, after=75), store=store)).status is WARNING

    def test_a_report_that_does_not_come_is_a_failure(self) -> None:
        store = MemoryStore("ledger")
        found = finding_of(look_at_empty_run, site(self.reported(store, after=None), store=store))
        assert found.status is FAILED
        assert "did not come within 180 s" in found.what

    def test_a_proof_that_does_not_hold_is_a_failure(self) -> None:
        store = MemoryStore("ledger")
        play = self.reported(store, after=3, problems=("1 record appeared from nowhere",))
        found = look_at_empty_run(site(play, store=store))
        assert found.status is FAILED
        assert "1 record appeared from nowhere" in found.what
        assert found.command.startswith("./scripts/winnow verify probe-")

    def test_a_run_that_fails_is_a_failure_that_says_why(self) -> None:
        play = always(ended("FAILED", error="StageInputError", cause="records: do not exist"))
        found = look_at_empty_run(site(play))
        assert (found.status, found.what) == (
            FAILED,
            "a run over an empty list ended as FAILED: StageInputError records: do not exist",
        )


class Source:
    """A source bucket, and the runs that objects start: after each put, as `runs` says, with that many events of it."""

    def __init__(self, *runs: int) -> None:
        self.runs = runs
        self.keys: list[str] = []
        self.looked = 0

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> None:  # noqa: N803
        assert (Bucket, Body) == ("source", BODY)
        self.keys.append(Key)

    def list_executions(self, **_: Any) -> dict[str, Any]:
        started = self.runs[: self.looked] if self.keys else ()
        self.looked += bool(self.keys)
        names = [f"run-{number}" for number, _ in enumerate(started)]
        return {"executions": [{"executionArn": f"arn:{name}"} for name in ("before", *names)]}

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803
        number = int(executionArn.rpartition("-")[2])
        trigger = {"kind": "objects", "objects": 0, "probes": self.keys[:1] * self.runs[number]}
        return {"input": json.dumps({"trigger": trigger})}

    def found(self) -> Finding:
        where = replace(site(always({})), stepfunctions=self)
        return finding_of(lambda where: put_twice(where, self, 60), where)


class TestArrivals:
    def test_an_object_that_is_put_twice_starts_one_run(self) -> None:
        source = Source(2)
        assert source.found() == Finding.ok("an object that was put twice started one run, run-0")
        first, second = source.keys
        assert first == second
        assert is_probe_object(first)

    def test_other_runs_are_not_taken_for_it(self) -> None:
        assert Source(0, 2).found() == Finding.ok("an object that was put twice started one run, run-1")

    def test_two_runs_are_a_warning_as_a_window_may_have_ended_between(self) -> None:
        found = Source(1, 1).found()
        assert (found.status, found.what) == (
            WARNING,
            "an object that was put twice started two runs, run-0 and run-1",
        )

    def test_an_event_that_is_lost_is_a_failure(self) -> None:
        found = Source(1).found()
        assert found.status is FAILED
        assert "only one of the two events came" in found.what

    def test_no_run_is_a_failure(self) -> None:
        found = Source().found()
        assert found.status is FAILED
        assert "did not come within 240 s" in found.what

    def test_nothing_is_put_where_arrivals_start_nothing(self) -> None:
        found = examine(arrivals, context(stacks=[stack(outputs=PROBE_OUTPUTS)]))
        assert found == Finding.skipped("objects that arrive start no run in this environment")


class CloudWatch:
    """One alarm that publishes, and what its history says after it is set off."""

    def __init__(
        self,
        *,
        state: str = "OK",
        summary: str | None = "Successfully executed action arn:sns",
        topics: int = 1,
    ) -> None:
        self.state = state
        self.topics = topics
        self.more: list[str] = []
        self.summary = summary
        self.set: list[str] = []

    def answers(self) -> dict[str, Any]:
        resources = [
            {"LogicalResourceId": name, "PhysicalResourceId": name, "ResourceType": kind}
            for name, kind in (
                ("silent", "AWS::CloudWatch::Alarm"),
                ("loud", "AWS::CloudWatch::Alarm"),
                ("t", "AWS::SNS::Topic"),
            )
        ]
        return {
            "cloudformation.list_stack_resources": {"StackResourceSummaries": resources},
            "cloudwatch.describe_alarms": self.describe,
            "cloudwatch.set_alarm_state": self.set_state,
            "cloudwatch.describe_alarm_history": self.history,
        }

    def describe(self, *, AlarmNames: list[str], **_: Any) -> dict[str, Any]:  # noqa: N803
        assert AlarmNames == ["silent", "loud"]
        alarms = [
            {"AlarmName": "silent", "StateValue": "OK", "AlarmActions": []},
            {"AlarmName": "loud", "StateValue": self.state, "AlarmActions": ["arn:sns"] * self.topics},
        ]
        return {"MetricAlarms": alarms}

    def set_state(self, *, AlarmName: str, StateValue: str, StateReason: str) -> dict[str, Any]:  # noqa: N803
        assert (AlarmName, StateReason) == ("loud", REASON)
        self.set.append(StateValue)
        return {}

    def history(self, **_: Any) -> dict[str, Any]:
        """The action of an earlier day, and the new one as soon as the alarm is set off."""
        items = [{"Timestamp": "earlier", "HistorySummary": "Failed to execute action arn:sns"}]
        if self.set and self.summary:
            items += [{"Timestamp": "now", "HistorySummary": each} for each in (self.summary, *self.more)]
        return {"AlarmHistoryItems": items}

    def examined(self, **more: Any) -> Finding:
        answers = {**self.answers(), "stepfunctions.x": None}
        return examine(alarm_action, context(answers, stacks=[stack(outputs=PROBE_OUTPUTS)], **more))


class TestAlarm:
    def test_an_alarm_that_publishes_is_fine_and_set_back(self) -> None:
        cloudwatch = CloudWatch()
        assert cloudwatch.examined() == Finding.ok(
            "loud was set to ALARM and back, and published: Successfully executed action arn:sns"
        )
        assert cloudwatch.set == ["ALARM", "OK"]

    def test_an_alarm_that_reaches_one_of_two_topics_is_a_failure(self) -> None:
        cloudwatch = CloudWatch(topics=2)
        cloudwatch.more = ["Failed to execute action arn:sns-2"]
        found = cloudwatch.examined()
        assert (found.status, found.what) == (
            FAILED,
            "loud cannot publish: Failed to execute action arn:sns-2",
        )

    def test_an_alarm_that_cannot_publish_is_a_failure_and_set_back(self) -> None:
        cloudwatch = CloudWatch(summary="Failed to execute action arn:sns. KMS denied")
        found = cloudwatch.examined()
        assert found.status is FAILED
        assert "KMS denied" in found.what
        assert cloudwatch.set == ["ALARM", "OK"]

    def test_an_alarm_that_tells_of_something_now_is_left_alone(self) -> None:
        cloudwatch = CloudWatch(state="ALARM")
        assert cloudwatch.examined().status is WARNING
        assert cloudwatch.set == []

    def test_an_alarm_goes_back_to_having_no_data(self) -> None:
        cloudwatch = CloudWatch(state="INSUFFICIENT_DATA")
        cloudwatch.examined()
        assert cloudwatch.set == ["ALARM", "INSUFFICIENT_DATA"]

    def test_on_the_emulator_the_action_leaves_no_trace(self) -> None:
        cloudwatch = CloudWatch(summary=None)
        found = cloudwatch.examined(is_local=True)
        assert found.status is OK
        assert "keeps no record" in found.what
        assert cloudwatch.set == ["ALARM", "OK"]

    def test_a_permission_that_is_missing_is_named(self) -> None:
        answers = {**CloudWatch().answers(), "cloudwatch.set_alarm_state": denied("cloudwatch:SetAlarmState")}
        found = examine(alarm_action, context(answers, stacks=[stack(outputs=PROBE_OUTPUTS)]))
        assert found.status is WARNING
        assert "cloudwatch:SetAlarmState" in found.what


@pytest.mark.parametrize(
    "check", [each for each in PROBES if each.name.startswith(("error", "slow", "runtime"))]
)
class TestWhatEveryProbeNeeds:
    def test_a_version_without_a_probe_is_told_to_deploy(self, check: Check) -> None:
        found = examine(check, context())
        assert found == Finding.skipped("the deployed version has no probe; deploy this one")

    def test_nothing_is_started_where_nothing_is_deployed(self, check: Check) -> None:
        assert examine(check, context(stacks=[])) == Finding.skipped("not deployed yet")

    def test_a_permission_that_is_missing_is_named(self, check: Check) -> None:
        answers = {"stepfunctions.start_execution": denied("states:StartExecution")}
        found = examine(check, context(answers, stacks=[stack(outputs=PROBE_OUTPUTS)]))
        assert found.status is WARNING
        assert found.what == "not examined: you lack the permission states:StartExecution"


def test_probes_run_at_the_same_time_and_are_told_in_their_order() -> None:
    """Each waits for the other to have begun."""
    barrier = threading.Barrier(2, timeout=60)

    def look(_: DoctorContext) -> Finding:
        barrier.wait()
        return Finding.ok("met")

    checks = [Check(name=name, group=CheckGroup.PROBE, look=look) for name in ("first", "second")]
    results = list(examine_together(checks, context()))
    assert [(each.check.name, each.finding) for each in results] == [
        ("first", Finding.ok("met")),
        ("second", Finding.ok("met")),
    ]


def test_every_probe_has_a_name_of_its_own() -> None:
    names = [each.name for each in PROBES]
    assert len(names) == len(set(names))
    assert {each.group for each in PROBES} == {CheckGroup.PROBE}


def test_two_probes_at_once_do_not_meet() -> None:
    run_ids = set()
    for _ in range(2):
        where = site(always(caught("ProbeError")))
        try_fault(BY_NAME["error: raised"], where)
        run_ids |= {given["input"]["run_id"] for _, given in where.stepfunctions.started}
    assert len(run_ids) == 2


def test_the_cost_is_said_before() -> None:
    assert 0.001 < dollars(3) < 0.02
    assert dollars(10) > dollars(3)
    assert "about 3 minutes and cost about 1 cent." in words(3, None)
    assert "source bucket" not in words(3, None)
    assert "about 6 minutes" in words(3, 300)
    assert "put one object twice into the source bucket" in words(3, 300)


def test_the_site_is_told_by_the_stack() -> None:
    found = ProbeSite.of(context({}, stacks=[stack(outputs=PROBE_OUTPUTS)]))
    assert (found.stage_machine, found.errors_machine) == (STAGE_MACHINE, ERRORS_MACHINE)
    assert found.ledger.bucket == "ledger"
