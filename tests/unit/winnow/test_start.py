from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.winnow.test_alert import FakeSns, announcer
from winnow.alerts.slack_blocks import slack_message
from winnow.core import keys
from winnow.metrics.watch import Metric, Watch
from winnow.runs.refusal_alerts import RefusalAlerts
from winnow.runs.request import RunRequest
from winnow.runs.starter import MAX_INPUT_BYTES, Starter
from winnow.storage.ledger import Ledger
from winnow.testing import FakeExecutions, MemoryStateTable, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Mapping

STAGES = ("adapt", "transform", "mint")
EVENT_ID = "b6c1cf9a-7b1f-4c7e-a1c7-2d9c7c7d0f11"
OURS = {"pipeline": "catalogue", "environment": "prod"}
LAW_7_BYTES = 16 * 1024


def custom(detail: object, event_id: str = EVENT_ID) -> dict[str, Any]:
    return {
        "id": event_id,
        "time": "2026-11-20T13:45:00Z",
        "source": "winnow",
        "detail-type": "Run requested",
        "detail": detail,
    }


class SayingWatch(Watch):
    """Remembers what was counted."""

    def __init__(self) -> None:
        super().__init__(environment="prod", pipeline="catalogue")

    def counted(self, metric: Metric) -> float:
        return self._sums.get(metric, 0)


class World:
    """A starter with everything around it in memory."""

    def __init__(self, source_prefix: str = "tei/") -> None:
        self.ledger = Ledger(MemoryStore("ledger"))
        self.state = MemoryStateTable()
        self.executions = FakeExecutions()
        self.watch = SayingWatch()
        self.sns = FakeSns()
        alerts = RefusalAlerts(
            pipeline="catalogue", state=self.state, announcer=announcer(self.sns), watch=self.watch
        )
        self.starter = Starter(
            pipeline="catalogue",
            environment="prod",
            stages=STAGES,
            source_prefix=source_prefix,
            ledger=self.ledger,
            executions=self.executions,
            watch=self.watch,
            alert_refusal=alerts.send,
        )

    def alerts(self) -> list[dict[str, Any]]:
        """As programs get them."""
        messages = [json.loads(each["Message"]) for each in self.sns.published]
        return [json.loads(each["sqs"]) for each in messages]

    @property
    def runs(self) -> list[Mapping[str, Any]]:
        return list(self.executions.started.values())


class TestCustomEvent:
    def test_starts_a_run_named_after_the_event(self) -> None:
        world = World()
        run_id = world.starter.on_event(custom({**OURS, "prefix": "tei/Arabic/"}))
        assert run_id
        assert world.executions.started == {
            run_id: {
                "run_id": run_id,
                "trigger": {"kind": "event", "id": EVENT_ID, "time": "2026-11-20T13:45:00Z"},
                "start_at": "adapt",
                "prefix": "tei/Arabic/",
            }
        }
        assert world.watch.counted(Metric.RUN_STARTED) == 1

    def test_law_8_the_same_event_delivered_twice_starts_one_run(self) -> None:
        world = World()
        event = custom(OURS)
        assert world.starter.on_event(event) == world.starter.on_event(event)
        assert len(world.runs) == 1
        assert world.watch.counted(Metric.RUN_DUPLICATE) == 1

    def test_another_event_of_the_same_second_starts_another_run(self) -> None:
        world = World()
        world.starter.on_event(custom({**OURS}, "a"))
        world.starter.on_event(custom({**OURS}, "b"))
        assert len(world.runs) == 2

    def test_takes_the_run_id_that_the_event_brings(self) -> None:
        assert World().starter.on_event(custom({**OURS, "run_id": "mine"})) == "mine"

    def test_passes_on_where_to_start_and_with_what(self) -> None:
        world = World()
        successes = {"bucket": "ledger", "key": "runs/old/adapt/successes.json"}
        world.starter.on_event(custom({**OURS, "start_at": "transform", "records": successes, "only": ["a"]}))
        (run,) = world.runs
        assert (run["start_at"], run["records"], run["only"]) == ("transform", successes, ["a"])

    @pytest.mark.parametrize(
        "event",
        [
            None,
            {},
            {"Records": []},
            custom(None),
            custom([]),
            custom({}),
            custom({**OURS, "pipeline": "catalog"}),
            custom({"pipeline": "catalogue"}),
            custom({**OURS, "environment": "dev"}),
            custom({**OURS, "environment": {}}),
            custom({**OURS, "records": []}),
            custom({**OURS, "start_at": "publish"}),
            custom({**OURS, "prefix": "elsewhere/"}),
            custom({**OURS, "trigger": {"kind": "schedule"}}),
            custom({**OURS, "run_id": "../../x"}),
            {"id": "e", "detail": OURS},
        ],
    )
    def test_refuses_a_malformed_event_with_one_line_and_a_metric_and_never_sees_it_again(
        self, event: object, capsys: pytest.CaptureFixture[str]
    ) -> None:
        world = World()
        assert world.starter.on_event(event) is None
        assert world.runs == []
        assert world.watch.counted(Metric.RUN_REFUSED) == 1
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["message"].startswith("event refused: ")
        (alert,) = world.alerts()
        assert alert["verdict"] == "REFUSED"

    def test_names_the_pipeline_that_it_is_not(self, capsys: pytest.CaptureFixture[str]) -> None:
        World().starter.on_event(custom({"pipeline": "catalog"}))
        assert (
            "event refused: detail.pipeline: must be catalogue, the pipeline this rule starts, got: 'catalog'"
            in capsys.readouterr().out
        )

    @pytest.mark.parametrize(
        ("detail", "said"),
        [
            (
                {"pipeline": "catalogue"},
                'detail.environment: is missing; to start a run in prod, add "environment": "prod", got: None',
            ),
            (
                {**OURS, "environment": "dev"},
                "detail.environment: must be prod, the environment this rule starts runs in, got: 'dev'",
            ),
        ],
    )
    def test_alerts_an_event_that_is_not_meant_for_this_environment(
        self, detail: dict[str, str], said: str
    ) -> None:
        world = World()
        assert world.starter.on_event(custom(detail)) is None
        assert world.runs == []
        (alert,) = world.alerts()
        assert alert["cause"].startswith(said)

    def test_lets_step_functions_errors_through_so_that_the_event_comes_again(self) -> None:
        world = World()

        class Down(FakeExecutions):
            def start(self, name: str, payload: Mapping[str, Any]) -> bool:
                raise OSError(f"down, not started: {name} {payload}")

        world.starter._executions = Down()
        with pytest.raises(OSError, match="down"):
            world.starter.on_event(custom(OURS))


class TestAlertOfARefusedEvent:
    MISSPELT = custom({**OURS, "record": ["a"]})

    def test_law_9_says_what_is_wrong_with_which_event_and_what_to_do(self) -> None:
        world = World()
        world.starter.on_event(self.MISSPELT)
        (alert,) = world.alerts()
        assert alert["title"] == "[prod] catalogue: an event that asked for a run was refused"
        assert alert["cause"].startswith("record: unknown field; known are only, prefix, records,")
        assert f"(the event: id {EVENT_ID}, time 2026-11-20T13:45:00Z, source winnow)" in alert["cause"]
        assert alert["replay_command"] == "./scripts/winnow run catalogue --environment prod"
        assert alert["text"].endswith("\nPipeline catalogue")
        assert world.watch.counted(Metric.ALERT_SENT) == 1
        assert "pipeline `catalogue`" in json.dumps(slack_message("", json.dumps(alert)))

    def test_law_8_is_sent_once_however_often_the_event_is_delivered(self) -> None:
        world = World()
        for _ in range(3):
            assert world.starter.on_event(self.MISSPELT) is None
        assert len(world.alerts()) == 1
        assert world.watch.counted(Metric.RUN_REFUSED) == 3

    @pytest.mark.parametrize(
        "other",
        [
            custom({**OURS, "record": ["a"]}, "another"),
            {"detail": OURS},
            {"detail": {**OURS, "records": ["a"]}},
            None,
        ],
    )
    def test_is_sent_for_each_distinct_event(self, other: object) -> None:
        world = World()
        for event in (self.MISSPELT, {"detail": {}}, other, other):
            world.starter.on_event(event)
        assert len(world.alerts()) == 3

    def test_law_6_is_made_up_for_when_sns_takes_it_again(self) -> None:
        world = World()
        world.sns.refuses = ConnectionError("SNS is away")
        with pytest.raises(ConnectionError, match="SNS is away"):
            world.starter.on_event(self.MISSPELT)
        assert world.watch.counted(Metric.ALERT_FAILED) == 1
        world.sns.refuses = None
        world.starter.on_event(self.MISSPELT)
        assert len(world.alerts()) == 1


class TestLongLists:
    RECORDS = tuple(f"record {i} " + "x" * 50 for i in range(1_000))

    def test_law_7_go_to_the_ledger(self) -> None:
        world = World()
        run_id = world.starter.on_event(
            custom({**OURS, "records": list(self.RECORDS), "only": list(self.RECORDS[:2])})
        )
        assert run_id
        (run,) = world.runs
        assert len(json.dumps(run)) < MAX_INPUT_BYTES < LAW_7_BYTES
        stage = keys.StageKeys(run_id, "adapt")
        assert run["records"] == {"bucket": "ledger", "key": stage.input, "format": "ndjson"}
        rows = [json.loads(line) for line in world.ledger.store.get(stage.input).body.splitlines()]
        assert rows == list(self.RECORDS)
        assert [
            json.loads(line) for line in world.ledger.store.get(run["only"]["key"]).body.splitlines()
        ] == rows[:2]

    def test_do_not_replace_the_list_of_a_run_whose_id_is_used_again(self) -> None:
        world = World()
        first = custom({**OURS, "run_id": "mine", "records": list(self.RECORDS)}, "a")
        second = custom({**OURS, "run_id": "mine", "records": list(self.RECORDS[::-1])}, "b")
        world.starter.on_event(first)
        before = world.ledger.store.get(keys.StageKeys("mine", "adapt").input).body
        world.starter.on_event(second)
        assert world.ledger.store.get(keys.StageKeys("mine", "adapt").input).body == before
        assert len(world.runs) == 1

    def test_what_is_passed_on_is_what_plan_run_takes(self) -> None:
        world = World()
        world.starter.on_event(custom({**OURS, "records": list(self.RECORDS)}, "a"))
        world.starter.on_event(custom({**OURS, "records": ["a", {"id": "b", "data": 1}]}, "b"))
        world.starter.on_event({"trigger": "schedule", "time": "2026-11-20T06:00:00Z"})
        for run in world.runs:
            RunRequest.from_event(run, stages=STAGES, source_prefix="tei/")


class TestSchedule:
    @pytest.mark.parametrize(
        "event",
        [
            {"trigger": "schedule", "time": "2026-11-20T06:00:00Z"},
            {"id": "x", "detail-type": "Scheduled Event", "time": "2026-11-20T06:00:00Z", "detail": {}},
        ],
    )
    def test_starts_one_run_for_a_scheduled_time(self, event: dict[str, Any]) -> None:
        world = World()
        run_id = world.starter.on_event(event)
        assert world.starter.on_event(event) == run_id
        (run,) = world.runs
        assert run["trigger"] == {"kind": "schedule", "id": "schedule", "time": "2026-11-20T06:00:00Z"}

    def test_starts_another_run_for_another_time(self) -> None:
        world = World()
        for hour in (6, 7):
            world.starter.on_event({"trigger": "schedule", "time": f"2026-11-20T0{hour}:00:00Z"})
        assert len(world.runs) == 2
        assert sorted(world.executions.started) == list(world.executions.started)

    @pytest.mark.parametrize("time", ["<aws.scheduler.scheduled-time>", "", "0001-01-01T00:00:00Z"])
    def test_runs_even_when_nobody_says_when_it_was_due(self, time: str) -> None:
        assert World().starter.on_event({"trigger": "schedule", "time": time})
