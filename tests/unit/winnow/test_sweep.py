"""Runs of whose end no event came are closed all the same."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.unit.winnow.runs import RUN_ID
from tests.unit.winnow.test_close import FATAL, LOSSY, World
from winnow.core import keys
from winnow.metrics.watch import Metric, Watch
from winnow.runs.closer import CloseRunIncomplete
from winnow.runs.run_ended import RunEnded
from winnow.runs.sweeper import LEAVE_TO_EVENT, LOOK_BACK, Sweep, Sweeper, SweepIncomplete
from winnow.storage.executions import MOST_PAGES, PAGE, EndedExecution, StepFunctions

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
MACHINE = "arn:aws:states:eu-west-1:123456789012:stateMachine:catalogue"


def arn(name: str) -> str:
    return f"{MACHINE.replace(':stateMachine:', ':execution:')}:{name}"


class Executions:
    """Ended executions, as Step Functions has them."""

    def __init__(self) -> None:
        self.described: dict[str, dict[str, Any]] = {}

    def add(
        self,
        name: str = RUN_ID,
        *,
        status: str = "SUCCEEDED",
        ago: timedelta = timedelta(hours=1),
        **more: Any,
    ) -> None:
        self.described[arn(name)] = {
            "executionArn": arn(name),
            "name": name,
            "status": status,
            "startDate": NOW - ago - timedelta(seconds=90),
            "stopDate": NOW - ago,
            "input": "{}",
            **more,
        }

    def ended(self, *, since: datetime) -> Iterator[EndedExecution]:
        for each in reversed(list(self.described.values())):
            if each["stopDate"] >= since:
                yield EndedExecution.from_listing(each)

    def describe(self, execution: str) -> Mapping[str, Any]:
        return self.described[execution]


class Killed(BaseException):
    """Lambda ends the process."""


class Swept:
    """A world whose events are lost, and a sweep over it."""

    def __init__(self, world: World, executions: Executions) -> None:
        self.world = world
        self.executions = executions
        self.watch = Watch(environment="prod", pipeline="catalogue")
        self.now = NOW
        self.closed: list[str] = []
        self.close: Callable[[RunEnded], object] = world.closer.close

    def __call__(self, **more: Any) -> Sweep:
        def close(ended: RunEnded) -> None:
            self.closed.append(ended.name)
            self.close(ended)

        return Sweeper(
            executions=self.executions,
            state=self.world.state,
            close=close,
            watch=self.watch,
            clock=lambda: self.now,
            **more,
        ).sweep()


@pytest.fixture
def executions() -> Executions:
    return Executions()


def swept(executions: Executions, event: dict[str, Any] | None = None, **pipeline: Any) -> Swept:
    return Swept(World(event, **pipeline), executions)


class TestARunOfWhichNoEventCame:
    def test_is_proved_reported_and_alerted(self, executions: Executions) -> None:
        executions.add()
        sweep = swept(executions, LOSSY)

        assert sweep() == Sweep(closed=1)

        world = sweep.world
        assert world.report["proof"]["holds"] is True
        assert [alert["verdict"] for alert in world.alerts] == ["RETRY", "EXHAUSTED"]
        assert world.counted(Metric.RUN_SUCCEEDED) == 1
        assert world.counted(Metric.RUN_SECONDS) == 90
        assert sweep.watch._sums == {Metric.RUN_SWEPT: 1}

    def test_is_closed_once_however_often_is_swept(self, executions: Executions) -> None:
        executions.add()
        sweep = swept(executions, LOSSY)

        assert [sweep(), sweep()] == [Sweep(closed=1), Sweep()]

        assert sweep.closed == [RUN_ID]
        assert len(sweep.world.alerts) == 2

    def test_gets_its_alert_where_it_timed_out(self, executions: Executions) -> None:
        executions.add(status="TIMED_OUT")
        sweep = swept(executions, LOSSY, stop_after=lambda *_: True)

        sweep()

        assert sweep.world.alerts[-1]["verdict"] == "TIMED_OUT"

    def test_is_known_as_closed_where_it_never_was_planned(self, executions: Executions) -> None:
        cause = json.dumps({"errorType": "StageInputError", "errorMessage": "prefix: must begin with tei/"})
        executions.add(status="FAILED", error="StageInputError", cause=cause)
        sweep = swept(executions)

        assert [sweep(), sweep()] == [Sweep(closed=1), Sweep()]

        [alert] = sweep.world.alerts
        assert alert["cause"] == "StageInputError: prefix: must begin with tei/"

    def test_is_known_as_closed_where_it_stepped_aside(self, executions: Executions) -> None:
        executions.add()
        sweep = swept(executions, LOSSY)
        sweep.world.pipeline.change(keys.run(RUN_ID), lambda run: run.update(stepped_aside="another runs"))

        assert [sweep(), sweep()] == [Sweep(closed=1), Sweep()]

        assert sweep.world.alerts == []

    def test_is_closed_again_where_step_functions_restarted_it_since(self, executions: Executions) -> None:
        executions.add(status="FAILED")
        sweep = swept(executions, FATAL, stop_after=lambda *_: True)
        sweep()
        executions.add(status="FAILED", redriveCount=1)

        assert [sweep(), sweep()] == [Sweep(closed=1), Sweep()]


class TestARunOfWhichTheEventCame:
    def test_is_left_alone(self, executions: Executions) -> None:
        executions.add()
        sweep = swept(executions, LOSSY)
        sweep.world.close()

        assert sweep() == Sweep()
        assert sweep.closed == []

    def test_is_closed_by_the_sweep_where_the_event_could_not_close_it(self, executions: Executions) -> None:
        executions.add()
        sweep = swept(executions, LOSSY)
        sweep.world.register.refuses = True
        with pytest.raises(CloseRunIncomplete):
            sweep.world.close(stopDate=executions.described[arn(RUN_ID)]["stopDate"].timestamp() * 1000)
        sweep.world.register.refuses = False

        assert sweep() == Sweep(closed=1)
        assert sweep.world.report["register"] == "up to date"

    def test_counts_once_where_both_close_it_at_the_same_time(self, executions: Executions) -> None:
        executions.add()
        sweep = swept(executions, LOSSY)
        world = sweep.world
        publish, calls = world.sns.publish, 0

        def publish_while_the_event_arrives(**request: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == 1:
                world.close()
            return publish(**request)

        world.sns.publish = publish_while_the_event_arrives  # type: ignore[method-assign]

        assert sweep() == Sweep(closed=1)
        assert world.counted(Metric.RUN_SUCCEEDED) == 1
        assert world.counted(Metric.RECORDS_LOST) == 2
        assert {alert["verdict"] for alert in world.alerts} == {"RETRY", "EXHAUSTED"}
        assert world.report["proof"]["holds"] is True
        assert sweep() == Sweep()

    def test_is_left_to_the_event_for_ten_minutes(self, executions: Executions) -> None:
        executions.add(ago=LEAVE_TO_EVENT - timedelta(seconds=1))
        sweep = swept(executions, LOSSY)

        assert sweep() == Sweep()

        executions.add(ago=LEAVE_TO_EVENT)
        assert sweep() == Sweep(closed=1)


class TestManyRuns:
    def test_are_closed_in_the_order_in_which_they_ended(self, executions: Executions) -> None:
        for name, hours in {"c": 1, "a": 3, "b": 2}.items():
            executions.add(name, ago=timedelta(hours=hours))
        sweep = swept(executions)

        assert sweep() == Sweep(closed=3)
        assert sweep.closed == ["a", "b", "c"]

    def test_of_longer_ago_are_not_looked_for(self, executions: Executions) -> None:
        executions.add(ago=LOOK_BACK + timedelta(seconds=1))

        assert swept(executions)() == Sweep()

    def test_are_closed_even_if_one_of_them_cannot_be(self, executions: Executions) -> None:
        for name, hours in {"a": 3, "bad": 2, "c": 1}.items():
            executions.add(name, ago=timedelta(hours=hours))
        sweep = swept(executions)

        def close(ended: RunEnded) -> None:
            if ended.name == "bad":
                raise CloseRunIncomplete("find the run: damaged")
            sweep.world.closer.close(ended)

        sweep.close = close

        with pytest.raises(
            SweepIncomplete, match=r"could not close 1 runs: arn:.*:bad: find the run: damaged"
        ):
            sweep()
        assert sweep.closed == ["a", "bad", "c"]
        # Tried again every hour, and told of once.
        assert sweep() == Sweep(failed=1)
        assert sweep.closed == ["a", "bad", "c", "bad"]

    def test_are_closed_before_one_at_which_a_sweep_was_killed(self, executions: Executions) -> None:
        for name, hours in {"deadly": 3, "b": 2, "c": 1}.items():
            executions.add(name, ago=timedelta(hours=hours))
        sweep = swept(executions)

        def close(ended: RunEnded) -> None:
            if ended.name == "deadly":
                raise Killed
            sweep.world.closer.close(ended)

        sweep.close = close

        for _ in range(2):
            with pytest.raises(Killed):
                sweep()
        assert sweep.closed == ["deadly", "b", "c", "deadly"]

    def test_that_failed_once_are_closed_beside_one_at_which_every_sweep_is_killed(
        self, executions: Executions
    ) -> None:
        executions.add("deadly", ago=timedelta(hours=2))
        executions.add("unlucky", ago=timedelta(hours=1))
        sweep = swept(executions)

        def close(ended: RunEnded) -> None:
            if ended.name == "deadly":
                raise Killed
            if sweep.closed.count("unlucky") == 1:
                raise CloseRunIncomplete("find the run: S3 is down")
            sweep.world.closer.close(ended)

        sweep.close = close

        for _ in range(24):
            with suppress(Killed):
                sweep()
            sweep.now += timedelta(hours=1)
        assert sweep.closed.count("unlucky") == 2

    def test_that_do_not_fit_into_the_time_are_left_to_the_next_sweep(self, executions: Executions) -> None:
        for name in ("a", "b"):
            executions.add(name)
        sweep = swept(executions)

        assert sweep(deadline=0) == Sweep(left=2)
        assert sweep() == Sweep(closed=2)


class PagedStepFunctions:
    """ListExecutions as AWS has it: one status, newest start first, in pages."""

    def __init__(self, listed: Mapping[str, list[datetime]], *, page: int) -> None:
        self._listed = listed
        self._page = page
        self.calls: list[dict[str, Any]] = []

    def list_executions(self, **request: Any) -> dict[str, Any]:
        self.calls.append(request)
        assert request["stateMachineArn"] == MACHINE
        assert request["maxResults"] == PAGE
        stopped = self._listed.get(request["statusFilter"], [])
        begin = int(request.get("nextToken", 0))
        end = begin + self._page
        return {
            "executions": [
                {"executionArn": arn(f"{request['statusFilter']}-{number}"), "stopDate": stop}
                for number, stop in enumerate(stopped[begin:end], begin)
            ],
            **({"nextToken": str(end)} if end < len(stopped) else {}),
        }


class TestTheListOfEndedExecutions:
    def test_has_those_of_every_status_from_all_pages(self) -> None:
        stepfunctions = PagedStepFunctions({"FAILED": [NOW] * 3, "SUCCEEDED": [NOW] * 2}, page=2)

        found = StepFunctions(machine_arn=MACHINE, stepfunctions=stepfunctions).ended(since=NOW)

        assert sorted(each.arn for each in found) == sorted(
            [*(arn(f"FAILED-{number}") for number in range(3)), *(arn(f"SUCCEEDED-{n}") for n in range(2))]
        )

    def test_ends_with_the_first_page_that_is_too_old(self) -> None:
        old = NOW - timedelta(days=9)
        stepfunctions = PagedStepFunctions({"SUCCEEDED": [NOW, old, old, old, NOW]}, page=2)

        found = list(StepFunctions(machine_arn=MACHINE, stepfunctions=stepfunctions).ended(since=NOW))

        assert [each.arn for each in found] == [arn("SUCCEEDED-0")]
        assert len([call for call in stepfunctions.calls if call["statusFilter"] == "SUCCEEDED"]) == 2

    def test_is_bounded(self) -> None:
        stepfunctions = PagedStepFunctions({"ABORTED": [NOW] * 50}, page=1)

        found = list(StepFunctions(machine_arn=MACHINE, stepfunctions=stepfunctions).ended(since=NOW))

        assert len(found) == MOST_PAGES
