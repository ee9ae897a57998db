from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import botocore.session
import pytest
from moto import mock_aws

from winnow.core import keys
from winnow.core.errors import StageInputError
from winnow.runs.request import RunRequest
from winnow.runs.run_planner import Execution, RunPlan, RunPlanner
from winnow.storage.ledger import LINES_PER_PIECE, Ledger, record_lines
from winnow.storage.listing import S3SourceListing, SourceObject
from winnow.storage.state_table import Holder
from winnow.storage.store import PART_BYTES, S3Store
from winnow.testing import FakeExecutions, MemoryStateTable, MemoryStore

if TYPE_CHECKING:
    from collections.abc import Iterator

STAGES = ("adapt", "transform", "mint")
ULID = "01JD7ZK3V5Q8W9X0Y1Z2A3B4C5"
ARN = "arn:aws:states:eu-west-1:000000000000:execution:catalogue:"
SCHEDULE = {"trigger": {"kind": "schedule", "time": "2026-11-20T06:00:00Z"}}


def request(event: object, source_prefix: str = "") -> RunRequest:
    return RunRequest.from_event(event, stages=STAGES, source_prefix=source_prefix)


class TestRequest:
    @pytest.mark.parametrize(
        ("event", "field", "remedy"),
        [
            (None, "input", "must be an object"),
            ([], "input", "must be an object"),
            ({"recrods": ["a"]}, "recrods", "unknown field; known are only, prefix, records, replay, run_id"),
            ({"run_id": "a b"}, "run_id", "must be letters, digits"),
            ({"replay": "R1"}, "replay", 'must be {"id"}'),
            ({"replay": {}}, "replay", 'must be {"id"}'),
            ({"replay": {"id": None}}, "replay", 'must be {"id"}'),
            ({"replay": {"id": "R1", "force": True}}, "replay", 'must be {"id"}'),
            ({"replay": {"id": "a b"}}, "replay.id", "must be letters, digits"),
            ({"replay": {"id": "R1"}, "run_id": "R2"}, "run_id", "must be the replay's id, R1"),
            ({"replay": {"id": "R1"}}, "records", "must point to the replay's own selection"),
            ({"replay": {"id": "R1"}, "records": ["a"]}, "records", "must point to the replay's"),
            ({"run_id": 7}, "run_id", "must be letters, digits"),
            (
                {"start_at": "publish"},
                "start_at",
                "must be one of this pipeline's stages: adapt, transform, mint",
            ),
            ({"start_at": ["adapt"]}, "start_at", "must be one of"),
            ({"start_at": "transform"}, "records", "the successes of adapt in an earlier run"),
            ({"start_at": "mint", "prefix": "x/"}, "records", "the successes of transform"),
            ({"records": []}, "records", 'an empty list is not "all"'),
            ({"records": "all"}, "records", "must be a list of ids or a pointer"),
            ({"records": [{"id": "a\nb"}]}, "records[0]", "must not hold control characters"),
            ({"records": {"bucket": "b"}}, "records.key", "must be a non-empty string"),
            ({"records": ["a"], "prefix": "x/"}, "prefix", 'cannot go with "records"'),
            ({"prefix": ""}, "prefix", "must be a non-empty string"),
            ({"prefix": 1}, "prefix", "must be a non-empty string"),
            ({"only": []}, "only", "leave the field out for all"),
            (
                {"records": {"bucket": "b", "key": "k", "only": {"bucket": "b", "key": "o"}}, "only": ["a"]},
                "only",
                "is given twice",
            ),
            ({"trigger": "manual"}, "trigger", 'must be {"kind": one of'),
            ({"trigger": {}}, "trigger.kind", "must be one of schedule, event, objects, manual"),
            ({"trigger": {"kind": ["event"]}}, "trigger.kind", "must be one of"),
        ],
    )
    def test_names_field_value_and_remedy(self, event: object, field: str, remedy: str) -> None:
        with pytest.raises(StageInputError) as caught:
            request(event)
        assert caught.value.field == field
        assert remedy in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_refuses_a_prefix_outside_the_source(self) -> None:
        with pytest.raises(StageInputError, match="must begin with the source's own prefix, tei/"):
            request({"prefix": "Arabic/"}, source_prefix="tei/")

    @pytest.mark.parametrize(
        "event",
        [
            {"trigger": {"kind": "manual"}, "start_at": "adapt"},
            {
                "trigger": {"kind": "event", "id": "e"},
                "start_at": "adapt",
                "prefix": "Arabic/",
                "run_id": ULID,
            },
            {
                "trigger": {"kind": "objects"},
                "start_at": "mint",
                "records": ["a", {"id": "b", "data": {"x": 1}}],
                "only": ["b"],
            },
            {
                "trigger": {"kind": "manual"},
                "start_at": "transform",
                "records": {"bucket": "b", "key": "k", "format": "successes"},
                "only": {"bucket": "b", "key": "o"},
            },
        ],
    )
    def test_survives_the_journey_to_the_pipeline(self, event: dict[str, Any]) -> None:
        assert request(event).to_payload() == event
        assert request({**event, "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID": "arn"}) == request(event)


class FakeSource:
    def __init__(self, *names: str) -> None:
        self.names = names
        self.asked: list[str] = []

    def objects(self, prefix: str) -> Iterator[SourceObject]:
        self.asked.append(prefix)
        for key in self.names:
            if key.startswith(prefix):
                yield SourceObject(
                    bucket="source", key=key, etag="e", last_modified="2026-11-20T00:00:00+00:00", size=3
                )


class World:
    """A planner with everything around it in memory."""

    def __init__(self, *names: str) -> None:
        self.ledger = Ledger(MemoryStore("ledger"))
        self.source = FakeSource(*names)
        self.state = MemoryStateTable()
        self.executions = FakeExecutions()
        self.planner = RunPlanner(
            pipeline="catalogue",
            stages=STAGES,
            ledger=self.ledger,
            source=self.source,
            state=self.state,
            executions=self.executions,
        )

    def plan(self, event: object, name: str = ULID) -> RunPlan:
        return self.planner.plan(
            request(event), Execution.from_event({"execution": ARN + name, "name": name})
        )

    def lines(self, key: str) -> list[Any]:
        return [json.loads(line) for line in self.ledger.store.get(key).body.splitlines()]


class TestPlanning:
    def test_goes_over_the_whole_source_by_default(self) -> None:
        world = World("a.xml", "b.xml")
        payload = world.plan({}).to_payload()
        assert payload == {
            "run_id": ULID,
            "start_at": "adapt",
            "proceed": True,
            "reason": None,
            "stages": {
                "source": {
                    "successes": {
                        "batch_file_location": {
                            "bucket": "ledger",
                            "key": keys.run_source(ULID),
                            "format": "ndjson",
                        }
                    }
                }
            },
            "only": None,
        }
        first, second = world.lines(keys.run_source(ULID))
        assert first == {
            "id": "a.xml",
            "data": {
                "bucket": "source",
                "key": "a.xml",
                "etag": "e",
                "last_modified": "2026-11-20T00:00:00+00:00",
                "size": 3,
            },
        }
        assert second["id"] == "b.xml"

    def test_goes_over_a_part_of_the_source(self) -> None:
        world = World("Arabic/1.xml", "Batak/2.xml")
        world.plan({"prefix": "Arabic/"})
        assert [line["id"] for line in world.lines(keys.run_source(ULID))] == ["Arabic/1.xml"]

    def test_an_empty_source_is_a_run_over_nothing(self) -> None:
        world = World()
        assert world.plan({}).to_payload()["proceed"] is True
        assert world.lines(keys.run_source(ULID)) == []

    def test_moves_inline_records_and_the_subset_to_the_ledger(self) -> None:
        world = World()
        plan = world.plan({"records": ["a", {"id": "b", "data": {"x": "ü"}}], "only": ["b"]})
        stage = keys.StageKeys(ULID, "adapt")
        pointer = {
            "bucket": "ledger",
            "key": stage.input,
            "format": "ndjson",
            "only": {"bucket": "ledger", "key": stage.only, "format": "ndjson"},
        }
        payload = plan.to_payload()
        assert payload["stages"]["source"]["successes"]["batch_file_location"] == pointer
        assert payload["only"] == pointer["only"]
        assert world.lines(stage.input) == ["a", {"id": "b", "data": {"x": "ü"}}]
        assert world.lines(stage.only) == ["b"]
        assert world.source.asked == []

    def test_starts_at_a_later_stage_with_what_the_one_before_left(self) -> None:
        successes = {"bucket": "ledger", "key": "runs/old/adapt/successes.json"}
        payload = World().plan({"start_at": "transform", "records": successes}).to_payload()
        assert payload["start_at"] == "transform"
        assert payload["stages"] == {"adapt": {"successes": {"batch_file_location": successes}}}

    def test_law_7_stays_small_whatever_is_given(self) -> None:
        plan = World().plan({"records": [f"record {i}" for i in range(10_000)], "only": ["record 1"]})
        assert len(json.dumps(plan.to_payload())) < 1_000


class TestRunId:
    def test_is_the_callers_if_given(self) -> None:
        assert World().plan({"run_id": "mine"}).run_id == "mine"

    def test_is_the_executions_name_if_that_is_a_ulid(self) -> None:
        assert World().plan({}).run_id == ULID

    def test_is_new_otherwise_and_the_same_when_planned_again(self) -> None:
        world = World()
        name = "7e4c4a1e-2c9b-4d3c-9e55-0f6c2f1f8a11"
        first, second = world.plan({}, name), world.plan({}, name)
        assert first.run_id == second.run_id
        assert first.run_id != name
        assert len(first.run_id) == 26

    def test_is_refused_when_another_execution_has_used_it(self) -> None:
        world = World("a.xml")
        world.plan({"run_id": "mine"}, "first")
        listed = world.lines(keys.run_source("mine"))
        world.source.names = ()
        with pytest.raises(
            StageInputError, match=r"was used before, by .*:first; leave it out for a new one"
        ):
            world.plan({"run_id": "mine"}, "second")
        assert world.lines(keys.run_source("mine")) == listed

    def test_is_refused_to_the_loser_of_a_race(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = World()
        world.plan({"run_id": "mine"}, "first")
        monkeypatch.setattr(world.ledger, "find_json", lambda _: None)
        with pytest.raises(StageInputError, match="was used before"):
            world.plan({"run_id": "mine"}, "second")

    def test_is_written_down_with_what_was_planned(self) -> None:
        world = World()
        world.plan({"trigger": {"kind": "event", "id": "e1"}})
        run = world.ledger.read_json(keys.run(ULID))
        assert run.pop("started_at").endswith("Z")
        assert run == {
            "run_id": ULID,
            "pipeline": "catalogue",
            "stages": list(STAGES),
            "start_at": "adapt",
            "trigger": {"kind": "event", "id": "e1"},
            "replay": None,
            "execution": ARN + ULID,
            "records": {"bucket": "ledger", "key": keys.run_source(ULID)},
            "stepped_aside": None,
        }

    def test_of_a_replay_is_the_replays_id(self) -> None:
        world = World()
        selection = {"bucket": "ledger", "key": "replays/R1/selection.json", "format": "selection"}
        event = {"replay": {"id": "R1"}, "start_at": "transform", "records": selection}
        assert request(request(event).to_payload()) == request(event)
        payload = world.plan(event, "R1").to_payload()
        assert (payload["run_id"], payload["start_at"]) == ("R1", "transform")
        assert payload["stages"] == {"adapt": {"successes": {"batch_file_location": selection}}}
        assert world.ledger.read_json(keys.run("R1"))["replay"] == {"id": "R1"}

    def test_of_a_replay_cannot_be_used_by_a_duplicate_started_by_hand(self) -> None:
        world = World()
        event = {"replay": {"id": "R1"}, "records": {"bucket": "ledger", "key": "s.json"}}
        world.plan(event, "R1")
        with pytest.raises(StageInputError, match="run_id: was used before"):
            world.plan(event, "by-hand")


class TestOverlap:
    OTHER = "01JD7ZK3V5Q8W9X0Y1Z2A3B4C6"

    def holding(self, status: str | None) -> World:
        world = World()
        world.state.acquire_lock("catalogue", Holder(run_id=self.OTHER, execution=ARN + self.OTHER))
        if status:
            world.executions.statuses[ARN + self.OTHER] = status
        return world

    def test_a_scheduled_run_steps_aside_for_the_one_before_and_says_so(self) -> None:
        payload = self.holding("RUNNING").plan(SCHEDULE).to_payload()
        assert payload["proceed"] is False
        assert (
            payload["reason"]
            == f"run {self.OTHER} of the schedule before is still running: {ARN}{self.OTHER}"
        )
        assert payload["stages"] == {}

    @pytest.mark.parametrize("status", ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED", None])
    def test_a_scheduled_run_takes_over_from_one_that_is_gone(self, status: str | None) -> None:
        world = self.holding(status)
        assert world.plan(SCHEDULE).reason is None
        assert world.state.release_lock("catalogue", ARN + ULID)

    def test_other_runs_run_beside_the_schedule(self) -> None:
        world = self.holding("RUNNING")
        for kind in ("manual", "event", "objects"):
            assert world.plan({"trigger": {"kind": kind}, "run_id": kind}, kind).reason is None

    def test_a_run_that_stepped_aside_does_so_again_when_planned_again(self) -> None:
        world = self.holding("RUNNING")
        world.plan(SCHEDULE)
        world.executions.statuses.clear()
        assert world.plan(SCHEDULE).reason

    def test_a_run_that_holds_the_lock_goes_ahead_when_planned_again(self) -> None:
        world = World()
        assert world.plan(SCHEDULE).reason is None
        world.executions.statuses[ARN + ULID] = "RUNNING"
        assert world.plan(SCHEDULE).reason is None

    def test_of_two_that_find_a_stale_lock_one_goes_ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        world = self.holding(None)
        world.executions.statuses[ARN + "winner"] = "RUNNING"
        winner = Holder(run_id="winner", execution=ARN + "winner")
        take_over = world.state.take_over_lock

        def beaten(pipeline: str, holder: Holder, *, previous: Holder) -> bool:
            take_over(pipeline, winner, previous=previous)
            return take_over(pipeline, holder, previous=previous)

        monkeypatch.setattr(world.state, "take_over_lock", beaten)
        assert "run winner of the schedule before" in str(world.plan(SCHEDULE).reason)


class TestListing:
    @pytest.fixture
    def s3(self) -> Iterator[Any]:
        with mock_aws():
            made: Any = botocore.session.get_session().create_client(
                "s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
            )
            made.create_bucket(Bucket="source")
            yield made

    def test_lists_every_page_without_folders(self, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        names = ["tei/Arabic/1 ü+&.xml", "tei/Batak/2.xml", "tei/Batak/3.xml", "tei/line\nbreak.xml"]
        for key in (*names, "tei/", "tei/empty/", "other/1.xml"):
            s3.put_object(Bucket="source", Key=key, Body=b"x" * len(key))
        list_page = s3.list_objects_v2
        monkeypatch.setattr(s3, "list_objects_v2", lambda **args: list_page(**args, MaxKeys=2))
        found = list(S3SourceListing("source", s3).objects("tei/"))
        assert [item.key for item in found] == names
        assert found[1].size == len("tei/Batak/2.xml")
        assert '"' not in found[1].etag
        assert found[1].last_modified.endswith("+00:00")

    def test_writes_objects_larger_than_a_part(self, s3: Any) -> None:
        pieces = [b"a" * (PART_BYTES // 2), b"b" * PART_BYTES, b"c" * 100]
        S3Store("source", s3).put_stream("big", iter(pieces))
        assert S3Store("source", s3).get("big").body == b"".join(pieces)

    def test_leaves_nothing_behind_when_the_stream_breaks(self, s3: Any) -> None:
        def broken() -> Iterator[bytes]:
            yield b"a" * (PART_BYTES * 3)
            yield b"b" * PART_BYTES
            raise OSError("listing failed")

        with pytest.raises(OSError, match="listing failed"):
            S3Store("source", s3).put_stream("big", broken())
        assert "Uploads" not in s3.list_multipart_uploads(Bucket="source")
        assert s3.list_objects_v2(Bucket="source")["KeyCount"] == 0

    def test_hands_lines_on_in_pieces(self) -> None:
        pieces = list(record_lines(str(number) for number in range(LINES_PER_PIECE * 2 + 1)))
        assert len(pieces) == 3
        assert b"".join(pieces).count(b"\n") == LINES_PER_PIECE * 2 + 1
