from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.winnow.stages import KEYS, Stage, journal, outputs_of
from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.journal.evidence import Evidence, fold, read_segments
from winnow.journal.segment import MAX_REASONS, OutputIds, OutputSegment, Segment, Stop
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.storage.ledger import Ledger, compress
from winnow.testing import MemoryStore

ATTEMPT = KEYS.attempt(0)


def stage_of(count: int) -> Stage:
    stage = Stage()
    stage.plan([f"r{n}" for n in range(count)])
    return stage


def lines_of(stage: Stage, evidence: Evidence) -> list[tuple[str, Any]]:
    """What a reader of the evidence's outputs sees."""
    manifest = SuccessManifest(
        run_id="r",
        stage="s",
        records=0,
        lines=sum(entry.lines for entry in evidence.entries),
        lost_in_run=0,
        entries=evidence.entries,
    )
    return outputs_of(stage.store, manifest)


def test_a_segment_survives_the_ledger() -> None:
    stage = stage_of(20)
    written = journal(
        stage,
        succeeded=[0, 1, 2],
        skipped=[5],
        failed={Kind.PERMANENT: [6], Kind.CRASHED: [8, 9]},
        in_hand=Ranges.of([10]),
        warnings=2,
        warned={"odd": 2},
        skip_reasons={"deleted": 1},
        lies=3,
        stop=Stop.DEPENDENCY,
        cause="refused",
        whole=True,
    )
    assert stage.segments() == [written]


def test_a_segment_is_stored_in_this_shape() -> None:
    """Workers and Settle of different versions read each other's segments."""
    segment = Segment(
        batch="digest",
        invocation="INV1",
        sequence=2,
        succeeded=Ranges.span(0, 3),
        skipped=Ranges.of([5]),
        failed={Kind.PERMANENT: Ranges.of([6])},
        outputs=OutputSegment(key="out", ids_key="ids", lines=3, digest="d", ids_digest="e"),
        stop=Stop.TIME,
        code_version="v1",
        written_at="2026-11-27T10:00:00.000Z",
    )
    assert json.loads(json.dumps(segment.to_json())) == {
        "batch": "digest",
        "invocation": "INV1",
        "sequence": 2,
        "succeeded": [0, 3],
        "skipped": [5, 6],
        "failed": {"permanent": [6, 7]},
        "outputs": {
            "key": "out",
            "ids_key": "ids",
            "lines": 3,
            "digest": "d",
            "ids_digest": "e",
            "own_ids": False,
        },
        "failures_key": None,
        "horizon": 0,
        "in_hand": [],
        "warnings": 0,
        "skip_reasons": {},
        "warned": {},
        "lies": 0,
        "stop": "time",
        "cause": "",
        "whole": False,
        "code_version": "v1",
        "written_at": "2026-11-27T10:00:00.000Z",
    }


def test_output_ids_are_stored_in_this_shape() -> None:
    stored = {"ids": ["a", "b"], "of": [0, 7], "contents": ["0f", None], "joins": [[0, 3], [7]]}
    assert OutputIds.from_json(stored).to_json() == stored


def test_successes_are_stored_in_this_shape() -> None:
    whole = SuccessEntry(key="k0", ids_key="i0", lines=3, digest="d0", ids_digest="e0", own_ids=True)
    part = SuccessEntry(key="k1", ids_key="i1", lines=1, digest="d1", ids_digest="e1", accept=Ranges.of([4]))
    manifest = SuccessManifest(
        run_id="r", stage="s", records=4, lines=4, lost_in_run=1, entries=(whole, part)
    )
    assert json.loads(json.dumps(manifest.to_json())) == {
        "winnow": "successes/1",
        "run_id": "r",
        "stage": "s",
        "records": 4,
        "lines": 4,
        "lost_in_run": 1,
        "entries": [
            {
                "key": "k0",
                "ids_key": "i0",
                "lines": 3,
                "digest": "d0",
                "ids_digest": "e0",
                "own_ids": True,
            },
            {
                "key": "k1",
                "ids_key": "i1",
                "lines": 1,
                "digest": "d1",
                "ids_digest": "e1",
                "accept": [4, 5],
            },
        ],
    }


def test_segments_prove_what_they_name_and_nothing_else() -> None:
    stage = stage_of(10)
    journal(stage, succeeded=[0, 1, 2], skipped=[3])
    journal(stage, sequence=1, succeeded=[5], failed={Kind.TRANSIENT: [6]}, stop=Stop.TIME, cause="late")
    found = stage.evidence()
    assert found.succeeded == Ranges.of([0, 1, 2, 5])
    assert found.skipped == Ranges.of([3])
    assert found.failed == {Kind.TRANSIENT: Ranges.of([6])}
    assert (found.refused, found.repeated, found.recovered) == (0, 0, 0)
    assert (found.stop, found.cause) == (Stop.TIME, "late")
    assert [i for i, _ in lines_of(stage, found)] == ["out-0", "out-1", "out-2", "out-5"]


# What is not believed


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not gzip",
        compress(b"not json"),
        compress(b"[]"),
        compress(b'"text"'),
        compress(b"null"),
        compress(b"7"),
        compress(b"{}"),
        compress(b'{"batch": "\xff"}'),
        compress(b"{}")[:-4],
    ],
    ids=range(10),
)
def test_an_object_that_is_no_segment_is_counted_and_costs_nothing_else(body: bytes) -> None:
    stage = stage_of(4)
    stage.store.put(ATTEMPT.segment("AAA", 0), body)
    journal(stage, succeeded=[1, 2])
    found = stage.evidence()
    assert found.succeeded == Ranges.of([1, 2])
    assert found.refused == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"batch": None},
        {"batch": ["a"]},
        {"invocation": 7},
        {"sequence": "0"},
        {"succeeded": None},
        {"succeeded": [3, 1]},
        {"succeeded": [0, 10**40]},
        {"succeeded": "0-3"},
        {"skipped": [0, 1], "succeeded": [0, 1]},
        {"failed": []},
        {"failed": {"unlucky": [0, 1]}},
        {"failed": {"permanent": [1]}},
        {"outputs": "key"},
        {"outputs": {"key": "k"}},
        {"outputs": {"key": "k", "ids_key": "i", "lines": "9"}},
        {"failures_key": 5},
        {"horizon": "far"},
        {"horizon": None},
        {"in_hand": {}},
        {"lies": "many"},
        {"lies": -5},
        {"warnings": [1]},
        {"skip_reasons": ["a"]},
        {"skip_reasons": {"a": "b"}},
        {"warned": 3},
        {"stop": "bored"},
        {"cause": 9},
        {"written_at": 5},
        {"whole": "yes"},
    ],
    ids=str,
)
def test_a_segment_with_one_field_wrong_is_no_segment(changes: dict[str, Any]) -> None:
    stage = stage_of(4)
    good = journal(stage, succeeded=[1, 2]).to_json()
    stage.ledger.write_json(ATTEMPT.segment("AAA", 0), {**good, **changes})
    found = stage.evidence()
    assert found.succeeded == Ranges.of([1, 2])
    assert found.refused == 1


def test_a_segment_of_another_batch_is_refused() -> None:
    stage = stage_of(4)
    journal(stage, succeeded=[0, 1], batch="another", stop=Stop.END, horizon=99)
    found = stage.evidence()
    assert found.done == Ranges.empty()
    assert (found.refused, found.stop, found.horizon, found.entries) == (1, None, 0, ())


def test_claims_about_records_that_were_not_given_are_refused_one_by_one() -> None:
    stage = stage_of(4)
    journal(stage, succeeded=[2, 3, 4, 5, 900], failed={Kind.PERMANENT: [7]})
    found = stage.evidence()
    assert found.succeeded == Ranges.of([2, 3])
    assert found.failed == {}
    assert found.refused == 3
    assert [i for i, _ in lines_of(stage, found)] == ["out-2", "out-3"]


def test_what_a_batch_worker_claimed_of_others_is_counted() -> None:
    stage = stage_of(4)
    journal(stage, succeeded=[0], lies=4)
    assert stage.evidence().refused == 4


# What is told twice


def test_the_same_segment_twice_counts_once() -> None:
    stage = stage_of(6)
    segment = journal(stage, succeeded=[0, 1, 2])
    stage.ledger.write_json(ATTEMPT.segment("INV1", 7), segment.to_json())
    found = stage.evidence()
    assert found.succeeded == Ranges.of([0, 1, 2])
    assert found.repeated == 3
    assert [i for i, _ in lines_of(stage, found)] == ["out-0", "out-1", "out-2"]


def test_of_a_zombie_and_its_successor_each_record_counts_once_from_the_first_that_vouches() -> None:
    stage = stage_of(8)
    journal(stage, invocation="ZOMBIE", sequence=0, succeeded=[0, 1, 2, 3])
    journal(stage, invocation="NEXT", sequence=1, succeeded=[2, 3, 4, 5], skipped=[6])
    journal(stage, invocation="ZOMBIE", sequence=2, succeeded=[5, 7])
    found = stage.evidence()
    assert found.succeeded == Ranges.of([0, 1, 2, 3, 4, 5, 7])
    assert found.skipped == Ranges.of([6])
    assert found.repeated == 3
    lines = lines_of(stage, found)
    assert sorted(i for i, _ in lines) == [f"out-{n}" for n in (0, 1, 2, 3, 4, 5, 7)]
    assert {i: data["by"] for i, data in lines} == {
        "out-0": "ZOMBIE", "out-1": "ZOMBIE", "out-2": "ZOMBIE", "out-3": "ZOMBIE",
        "out-4": "NEXT", "out-5": "NEXT", "out-7": "ZOMBIE",
    }  # fmt: skip


def test_a_record_that_one_calls_succeeded_and_the_other_skipped_is_one_of_them() -> None:
    stage = stage_of(3)
    journal(stage, invocation="A", succeeded=[0, 1])
    journal(stage, invocation="B", sequence=1, skipped=[0, 1, 2])
    found = stage.evidence()
    assert (found.succeeded, found.skipped) == (Ranges.of([0, 1]), Ranges.of([2]))


def test_outputs_that_join_records_count_as_a_whole_or_not_at_all() -> None:
    stage = stage_of(6)
    journal(stage, invocation="A", succeeded=[0, 1, 2], whole=True)
    journal(stage, invocation="B", sequence=1, succeeded=[2, 3], whole=True)
    found = stage.evidence()
    assert found.succeeded == Ranges.of([0, 1, 2])
    assert [i for i, _ in lines_of(stage, found)] == ["out-0", "out-1", "out-2"]


def test_without_a_ledger_at_hand_an_overlapping_segment_with_outputs_is_left_out() -> None:
    stage = stage_of(6)
    journal(stage, invocation="A", succeeded=[0, 1])
    journal(stage, invocation="B", sequence=1, succeeded=[1, 2])
    journal(stage, invocation="C", sequence=2, skipped=[1, 3])
    segments = stage.segments()
    found = fold(segments, digest=stage.the_plan.digest, order=stage.the_plan.everything)
    assert (found.succeeded, found.skipped) == (Ranges.of([0, 1]), Ranges.of([3]))


# Reports


def test_a_record_that_is_done_is_not_failed_even_if_a_failure_was_reported() -> None:
    stage = stage_of(4)
    journal(stage, invocation="A", failed={Kind.TRANSIENT: [0, 1], Kind.PERMANENT: [2]})
    journal(stage, invocation="B", sequence=1, succeeded=[0, 2], failed={Kind.TRANSIENT: [1]})
    found = stage.evidence()
    assert found.failed == {Kind.TRANSIENT: Ranges.of([1])}
    assert found.recovered == 2


def test_the_last_report_of_a_record_tells_its_kind() -> None:
    stage = stage_of(4)
    journal(stage, invocation="A", failed={Kind.TRANSIENT: [0, 1, 2]})
    journal(stage, invocation="B", sequence=1, failed={Kind.PERMANENT: [0], Kind.CRASHED: [1]})
    found = stage.evidence()
    assert found.failed == {
        Kind.PERMANENT: Ranges.of([0]),
        Kind.CRASHED: Ranges.of([1]),
        Kind.TRANSIENT: Ranges.of([2]),
    }


def test_a_segment_that_gives_one_record_two_kinds_is_believed_once() -> None:
    stage = stage_of(4)
    journal(stage, failed={Kind.TRANSIENT: [0, 1], Kind.PERMANENT: [1]})
    journal(stage, sequence=1, failed={Kind.TRANSIENT: [3]})
    failed = stage.evidence().failed
    assert sum(len(ordinals) for ordinals in failed.values()) == 3


def test_adds_up_counts_and_keeps_different_reasons_up_to_a_limit() -> None:
    stage = stage_of(400)
    for n in range(4):
        reasons = {f"reason {n}-{m}": 1 for m in range(40)}
        journal(
            stage,
            sequence=n,
            skipped=range(40 * n, 40 * n + 40),
            warnings=40,
            skip_reasons={**reasons, "common": 5},
            warned={**reasons, "common": 5},
        )
    found = stage.evidence()
    assert found.warnings == 160
    for told in (found.skip_reasons, found.warned):
        assert len(told) <= MAX_REASONS + 1
        assert sum(told.values()) == 4 * 45
        assert told["common"] == 20
        assert told["other"] > 0


def test_the_last_word_on_why_the_worker_stopped_is_the_last_that_was_written() -> None:
    stage = stage_of(4)
    journal(stage, invocation="A", stop=Stop.ERROR, cause="setup")
    journal(stage, invocation="B", sequence=1, succeeded=[0])
    journal(stage, invocation="B", sequence=2, stop=Stop.END)
    assert stage.evidence().stop is Stop.END


segments: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {
        "succeeded": st.sets(st.integers(0, 14), max_size=8),
        "skipped": st.sets(st.integers(0, 14), max_size=4),
        "failed": st.sets(st.integers(0, 14), max_size=4),
        "foreign": st.booleans(),
        "whole": st.sampled_from([False, False, True]),
    }
)


@given(st.lists(segments, max_size=6), st.sets(st.integers(0, 11)))
def test_whatever_the_segments_each_record_is_in_one_place_and_each_output_once(
    written: list[dict[str, Any]], order: set[int]
) -> None:
    stage = stage_of(12)
    for n, one in enumerate(written):
        journal(
            stage,
            invocation=f"INV{n % 3}",
            sequence=n,
            succeeded=one["succeeded"],
            skipped=one["skipped"] - one["succeeded"],
            failed={Kind.TRANSIENT: one["failed"]},
            whole=one["whole"],
            batch="foreign" if one["foreign"] else stage.the_plan.digest,
        )
    digest = stage.the_plan.digest
    found = fold(
        read_segments(stage.ledger, ATTEMPT), digest=digest, order=Ranges.of(order), ledger=stage.ledger
    )
    believed = [one for one in written if not one["foreign"]]
    parts = [found.succeeded, found.skipped, *found.failed.values()]
    assert sum(map(len, parts)) == len(set().union(*map(set, parts)))
    assert set(found.done) <= order & set().union(*(one["succeeded"] | one["skipped"] for one in believed))
    if not any(one["whole"] for one in believed):
        assert set(found.done) == order & set().union(
            *(one["succeeded"] | one["skipped"] for one in believed)
        )
    assert sorted(i for i, _ in lines_of(stage, found)) == sorted(f"out-{n}" for n in found.succeeded)


def test_reads_the_segments_of_one_attempt_in_order_of_their_keys() -> None:
    stage = stage_of(4)
    journal(stage, invocation="B", sequence=1)
    journal(stage, invocation="A", sequence=10)
    journal(stage, invocation="A", sequence=9)
    journal(stage, attempt=1, invocation="A")
    found = stage.segments()
    assert [(s.invocation, s.sequence) for s in found if s] == [("A", 9), ("A", 10), ("B", 1)]


def test_a_manifest_is_known_by_its_first_bytes() -> None:
    ledger = Ledger(MemoryStore())
    manifest = SuccessManifest(run_id="r", stage="s", records=1, lines=1, lost_in_run=0, entries=())
    ledger.write_json("successes.json", manifest.to_json())
    assert ledger.store.get("successes.json").body.startswith(SuccessManifest.MAGIC)
    assert SuccessManifest.from_json(json.loads(ledger.store.get("successes.json").body)) == manifest
    with pytest.raises(ValueError, match="unknown format of successes: successes/9"):
        SuccessManifest.from_json({**manifest.to_json(), "winnow": "successes/9"})


def test_a_segment_tells_what_it_reports_and_what_is_done() -> None:
    segment = Segment(
        batch="b",
        invocation="i",
        sequence=0,
        succeeded=Ranges.of([0]),
        skipped=Ranges.of([1]),
        failed={Kind.PERMANENT: Ranges.of([2]), Kind.TRANSIENT: Ranges.of([3])},
    )
    assert segment.done == Ranges.of([0, 1])
    assert segment.reported == Ranges.of([2, 3])
