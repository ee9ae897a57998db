"""What `winnow run --source` uploads is its run's, and nothing else's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.winnow.arrivals import (
    NOW,
    VISIBILITY_SECONDS,
    WINDOW_SECONDS,
    Arrivals,
    Killed,
    created,
)
from winnow.runs.object_events import objects_created
from winnow.runs.window_closer import CLOCKS_APART_SECONDS
from winnow.storage.upload_claims import Upload

if TYPE_CHECKING:
    from collections.abc import Callable


class TestUploads:
    """`winnow run --source` uploads into a source whose arrivals start runs."""

    RUN = "01KB0A1V0000000000000000ZZ"
    UPLOAD = Upload("source", "tei/a.xml", "e1")

    def upload(self, arrivals: Arrivals, *, lease_seconds: float = 3600) -> None:
        assert arrivals.uploads.hold(self.RUN, until=arrivals.clock() + lease_seconds)
        arrivals.uploads.claim(self.UPLOAD, self.RUN)

    def start(self, arrivals: Arrivals) -> None:
        arrivals.store.put("its list", b'{"id": "tei/a.xml"}\n')
        arrivals.executions.start(self.RUN, {"records": {"key": "its list"}})

    def test_are_their_runs(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        arrivals.deliver(created("tei/a.xml", etag='"e1"', version="v1"), created("tei/b.xml"))
        self.start(arrivals)
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"], ["tei/b.xml"]]

    def test_wait_for_a_run_that_is_not_started_yet(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        arrivals.deliver(created("tei/a.xml"))
        for _ in range(5):
            arrivals.wait()
        assert arrivals.runs == []
        self.start(arrivals)
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]

    def test_are_known_again_when_they_are_told_again(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        self.start(arrivals)
        for _ in range(3):
            arrivals.deliver(created("tei/a.xml"))
            arrivals.settle()
        arrivals.uploads.claim(self.UPLOAD, "01KB0A1V0000000000000000YY")
        arrivals.deliver(created("tei/a.xml"))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]

    def test_are_not_lost_when_their_run_is_given_up(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        arrivals.deliver(created("tei/a.xml"))
        arrivals.uploads.give_up(self.RUN)
        arrivals.wait()
        assert arrivals.found == [["tei/a.xml"]]

    def test_are_not_lost_when_who_uploads_them_is_killed(self, arrivals: Arrivals) -> None:
        self.upload(arrivals, lease_seconds=3 * WINDOW_SECONDS + 1)
        arrivals.deliver(created("tei/a.xml"))
        arrivals.wait(3 * WINDOW_SECONDS)
        assert arrivals.runs == []
        arrivals.wait()
        assert arrivals.found == [["tei/a.xml"]]
        assert not arrivals.uploads.hold(self.RUN, until=arrivals.clock() + 60), (
            "it must not start them again"
        )

    def test_are_not_taken_from_who_made_the_lease_longer(self, arrivals: Arrivals) -> None:
        self.upload(arrivals, lease_seconds=WINDOW_SECONDS - 1)
        arrivals.deliver(created("tei/a.xml"))
        assert arrivals.uploads.hold(self.RUN, until=arrivals.clock() + 3600)
        arrivals.wait()
        assert arrivals.runs == []

    def claimed_by_a_closer_that_died(self, arrivals: Arrivals, *bodies: str) -> None:
        """As is possible where uploads are claimed by their ETags only after they have arrived, with a key of KMS."""
        arrivals.deliver(*bodies)
        ((_, window),) = arrivals.queue.waiting

        def die(name: str, call: Callable[[], Any]) -> Any:
            if name == "start":
                raise Killed
            return call()

        arrivals.around = die
        with pytest.raises(Killed):
            arrivals.close(window)
        arrivals.around = lambda _, call: call()
        arrivals.clock.now += VISIBILITY_SECONDS

    def test_are_their_runs_though_a_closer_that_died_had_claimed_them(self, arrivals: Arrivals) -> None:
        self.claimed_by_a_closer_that_died(arrivals, created("tei/a.xml"))
        self.upload(arrivals)
        self.start(arrivals)
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]

    def test_that_a_closer_which_died_had_claimed_are_not_lost_when_their_run_is_given_up(
        self, arrivals: Arrivals
    ) -> None:
        """The window's run is started without them while they wait, and is not taken for theirs afterwards."""
        self.claimed_by_a_closer_that_died(arrivals, created("tei/a.xml"), created("tei/b.xml"))
        self.upload(arrivals)
        arrivals.wait()
        assert arrivals.found == [["tei/b.xml"]]
        arrivals.uploads.give_up(self.RUN)
        arrivals.settle()
        assert arrivals.found == [["tei/b.xml"], ["tei/a.xml"]]

    def test_a_later_upload_of_the_same_content_makes_a_run(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        self.start(arrivals)
        arrivals.deliver(created("tei/a.xml"))
        arrivals.settle()
        later = "2026-11-26T18:45:00Z"
        arrivals.deliver(created("tei/a.xml", sequencer="0062", time=later))
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"], ["tei/a.xml"]]

    def test_an_upload_that_the_client_sent_twice_is_its_runs_both_times(self, arrivals: Arrivals) -> None:
        """The first answer was lost. Both are there before the run starts, and have the same content."""
        self.upload(arrivals)
        arrivals.deliver(created("tei/a.xml", version="v1"))
        arrivals.deliver(created("tei/a.xml", version="v2", sequencer="0062"))
        self.start(arrivals)
        arrivals.settle()
        assert arrivals.found == [["tei/a.xml"]]

    @pytest.mark.parametrize(
        "other",
        [
            created("tei/a.xml", etag="another"),
            created("tei/A.xml"),
            created("tei/a.xml", time="nobody knows"),
        ],
    )
    def test_other_content_another_key_and_another_time_are_not_the_runs(
        self, arrivals: Arrivals, other: str
    ) -> None:
        self.upload(arrivals)
        self.start(arrivals)
        arrivals.deliver(other)
        arrivals.settle()
        assert len(arrivals.runs) == 2

    def test_two_people_who_upload_the_same_start_nothing_besides(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        arrivals.uploads.hold("01KB0A1V0000000000000000YY", until=NOW + 3600)
        arrivals.uploads.claim(self.UPLOAD, "01KB0A1V0000000000000000YY")
        arrivals.deliver(created("tei/a.xml", version="v1"))
        arrivals.deliver(created("tei/a.xml", version="v2", sequencer="0062"))
        self.start(arrivals)
        arrivals.executions.start("01KB0A1V0000000000000000YY", {"records": {"key": "its list"}})
        arrivals.settle()
        assert len(arrivals.runs) == 2

    def test_s3s_clock_may_be_a_little_ahead(self, arrivals: Arrivals) -> None:
        self.upload(arrivals)
        (event,) = objects_created(created("tei/a.xml"))
        assert event.moment is not None
        arrivals.clock.now = event.moment - CLOCKS_APART_SECONDS
        self.start(arrivals)
        arrivals.deliver(created("tei/a.xml"))
        arrivals.settle()
        assert len(arrivals.runs) == 1
