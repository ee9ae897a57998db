from __future__ import annotations

import json
import random
from typing import Any

import pytest

from tests.unit.winnow.runs import RUN_ID, STAGES, Pipeline
from winnow import Record, worker
from winnow.batch.opening import detect, open_source
from winnow.batch.plan import find_id, read_plan
from winnow.batch.rows import RowSpan, SourceRef
from winnow.batch.selection import Selection, SelectionPart, SelectionSource, read_selection
from winnow.core import keys
from winnow.core.contract import Pointer, SourceFormat
from winnow.core.errors import StageInputError
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.proof.prove import prove
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

REPLAY = "01JD7ZK3V5Q8W9X0Y1Z2A3B4R1"
MANY = 3_000


@worker
def keep(record: Record) -> object:
    return record.data


def chosen(pipeline: Pipeline, stage: str, *ids: str, run_id: str = RUN_ID) -> SelectionPart:
    plan = read_plan(pipeline.ledger, StageKeys(run_id, stage))
    found = [find_id(pipeline.ledger, plan, each) for each in ids]
    return SelectionPart(run_id=run_id, stage=stage, ordinals=Ranges.of(n for n in found if n is not None))


def rows(source: SelectionSource, *runs: RowSpan) -> dict[int, tuple[str, Any]]:
    return {
        chunk.ordinal + offset: source.decode(row)
        for chunk in source.chunks(runs)
        for offset, row in enumerate(chunk.rows)
    }


def replay(pipeline: Pipeline, start_at: str, *parts: SelectionPart, run_id: str = REPLAY) -> None:
    key = keys.replay_selection(run_id)
    pipeline.ledger.write_json(key, Selection(parts=parts).to_json())
    records = pipeline.ledger.pointer(key)
    pipeline.run({"replay": {"id": run_id}, "start_at": start_at, "records": records}, run_id)


class TestRows:
    def two_runs(self) -> tuple[Ledger, SelectionSource, list[str]]:
        """Two runs over different lists, and every third record of both."""
        pipeline = Pipeline({"keep": keep})
        parts = []
        wanted: list[str] = []
        for run_id in ("R1", "R2"):
            records = [{"id": f"{run_id}-{n}", "n": n} for n in range(MANY)]
            text = "\n\n".join(map(json.dumps, records))  # blank lines are no rows of the batch
            pipeline.ledger.store.put(f"{run_id}.ndjson", text.encode())
            pipeline.run({"records": {"bucket": "ledger", "key": f"{run_id}.ndjson"}}, run_id)
            parts.append(SelectionPart(run_id=run_id, stage="keep", ordinals=Ranges.of(range(1, MANY, 3))))
            wanted += [f"{run_id}-{n}" for n in range(1, MANY, 3)]
        source = SelectionSource(pipeline.ledger.store, Selection(parts=tuple(parts)), open_source)
        return pipeline.ledger, source, wanted

    def test_are_those_of_every_part_in_order(self) -> None:
        _, source, wanted = self.two_runs()
        assert [i for piece in source.ids() for i in piece] == wanted
        found = rows(source, RowSpan(0, 0, len(wanted)))
        assert [found[n][0] for n in range(len(wanted))] == wanted
        assert found[3][1] == {"id": "R1-10", "n": 10}

    def test_keep_their_ordinals_however_scattered_they_are_wanted(self) -> None:
        _, source, wanted = self.two_runs()
        some = sorted(random.Random(1).sample(range(len(wanted)), 200))
        # The rows before the first were dropped from the batch, so ordinals and rows differ.
        runs = [RowSpan(row, row - some[0], 1) for row in some]
        found = rows(source, *runs)
        assert {n: i for n, (i, _) in found.items()} == {row - some[0]: wanted[row] for row in some}

    def test_of_a_part_are_read_in_one_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        ledger, source, wanted = self.two_runs()
        streamed: list[str] = []
        stream = ledger.store.stream

        def counting(key: str, **more: Any) -> Any:
            streamed.append(key)
            return stream(key, **more)

        monkeypatch.setattr(ledger.store, "stream", counting)
        assert (
            len(rows(source, *(RowSpan(row, row, 1) for row in range(0, len(wanted), 2)))) == len(wanted) // 2
        )
        assert streamed == ["R1.ndjson", "R2.ndjson"]


class TestASelection:
    @pytest.mark.parametrize(
        "document",
        [
            b"{",
            b'{"winnow":"selection/2","parts":[]}',
            b'{"winnow":"selection/1"}',
            b'{"winnow":"selection/1","parts":[{"run_id":"R","stage":"s","ordinals":[2,1]}]}',
        ],
    )
    def test_that_no_replay_wrote_is_refused(self, document: bytes) -> None:
        store = MemoryStore("ledger")
        store.put("s.json", document)
        with pytest.raises(StageInputError, match="is no selection"):
            read_selection(store, Pointer(bucket="ledger", key="s.json"), None)

    def test_is_known_by_its_beginning(self) -> None:
        ledger = Ledger(MemoryStore("ledger"))
        ledger.write_json("s.json", Selection(parts=()).to_json())
        pointer = Pointer(bucket="ledger", key="s.json")
        found = detect(ledger.store, pointer)
        assert isinstance(found, SourceRef)
        assert found.format is SourceFormat.SELECTION


class TestAReplay:
    def test_is_proved_like_any_run(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({"records": ["a", "bad1", "bad2", "twin", "flaky"]})
        replay(pipeline, "adapt", chosen(pipeline, "adapt", "bad2", "flaky", "a"))
        proof = prove(pipeline.ledger, REPLAY, status="SUCCEEDED")
        assert proof.holds, proof.all_problems
        assert proof.finished
        assert [(stage.records_in, stage.failed) for stage in proof.stages] == [(3, 2), (1, 0), (1, 0)]

    def test_in_the_middle_of_the_pipeline_reads_what_the_stage_before_made_then(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({"records": ["a", "b", "twin"]})
        replay(pipeline, "transform", chosen(pipeline, "transform", "twin-2", "b"))
        proof = prove(pipeline.ledger, REPLAY, status="SUCCEEDED")
        assert proof.holds, proof.all_problems
        assert [stage.stage for stage in proof.stages] == ["transform", "mint"]
        plan = read_plan(pipeline.ledger, StageKeys(REPLAY, "mint"))
        assert plan.count == 2

    def test_of_a_record_that_two_runs_failed_in_takes_it_once(self) -> None:
        pipeline = Pipeline(STAGES)
        for run_id in ("R1", "R2"):
            pipeline.run({"records": ["a", "bad1"]}, run_id)
        parts = [chosen(pipeline, "adapt", "bad1", run_id=run_id) for run_id in ("R1", "R2")]
        replay(pipeline, "adapt", *parts, chosen(pipeline, "adapt", "a", run_id="R1"))
        proof = prove(pipeline.ledger, REPLAY)
        assert proof.holds, proof.all_problems
        assert (proof.stages[0].records_in, proof.stages[0].repetitions.duplicates) == (2, 1)

    def test_whose_selection_was_changed_afterwards_does_not_hold(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({"records": ["a", "b", "c"]})
        replay(pipeline, "adapt", chosen(pipeline, "adapt", "a"))
        selection = Selection(parts=(chosen(pipeline, "adapt", "b"),)).to_json()
        pipeline.ledger.write_json(keys.replay_selection(REPLAY), selection)
        stage = prove(pipeline.ledger, REPLAY).stages[0]
        assert stage.problems or any("could not be read again" in note for note in stage.notes)
