"""Registering stage runs: what the register and the alerts say after one, two, late and broken registrations."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.winnow.registers import FailingRegister, dynamodb
from tests.unit.winnow.runs import STAGES, Pipeline
from tests.unit.winnow.test_alert import FakeSns, announcer
from winnow import Record, Skip, worker
from winnow.batch.plan import read_plan
from winnow.core.contract import Verdict
from winnow.core.keys import StageKeys
from winnow.metrics.metric import Metric
from winnow.register import registering as registration
from winnow.register.entry import Status, hold, waive
from winnow.register.registering import Registered, catch_up, register_attempt, register_state, release_holds
from winnow.register.table import RegisterTable, RegisterUnavailable
from winnow.settlement.settlement import FINAL, read_settlement
from winnow.testing import MemoryStore

NOON = "2026-11-20T12:00:00.000Z"
ODD = ("bad/../b c", "bad#1", "bad🦔", "badمخطوط", "bad" + "x" * 1_000)


@worker
def forgive(record: Record) -> object:
    """Takes what `adapt` rejects; some of it there is nothing to do for."""
    return Skip("nothing to do") if "skipped" in record.id else {"title": record.id}


@worker
def unreachable(_record: Record) -> object:
    raise ConnectionError("no answer")


FORGIVING = {**STAGES, "adapt": forgive}


class World:
    """A pipeline and its register: runs settle, and register when told to."""

    def __init__(self, register: RegisterTable | None = None) -> None:
        self.pipeline = Pipeline(STAGES)
        self.ledger = self.pipeline.ledger
        self.register: Any = register or FailingRegister()
        self.counts: dict[Metric, float] = {}
        self.sns = FakeSns()

    def count(self, metric: Metric, value: float) -> None:
        self.counts[metric] = self.counts.get(metric, 0) + value

    def run(self, run_id: str, *records: object, register: bool = True) -> None:
        self.pipeline.run({"records": list(records)}, run_id)
        if register:
            for number in self.attempts(run_id):
                self.register_state(run_id, number)

    def attempts(self, run_id: str, stage: str = "adapt") -> list[int]:
        keys = StageKeys(run_id, stage)
        numbers = range(10)
        return [n for n in numbers if self.ledger.find_json(keys.attempt(n).settlement) is not None]

    def state(self, run_id: str, attempt: int, stage: str = "adapt") -> dict[str, Any]:
        plan = read_plan(self.ledger, StageKeys(run_id, stage))
        settlement = read_settlement(self.ledger, plan, attempt)
        assert settlement
        order = {
            "run_id": run_id,
            "pipeline": "catalogue",
            "stage": stage,
            "attempt": attempt,
            "try_count": settlement.try_count,
            "count": plan.count,
            "plan": self.ledger.pointer(plan.keys.plan),
            "policy": {},
        }
        alert = bool(settlement.alert_now)
        return {
            "verdict": settlement.verdict.value,
            "order": order,
            "alert": alert,
            "output": {"as": "it is"},
        }

    def register_state(self, run_id: str, attempt: int, **more: Any) -> dict[str, Any]:
        """What the Register Lambda does, and Alert after it."""
        state = self.state(run_id, attempt)
        after = register_state(self.ledger, self.register, state, self.count, **more)
        assert {**after, "alert": state["alert"]} == state, "nothing of the state changes but the alert"
        if after["alert"]:
            self.alert(run_id, attempt)
        return after

    def alert(self, run_id: str, attempt: int) -> None:
        keys = StageKeys(run_id, "adapt").attempt(attempt)
        announcer(self.sns).announce_attempt(
            self.ledger, keys, execution="arn:aws:states:eu-west-1:1:execution:a:b"
        )

    def content(self, run_id: str, attempt: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.ledger.read_json(StageKeys(run_id, "adapt").attempt(attempt).alert)
        return found

    def mark(self, run_id: str, attempt: int = 0, stage: str = "adapt") -> dict[str, Any] | None:
        found: dict[str, Any] | None = self.ledger.find_json(
            StageKeys(run_id, stage).attempt(attempt).registered
        )
        return found

    @property
    def told(self) -> list[list[str]]:
        """Ids that alerts named, alert by alert."""
        messages = [json.loads(json.loads(request["Message"])["lambda"]) for request in self.sns.published]
        return [[example["record_id"] for example in message["examples"]] for message in messages]

    @property
    def statuses(self) -> dict[str, str]:
        return {each.record_id: each.status.value for each in self.register.all("catalogue", "adapt")}


class TestARun:
    def test_opens_what_failed_and_alerts_it(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", "skip1")
        assert world.statuses == {"bad1": "open"}
        assert world.told == [["bad1"]]
        assert world.mark("R1") == {
            "failures": 1,
            "news": 1,
            "known": 0,
            "resolved": 0,
            "at": (world.mark("R1") or {})["at"],
        }

    def test_of_the_same_records_alerts_nothing(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", "bad2")
        world.run("R2", "a", "bad1", "bad2")
        assert len(world.told) == 1
        assert world.content("R2")["counts"]["known"] == 2
        assert {each.occurrences for each in world.register.all("catalogue", "adapt")} == {2}
        assert world.counts[Metric.FAILURES_NEW] == world.counts[Metric.FAILURES_KNOWN] == 2

    def test_alerts_what_is_new_and_counts_what_is_known(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", "bad2")
        world.run("R2", "a", "bad1", "bad2", "bad3")
        assert world.told == [["bad1", "bad2"], ["bad3"]]
        content = world.content("R2")
        assert (content["counts"]["new"], content["counts"]["known"], content["counts"]["failed"]) == (
            1,
            2,
            3,
        )
        assert [(cause["count"], cause["example_id"]) for cause in content["causes"]] == [(1, "bad3")]
        title = json.loads(json.loads(world.sns.published[1]["Message"])["lambda"])["title"]
        assert "3 of 4 records lost (1 new, 2 known); the run goes on without them" in title

    def test_resolves_what_it_corrects_or_skips(self) -> None:
        world = World()
        world.run("R1", "a", *ODD, "bad-skipped", "bad-elsewhere")
        world.pipeline.stages = FORGIVING
        world.run("R2", "a", *ODD, "bad-skipped")
        assert world.statuses == {**dict.fromkeys((*ODD, "bad-skipped"), "resolved"), "bad-elsewhere": "open"}
        assert world.counts[Metric.RESOLVED] == len(ODD) + 1
        assert world.register.find("catalogue", "adapt", ODD[0]).resolution.run_id == "R2"

    def test_alerts_again_what_was_resolved_and_came_back(self) -> None:
        world = World()
        world.run("R1", "a", "bad1")
        world.pipeline.stages = FORGIVING
        world.run("R2", "bad1")
        world.pipeline.stages = STAGES
        world.run("R3", "a", "bad1")
        assert world.told == [["bad1"], ["bad1"]]
        assert world.statuses == {"bad1": "open"}

    def test_does_not_alert_what_is_waived(self) -> None:
        world = World()
        world.run("R1", "a", "bad1")
        world.register.apply(
            "catalogue",
            "adapt",
            ["bad1"],
            lambda _, found: waive(found, reason="as scanned", now=NOON),
        )
        world.run("R2", "a", "bad1")
        assert (len(world.told), world.statuses) == (1, {"bad1": "waived"})
        assert world.counts[Metric.OPEN_FAILURES] == 1, "one after the first run, none after the second"

    def test_that_stopped_over_nothing_but_known_bad_records_alerts_nothing(self) -> None:
        world = World()
        for run_id in ("R1", "R2"):
            world.run(run_id, "bad1", "bad2")
        assert world.told == [["bad1", "bad2"]]
        assert {each.occurrences for each in world.register.all("catalogue", "adapt")} == {2}
        assert world.counts[Metric.FAILURES_KNOWN] == 2

    def test_that_stopped_for_an_outage_alerts_although_all_is_known_and_says_so(self) -> None:
        world = World()
        world.pipeline.stages = {**STAGES, "adapt": unreachable}
        for run_id in ("R1", "R2"):
            world.run(run_id, "a", "b")
        assert world.told == [["a", "b"], ["a", "b"]]
        message = json.loads(json.loads(world.sns.published[1]["Message"])["lambda"])
        assert message["verdict"] == Verdict.TOTAL_FAILURE
        assert (message["counts"]["new"], message["counts"]["known"]) == (0, 2)
        assert "All of this is known" in message["summary"]

    def test_that_retries_registers_and_alerts_each_failure_once(self) -> None:
        world = World()
        for run_id in ("R1", "R2"):
            world.run(run_id, "a", "bad1", "flaky1")
        assert world.told == [["bad1"], ["flaky1"]]
        assert {each.occurrences for each in world.register.all("catalogue", "adapt")} == {2}
        assert world.mark("R1", 1) == {**(world.mark("R1", 1) or {}), "failures": 2, "news": 1, "known": 0}
        assert world.mark("R2", 1) == {**(world.mark("R2", 1) or {}), "failures": 2, "news": 0, "known": 1}

    def test_touches_nothing_while_nothing_is_given_up(self) -> None:
        world = World()
        world.run("R1", "a", "flaky1", register=False)
        world.register.refuses = True
        state = world.state("R1", 0)
        assert state["verdict"] == "RETRY"
        assert register_state(world.ledger, world.register, state, world.count) == state
        assert world.mark("R1") is None


class TestRowsThatAreNoRecords:
    """A bad row is called after its list, line and version, so that each is told, closed and waived by itself."""

    @staticmethod
    def feed(world: World, run_id: str, key: str, body: bytes, modified: str = "", **more: Any) -> None:
        world.ledger.store.put(key, body)
        assert isinstance(world.ledger.store, MemoryStore)
        world.ledger.store.modified["ledger", key] = modified
        pointer = {"bucket": "ledger", "key": key}
        world.pipeline.run({"records": pointer, **more}, run_id)
        for number in world.attempts(run_id):
            world.register_state(run_id, number)

    def test_two_feeds_that_are_cut_off_in_the_same_line_are_two_failures(self) -> None:
        world = World()
        self.feed(world, "R1", "monday", b'"a"\n{"id": "b\n')
        self.feed(world, "R2", "tuesday", b'"c"\n{"id": "d\n')
        self.feed(world, "R3", "monday", b'"a"\n{"id": "b\n')
        assert [len(names) for names in world.told] == [1, 1]
        assert sorted(name.split("@")[0] for name in world.statuses) == [
            "s3://ledger/monday:2",
            "s3://ledger/tuesday:2",
        ]
        assert set(world.statuses.values()) == {"open"}

    def test_is_resolved_when_the_list_does_not_have_it_any_more(self) -> None:
        world = World()
        self.feed(world, "R1", "feed", b'"a"\n{"id": "b\n', "2026-11-20T10:00:00.000Z")
        self.feed(world, "R2", "other", b'"a"\n"b"\n')
        assert list(world.statuses.values()) == ["open"]
        self.feed(world, "R3", "feed", b'"a"\n{"id": "b"}\n', "2026-11-20T11:00:00.000Z")
        assert list(world.statuses.values()) == ["resolved"]

    def test_that_is_bad_in_the_next_version_too_is_a_failure_of_that_version(self) -> None:
        world = World()
        self.feed(world, "R1", "feed", b'"a"\n{"id": "b\n', "2026-11-20T10:00:00.000Z")
        self.feed(world, "R2", "feed", b'"a"\n{"id": "c\n', "2026-11-20T11:00:00.000Z")
        assert [len(names) for names in world.told] == [1, 1]
        assert sorted(world.statuses.values()) == ["open", "resolved"]

    def test_is_not_resolved_by_an_older_version_or_by_a_part_of_the_list(self) -> None:
        world = World()
        self.feed(world, "R1", "feed", b'"a"\n{"id": "b\n', "2026-11-20T10:00:00.000Z")
        self.feed(world, "R2", "feed", b'"a"\n"b"\n', "2026-11-20T09:00:00.000Z")
        self.feed(world, "R3", "feed", b'"a"\n"c"\n', "2026-11-20T11:00:00.000Z", only=["a"])
        assert list(world.statuses.values()) == ["open"]


class TestOverlappingRuns:
    """V3: what counts is when a record was done, and which version of it was read, not who settled last."""

    def test_a_success_from_before_the_failure_does_not_resolve_it_though_its_run_settled_last(self) -> None:
        world = World()
        world.pipeline.stages = FORGIVING
        world.run("B", "a", "bad1", register=False)
        world.pipeline.stages = STAGES
        world.run("A", "a", "bad1")
        self.settled_at(world, "B", "2999-01-01T00:00:00.000Z")
        for number in world.attempts("B"):
            world.register_state("B", number)
        assert world.statuses == {"bad1": "open"}

    def test_a_success_that_was_done_after_the_failure_resolves_it(self) -> None:
        world = World()
        world.run("A", "a", "bad1")
        world.pipeline.stages = FORGIVING
        world.run("B", "bad1")
        assert world.statuses == {"bad1": "resolved"}
        found = world.register.find("catalogue", "adapt", "bad1")
        assert found.resolution.at == read_plan(world.ledger, StageKeys("B", "adapt")).created_at

    def test_a_run_that_registers_late_is_resolved_by_a_success_after_its_failure(self) -> None:
        """B was done after A had failed, and settled and registered before A did."""
        world = World()
        world.run("A", "a", "bad1", register=False)
        world.pipeline.stages = FORGIVING
        world.run("B", "bad1")
        self.settled_at(world, "A", "2999-01-01T00:00:00.000Z")
        for number in world.attempts("A"):
            world.register_state("A", number)
        assert world.statuses == {"bad1": "resolved"}

    def test_what_a_run_gave_up_on_its_way_and_registers_late_is_resolved_too(self) -> None:
        """A gives a record up, and is stopped before its next attempt; B has done it by the time A is registered."""
        world = World()
        world.pipeline.stop_after = lambda _stage, attempt: attempt == 0
        world.run("A", "a", "bad1", "flaky", register=False)
        assert world.attempts("A") == [0]
        world.pipeline.stop_after = lambda _stage, _attempt: False
        world.pipeline.stages = FORGIVING
        world.run("B", "bad1")
        world.register_state("A", 0)
        assert world.statuses == {"bad1": "resolved"}

    @staticmethod
    def settled_at(world: World, run_id: str, moment: str) -> None:
        last = world.attempts(run_id)[-1]
        key = StageKeys(run_id, "adapt").attempt(last).settlement
        world.pipeline.change(key, lambda said: said.update(settled_at=moment))


class TestTwice:
    @pytest.mark.parametrize("written", range(4))
    def test_a_registration_that_died_half_way_is_completed_and_tells_the_same(self, written: int) -> None:
        world = World()
        world.run("R0", "a", "bad1", "bad2")
        world.run("R1", "a", "bad1", "bad2", "bad3", register=False)
        world.register.writes_left = written
        if written < 3:
            with pytest.raises(RegisterUnavailable):
                world.register_state("R1", 0)
            assert world.mark("R1") is None
        world.register.writes_left = 100
        for _ in range(2):
            assert world.register_state("R1", 0)["alert"] is True
        assert world.told == [["bad1", "bad2"], ["bad3"]]
        counts = world.content("R1")["counts"]
        assert (counts["new"], counts["known"]) == (1, 2)

    def test_an_alert_that_went_out_is_left_as_it_was(self) -> None:
        world = World()
        world.run("R0", "a", "bad1")
        world.run("R1", "a", "bad1", register=False)
        world.alert("R1", 0)  # the register was down
        sent = world.content("R1")
        world.register_state("R1", 0)
        assert world.content("R1") == sent
        assert len(world.told) == 2

    def test_an_alert_without_new_failures_is_never_sent(self) -> None:
        world = World()
        world.run("R0", "a", "bad1")
        world.run("R1", "a", "bad1")
        world.alert("R1", 0)
        assert len(world.told) == 1


class TestWithoutItsLists:
    """Settle died between a settlement and the lists that follow from it, and the run was stopped before it was tried again."""

    @pytest.mark.parametrize("attempt", [0, 1])
    def test_an_attempt_is_registered_from_its_reports(self, attempt: int) -> None:
        world = World()
        world.pipeline.stop_after = lambda _stage, number: number == attempt
        world.run("R1", "a", "bad1", "flaky", register=False)
        store = world.ledger.store
        assert isinstance(store, MemoryStore)
        follows = ("failures.ndjson.gz", "/alert.json", "/result.json", "/successes.json")
        for key in [key for key in store.keys("runs/R1/adapt/") if key.endswith(follows)]:
            del store.objects["ledger", key]
        keys = StageKeys("R1", "adapt")
        assert catch_up(world.ledger, world.register, keys) == attempt + 1
        assert world.statuses == ({"bad1": "open", "flaky": "open"} if attempt else {"bad1": "open"})
        for number in range(attempt + 1):
            world.alert("R1", number)
        assert world.told == [["bad1"], ["flaky"]][: attempt + 1], "what is on record as told is told"
        assert (world.ledger.find_json(keys.result) is not None) == bool(attempt)


class TestLate:
    def test_an_older_run_counts_and_changes_nothing_else(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", register=False)
        world.run("R2", "a", "bad1")
        world.register_state("R1", 0)
        entry = world.register.find("catalogue", "adapt", "bad1")
        assert (entry.occurrences, entry.last.run_id, entry.status) == (2, "R2", Status.OPEN)
        assert world.told == [["bad1"]]

    def test_what_has_succeeded_since_is_resolved_by_the_run_in_which_it_did(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", "bad2", register=False)
        world.pipeline.stages = FORGIVING
        world.run("R2", "bad1")
        assert world.statuses == {}
        assert catch_up(world.ledger, world.register, StageKeys("R1", "adapt")) == 1
        assert world.statuses == {"bad1": "resolved", "bad2": "open"}
        assert world.register.find("catalogue", "adapt", "bad1").resolution.run_id == "R2"

    def test_a_run_whose_evidence_has_expired_says_nothing_any_more(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", register=False)
        world.pipeline.stages = FORGIVING
        world.run("R2", "bad1")
        store: Any = world.ledger.store
        for bucket, key in list(store.objects):
            if key.startswith("runs/R2/"):
                del store.objects[bucket, key]
        world.register_state("R1", 0)
        assert world.statuses == {"bad1": "open"}

    def test_a_success_before_the_failure_does_not_resolve_it(self) -> None:
        world = World()
        world.pipeline.stages = FORGIVING
        world.run("R1", "bad1", register=False)
        world.pipeline.stages = STAGES
        world.run("R2", "a", "bad1")
        world.register_state("R1", 0)
        assert world.statuses == {"bad1": "open"}

    def test_catching_up_does_only_what_was_missed(self) -> None:
        world = World()
        world.run("R1", "a", "bad1", "flaky1", register=False)
        world.register_state("R1", 0)
        assert catch_up(world.ledger, world.register, StageKeys("R1", "adapt")) == 1
        assert catch_up(world.ledger, world.register, StageKeys("R1", "adapt")) == 0
        assert catch_up(world.ledger, world.register, StageKeys("R1", "never-reached")) == 0
        assert world.statuses == {"bad1": "open", "flaky1": "open"}


def test_gives_up_when_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registration, "WINDOW", 1)
    world = World()
    world.run("R1", "a", "bad1", "bad2", register=False)
    with pytest.raises(RegisterUnavailable, match="no time left to register more than 0 failures of adapt"):
        world.register_state("R1", 0, deadline=0.0)


def test_release_gives_back_only_what_that_replay_holds() -> None:
    world = World()
    world.run("R1", "a", "bad1", "bad2", "bad3")
    for record_id, replay_id in {"bad1": "P1", "bad2": "P2"}.items():
        world.register.apply(
            "catalogue",
            "adapt",
            [record_id],
            lambda _, found, replay_id=replay_id: hold(found, replay_id=replay_id, now=NOON, until="2099"),
        )
    assert release_holds(world.register, "catalogue", ["adapt", "mint"], "P1") == 1
    assert world.statuses == {"bad1": "open", "bad2": "replaying", "bad3": "open"}


def test_dynamodb_and_memory_come_to_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def story(world: World) -> tuple[Any, ...]:
        world.run("R1", "a", *ODD, "flaky1")
        world.run("R2", "a", *ODD, "bad-new")
        world.pipeline.stages = FORGIVING
        world.run("R3", *ODD[:2])
        entries = sorted(world.register.all("catalogue", "adapt"), key=lambda each: each.record_id)
        return world.told, [(each.record_id, each.status, each.occurrences) for each in entries]

    monkeypatch.setattr("winnow.register.table.time.sleep", lambda _: None)
    with dynamodb() as client:
        on_dynamodb = story(World(RegisterTable("register", client, lanes=1)))
    assert on_dynamodb == story(World())


def test_registers_from_the_ledger_alone_in_any_order() -> None:
    """What `winnow replay rebuild` rests on."""
    world = World()
    world.run("R1", "a", "bad1", "bad2")
    world.pipeline.stages = FORGIVING
    world.run("R2", "bad1")
    world.pipeline.stages = STAGES
    world.run("R3", "a", "bad2", "bad3")
    for order in (("R1", "R2", "R3"), ("R3", "R2", "R1"), ("R2", "R3", "R1")):
        again = FailingRegister()
        for run_id in order:
            plan = read_plan(world.ledger, StageKeys(run_id, "adapt"))
            settlement = read_settlement(world.ledger, plan, world.attempts(run_id)[-1])
            assert settlement
            assert settlement.verdict in FINAL
            made = register_attempt(world.ledger, again, plan, settlement)
            assert isinstance(made, Registered)
        assert again.statuses("adapt") == {"bad1": "resolved", "bad2": "open", "bad3": "open"}, order
        assert {i: entry.occurrences for i, entry in again.entries["catalogue", "adapt"].items()} == {
            "bad1": 1,
            "bad2": 2,
            "bad3": 1,
        }
