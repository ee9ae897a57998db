"""Records that kill their worker, or hold it up for ever, wherever in the batch they are."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.integration.faults.app import HASTY, PATIENT
from tests.integration.faults.lab import Lab, Run, about, takes_long

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

ENDLESS = ("loop", "hang")
GOOD = [f"good-{number:02}" for number in range(40)]


def killed_by(what: str, where: str) -> Callable[[Lab], Run]:
    """A run whose batch has one killer first or in the middle, or five all over it."""
    places = {"first": [0], "in-the-middle": [20], "five-times": [0, 11, 12, 29, 44]}[where]

    def drive(lab: Lab) -> Run:
        records: list[dict[str, str] | str] = [*GOOD]
        for number, place in enumerate(places):
            records.insert(place, {"id": f"{what}-{where}-{number}", "do": what})
        return lab.run(f"{what}-{where}", records, start_at=HASTY if what in ENDLESS else PATIENT)

    drive.__name__ = f"{what}-{where}"
    return takes_long(drive) if what in ENDLESS else drive


def lost_in(run: Run) -> list[str]:
    return [f"{run.run_id}-{number}" for number in range(5 if run.run_id.endswith("five-times") else 1)]


@about(
    killed_by("exit", "first"),
    killed_by("exit", "in-the-middle"),
    killed_by("exit", "five-times"),
    killed_by("kill", "five-times"),
)
def test_isolates_records_that_end_their_worker(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=lost_in(run))
    assert {(each["kind"], each["error_type"]) for each in run.failures().values()} == {
        ("crashed", "RecordKillsWorker")
    }
    assert run.tries() == 4


@about(
    killed_by("allocate", "first"),
    killed_by("allocate", "in-the-middle"),
    killed_by("allocate", "five-times"),
)
def test_isolates_records_that_allocate_past_the_memory_limit(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=lost_in(run))
    assert {each["kind"] for each in run.failures().values()} == {"crashed"}
    # Where the machine is so busy that filling the memory takes longer than a record may, that is why it is stopped.
    assert {each["error_type"] for each in run.failures().values()} <= {"MemoryError", "RecordHangs"}
    assert run.tries() == 4


@about(
    killed_by("loop", "first"),
    killed_by("hang", "in-the-middle"),
    killed_by("hang", "five-times"),
)
def test_isolates_records_that_never_end(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=lost_in(run))
    assert {(each["kind"], each["error_type"]) for each in run.failures().values()} == {
        ("crashed", "RecordHangs")
    }
    assert run.tries() == 4


def rejected_beside_a_killer(lab: Lab) -> Run:
    return lab.run(
        "rejected-beside-a-killer",
        [
            *GOOD[:10],
            {"id": "rejected", "do": "reject"},
            *GOOD[10:],
            {"id": "killer-beside-it", "do": "exit"},
        ],
    )


@about(rejected_beside_a_killer)
def test_alerts_what_is_permanent_at_once_and_the_rest_when_its_tries_are_used_up(run: Run) -> None:
    run.assert_sound(good=GOOD, lost=["rejected", "killer-beside-it"])
    at_once, at_the_end = sorted(run.alerts(), key=lambda alert: alert["attempt"])
    assert [example["record_id"] for example in at_once["examples"]] == ["rejected"]
    assert at_once["verdict"] == "RETRY"
    assert [example["record_id"] for example in at_the_end["examples"]] == ["killer-beside-it"]
    assert at_the_end["verdict"] == "EXHAUSTED"


@takes_long
def times_out_half_way(lab: Lab) -> Run:
    gate = lab.world.dependency.gate()
    url = lab.world.dependency.when(
        "times-out-half-way",
        lambda call: gate if call.record_id == "good-20" and call.nth == 1 else 200,
    )
    records = [{"id": record, "do": "call", "url": url} for record in GOOD]
    return lab.run("times-out-half-way", records, start_at=HASTY)


@about(times_out_half_way)
def test_keeps_what_a_worker_did_before_it_timed_out(run: Run) -> None:
    assert run.task_failures(run.executions()[0]) == ["Sandbox.Timedout"]
    run.assert_sound(good=GOOD)
    assert run.tries() == 2
    assert run.alerts() == []
    calls = run.lab.world.dependency.calls(run.run_id)
    assert [calls[record] for record in GOOD] == [1] * 20 + [2] + [1] * 19


def many(lab: Lab) -> list[str]:
    """At ten a second, twice as many as the hasty worker has time for."""
    return [f"good-{number:03}" for number in range(2 * lab.hasty_seconds * 10)]


@takes_long
def more_than_fits_the_time(lab: Lab) -> Run:
    records = [{"id": record, "do": "work", "seconds": 0.1} for record in many(lab)]
    return lab.run("more-than-fits-the-time", records, start_at=HASTY)


@about(more_than_fits_the_time)
def test_goes_on_after_running_out_of_time_without_spending_a_try(run: Run) -> None:
    """A worker that stops for time spends none; one that is held up so long that Lambda kills it does."""
    run.assert_sound(good=many(run.lab))
    executions = run.executions()
    killed = [each for each in executions if run.task_failures(each)]
    assert run.tries() == 1 + len(killed)
    assert len(executions) >= 3
    assert len(killed) < len(executions) - 1
    assert run.alerts() == []


@takes_long
def a_dozen_in_a_row(lab: Lab) -> Run:
    killers = [{"id": f"dozen-{number:02}", "do": "hang"} for number in range(12)]
    return lab.run("a-dozen-in-a-row", [*killers, *GOOD], start_at=HASTY)


@about(a_dozen_in_a_row)
def test_comes_to_the_good_records_after_more_killers_than_one_attempt_has_time_for(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=GOOD, lost=[f"dozen-{number:02}" for number in range(12)])
    assert run.tries() == 4
