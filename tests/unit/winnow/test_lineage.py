from __future__ import annotations

import pytest

from tests.unit.winnow.runs import RUN_ID, STAGES, Pipeline, adapt, bundle, mint
from winnow import Output, Record, worker
from winnow.batch.plan import find_id, read_plan
from winnow.batch.selection import Selection
from winnow.core.keys import StageKeys, replay_selection
from winnow.core.ranges import Ranges
from winnow.proof.lineage import Lineage, Place, parts_of, rows_of

REPLAY = "replay-0123456789abcdef"


def place(pipeline: Pipeline, stage: str, record_id: str, run_id: str = RUN_ID) -> Place:
    plan = read_plan(pipeline.ledger, StageKeys(run_id, stage))
    ordinal = find_id(pipeline.ledger, plan, record_id)
    assert ordinal is not None
    return Place(run_id, stage, ordinal)


def origins(pipeline: Pipeline, at: Place, stage: str) -> tuple[Place, ...]:
    return Lineage(pipeline.ledger).origins([at], stage)[at].places


def ran(*records: str) -> Pipeline:
    pipeline = Pipeline(STAGES)
    pipeline.run({"records": list(records)})
    return pipeline


def test_a_record_of_the_stage_itself_is_its_own_origin() -> None:
    pipeline = ran("a", "b")
    here = place(pipeline, "mint", "b")
    assert origins(pipeline, here, "mint") == (here,)


@pytest.mark.parametrize(("record", "source"), [("a", "a"), ("twin1-2", "twin1"), ("z", "z")])
def test_follows_records_up_through_stages_that_lost_skipped_renamed_and_multiplied(
    record: str, source: str
) -> None:
    pipeline = ran("bad1", "a", "skip1", "twin1", "b~1", "b~2", "flaky", "z")
    here = place(pipeline, "mint", record)
    assert origins(pipeline, here, "transform") == (place(pipeline, "transform", record),)
    assert origins(pipeline, here, "adapt") == (place(pipeline, "adapt", source),)


def test_of_repeated_ids_the_first_counts() -> None:
    pipeline = ran("b~1", "b~2", "c")
    assert origins(pipeline, place(pipeline, "mint", "b"), "adapt") == (place(pipeline, "adapt", "b~1"),)


def test_goes_through_many_segments_and_attempts() -> None:
    tried: set[str] = set()

    @worker
    def second_time_lucky(record: Record) -> object:
        if record.id.endswith("3") and record.id not in tried:
            tried.add(record.id)
            raise TimeoutError
        return Output({}, id=f"x{record.id}")

    pipeline = Pipeline({"adapt": second_time_lucky, "mint": mint})
    ids = [f"r{n}" for n in range(50)]
    pipeline.run({"records": ids})
    asked = {place(pipeline, "mint", f"x{i}"): place(pipeline, "adapt", i) for i in ids}
    found = Lineage(pipeline.ledger).origins(asked, "adapt")
    assert {here: origin.places for here, origin in found.items()} == {
        here: (above,) for here, above in asked.items()
    }


def test_an_output_that_joins_records_comes_from_all_of_them() -> None:
    pipeline = Pipeline({"adapt": adapt, "bundle": bundle, "mint": mint})
    ids = [f"r{n}" for n in range(25)]
    pipeline.run({"records": ids})
    found = origins(pipeline, place(pipeline, "mint", "bundle"), "adapt")
    assert sorted(each.ordinal for each in found) == list(range(10))


def replayed(pipeline: Pipeline, *places: Place, run_id: str = REPLAY) -> None:
    selection = Selection(parts=parts_of(places))
    key = replay_selection(run_id)
    pipeline.ledger.write_json(key, selection.to_json())
    pipeline.run({"records": pipeline.ledger.pointer(key), "start_at": places[0].stage}, run_id=run_id)


def test_goes_past_replays_to_the_run_that_was_none() -> None:
    pipeline = ran("a", "b", "c", "d")
    wanted = [place(pipeline, "transform", i) for i in ("b", "d")]
    replayed(pipeline, *wanted)
    again = place(pipeline, "transform", "d", REPLAY)
    replayed(pipeline, again, run_id=f"{REPLAY}2")
    here = place(pipeline, "mint", "d", f"{REPLAY}2")
    assert origins(pipeline, here, "transform") == (wanted[1],)
    assert origins(pipeline, here, "adapt") == (place(pipeline, "adapt", "d"),)


def test_the_chain_names_every_generation() -> None:
    pipeline = ran("a", "twin1")
    replayed(pipeline, place(pipeline, "mint", "twin1-1"))
    chain = list(Lineage(pipeline.ledger).chain(place(pipeline, "mint", "twin1-1", REPLAY)))
    assert [(some[0].run_id, some[0].stage) for some in chain] == [
        (REPLAY, "mint"),
        (RUN_ID, "mint"),
        (RUN_ID, "transform"),
        (RUN_ID, "adapt"),
    ]


def test_says_where_a_lineage_ends() -> None:
    pipeline = Pipeline(STAGES)
    pipeline.run({"records": ["a"], "start_at": "transform"})
    here = place(pipeline, "mint", "a")
    origin = Lineage(pipeline.ledger).origins([here], "adapt")[here]
    assert origin.places == ()
    assert origin.problem == f"its lineage ends at transform: run {RUN_ID} began there, with a list"


def test_says_when_the_evidence_is_gone() -> None:
    pipeline = ran("a")
    here = Place("01JD0000000000000000000000", "mint", 0)
    origin = Lineage(pipeline.ledger).origins([here], "adapt")[here]
    assert "is no longer in the ledger" in origin.problem


def test_a_record_that_was_in_no_row_has_none() -> None:
    pipeline = Pipeline(STAGES)
    pipeline.run({"records": ["a", "b"], "only": ["a", "unknown"]})
    here = place(pipeline, "adapt", "unknown")
    assert origins(pipeline, here, "adapt") == (here,)
    assert here.ordinal in read_plan(pipeline.ledger, StageKeys(RUN_ID, "adapt")).rejected


def test_reads_the_rows_of_ordinals() -> None:
    pipeline = Pipeline(STAGES)
    pipeline.run({"records": [{"id": i, "data": {"n": n}} for n, i in enumerate("abcde")]})
    plan = read_plan(pipeline.ledger, StageKeys(RUN_ID, "adapt"))
    found = list(rows_of(pipeline.ledger, plan, Ranges.of([1, 3, 4])))
    assert found == [(1, "b", {"n": 1}), (3, "d", {"n": 3}), (4, "e", {"n": 4})]
