"""Runs that overlap, and outputs that are changed between two stages."""

from __future__ import annotations

import json

import pytest

from tests.integration.faults.app import COLLECT, PATIENT
from tests.integration.faults.lab import Lab, Run, about, await_, takes_long
from winnow.core.contract import Pointer
from winnow.journal.evidence import read_segments
from winnow.proof.prove import prove
from winnow.register.entry import Status
from winnow.register.table import RegisterTable

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("faults")]

WORSE = "worse-and-worse"


@takes_long
def settled_last(lab: Lab) -> Run:
    """B succeeds with a record, A fails with it, and B settles last because of another record, which is slow."""
    slow = {"id": "slow-one", "do": "work", "seconds": 25}
    later = lab.start("overlap-b", [WORSE, slow])
    keys = later.keys(PATIENT)

    def has_done_the_first() -> bool | None:
        segments = read_segments(later.ledger, keys.attempt(0))
        return any(0 in segment.succeeded for segment in segments if segment) or None

    await_("the first segment of B", has_done_the_first, lab=lab)
    lab.run("overlap-a", [f"{WORSE}-good", {"id": WORSE, "do": "reject"}])
    return later.ended()


@about(settled_last)
def test_a_success_from_before_a_failure_does_not_resolve_it(run: Run) -> None:
    assert run.status() == "SUCCEEDED", run.cause()
    variables = run.lab.function("register")["Environment"]["Variables"]
    register = RegisterTable(variables["WINNOW_REGISTER_TABLE"], run.lab.dynamodb)
    entry = register.find(run.pipeline.name, PATIENT, WORSE)
    assert entry
    assert (entry.status, entry.last.run_id) == (Status.OPEN, "overlap-a")


GOOD = [f"kept-{number:02}" for number in range(10)]


def changed_behind_its_back(lab: Lab) -> Run:
    """A line of an output segment is dropped, and then the next stage is given the segments."""
    first = lab.run("body-changed", GOOD)
    [key] = [
        key
        for key in first.ledger.store.keys(first.keys(PATIENT).attempts)
        if "/outputs/" in key and ".ids." not in key
    ]
    lines = [json.loads(line) for line in first.ledger.read_lines(key)]
    first.ledger.write_lines(key, (json.dumps(line) for line in lines[1:]))
    successes = first.ledger.pointer(first.keys(PATIENT).successes)
    return lab.run("body-read", Pointer.from_event(successes, "records"), start_at=COLLECT)


@about(changed_behind_its_back)
def test_a_changed_output_is_found_by_who_reads_it_and_by_a_deep_proof(run: Run) -> None:
    assert run.status() == "FAILED"
    assert "is damaged: its body is not the one that was written" in run.cause()
    proof = prove(run.ledger, "body-changed", status="SUCCEEDED", deep=True)
    assert any("its body is not the one that was written" in each for each in proof.all_problems)
    assert prove(run.ledger, "body-changed", status="SUCCEEDED").holds
