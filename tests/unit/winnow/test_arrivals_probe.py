"""An object that `winnow doctor --probe` puts into the source: it starts a run as any object does, and is no record of it."""

from __future__ import annotations

from tests.unit.winnow.arrivals import Arrivals, created
from winnow.core.probe import SOURCE_FOLDER
from winnow.runs.window_closer import MOST_PROBES_TOLD

PROBE = f"tei/{SOURCE_FOLDER}probe-1"


def test_put_twice_it_starts_one_run_over_no_record_that_tells_of_both_events() -> None:
    arrivals = Arrivals()
    arrivals.deliver(created(PROBE, sequencer="61"))
    arrivals.deliver(created(PROBE, sequencer="62"))
    arrivals.settle()
    (run,) = arrivals.runs
    assert run["trigger"] == {"kind": "objects", "objects": 0, "probes": [PROBE, PROBE]}
    assert arrivals.ids(run) == []


def test_beside_records_it_is_left_out() -> None:
    arrivals = Arrivals()
    arrivals.deliver(created("tei/a.xml"), created(PROBE), created("tei/b.xml"))
    arrivals.settle()
    (run,) = arrivals.runs
    assert run["trigger"] == {"kind": "objects", "objects": 2, "probes": [PROBE]}
    assert arrivals.ids(run) == ["tei/a.xml", "tei/b.xml"]


def test_the_same_event_delivered_again_is_told_once() -> None:
    arrivals = Arrivals()
    arrivals.deliver(created(PROBE))
    arrivals.deliver(created(PROBE))
    arrivals.settle()
    (run,) = arrivals.runs
    assert run["trigger"]["probes"] == [PROBE]


def test_law_7_many_of_them_do_not_weigh_on_the_state_machine() -> None:
    arrivals = Arrivals()
    arrivals.deliver(*(created(f"{PROBE}{number}") for number in range(MOST_PROBES_TOLD + 5)))
    arrivals.settle()
    (run,) = arrivals.runs
    assert len(run["trigger"]["probes"]) == MOST_PROBES_TOLD
