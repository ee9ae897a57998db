from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.winnow.registers import FailingRegister
from tests.unit.winnow.runs import EXECUTION, RUN_ID, STAGES, Pipeline
from tests.unit.winnow.test_alert import FakeSns
from winnow.alerts.announcer import Announcer
from winnow.batch.plan import read_plan
from winnow.batch.selection import Selection, SelectionPart
from winnow.core import keys
from winnow.metrics.watch import Metric, Watch
from winnow.publish.published_set import PublishedSet
from winnow.register.entry import hold
from winnow.register.registering import catch_up
from winnow.runs.closer import Closer, CloseRunIncomplete, Closing
from winnow.runs.run_ended import RunEnded
from winnow.runs.steps import AlertStep, ClosingStep, Steps
from winnow.storage.state_table import Holder

LOSSY = {"records": ["a", "b~1", "b~2", "bad1", "flaky", "skip1", "twin", "a"]}
FATAL = {"records": ["bad1", "bad2"]}


def ended(status: str = "SUCCEEDED", **detail: Any) -> RunEnded:
    return RunEnded.from_event(
        {
            "detail-type": "Step Functions Execution Status Change",
            "detail": {
                "executionArn": EXECUTION,
                "stateMachineArn": "arn:aws:states:eu-west-1:123456789012:stateMachine:catalogue",
                "name": RUN_ID,
                "status": status,
                "startDate": 1_800_000_000_000,
                "stopDate": 1_800_000_090_500,
                "input": "{}",
                "output": None,
                **detail,
            },
        }
    )


class World:
    """A run, and a closer with everything around it in memory."""

    def __init__(
        self, event: dict[str, Any] | None = None, *, published: PublishedSet | None = None, **pipeline: Any
    ) -> None:
        self.pipeline = Pipeline(STAGES, **pipeline)
        if event is not None:
            self.pipeline.run(event)
        self.ledger, self.state = self.pipeline.ledger, self.pipeline.state
        self.sns = FakeSns()
        self.watch = Watch(environment="test", pipeline="catalogue")
        self.announcer = Announcer(topic_arn="arn:topic", environment="prod", sns=self.sns)
        self.register = FailingRegister()
        self.closer = Closer(
            pipeline="catalogue",
            stages=tuple(STAGES),
            ledger=self.ledger,
            register=self.register,
            state=self.state,
            announcer=self.announcer,
            watch=self.watch,
            published=published,
        )

    def close(self, status: str = "SUCCEEDED", **detail: Any) -> Closing:
        return self.closer.close(ended(status, **detail))

    def deliver(self, stage: str, attempt: int) -> None:
        """What the Alert Lambda does in time."""
        self.announcer.announce_attempt(
            self.ledger, keys.StageKeys(RUN_ID, stage).attempt(attempt), execution=EXECUTION
        )

    def counted(self, metric: Metric) -> float:
        return self.watch._sums.get(metric, 0)

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [json.loads(json.loads(request["Message"])["lambda"]) for request in self.sns.published]

    @property
    def report(self) -> Any:
        return self.ledger.read_json(keys.run_report(RUN_ID))


class TestARunThatSucceeded:
    def test_is_proved_reported_and_counted(self) -> None:
        world = World(LOSSY)
        world.deliver("adapt", 0)
        world.deliver("adapt", 1)
        closing = world.close()
        assert closing.to_payload() == {
            "run_id": RUN_ID,
            "status": "SUCCEEDED",
            "holds": True,
            "lost": 2,
            "register": "up to date",
            "alerts": [],
        }
        assert world.report["proof"]["holds"] is True
        assert (world.report["status"], world.report["seconds"]) == ("SUCCEEDED", 90.5)
        assert world.counted(Metric.RUN_SUCCEEDED) == 1
        assert world.counted(Metric.RUN_SECONDS) == 90.5
        assert world.counted(Metric.RECORDS_LOST) == 2
        assert world.counted(Metric.CONSERVATION_VIOLATION) == 0
        assert len(world.sns.published) == 2

    def test_law_5_sends_the_alerts_that_are_owed(self) -> None:
        world = World(LOSSY)
        world.deliver("adapt", 0)
        closing = world.close()
        assert closing.alerts == ["adapt EXHAUSTED"]
        assert [alert["verdict"] for alert in world.alerts] == ["RETRY", "EXHAUSTED"]
        assert [example["record_id"] for example in world.alerts[1]["examples"]] == ["flaky"]
        assert world.close().alerts == []

    def test_is_counted_and_alerted_once_however_often_it_is_closed(self) -> None:
        world = World(LOSSY)
        world.close()
        world.close()
        assert world.counted(Metric.RUN_SUCCEEDED) == 1
        assert world.counted(Metric.RECORDS_LOST) == 2
        assert len(world.sns.published) == 2

    @pytest.mark.parametrize(
        ("objects", "counted"), [(0, 0), (1, 1)], ids=["a probe alone", "a probe beside a record"]
    )
    def test_what_only_a_probe_started_is_no_success_of_the_pipeline(
        self, objects: int, counted: int
    ) -> None:
        """It would keep the alarm silent that nothing has succeeded for long."""
        trigger = {"kind": "objects", "objects": objects, "probes": [".winnow-probe/x"]}
        world = World({**LOSSY, "trigger": trigger})
        world.close()
        assert world.report["proof"]["holds"] is True
        assert world.counted(Metric.RUN_SUCCEEDED) == counted

    def test_gives_the_schedules_lock_back(self) -> None:
        world = World({"trigger": {"kind": "schedule"}})
        assert world.state.acquire_lock("catalogue", Holder(run_id="next", execution="arn:next"))
        world.close()
        assert world.state.acquire_lock("catalogue", Holder(run_id="next", execution="arn:next")) is None

    def test_leaves_the_lock_to_its_holder_when_it_stepped_aside(self) -> None:
        world = World(LOSSY)
        holder = Holder(run_id="before", execution="arn:before")
        world.state.acquire_lock("catalogue", holder)
        world.pipeline.change(keys.run(RUN_ID), lambda run: run.update(stepped_aside="another runs"))
        assert world.close().to_payload()["holds"] is None
        assert world.state.acquire_lock("catalogue", Holder(run_id="x", execution="arn:x")) == holder
        assert world.counted(Metric.RUN_SUCCEEDED) == 0
        assert world.sns.published == []

    def test_that_stepped_aside_and_could_not_say_so_is_alerted(self) -> None:
        """The answer by which PlanRun steps aside was lost, so the execution failed."""
        world = World(LOSSY)
        world.pipeline.change(keys.run(RUN_ID), lambda run: run.update(stepped_aside="another runs"))
        world.close(status="FAILED")
        world.close(status="FAILED")
        assert [alert["verdict"] for alert in world.alerts] == ["FAILED"]

    @pytest.mark.parametrize(
        "detail",
        [
            {"name": "by-hand", "input": json.dumps({"run_id": RUN_ID})},
            {"name": "by-hand", "output": json.dumps({"run_id": RUN_ID})},
            {"name": "by-hand", "input": None, "output": json.dumps({"run_id": RUN_ID, "lost": 0})},
        ],
    )
    def test_is_found_whatever_its_execution_is_called(self, detail: dict[str, Any]) -> None:
        assert World(LOSSY).close(**detail).run_id == RUN_ID

    def test_is_found_by_the_name_that_plan_run_made_up(self) -> None:
        world = World(LOSSY)
        world.state.run_of(EXECUTION, RUN_ID)
        assert world.close(name="7e4c4a1e-2c9b-4d3c-9e55-0f6c2f1f8a11").run_id == RUN_ID


class TestALedgerThatDoesNotAddUp:
    def broken(self) -> World:
        world = World({"records": ["a", "b"]})
        world.pipeline.change(
            world.pipeline.keys("adapt").result, lambda said: said["counts"].update(failed=1)
        )
        return world

    def test_is_alerted_once_with_the_reason(self) -> None:
        world = self.broken()
        world.close()
        world.close()
        (alert,) = world.alerts
        assert (alert["verdict"], alert["severity"]) == ("NOT_CONSERVED", "critical")
        assert alert["cause"] == "adapt: the result's count 'failed' says 1, but the evidence says 0"
        assert alert["replay_command"] == f"./scripts/winnow verify {RUN_ID} --environment prod"
        assert world.counted(Metric.CONSERVATION_VIOLATION) == 1

    def test_is_reported(self) -> None:
        world = self.broken()
        world.close()
        assert world.report["proof"]["holds"] is False


class TestARunThatDidNotSucceed:
    def test_is_alerted_once_by_its_stage_where_that_failed_totally(self) -> None:
        world = World(FATAL)
        world.deliver("adapt", 0)
        world.close("FAILED", error="StageTotalFailure", cause="none of 2 records succeeded")
        assert [alert["verdict"] for alert in world.alerts] == ["TOTAL_FAILURE"]
        assert world.counted(Metric.RUN_FAILED) == 1

    def test_is_alerted_with_the_stages_words_where_its_alert_was_owed(self) -> None:
        world = World(FATAL)
        world.close("FAILED", error="StageTotalFailure")
        world.close("FAILED", error="StageTotalFailure")
        (alert,) = world.alerts
        assert (alert["verdict"], alert["stage"], alert["counts"]["failed"]) == ("TOTAL_FAILURE", "adapt", 2)

    def test_is_not_alerted_where_it_only_failed_in_what_an_earlier_run_told(self) -> None:
        world = World()
        for run_id in ("EARLIER", RUN_ID):
            world.pipeline.run(FATAL, run_id)
            catch_up(world.ledger, world.register, keys.StageKeys(run_id, "adapt"))
        world.close("FAILED", error="StageTotalFailure")
        assert world.alerts == []
        assert world.counted(Metric.RUN_FAILED) == 1

    @pytest.mark.parametrize(
        ("status", "severity", "said"),
        [
            ("FAILED", "critical", "[prod] CRITICAL catalogue: the run failed"),
            ("TIMED_OUT", "critical", "[prod] CRITICAL catalogue: the run timed out"),
            ("ABORTED", "error", "[prod] catalogue: the run was aborted"),
        ],
    )
    def test_is_alerted_once_where_no_stage_failed_totally(
        self, status: str, severity: str, said: str
    ) -> None:
        world = World(LOSSY, stop_after=lambda stage, attempt: (stage, attempt) == ("adapt", 0))
        world.deliver("adapt", 0)
        world.close(status, error="States.Runtime", cause="stopped by hand")
        world.close(status, error="States.Runtime", cause="stopped by hand")
        _, alert = world.alerts
        assert (alert["title"], alert["severity"], alert["stage"]) == (said, severity, None)
        assert alert["cause"] == (
            "it had come as far as stage adapt (5 of 7 records done there): States.Runtime: stopped by hand"
        )
        assert alert["replay_command"] == "./scripts/winnow run catalogue --environment prod"
        assert world.report["proof"]["finished"] is False

    def test_is_alerted_from_the_event_alone_when_it_was_never_planned(self) -> None:
        world = World()
        cause = json.dumps(
            {"errorType": "StageInputError", "errorMessage": "prefix: must begin with tei/, got: 'x'"}
        )
        closing = world.close("FAILED", error="StageInputError", cause=cause)
        world.close("FAILED", error="StageInputError", cause=cause)
        (alert,) = world.alerts
        assert alert["run_id"] == RUN_ID
        assert alert["cause"] == "StageInputError: prefix: must begin with tei/, got: 'x'"
        assert closing.proof is None
        assert world.counted(Metric.RUN_FAILED) == 1

    def test_is_not_mistaken_for_the_run_whose_id_it_wanted_to_use(self) -> None:
        world = World(LOSSY)
        other = EXECUTION.replace(RUN_ID, "again")
        closing = world.close(
            "FAILED",
            executionArn=other,
            name="again",
            input=json.dumps({"run_id": RUN_ID}),
            error="StageInputError",
        )
        assert closing.run_id == "again"
        assert closing.proof is None
        assert [alert["run_id"] for alert in world.alerts] == ["again"]

    def test_is_alerted_again_when_a_redrive_of_it_fails(self) -> None:
        world = World(FATAL, stop_after=lambda *_: True)
        world.pipeline.change(
            world.pipeline.keys("adapt").attempt(0).alert, lambda alert: alert.update(verdict="EXHAUSTED")
        )
        world.close("FAILED", redriveCount=0)
        world.close("FAILED", redriveCount=1)
        assert [alert["verdict"] for alert in world.alerts] == ["EXHAUSTED", "FAILED", "FAILED"]

    def test_is_reported_by_its_last_end_in_whatever_order_its_events_come(self) -> None:
        world = World(LOSSY)
        world.close("SUCCEEDED", redriveCount=1, stopDate=1_800_000_190_500)
        world.close("FAILED", redriveCount=0)
        assert world.report["status"] == "SUCCEEDED"
        world.close("SUCCEEDED", redriveCount=2, stopDate=1_800_000_290_500)
        assert world.report["stopped_at"] == "2027-01-15T08:04:50.500000+00:00"

    @pytest.mark.parametrize("damaged", [b"{", b"[]", b"{}", b'{"stopped_at": "noon"}'])
    def test_is_reported_anew_where_its_report_is_damaged(self, damaged: bytes) -> None:
        world = World(LOSSY)
        world.ledger.store.put(keys.run_report(RUN_ID), damaged)
        world.close()
        assert world.report["status"] == "SUCCEEDED"


class TestTheRegister:
    def test_catches_up_before_alerts_so_that_only_news_is_sent(self) -> None:
        world = World(LOSSY)
        world.close()
        assert world.report["register"] == "up to date"
        assert world.register.statuses("adapt") == {"bad1": "open", "flaky": "open"}
        world.pipeline.run(LOSSY, "next-run")
        world.close(name="next-run", executionArn=EXECUTION)
        assert [alert["run_id"] for alert in world.alerts] == [RUN_ID, RUN_ID]
        assert {entry.occurrences for entry in world.register.entries["catalogue", "adapt"].values()} == {2}

    def test_that_is_unavailable_keeps_nothing_else_back_and_the_run_says_so(self) -> None:
        world = World(LOSSY)
        world.register.refuses = True
        behind = "bring the failure register up to date with adapt: throttled"
        with pytest.raises(CloseRunIncomplete, match=behind):
            world.close()
        assert world.report["register"] == "behind"
        assert world.report["proof"]["holds"] is True
        assert world.counted(Metric.REGISTER_BEHIND) == 1
        assert [alert["verdict"] for alert in world.alerts] == ["RETRY", "EXHAUSTED"]
        world.register.refuses = False
        assert world.close().register == world.report["register"] == "up to date"
        assert world.register.statuses("adapt") == {"bad1": "open", "flaky": "open"}
        assert len(world.alerts) == 2

    def test_learns_of_a_run_that_was_stopped_what_it_had_given_up_on(self) -> None:
        world = World(LOSSY, stop_after=lambda stage, attempt: (stage, attempt) == ("adapt", 0))
        world.close("ABORTED")
        assert world.register.statuses("adapt") == {"bad1": "open"}

    def held(self, world: World, replay_id: str) -> None:
        world.close()
        entries = world.register.entries["catalogue", "adapt"]
        for record_id in ("bad1", "flaky"):
            entries[record_id] = hold(entries[record_id], replay_id=replay_id, now="2026", until="2099")

    def replay(self, replay_id: str) -> dict[str, Any]:
        selection = {"bucket": "ledger", "key": keys.replay_selection(replay_id)}
        return {"replay": {"id": replay_id}, "records": selection}

    def test_gets_back_what_a_replay_did_not_settle(self) -> None:
        world = World(LOSSY)
        self.held(world, "P1")
        plan = read_plan(world.ledger, keys.StageKeys(RUN_ID, "adapt"))
        part = SelectionPart(run_id=RUN_ID, stage="adapt", ordinals=plan.everything)
        world.ledger.write_json(keys.replay_selection("P1"), Selection(parts=(part,)).to_json())
        world.pipeline.stop_after = lambda stage, _: stage == "adapt"
        world.pipeline.run(self.replay("P1"), "P1")
        closing = world.close("ABORTED", name="P1")
        assert closing.released == 1, "flaky was still being retried; bad1 had failed again"
        assert world.register.statuses("adapt") == {"bad1": "open", "flaky": "open"}

    def test_gets_back_what_a_replay_held_that_was_never_planned(self) -> None:
        world = World(LOSSY)
        self.held(world, "P1")
        event = json.dumps(self.replay("P1"))
        closing = world.close("FAILED", executionArn=f"{EXECUTION}-other", name="P1", input=event)
        assert closing.released == 2
        assert set(world.register.statuses("adapt").values()) == {"open"}

    def test_leaves_a_replay_its_holds_when_a_duplicate_started_by_hand_fails(self) -> None:
        world = World(LOSSY)
        self.held(world, "P1")
        run = world.ledger.read_json(keys.run(RUN_ID))
        world.ledger.write_json(keys.run("P1"), run | {"run_id": "P1"})
        event = json.dumps(self.replay("P1"))
        closing = world.close("FAILED", executionArn=f"{EXECUTION}-by-hand", name="by-hand", input=event)
        assert closing.released == 0
        assert set(world.register.statuses("adapt").values()) == {"replaying"}

    def test_keeps_a_replays_holds_while_it_is_behind(self) -> None:
        """What succeeded would be replayed again."""
        world = World(LOSSY)
        self.held(world, "P1")
        world.pipeline.change(keys.run(RUN_ID), lambda run: run.update(replay={"id": RUN_ID}))
        store: Any = world.ledger.store
        del store.objects["ledger", world.pipeline.keys("adapt").attempt(1).registered]
        world.register.refuses = True
        with pytest.raises(CloseRunIncomplete):
            world.close()
        assert set(world.register.statuses("adapt").values()) == {"replaying"}


class TestLaw6:
    def test_sns_down_keeps_nothing_else_back_and_the_rest_is_done_when_it_is_up(self) -> None:
        world = World({**LOSSY, "trigger": {"kind": "schedule"}})
        world.sns.refuses = RuntimeError("throttled")
        with pytest.raises(CloseRunIncomplete, match="send an alert that was owed: throttled"):
            world.close()
        assert world.report["proof"]["holds"] is True
        assert world.counted(Metric.RUN_SUCCEEDED) == 1
        assert world.counted(Metric.ALERT_FAILED) == 2
        assert world.state.acquire_lock("catalogue", Holder(run_id="n", execution="arn:n")) is None
        world.sns.refuses = None
        assert world.close().alerts == ["adapt RETRY", "adapt EXHAUSTED"]
        assert world.counted(Metric.RUN_SUCCEEDED) == 1

    def test_a_failed_run_is_alerted_although_its_stages_alert_cannot_be_read(self) -> None:
        world = World(FATAL)
        world.ledger.store.put(world.pipeline.keys("adapt").attempt(0).alert, b"{")
        with pytest.raises(CloseRunIncomplete, match="owed"):
            world.close("FAILED", error="StageTotalFailure")
        assert [alert["verdict"] for alert in world.alerts] == ["FAILED"]

    def test_an_unreadable_ledger_does_not_silence_the_alert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World(LOSSY, stop_after=lambda *_: True)
        world.deliver("adapt", 0)

        def refuse(*_: object, **__: object) -> None:
            raise OSError("S3 refuses")

        monkeypatch.setattr("winnow.runs.closer.prove", refuse)
        with pytest.raises(CloseRunIncomplete, match="prove: S3 refuses"):
            world.close("FAILED", error="X")
        assert world.alerts[-1]["verdict"] == "FAILED"
        assert world.counted(Metric.WATCHING_FAILED) == 1
        assert world.counted(Metric.RUN_FAILED) == 1

    def test_raises_so_that_the_run_is_closed_again_when_it_cannot_be_looked_up(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world = World(FATAL)

        def refuse(*_: object) -> None:
            raise OSError("S3 refuses")

        monkeypatch.setattr(world.ledger, "find", refuse)
        with pytest.raises(CloseRunIncomplete, match="find the run: S3 refuses"):
            world.close("FAILED")
        assert world.sns.published == []

    def test_raises_and_names_a_run_document_that_is_damaged(self) -> None:
        """It must not be taken for a run that was never planned: that would be closed without proof."""
        world = World(FATAL)
        world.ledger.write_json(keys.run(RUN_ID), {})
        with pytest.raises(
            CloseRunIncomplete, match=r"find the run: s3://ledger/runs/.*/run\.json is damaged: `stages`"
        ):
            world.close("FAILED")
        assert world.sns.published == []


@pytest.mark.parametrize(
    ("step", "metric"),
    [(ClosingStep("report"), Metric.WATCHING_FAILED), (AlertStep("say so"), Metric.ALERT_FAILED)],
)
def test_a_step_that_fails_is_counted_and_named_and_keeps_no_other_back(
    step: ClosingStep, metric: Metric
) -> None:
    watch = Watch(environment="test", pipeline="catalogue")
    steps = Steps(watch)
    assert steps.take(step, lambda: 1 / 0) is None
    assert steps.take(step, lambda: 2) == 2
    assert steps.failures == [f"{step.name}: division by zero"]
    assert watch._sums == {metric: 1}


def test_takes_an_event_without_its_payloads() -> None:
    event = ended(input=None, output="not json", startDate=None, stopDate=None)
    assert (event.input, event.output, event.seconds, event.reason) == ({}, {}, None, "")
