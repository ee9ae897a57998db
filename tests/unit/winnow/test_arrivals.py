"""Objects that arrive: gathered in windows, each of which becomes one run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest

from tests.unit.winnow.arrivals import (
    LAMBDA_SECONDS,
    NOW,
    PREFIX,
    STAGES,
    VISIBILITY_SECONDS,
    WINDOW_SECONDS,
    Arrivals,
    OneAfterTheOther,
    created,
)
from winnow.core.contract import new_run_id
from winnow.core.errors import StageInputError
from winnow.metrics.watch import Metric
from winnow.runs import gathering, window_closer
from winnow.runs.gathering import OVERDUE_SECONDS, NoWindowOpen
from winnow.runs.object_events import objects_created
from winnow.runs.request import RunRequest
from winnow.runs.window_closer import LEASE_MARGIN_SECONDS
from winnow.storage import arrival_windows
from winnow.storage.arrival_windows import WindowIsBeingClosed
from winnow.storage.state_table import Claim

if TYPE_CHECKING:
    from collections.abc import Callable

LAW_7_BYTES = 16 * 1024


class TestWindow:
    def test_what_arrives_within_it_makes_one_run(self, arrivals: Arrivals) -> None:
        assert arrivals.deliver(created("tei/a.xml"), created("tei/b +ü.xml", etag='"e2"')) == []
        arrivals.wait(WINDOW_SECONDS - 1)
        assert arrivals.deliver(created("tei/c.xml")) == []
        assert arrivals.runs == []
        arrivals.wait(1)
        (run,) = arrivals.runs
        assert (run["start_at"], run["trigger"]) == ("adapt", {"kind": "objects", "objects": 3})
        assert arrivals.rows(run)[1] == {
            "id": "tei/b +ü.xml",
            "data": {
                "bucket": "source",
                "key": "tei/b +ü.xml",
                "etag": "e2",
                "last_modified": "2026-11-26T17:45:00Z",
                "size": 3,
            },
        }
        assert arrivals.ids(run) == ["tei/a.xml", "tei/b +ü.xml", "tei/c.xml"]

    def test_begins_with_its_first_object_and_costs_nothing_before(self, arrivals: Arrivals) -> None:
        assert arrivals.deliver(created("elsewhere/a.xml")) == []
        assert arrivals.queue.waiting == []
        assert arrivals.windows.current() is None
        arrivals.deliver(created("tei/a.xml"))
        assert [due for due, _ in arrivals.queue.waiting] == [NOW + WINDOW_SECONDS]

    def test_what_comes_after_it_is_closed_makes_the_next_run(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"))
        arrivals.wait()
        arrivals.deliver(created("tei/b.xml"))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"], ["tei/b.xml"]]

    def test_bears_the_name_of_its_run(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"))
        window = arrivals.windows.current()
        arrivals.settle()
        assert window
        assert list(arrivals.executions.started) == [window.run_id]

    def test_law_7_its_run_is_given_a_pointer_that_plan_run_takes(self, arrivals: Arrivals) -> None:
        arrivals.deliver(*(created(f"tei/{number}.xml") for number in range(1_500)))
        arrivals.settle()
        (run,) = arrivals.runs
        assert len(json.dumps(run)) < LAW_7_BYTES
        assert len(arrivals.ids(run)) == 1_500
        RunRequest.from_event(run, stages=STAGES, source_prefix=PREFIX)

    def test_a_window_that_is_closed_twice_starts_one_run(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"))
        ((_, run_id),) = arrivals.queue.waiting
        arrivals.close(run_id)
        arrivals.close(run_id)
        assert arrivals.found == [["tei/a.xml"]]
        assert arrivals.queue.waiting == [(NOW + WINDOW_SECONDS, run_id)]

    def test_a_window_that_nobody_knows_any_more_is_left_alone(self, arrivals: Arrivals) -> None:
        arrivals.close(new_run_id())
        assert arrivals.runs == []

    def test_one_lambda_at_a_time_closes_it(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"))
        ((_, run_id),) = arrivals.queue.waiting
        arrivals.windows.close(run_id, closer="another", until=NOW + 10)
        with pytest.raises(WindowIsBeingClosed):
            arrivals.close(run_id)
        arrivals.clock.now += 11
        arrivals.close(run_id)
        assert arrivals.found == [["tei/a.xml"]]

    def test_its_end_is_ordered_again_when_it_does_not_come(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"))
        arrivals.queue.waiting.clear()
        arrivals.clock.now += WINDOW_SECONDS + OVERDUE_SECONDS
        arrivals.deliver(created("tei/b.xml"))
        assert arrivals.queue.waiting == []
        arrivals.clock.now += 1
        arrivals.deliver(created("tei/c.xml"))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml", "tei/b.xml", "tei/c.xml"]]

    def test_one_that_dynamodb_has_forgotten_is_not_brought_back(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"))
        arrivals.settle()
        if arrivals.dynamodb:
            current = arrivals.windows.current()
            assert current
            arrivals.dynamodb.delete_item(
                TableName="state", Key={"pk": {"S": f"window#{current.run_id}"}, "sk": {"S": "arrivals"}}
            )
        else:
            arrivals.windows._windows.clear()  # type: ignore[attr-defined]
        arrivals.deliver(created("tei/b.xml"))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"], ["tei/b.xml"]]

    def test_gathering_gives_up_where_no_window_takes_anything(
        self, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(arrivals.windows, "add", lambda *_: None)
        assert arrivals.deliver(created("tei/a.xml"), "?") == ["m1", "m0"]
        with pytest.raises(NoWindowOpen):
            arrivals.closer._gatherer.gather(objects_created(created("tei/a.xml")), close_when_full=True)


class TestFullWindow:
    @pytest.fixture(autouse=True)
    def few(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for module in (arrival_windows, gathering):
            monkeypatch.setattr(module, "MAX_OBJECTS", 4)
        monkeypatch.setattr(gathering, "CHUNK_OBJECTS", 2)

    def test_is_closed_before_its_time(self, arrivals: Arrivals) -> None:
        arrivals.deliver(*(created(f"tei/{number}.xml") for number in range(10)))
        arrivals.wait(0)
        assert [len(ids) for ids in arrivals.found] == [4, 4]
        arrivals.settle()
        assert [len(ids) for ids in arrivals.found] == [4, 4, 2]
        assert set(arrivals.times_run().values()) == {1}

    def test_is_left_alone_by_what_comes_next(self, arrivals: Arrivals) -> None:
        """Before it is closed."""
        for number in range(5):
            arrivals.deliver(created(f"tei/{number}.xml"))
        arrivals.settle()
        assert [len(ids) for ids in arrivals.found] == [4, 1]

    def test_of_many_small_chunks_is_closed_in_time(
        self, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(arrival_windows, "MAX_CHUNKS", 2)
        for number in range(5):
            arrivals.deliver(created(f"tei/{number}.xml"))
        arrivals.wait(WINDOW_SECONDS - 1)
        assert arrivals.runs == []
        arrivals.wait(1)
        assert sorted(len(ids) for ids in arrivals.found) == [1, 2, 2]

    def test_what_waits_for_another_run_does_not_go_round_at_full_speed(self, arrivals: Arrivals) -> None:
        for number in range(8):
            arrivals.state.claim(
                objects_created(created(f"tei/{number}.xml"))[0].event_id,
                Claim(run_id=new_run_id(), lease_until=NOW + 2 * WINDOW_SECONDS),
            )
        arrivals.deliver(*(created(f"tei/{number}.xml") for number in range(8)))
        arrivals.wait(0)
        assert {due for due, _ in arrivals.queue.waiting} == {NOW + WINDOW_SECONDS}
        arrivals.settle()
        assert set(arrivals.times_run().values()) == {1}


class TestDuplicates:
    def test_law_8_the_same_news_delivered_again_starts_nothing(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"), created("tei/b.xml"))
        arrivals.wait()
        assert arrivals.deliver(created("tei/b.xml"), created("tei/c.xml")) == []
        arrivals.wait()
        assert arrivals.deliver(created("tei/a.xml")) == []
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml", "tei/b.xml"], ["tei/c.xml"]]
        assert arrivals.watch.counted(Metric.RUN_DUPLICATE) == 2

    def test_the_same_news_twice_in_a_window_is_one_record(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml"), created("tei/a.xml"))
        arrivals.deliver(created("tei/a.xml"))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]
        assert arrivals.watch.counted(Metric.RUN_DUPLICATE) == 2

    def test_a_batch_that_is_delivered_twice_is_one_chunk(self, arrivals: Arrivals) -> None:
        for _ in range(2):
            arrivals.deliver(created("tei/a.xml"), created("tei/b.xml"))
        assert sum("/chunks/" in key for _, key in arrivals.store.objects) == 1
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml", "tei/b.xml"]]

    def test_of_several_versions_of_an_object_the_newest_counts(self, arrivals: Arrivals) -> None:
        arrivals.deliver(
            created("tei/a.xml", etag="new", sequencer="0062"),
            created("tei/a.xml", etag="newest", sequencer="00625"),
            created("tei/a.xml", etag="old", sequencer="0061FF"),
        )
        arrivals.settle()
        (run,) = arrivals.runs
        assert [row["data"]["etag"] for row in arrivals.rows(run)] == ["newest"]

    def test_a_new_version_is_news(self, arrivals: Arrivals) -> None:
        arrivals.deliver(created("tei/a.xml", version="v1"))
        arrivals.settle()
        arrivals.deliver(created("tei/a.xml", version="v2", sequencer="0070"))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"], ["tei/a.xml"]]

    def test_a_closer_that_goes_on_for_one_that_died_is_not_overtaken(self, arrivals: Arrivals) -> None:
        """The lease of the first is over; in the moment in which the second starts the run, another window is closed."""
        a = created("tei/a.xml")
        arrivals.deliver(a)
        first = close_and_die_before_the_start(arrivals)
        arrivals.clock.now += LAMBDA_SECONDS + LEASE_MARGIN_SECONDS + 1
        arrivals.deliver(a)
        ((_, second),) = arrivals.queue.waiting

        def close_another_first(name: str, call: Callable[[], Any]) -> Any:
            if name == "start":
                arrivals.around = lambda _, inner: inner()
                arrivals.close(second)
            return call()

        arrivals.around = close_another_first
        arrivals.close(first)
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]

    def test_law_7_a_list_of_a_closer_that_died_is_no_other_closers(self, arrivals: Arrivals) -> None:
        """It wrote its list, and died before the start; its lease ran out, and another window took one of its objects."""
        a, b = created("tei/a.xml"), created("tei/b.xml")
        arrivals.deliver(a, b)
        first = close_and_die_before_the_start(arrivals)
        arrivals.clock.now += LAMBDA_SECONDS + LEASE_MARGIN_SECONDS + 1
        arrivals.deliver(a)
        arrivals.wait()
        arrivals.close(first)
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"], ["tei/b.xml"]]


def close_and_die_before_the_start(arrivals: Arrivals) -> str:
    """A closer of the only window dies when it has claimed and listed everything; returns the window."""

    def die_at_the_start(name: str, call: Callable[[], Any]) -> Any:
        if name == "start":
            raise OSError("down")
        return call()

    ((_, window),) = arrivals.queue.waiting
    arrivals.queue.waiting.clear()
    arrivals.around = die_at_the_start
    with pytest.raises(OSError, match="down"):
        arrivals.close(window)
    arrivals.around = lambda _, call: call()
    return window


class TestTakenByAnother:
    EVENT = created("tei/a.xml")
    OTHER = "01KB0A1V0000000000000000ZZ"

    def claim(self, arrivals: Arrivals, *, lease_seconds: float) -> None:
        (event,) = objects_created(self.EVENT)
        arrivals.state.claim(event.event_id, Claim(run_id=self.OTHER, lease_until=NOW + lease_seconds))

    def test_what_is_being_taken_waits_for_the_next_window(self, arrivals: Arrivals) -> None:
        self.claim(arrivals, lease_seconds=WINDOW_SECONDS + 1)
        assert arrivals.deliver(self.EVENT, created("tei/b.xml")) == []
        arrivals.wait()
        assert arrivals.found == [["tei/b.xml"]]
        arrivals.executions.start(self.OTHER, {"records": {"key": "none"}})
        arrivals.wait()
        assert len(arrivals.runs) == 2
        assert arrivals.queue.waiting == []

    def test_what_was_to_be_taken_is_taken_when_the_lease_is_over(self, arrivals: Arrivals) -> None:
        self.claim(arrivals, lease_seconds=WINDOW_SECONDS + 1)
        arrivals.deliver(self.EVENT)
        arrivals.wait()
        assert arrivals.runs == []
        arrivals.wait()
        assert arrivals.found == [["tei/a.xml"]]

    def test_of_two_that_take_over_one_does(
        self, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.claim(arrivals, lease_seconds=0)
        monkeypatch.setattr(arrivals.state, "take_over_claim", lambda *_, **__: False)
        arrivals.deliver(self.EVENT)
        arrivals.wait()
        assert arrivals.runs == []
        monkeypatch.undo()
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]

    def test_a_run_that_starts_while_its_objects_are_looked_at_keeps_them_all(
        self, arrivals: Arrivals, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It did not exist for the first of them; for the second its lease is over."""
        monkeypatch.setattr(window_closer, "ThreadPoolExecutor", OneAfterTheOther)
        bodies = [self.EVENT, created("tei/b.xml")]
        for body in bodies:
            (event,) = objects_created(body)
            claim = Claim(run_id=self.OTHER, lease_until=NOW + WINDOW_SECONDS + 1)
            arrivals.state.claim(event.event_id, claim)
        arrivals.deliver(*bodies)

        def start_after_the_first(name: str, call: Callable[[], Any]) -> Any:
            answer = call()
            if name == "started_at":
                arrivals.around = lambda _, inner: inner()
                arrivals.store.put("its list", b'{"id": "tei/a.xml"}\n{"id": "tei/b.xml"}\n')
                arrivals.executions.start(self.OTHER, {"records": {"key": "its list"}})
                arrivals.clock.now += WINDOW_SECONDS
            return answer

        arrivals.around = start_after_the_first
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml", "tei/b.xml"]]


class TestMessages:
    @pytest.mark.parametrize(
        "body",
        [
            created("elsewhere/a.xml"),
            created("tei/folder/"),
            created("tei/a.xml", bucket="another"),
            created("tei/a.xml", detail_type="Object Deleted"),
            json.dumps({"Service": "Amazon S3", "Event": "s3:TestEvent"}),
        ],
    )
    def test_that_are_not_of_the_source_are_ignored(self, body: str) -> None:
        arrivals = Arrivals()
        assert arrivals.deliver(body) == []
        assert arrivals.queue.waiting == []

    @pytest.mark.parametrize(
        "body",
        [
            "not json",
            "null",
            "[]",
            "{}",
            json.dumps({"Records": [{"eventSource": "aws:sns"}]}),
            json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": {}}),
            json.dumps(
                {
                    "source": "aws.s3",
                    "detail-type": "Object Created",
                    "detail": {"bucket": {"name": "source"}},
                }
            ),
            created("tei/line\nbreak.xml"),
            created(""),
            created("tei/a.xml", etag="\ud800"),
            pytest.param("[" * 100_000, id="deeper than Python can follow"),
            json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": {"bucket": "source"}}),
            json.dumps(
                {
                    "source": "aws.s3",
                    "detail-type": "Object Created",
                    "detail": {"bucket": {"name": "source"}, "object": "tei/a.xml"},
                }
            ),
            json.dumps(
                {"Records": [{"eventSource": "aws:s3", "eventName": "ObjectCreated:Put", "s3": "source"}]}
            ),
        ],
    )
    def test_that_are_malformed_are_given_back_and_the_others_run(self, body: str) -> None:
        arrivals = Arrivals()
        assert arrivals.deliver(created("tei/a.xml"), body, created("tei/b.xml")) == ["m1"]
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml", "tei/b.xml"]]
        assert arrivals.watch.counted(Metric.RUN_REFUSED) == 1

    def test_are_all_given_back_when_they_cannot_be_gathered(self, monkeypatch: pytest.MonkeyPatch) -> None:
        arrivals = Arrivals()
        monkeypatch.setattr(arrivals.store, "put", refuse_to_put)
        assert arrivals.deliver(created("tei/a.xml"), created("elsewhere/x"), "?") == ["m2", "m0"]

    def test_may_be_the_buckets_own_notifications(self) -> None:
        key = "tei/b +ü%&.xml"
        record = {
            "eventSource": "aws:s3",
            "eventName": "ObjectCreated:Put",
            "eventTime": "2026-11-20T13:45:00.000Z",
            "s3": {
                "bucket": {"name": "source"},
                "object": {"key": quote_plus(key, safe="/"), "size": 3, "eTag": "e", "sequencer": "00"},
            },
        }
        deleted = {**record, "eventName": "ObjectRemoved:Delete"}
        arrivals = Arrivals()
        assert arrivals.deliver(json.dumps({"Records": [record, deleted]})) == []
        arrivals.settle()
        assert arrivals.found == [[key]]

    def test_keep_a_percent_sign_that_event_bridge_sends_as_it_is(self) -> None:
        arrivals = Arrivals()
        arrivals.deliver(created("tei/100%25+.xml"))
        arrivals.settle()
        assert arrivals.found == [["tei/100%25+.xml"]]

    def test_that_s3_never_sends_are_refused(self) -> None:
        with pytest.raises(StageInputError, match="body: is not JSON"):
            objects_created("{")


def refuse_to_put(*_: object, **__: object) -> None:
    raise OSError("down")


def test_a_lease_is_over_before_a_message_comes_again() -> None:
    assert LAMBDA_SECONDS + LEASE_MARGIN_SECONDS < VISIBILITY_SECONDS
