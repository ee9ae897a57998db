"""Ids that come twice: in a list, and among a stage's outputs. What is the same is counted, what differs is never dropped in silence."""

from __future__ import annotations

import json

import pytest

from tests.integration.faults.app import COLLECT
from tests.integration.faults.lab import Lab, Run, about
from winnow.core.contract import Pointer

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

FEED = [
    {"id": "u1", "title": "older"},
    {"id": "u2", "title": "x"},
    {"id": "u1", "title": "NEWER, corrected"},
    {"id": "u2", "title": "x"},
]


def a_feed_that_repeats_an_id_with_newer_content(lab: Lab) -> Run:
    return lab.run("feed-repeats", FEED, start_at=COLLECT)


@about(a_feed_that_repeats_an_id_with_newer_content)
def test_a_row_with_other_content_fails_by_name_and_the_same_row_is_counted(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=["u1", "u2"], lost=[run.row_id(3)])
    assert (run.counts()["duplicates"], run.counts()["conflicts"]) == (1, 1)
    [alert] = run.alerts()
    [example] = alert["examples"]
    assert example["message"].startswith("line 3 has the id of line 1, 'u1', and other content")
    assert alert["counts"]["conflicts"] == 1


def an_array(lab: Lab) -> Run:
    body = json.dumps([{"id": f"q{n}", "title": "t"} for n in range(200)], indent=1).encode()
    return lab.run(
        "an-array",
        Pointer.from_event(lab.put_object("inputs/array.json", body), "records"),
        start_at=COLLECT,
    )


@about(an_array)
def test_an_indented_array_of_records_is_a_list(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=[f"q{n}" for n in range(200)])


WORKS = [
    {"id": "m1", "do": "name", "as": "w1", "n": 1},
    {"id": "m2", "do": "name", "as": "w1", "n": 2},
    {"id": "m3", "do": "name", "as": "w2", "n": 3},
    {"id": "m4", "do": "name", "as": "w2", "n": 3},
]


def outputs_that_share_an_id(lab: Lab) -> Run:
    return lab.run("shared-ids", WORKS)


@about(outputs_that_share_an_id)
def test_an_output_whose_id_is_taken_fails_its_record_and_the_same_output_is_counted(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    assert set(run.failures()) == {"m2"}
    assert run.failures()["m2"]["error_type"] == "OutputIdTaken"
    assert "which an output of record 'm1' has" in run.failures()["m2"]["message"]
    assert dict(run.successes(COLLECT)).keys() == {"w1", "w2"}
    assert (run.counts()["conflicts"], run.counts()["same_outputs"]) == (1, 1)
    run.assert_conserved()
    run.assert_alerted({"m2"})


LEAKY = [{"id": f"leak-{number:02}", "do": "leak", "limit": 25} for number in range(60)]


def a_worker_that_leaks(lab: Lab) -> Run:
    """Its process has room for 25 records; what is left goes on in new ones."""
    return lab.run("leaks", LEAKY)


@about(a_worker_that_leaks)
def test_a_process_that_is_used_up_is_left_and_no_record_is_lost(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=[str(each["id"]) for each in LEAKY])
    # The emulator calls it a HandlerError, which is tried again in place; Lambda calls it an ExitError, which is not.
    assert {each.split(".")[0] for each in run.task_failures(run.executions()[0])} == {"Runtime"}
