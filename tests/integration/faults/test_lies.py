"""Workers that say what is not so. What is outstanding stays right, and the lie is counted."""

from __future__ import annotations

import pytest

from tests.integration.faults.app import LIE
from tests.integration.faults.lab import Lab, Run, about

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]


def records(prefix: str) -> list[str]:
    """Ids that no other run has: a failure that is known from an earlier run is not alerted again."""
    return [f"{prefix}-{number:02}" for number in range(30)]


COUNTED, SWALLOWED, JOURNALED, JOINED = map(records, ("counted", "swallowed", "journaled", "joined"))


def counts_what_it_never_did(lab: Lab) -> Run:
    return lab.run("lie-counts", COUNTED, start_at=LIE)


@about(counts_what_it_never_did)
def test_believes_no_counts(run: Run) -> None:
    assert run.status() == "FAILED"
    run.assert_sound(good=[], lost=COUNTED)
    assert run.counts()["refused"] == len(COUNTED)
    assert {each["kind"] for each in run.failures().values()} == {"missing"}
    assert len(run.alerts()) == 1


def swallows_an_exception(lab: Lab) -> Run:
    return lab.run("lie-swallows", SWALLOWED, start_at=LIE)


@about(swallows_an_exception)
def test_takes_no_answer_for_no_work(run: Run) -> None:
    assert run.status() == "FAILED"
    run.assert_sound(good=[], lost=SWALLOWED)
    assert {each["kind"] for each in run.failures().values()} == {"missing"}
    assert len(run.alerts()) == 1


def journals_lies(lab: Lab) -> Run:
    halves = [
        {"id": record, "half": "done" if number % 2 else "undone"} for number, record in enumerate(JOURNALED)
    ]
    return lab.run("lie-journals", halves, start_at=LIE)


@about(journals_lies)
def test_refuses_a_journal_of_another_batch_of_records_not_given_and_of_nonsense(run: Run) -> None:
    """Half of the work was done; all of it, seven unknown records, the first half again and nonsense were claimed."""
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(good=JOURNALED)
    assert run.tries() == 2
    counts = run.counts()
    assert counts["refused"] >= 1 + 7 + 1 + 4
    assert counts["repeated"] == len(JOURNALED) / 2
    assert run.alerts() == []


def joins_what_it_was_not_given(lab: Lab) -> Run:
    rows = [{"id": record, "data": {"left_out": record == "joined-15"}} for record in JOINED]
    return lab.run("lie-joins", rows, start_at=LIE)


@about(joins_what_it_was_not_given)
def test_counts_a_record_that_no_output_names_as_not_done(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    run.assert_sound(
        good=["join-of-joined-00", "join-of-joined-10", "join-of-joined-20"],
        lost=["joined-15"],
    )
    assert run.counts()["succeeded"] == 29
    assert run.counts()["refused"] >= 3
