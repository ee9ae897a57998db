from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.winnow.runs import RUN_ID, STAGES, Pipeline, adapt, bundle, mint
from winnow import Record, worker
from winnow.batch.plan import BLOCK_IDS, read_plan
from winnow.core.contract import Pointer
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.core.ranges import Ranges
from winnow.core.repetitions import Repetitions
from winnow.journal.segment import Segment
from winnow.proof.feed import Feed
from winnow.proof.prove import Proof, Reached, StageProof, prove
from winnow.proof.trace import MAX_FOLLOWED, Outcome, trace
from winnow.storage.ledger import compress, digest_of
from winnow.testing import MemoryStore

RECORDS = ["a", "b~1", "b~2", "bad1", "flaky", "skip1", "twin", "a"]


@pytest.fixture
def pipeline() -> Pipeline:
    made = Pipeline(STAGES)
    made.run({"records": RECORDS})
    return made


def stage(proof: Proof, name: str) -> StageProof:
    return next(each for each in proof.stages if each.stage == name)


class TestAProofHolds:
    def test_for_a_run_with_failures_skips_duplicates_and_more_outputs_than_records(
        self, pipeline: Pipeline
    ) -> None:
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.all_problems == ()
        assert proof.finished
        assert proof.lost == 2
        assert stage(proof, "adapt") == StageProof(
            stage="adapt",
            reached=Reached.DONE,
            verdict="EXHAUSTED",
            records_in=7,
            succeeded=4,
            skipped=1,
            failed=2,
            repetitions=Repetitions(duplicates=1),
            outputs=5,
            tries=2,
            attempts=2,
        )
        assert stage(proof, "transform").records_in == 5
        assert (stage(proof, "mint").records_in, stage(proof, "mint").repetitions.duplicates) == (4, 1)

    def test_for_many_to_one(self) -> None:
        pipeline = Pipeline({"bundle": bundle, "mint": mint})
        pipeline.run({"records": [str(number) for number in range(25)]})
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.all_problems == ()
        assert (stage(proof, "bundle").succeeded, stage(proof, "bundle").outputs) == (25, 3)
        assert (stage(proof, "mint").records_in, stage(proof, "mint").repetitions.duplicates) == (1, 2)

    def test_for_rows_that_cannot_be_read(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.ledger.store.put("given.ndjson", b'"a"\n\n{broken\n{"id": 7}\n"line 3"\n"a"\n')
        pipeline.run({"records": {"bucket": "ledger", "key": "given.ndjson"}})
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.all_problems == ()
        assert (stage(proof, "adapt").succeeded, stage(proof, "adapt").failed) == (2, 2)

    def test_for_a_subset_with_an_id_that_the_source_does_not_have(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({"records": ["a", "b", "c", "c"], "only": ["c", "zebra"]})
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.all_problems == ()
        assert (stage(proof, "adapt").succeeded, stage(proof, "adapt").failed) == (1, 1)

    def test_for_a_batch_of_nothing(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({})
        assert prove(pipeline.ledger, RUN_ID, status="SUCCEEDED").holds

    def test_for_a_run_that_starts_at_a_later_stage(self, pipeline: Pipeline) -> None:
        successes = pipeline.ledger.pointer(pipeline.keys("adapt").successes)
        pipeline.run({"start_at": "transform", "records": successes}, run_id="later")
        proof = prove(pipeline.ledger, "later", status="SUCCEEDED")
        assert proof.all_problems == ()
        assert [each.stage for each in proof.stages] == ["transform", "mint"]

    def test_for_a_stage_in_which_nothing_succeeded(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({"records": ["bad1", "bad2"]})
        proof = prove(pipeline.ledger, RUN_ID, status="FAILED")
        assert proof.all_problems == ()
        assert stage(proof, "adapt").verdict == "TOTAL_FAILURE"
        assert stage(proof, "transform").reached is Reached.NOT_REACHED
        assert not proof.finished

    def test_for_a_run_that_was_stopped_half_way(self) -> None:
        pipeline = Pipeline(STAGES, stop_after=lambda name, attempt: (name, attempt) == ("adapt", 0))
        pipeline.run({"records": RECORDS})
        proof = prove(pipeline.ledger, RUN_ID, status="ABORTED")
        assert proof.holds
        adapt_proof = stage(proof, "adapt")
        assert (adapt_proof.reached, adapt_proof.succeeded, adapt_proof.outstanding) == (
            Reached.UNFINISHED,
            4,
            2,
        )
        assert adapt_proof.failed == 0

    def test_for_a_stage_that_was_settled_and_could_not_say_so(self) -> None:
        pipeline = Pipeline({"adapt": adapt})
        pipeline.run({"records": RECORDS})
        keys, store = pipeline.keys("adapt"), pipeline.ledger.store
        assert isinstance(store, MemoryStore)
        for key in (keys.successes, keys.result):
            del store.objects["ledger", key]
        proof = prove(pipeline.ledger, RUN_ID, status="FAILED")
        assert proof.holds
        assert not proof.finished
        assert stage(proof, "adapt").notes == ("it was settled, but its result was not written",)
        assert not prove(pipeline.ledger, RUN_ID, status="SUCCEEDED").holds

    def test_although_a_zombie_journals_after_its_attempt_was_settled(self, pipeline: Pipeline) -> None:
        keys = pipeline.keys("adapt")
        plan = pipeline.ledger.read_json(keys.plan)
        zombie = Segment(
            batch=plan["digest"],
            invocation="zombie",
            sequence=0,
            succeeded=Ranges.of([0, 4]),
            skipped=Ranges.empty(),
            failed={},
            written_at="2999-01-01T00:00:00Z",
        )
        pipeline.ledger.write_json(keys.attempt(0).segment("zombie", 0), zombie.to_json())
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.holds
        assert stage(proof, "adapt").late == 1

    def test_and_says_that_a_source_which_is_gone_was_not_compared(self) -> None:
        pipeline = Pipeline(STAGES)
        store = pipeline.ledger.store
        assert isinstance(store, MemoryStore)
        store.put("given.ndjson", b'"a"\n"b"\n')
        pipeline.run({"records": {"bucket": "ledger", "key": "given.ndjson"}})
        store.put("given.ndjson", b'"a"\n')
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.holds
        assert "the source could not be read again" in stage(proof, "adapt").notes[0]


Tamper = Callable[[Pipeline], None]


def of(name: str) -> StageKeys:
    return StageKeys(RUN_ID, name)


def settlement_says(**changes: list[int]) -> Tamper:
    """Change ranges of the first attempt's settlement of adapt."""
    return lambda pipeline: pipeline.change(
        of("adapt").attempt(0).settlement, lambda said: said.update(changes)
    )


def result_says(path: str, value: object) -> Tamper:
    *parents, last = path.split(".")

    def change(document: Any) -> None:
        for name in parents:
            document = document[name]
        document[last] = value

    return lambda pipeline: pipeline.change(of("adapt").result, change)


def manifest_says(change: Callable[[Any], Any]) -> Tamper:
    return lambda pipeline: pipeline.change(of("adapt").successes, change)


def plan_says(name: str, **changes: object) -> Tamper:
    return lambda pipeline: pipeline.change(of(name).plan, lambda said: said.update(changes))


def batch_is(name: str, *ids: str) -> Tamper:
    """Another list of ids, with a plan that agrees with it."""

    def tamper(pipeline: Pipeline) -> None:
        plan = read_plan(pipeline.ledger, of(name))
        pipeline.ledger.write_json(plan.block_key(0), list(ids))
        digest = hashlib.blake2b(json.dumps(list(ids)).encode(), digest_size=16).hexdigest()
        pipeline.change(of(name).plan, lambda said: said.update(digest=digest, count=len(ids)))

    return tamper


def remove(find: Callable[[str], bool]) -> Tamper:
    def tamper(pipeline: Pipeline) -> None:
        store = pipeline.ledger.store
        assert isinstance(store, MemoryStore)
        (key,) = [key for key in store.keys(of("adapt").prefix) if find(key)]
        del store.objects["ledger", key]

    return tamper


def failures_are(change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]) -> Tamper:
    def tamper(pipeline: Pipeline) -> None:
        key = of("adapt").failures
        lines = [json.loads(line) for line in pipeline.ledger.read_lines(key)]
        body = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in change(lines))
        pipeline.ledger.store.put(key, compress(body.encode()))

    return tamper


def sidecar_is(change: Callable[[Any], Any]) -> Tamper:
    """Other ids of an output segment, which all documents vouch for."""

    def tamper(pipeline: Pipeline) -> None:
        store = pipeline.ledger.store
        (key,) = [key for key in store.keys(of("adapt").prefix) if key.endswith(".ids.json.gz")]
        before = digest_of(store.get(key).body)
        pipeline.change(key, change)
        after = digest_of(store.get(key).body)
        for other in [key for key in store.keys(of("adapt").prefix) if "/failures" not in key]:
            text = json.dumps(pipeline.ledger.read_json(other)) if ".json" in other else ""
            if before in text:
                pipeline.ledger.write_json(other, json.loads(text.replace(before, after)))

    return tamper


def output_ids_are_changed(pipeline: Pipeline) -> None:
    (key,) = [key for key in pipeline.ledger.store.keys(of("mint").prefix) if key.endswith(".ids.json.gz")]
    pipeline.change(key, lambda said: said.update(ids=["x"] * 4))


def failures_where_nothing_failed(pipeline: Pipeline) -> None:
    pipeline.ledger.store.put(of("mint").failures, compress(b"{}\n"))


def garbage(pipeline: Pipeline) -> None:
    pipeline.ledger.store.put(of("adapt").successes, b"[]")


def a_stage_ran_after_an_unfinished_one(pipeline: Pipeline) -> None:
    pipeline.change(of("adapt").attempt(1).settlement, lambda said: said.update(verdict="RETRY"))


def outputs_are(change: Callable[[list[Any]], list[Any]], name: str = "adapt") -> Tamper:
    """Other lines in the body of an output segment, behind the back of all documents."""

    def tamper(pipeline: Pipeline) -> None:
        (key,) = [
            key
            for key in pipeline.ledger.store.keys(of(name).prefix)
            if key.endswith(".ndjson.gz") and "/outputs/" in key
        ]
        lines = [json.loads(line) for line in pipeline.ledger.read_lines(key)]
        pipeline.ledger.write_lines(key, (json.dumps(line) for line in change(lines)))

    return tamper


BODIES = {
    "emptied": outputs_are(lambda _: []),
    "a line dropped": outputs_are(lambda lines: lines[1:]),
    "a line doubled": outputs_are(lambda lines: [*lines, lines[0]]),
    "lines in another order": outputs_are(lambda lines: lines[::-1]),
    "another line": outputs_are(lambda lines: [lines[0] | {"data": {"title": "forged"}}, *lines[1:]]),
}


class TestBodies:
    """The outputs themselves are what the journal vouches for, or whoever reads them says so."""

    @pytest.mark.parametrize("change", BODIES)
    def test_that_were_changed_are_found_by_a_deep_proof(self, pipeline: Pipeline, change: str) -> None:
        assert prove(pipeline.ledger, RUN_ID, status="SUCCEEDED", deep=True).all_problems == ()
        BODIES[change](pipeline)
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED", deep=True)
        assert any(
            "is damaged: its body is not the one that was written" in each for each in proof.all_problems
        )

    @pytest.mark.parametrize("change", BODIES)
    def test_that_were_changed_are_not_handed_to_the_next_stage(self, change: str) -> None:
        calls: list[str] = []

        @worker
        def below(record: Record) -> object:
            calls.append(record.id)
            return {}

        pipeline = Pipeline({"adapt": adapt, "transform": below})
        run_stage = pipeline.run_stage

        def changed(run_id: str, stage: str, records: Pointer) -> Pointer | None:
            if stage == "transform":
                BODIES[change](pipeline)
            return run_stage(run_id, stage, records)

        pipeline.run_stage = changed  # type: ignore[method-assign]
        pipeline.run({"records": RECORDS})
        result = pipeline.ledger.read_json(of("transform").result)
        assert result["verdict"] == "TOTAL_FAILURE"
        assert "is damaged: its body is not the one that was written" in result["cause"]
        assert calls == []

    def test_whose_lines_are_not_what_their_list_of_ids_says_are_found_though_all_digests_agree(self) -> None:
        pipeline = Pipeline(STAGES)
        pipeline.run({"records": RECORDS})
        sidecar_is(lambda said: said.update(ids=[*said["ids"][:-1], "other"]))(pipeline)
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED", deep=True)
        assert any(
            "holds 1 lines that are not what its list of ids says" in each for each in proof.all_problems
        )


class TestAProofFails:
    """All that a bug in Winnow, or a person with write access, could make untrue."""

    @pytest.mark.parametrize(
        ("tamper", "problem"),
        [
            (
                settlement_says(succeeded=[0, 4, 6, 7]),
                "adapt: attempt 0 claims 1 records as done that no journal proves: Ranges(3)",
            ),
            (
                settlement_says(skipped=[0, 1, 5, 6]),
                "adapt: attempt 0 claims 1 records as done that no journal proves",
            ),
            (
                settlement_says(skipped=[0, 1, 5, 6]),
                "adapt: attempt 0 counts 1 records as succeeded and as skipped",
            ),
            (
                settlement_says(next=[0, 1, 4, 5]),
                "adapt: attempt 0 orders 1 records again that are done: Ranges(0)",
            ),
            (settlement_says(succeeded=[0, 4, 6, 8]), "adapt: attempt 1 forgets"),
            (
                remove(lambda key: "/000/journal/" in key),
                "adapt: attempt 0 claims 5 records as done that no journal proves",
            ),
            (
                result_says("counts.succeeded", 5),
                "adapt: the result's count 'succeeded' says 5, but the evidence says 4",
            ),
            (
                result_says("counts.failed", 0),
                "adapt: the result's count 'failed' says 0, but the evidence says 2",
            ),
            (result_says("verdict", "COMPLETE"), "adapt: the result's verdict says COMPLETE"),
            (result_says("output.failures", None), "adapt: the output's count of failures says 0"),
            (result_says("output.successes.count", 9), "adapt: the output's count of successes says 9"),
            (
                failures_are(lambda lines: lines[:1]),
                "adapt: the number of lines in the list of failures says 1, but the evidence says 2",
            ),
            (
                failures_are(lambda lines: [lines[0], lines[0]]),
                "adapt: the list of failures leaves out 1 outstanding records and names 0 that are not",
            ),
            (
                failures_are(lambda lines: [lines[0], {**lines[1], "record_id": "another id"}]),
                "adapt: the list of failures does not have the ids that the batch has in those places",
            ),
            (
                remove(lambda key: key.endswith("/adapt/failures.ndjson.gz")),
                "adapt: the ledger cannot be read: LedgerObjectMissing",
            ),
            (failures_where_nothing_failed, "mint: there is a list of failures, but nothing is outstanding"),
            (
                manifest_says(lambda said: said.update(records=7)),
                "adapt: the successes' count of records says 7",
            ),
            (manifest_says(lambda said: said.update(lines=4)), "adapt: the successes' count of lines says 4"),
            (
                manifest_says(lambda said: said.update(lost_in_run=0)),
                "adapt: the successes' count of records lost in the run",
            ),
            (
                manifest_says(lambda said: said.update(entries=said["entries"] * 2)),
                "adapt: the successes list other output segments than were settled",
            ),
            (
                manifest_says(lambda said: said.update(entries=said["entries"] * 2)),
                "that another segment has, too",
            ),
            (
                remove(lambda key: "/outputs/" in key and ".ids." not in key),
                "adapt: an output segment is missing: runs/",
            ),
            (output_ids_are_changed, ".ids.json.gz is damaged: its body is not the one that was written"),
            (
                manifest_says(lambda said: said["entries"][0].update(digest="0f")),
                "adapt: the successes list other output segments than were settled",
            ),
            (
                sidecar_is(lambda said: said.update(of=[0, 1, 2, 3, 6])),
                "holds outputs of 1 records that did not succeed",
            ),
            (
                sidecar_is(lambda said: said.update(ids=said["ids"][:3], of=said["of"][:3], contents=None)),
                "says 5, but the evidence says 3",
            ),
            (
                batch_is("transform", "a", "b~1", "b~2", "twin-1"),
                "transform: the plan's count of duplicates says 0, but the evidence says 1",
            ),
            (
                batch_is("transform", "a", "b~1", "b~2", "twin-1", "stranger"),
                "transform: 1 rows of its source are not what the batch has there: 'twin-2'",
            ),
            (
                batch_is("transform", "a", "b~1", "b~2", "twin-1", "a"),
                "transform: 1 ids are in the batch more than once: 'a'",
            ),
            (
                batch_is("mint", "a", "stranger", "twin-1", "twin-2"),
                "mint: 1 ids that the stage before handed on are not in the batch: 'b'",
            ),
            (plan_says("transform", digest="0" * 32), "transform: the plan's digest of the batch says 000"),
            (plan_says("transform", count=4), "transform: the plan's count of distinct records says 4"),
            (
                plan_says("transform", lost_upstream=0),
                "transform: the plan's count of records lost before says 0",
            ),
            (
                plan_says("mint", duplicates=0),
                "mint: the plan's count of duplicates says 0, but the evidence says 1",
            ),
            (plan_says("transform", dropped=[1, 2]), "rows of its source are not what the batch has there"),
            (garbage, "adapt: the ledger cannot be read: DamagedDocument: s3://ledger/"),
            (garbage, "transform: it ran, although the stage before is not done"),
            (a_stage_ran_after_an_unfinished_one, "the run succeeded, but stage adapt is unfinished"),
        ],
    )
    def test_where_the_ledger_contradicts_itself(
        self, pipeline: Pipeline, tamper: Tamper, problem: str
    ) -> None:
        tamper(pipeline)
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert not proof.holds
        assert any(problem in said for said in proof.all_problems), proof.all_problems

    def test_where_a_stage_was_given_something_else(self, pipeline: Pipeline) -> None:
        other = Pipeline(STAGES, ledger=pipeline.ledger)
        other.run({"records": RECORDS}, run_id="other")
        pipeline.change(
            of("transform").plan,
            lambda said: said["source"]["pointer"].update(key=StageKeys("other", "adapt").successes),
        )
        (problem,) = prove(pipeline.ledger, RUN_ID).all_problems
        assert problem == (
            "transform: it was given s3://ledger/runs/other/adapt/successes.json, "
            f"not s3://ledger/runs/{RUN_ID}/adapt/successes.json"
        )

    def test_where_a_run_succeeded_without_reaching_its_last_stage(self) -> None:
        pipeline = Pipeline(STAGES, stop_after=lambda name, _: name == "transform")
        pipeline.run({"records": ["a"]})
        assert prove(pipeline.ledger, RUN_ID, status="SUCCEEDED").problems == (
            "the run succeeded, but stage mint is not reached",
        )

    def test_and_the_report_says_where(self, pipeline: Pipeline) -> None:
        result_says("counts.failed", 0)(pipeline)
        report = json.loads(json.dumps(prove(pipeline.ledger, RUN_ID).to_json()))
        assert report["holds"] is False
        assert report["stages"][0]["problems"] == [
            "the result's count 'failed' says 0, but the evidence says 2"
        ]


class TestProving:
    def test_says_clearly_that_there_is_no_such_run(self, pipeline: Pipeline) -> None:
        with pytest.raises(LedgerObjectMissing, match="run nope is not in s3://ledger: check the id"):
            prove(pipeline.ledger, "nope")

    def test_goes_through_several_blocks_of_ids(self) -> None:
        pipeline = Pipeline({"adapt": adapt})
        count = BLOCK_IDS * 2 + 7
        pipeline.ledger.store.put("given.ndjson", "".join(f'"record-{n}"\n' for n in range(count)).encode())
        pipeline.run({"records": {"bucket": "ledger", "key": "given.ndjson"}})
        proof = prove(pipeline.ledger, RUN_ID, status="SUCCEEDED")
        assert proof.all_problems == ()
        assert proof.stages[0].succeeded == count

    @pytest.mark.parametrize("count", [1, 2, 3, 5, 100])
    def test_takes_lists_apart_as_it_needs(self, count: int) -> None:
        pieces = [[0, 1], [], [2], [3, 4, 5, 6], []]
        feed = Feed(pieces)
        taken = feed.take(count)
        assert taken + [value for piece in feed.rest() for value in piece] == list(range(7))
        assert len(taken) == min(count, 7)
        assert feed.take(1) == []


class TestTrace:
    def test_follows_a_record_to_the_end(self, pipeline: Pipeline) -> None:
        found = trace(pipeline.ledger, RUN_ID, "b~2")
        assert [(step.stage, step.record_id, step.outcome, step.outputs) for step in found.steps] == [
            ("adapt", "b~2", Outcome.SUCCEEDED, ("b~2",)),
            ("transform", "b~2", Outcome.SUCCEEDED, ("b",)),
            ("mint", "b", Outcome.SUCCEEDED, ("minted-b",)),
        ]

    def test_follows_all_that_a_record_became(self, pipeline: Pipeline) -> None:
        found = trace(pipeline.ledger, RUN_ID, "twin")
        assert [step.record_id for step in found.steps] == ["twin", "twin-1", "twin-2", "twin-1", "twin-2"]

    def test_says_why_a_record_failed(self, pipeline: Pipeline) -> None:
        for record_id, kind, attempt in (("bad1", "permanent", 0), ("flaky", "transient", 1)):
            (step,) = trace(pipeline.ledger, RUN_ID, record_id).steps
            assert (step.outcome, step.attempt) == (Outcome.FAILED, attempt)
            assert step.failure
            assert (step.failure.kind, step.failure.record_id) == (kind, record_id)

    def test_says_that_a_record_was_skipped(self, pipeline: Pipeline) -> None:
        (step,) = trace(pipeline.ledger, RUN_ID, "skip1").steps
        assert (step.outcome, step.attempt, step.outputs) == (Outcome.SKIPPED, 0, ())

    def test_says_what_is_still_outstanding_and_why(self) -> None:
        pipeline = Pipeline(STAGES, stop_after=lambda name, attempt: (name, attempt) == ("adapt", 0))
        pipeline.run({"records": RECORDS})
        (step,) = trace(pipeline.ledger, RUN_ID, "flaky").steps
        assert step.outcome is Outcome.OUTSTANDING
        assert step.failure
        assert step.failure.error_type == "TimeoutError"

    def test_finds_nothing_for_an_id_that_no_stage_was_given(self, pipeline: Pipeline) -> None:
        assert trace(pipeline.ledger, RUN_ID, "minted-a").steps == ()

    def test_begins_where_the_id_first_turns_up(self, pipeline: Pipeline) -> None:
        assert [step.stage for step in trace(pipeline.ledger, RUN_ID, "b").steps] == ["mint"]

    def test_finds_a_record_in_the_output_that_joins_it_with_others(self) -> None:
        pipeline = Pipeline({"bundle": bundle, "mint": mint})
        pipeline.run({"records": ["a", "b", "c"]})
        found = trace(pipeline.ledger, RUN_ID, "b")
        assert [(step.record_id, step.outputs) for step in found.steps] == [
            ("b", ("bundle",)),
            ("bundle", ("minted-bundle",)),
        ]

    def test_says_when_it_does_not_follow_everything(self, pipeline: Pipeline) -> None:
        many = {"ids": [str(n) for n in range(2_000)], "of": [0] * 2_000, "contents": None}
        sidecar_is(lambda side: side.update(many))(pipeline)
        found = trace(pipeline.ledger, RUN_ID, "a")
        assert found.cut
        assert len(found.steps[0].outputs) > MAX_FOLLOWED

    def test_can_be_told_as_json(self, pipeline: Pipeline) -> None:
        told = json.loads(json.dumps(trace(pipeline.ledger, RUN_ID, "bad1").to_json()))
        assert told["steps"][0]["outcome"] == "failed"
        assert told["cut"] is False
