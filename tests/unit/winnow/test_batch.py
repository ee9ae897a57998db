from __future__ import annotations

import gzip
import io
import json
from collections import Counter
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.winnow.stages import DIED, KEYS, RUN_ID, MoodyStore, Stage, journal
from winnow.batch.opening import detect, open_source
from winnow.batch.plan import BLOCK_IDS, find_id, ids_of
from winnow.batch.rows import SourceRef
from winnow.core import keys as ledger_keys
from winnow.core.contract import Kind, Pointer, SourceFormat, StageInput
from winnow.core.errors import DuplicateAttempt, StageInputError
from winnow.core.ranges import Ranges
from winnow.core.repeats import Repeats
from winnow.core.run_document import RunDocument
from winnow.journal.successes import SuccessEntry, SuccessManifest
from winnow.planning.batch_list import FEW_ROWS, BatchList
from winnow.planning.stage_planner import plan_stage
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore

SOURCE = {"bucket": "source", "key": "list.ndjson"}
REF = SourceRef(Pointer(bucket="source", key="list.ndjson"), SourceFormat.NDJSON, None)


def put(stage: Stage, *lines: object, key: str = "list.ndjson") -> None:
    """A list in the source bucket; bytes are a line as it is."""
    rows = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    stage.store.objects["source", key] = b"\n".join([*rows, b""])


def planned(*lines: object, **more: Any) -> Stage:
    stage = Stage()
    put(stage, *lines)
    stage.plan(SOURCE, **more)
    return stage


def fed(stage: Stage) -> dict[int, tuple[str, Any]]:
    """What a worker is given: id and data by ordinal."""
    plan = stage.the_plan
    source = open_source(stage.store, plan.source)
    runs = plan.runs(plan.everything - plan.rejected)
    return {
        chunk.ordinal + n: source.decode(row)[:2]
        for chunk in source.chunks(runs)
        for n, row in enumerate(chunk.rows)
    }


def rejected(stage: Stage) -> dict[int, tuple[str, str, str]]:
    """Record id, error type and message by ordinal, of what no worker is given."""
    return {
        report["ordinal"]: (report["record_id"], report["error_type"], report["message"])
        for segment in stage.segments()
        if segment and segment.failures_key
        for report in map(json.loads, stage.ledger.read_lines(segment.failures_key))
    }


def test_fixes_the_batch_as_distinct_ids_in_the_sources_order() -> None:
    stage = planned("b", {"id": "a", "data": {"n": 1}}, "c")
    plan = stage.the_plan
    assert (plan.count, plan.duplicates, plan.dropped, plan.rejected) == (
        3,
        0,
        Ranges.empty(),
        Ranges.empty(),
    )
    assert stage.batch_ids() == ["b", "a", "c"]
    assert fed(stage) == {0: ("b", None), 1: ("a", {"n": 1}), 2: ("c", None)}


def test_the_order_speaks_of_the_whole_batch_and_carries_no_record() -> None:
    stage = Stage()
    put(stage, *(f"record-{n}" for n in range(2_000)))
    order = stage.plan(SOURCE, try_count=1)
    assert (order.attempt, order.try_count, order.count) == (0, 1, 2_000)
    assert "record-" not in json.dumps(order.to_payload())
    assert len(json.dumps(order.to_payload())) < 600


def test_inline_records_are_moved_to_the_ledger_at_once() -> None:
    stage = Stage()
    order = stage.plan([{"id": "a", "data": {"x": "ü👍"}}, "b"])
    assert order.count == 2
    assert fed(stage) == {0: ("a", {"x": "ü👍"}), 1: ("b", None)}
    assert (stage.store.bucket, KEYS.input) in stage.store.objects


def test_a_batch_of_zero_is_a_batch() -> None:
    stage = planned()
    assert stage.the_plan.count == 0
    assert stage.batch_ids() == []


@pytest.mark.parametrize(
    "lines",
    [
        ["a", "b", "a", "c", "b", "a"],
        ["a", "a"],
        [{"id": "a", "x": 1, "y": 2}, {"y": 2, "x": 1, "id": "a"}, "b"],
        ["a", b"", "b", b"  ", "a", b"", "c"],
    ],
)
def test_each_distinct_record_is_in_the_batch_once_and_repetitions_are_counted(lines: list[Any]) -> None:
    stage = planned(*lines)
    names = [line["id"] if isinstance(line, dict) else line for line in lines if not isinstance(line, bytes)]
    distinct = list(dict.fromkeys(names))
    assert stage.batch_ids() == distinct
    assert stage.the_plan.duplicates == len(names) - len(distinct)
    assert [i for i, _ in fed(stage).values()] == distinct


def test_ids_that_only_share_a_hash_are_different_records(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("planning.batch_list", "batch.ndjson", "core.repeats"):
        monkeypatch.setattr(f"winnow.{module}.hash", lambda value: len(value) % 3, raising=False)
    stage = planned("a", "bb", "c", "dd", "a", "ccc")
    assert stage.batch_ids() == ["a", "bb", "c", "dd", "ccc"]
    assert stage.the_plan.duplicates == 1


def test_each_defect_costs_only_itself_and_is_recorded_with_its_line() -> None:
    stage = planned("a", b"{broken", {"no": "id"}, b"", {"id": "x\ny"}, {"id": 5}, b'"\xff"', {"id": ""}, "b",
                    {"id": "\ud800"}, {"id": "z" * 1025}, {"id": None, "data": 1})  # fmt: skip
    assert [i for i, _ in fed(stage).values()] == ["a", "b"]
    assert stage.the_plan.count == 11
    found = {
        message.split(":")[0].split(" is")[0].split(" has")[0]: kind
        for _, kind, message in rejected(stage).values()
    }
    assert found == {
        "line 2": "UnreadableRow", "line 3": "UnreadableRow", "line 5": "UnusableId", "line 6": "UnusableId",
        "line 7": "UnreadableRow", "line 8": "UnusableId", "line 10": "UnusableId", "line 11": "UnusableId",
        "line 12": "UnreadableRow",
    }  # fmt: skip
    evidence = stage.evidence()
    assert evidence.failed == {Kind.PERMANENT: stage.the_plan.rejected}
    assert len(stage.the_plan.rejected) == 9


def test_defects_and_repetitions_together_leave_every_good_record_in_its_place() -> None:
    stage = planned("a", b"{", "a", "b", b"", b"[", "b", "c")
    plan = stage.the_plan
    assert plan.count == 5
    assert plan.duplicates == 2
    assert fed(stage) == {0: ("a", None), 2: ("b", None), 4: ("c", None)}
    assert sorted(rejected(stage)) == [1, 3]
    assert [stage.batch_ids()[n] for n in (0, 2, 4)] == ["a", "b", "c"]


ID = st.one_of(st.sampled_from("abc"), st.text(min_size=1, max_size=5))
ROW = st.one_of(
    ID, st.builds(lambda i, n: {"id": i, "data": n}, ID, st.integers()), st.sampled_from([b"", b"{", b"5"])
)


@given(st.lists(ROW, max_size=FEW_ROWS - 1))
def test_whatever_the_list_each_row_is_a_record_a_rejection_a_repetition_or_blank(lines: list[Any]) -> None:
    stage = planned(*lines)
    plan = stage.the_plan
    blank = sum(line == b"" for line in lines)
    assert plan.count + plan.duplicates + blank == len(lines)
    given_ids = [i for i, _ in fed(stage).values()]
    assert len(set(given_ids)) == len(given_ids)
    assert len(given_ids) + len(plan.rejected) == plan.count
    names = stage.batch_ids()
    assert all(names[ordinal] == i for ordinal, (i, _) in fed(stage).items())
    assert dict(ids_of(stage.ledger, plan, plan.everything)) == dict(enumerate(names))


@pytest.mark.parametrize("form", ["ndjson", "gzip", "parquet", "successes"])
def test_every_format_makes_the_same_batch(form: str) -> None:
    stage = Stage()
    names = [f"out-{n}" for n in range(6)]
    pointer: dict[str, Any] = {"bucket": "source", "key": "list"}
    if form == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.table({"id": names}), sink)
        stage.store.objects["source", "list"] = sink.getvalue()
    elif form == "successes":
        upstream = Stage(store=stage.store)
        upstream.plan([f"r{n}" for n in range(6)])
        written = journal(upstream, succeeded=range(6)).outputs
        assert written
        entry = SuccessEntry.of(written, lines=6)
        manifest = SuccessManifest(
            run_id=RUN_ID, stage="adapt", records=6, lines=6, lost_in_run=2, entries=(entry,)
        )
        pointer = {"bucket": "ledger", "key": "successes.json"}
        stage.ledger.write_json("successes.json", manifest.to_json())
        for key in [
            key for key in stage.store.objects if f"/{KEYS.stage}/" in key[1] and "outputs" not in key[1]
        ]:
            del stage.store.objects[key]
    else:
        body = "".join(json.dumps({"id": i}) + "\n" for i in names).encode()
        stage.store.objects["source", "list"] = gzip.compress(body) if form == "gzip" else body
    stage.plan(pointer)
    assert stage.batch_ids() == names
    assert [i for i, _ in fed(stage).values()] == names
    assert stage.the_plan.lost_upstream == (2 if form == "successes" else 0)


@pytest.mark.parametrize(
    ("records", "field"),
    [
        ({"bucket": "source", "key": "none"}, "records"),
        ({"bucket": "none", "key": "none"}, "records"),
    ],
)
def test_a_list_that_is_not_there_is_refused(records: dict[str, str], field: str) -> None:
    with pytest.raises(StageInputError, match="does not exist; check bucket and key") as refused:
        Stage().plan(records)
    assert refused.value.field == field


# Subsets


def test_a_subset_leaves_the_others_out_and_keeps_the_sources_order() -> None:
    stage = planned(
        "a", b"{", {"id": "b", "data": 1}, "c", {"id": 7}, {"id": "b", "data": 1}, only=["c", "b"]
    )
    plan = stage.the_plan
    assert stage.batch_ids() == ["b", "c"]
    assert fed(stage) == {0: ("b", 1), 1: ("c", None)}
    assert (plan.count, plan.duplicates, plan.rejected) == (2, 1, Ranges.empty())


def test_a_record_that_was_asked_for_and_is_not_there_fails_for_good() -> None:
    stage = planned("a", "b", only=["b", "gone", "away"])
    assert stage.the_plan.count == 3
    assert fed(stage) == {0: ("b", None)}
    assert {i: kind for i, kind, _ in rejected(stage).values()} == {
        "away": "NotInSource",
        "gone": "NotInSource",
    }


def test_a_subset_may_lie_in_s3_as_a_list_of_failures() -> None:
    stage = Stage()
    put(stage, "a", "b", "c")
    put(stage, {"record_id": "b", "kind": "permanent"}, b"", key="failures")
    only = {"bucket": "source", "key": "failures", "id_column": "record_id"}
    stage.plan(SOURCE, only=only)
    assert stage.batch_ids() == ["b"]


def test_a_subset_may_ride_with_the_pointer() -> None:
    stage = Stage()
    put(stage, "a", "b", "c")
    put(stage, "c", key="only")
    stage.plan({**SOURCE, "only": {"bucket": "source", "key": "only"}})
    assert stage.batch_ids() == ["c"]


@pytest.mark.parametrize(
    ("lines", "remedy"),
    [
        ([], 'holds no id, and that is not "all"'),
        ([b"", b" "], 'holds no id, and that is not "all"'),
        (["a", b"{broken"], "line 2 is not JSON"),
        (["a", {"no": "id"}], 'line 2 has no "id"'),
        (["a", {"id": 5}], "line 2: a record id must be a string"),
        (["a", "x\ny"], "line 2: a record id must not hold control characters"),
        (["\ud800"], "line 1: a record id must not hold control characters"),
    ],
)
def test_a_subset_that_cannot_be_read_whole_is_refused(lines: list[Any], remedy: str) -> None:
    stage = Stage()
    put(stage, "a", "b")
    put(stage, *lines, key="only")
    with pytest.raises(StageInputError) as refused:
        stage.plan(SOURCE, only={"bucket": "source", "key": "only"})
    assert refused.value.field == "only"
    assert remedy in str(refused.value)
    assert "s3://source/only" in str(refused.value)


def test_a_missing_list_of_a_subset_is_named_as_such() -> None:
    stage = Stage()
    put(stage, "a")
    with pytest.raises(StageInputError, match="only: does not exist; check bucket and key") as refused:
        stage.plan(SOURCE, only={"bucket": "source", "key": "none"})
    assert refused.value.field == "only"


def test_two_subsets_are_refused_rather_than_one_of_them_ignored() -> None:
    stage = Stage()
    put(stage, "a", "b")
    put(stage, "a", key="only")
    with pytest.raises(StageInputError, match="only: is given twice"):
        stage.plan({**SOURCE, "only": {"bucket": "source", "key": "only"}}, only=["b"])


# The list of ids in the ledger


@pytest.mark.parametrize("odd", [b"", "again", b"{"], ids=["blank line", "repetition", "unreadable line"])
def test_any_id_is_found_by_its_ordinal_in_a_list_of_several_blocks(
    odd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("winnow.testing.memory_store.STREAM_PIECE_BYTES", 30_000)
    names = [f"r{n}" for n in range(2 * BLOCK_IDS + 10)]
    stage = planned("again", odd, *names)
    plan = stage.the_plan
    kept = stage.batch_ids()
    assert len(kept) == plan.count == len(names) + (2 if odd == b"{" else 1)
    for ordinal in (0, 1, BLOCK_IDS - 1, BLOCK_IDS, 2 * BLOCK_IDS - 1, 2 * BLOCK_IDS, plan.count - 1):
        found = dict(ids_of(stage.ledger, plan, Ranges.of([ordinal])))
        assert found == {ordinal: kept[ordinal]}
        assert find_id(stage.ledger, plan, kept[ordinal]) == ordinal
    assert (
        len(stage.ledger.read_json(plan.block_key(0)))
        == len(stage.ledger.read_json(plan.block_key(1)))
        == BLOCK_IDS
    )
    assert find_id(stage.ledger, plan, "never") is None


def test_an_id_is_found_as_a_whole_and_not_as_a_part_of_another() -> None:
    stage = planned("abc", 'quo"te', "ünï", "back\\slash")
    plan = stage.the_plan
    assert [find_id(stage.ledger, plan, i) for i in ("abc", 'quo"te', "ünï", "back\\slash")] == [0, 1, 2, 3]
    assert [find_id(stage.ledger, plan, i) for i in ("ab", "te", "", "\ud800")] == [None] * 4


def test_the_digest_tells_batches_apart() -> None:
    digests = {
        planned(*lines).the_plan.digest
        for lines in (["a", "b"], ["b", "a"], ["a"], ["ab"], ['a", "b'], [], ["a", "b", "c"])
    }
    assert len(digests) == 7
    assert planned("a", "b").the_plan.digest == planned("a", b"", {"id": "b", "data": 1}).the_plan.digest


# Memory


def sizes(made: BatchList) -> int:
    """Things held by a list in the making, whatever they are."""
    return sum(len(value) for value in vars(made).values() if hasattr(value, "__len__"))


@pytest.mark.parametrize(
    ("row", "only"),
    [("r{}", None), ("r{}", ["r5"]), ("{{", None), ("", None), ('{{"id": {}}}', None)],
    ids=["ids", "left out by a subset", "unreadable", "blank", "unusable ids"],
)
def test_holds_a_block_and_no_more_however_long_the_list(
    row: str, only: list[str] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each kind of row in a long run: what is held at the end must not have grown with it."""
    monkeypatch.setattr("winnow.planning.batch_list.MOST_UNREADABLE", 1.0)

    class Rows:
        def __init__(self, count: int) -> None:
            self.count = count

        def ids(self) -> Any:
            body = [
                json.dumps(row.format(n)).encode() if row.startswith("r") else row.format(n).encode()
                for n in range(1_000)
            ]
            stage = Stage()
            put(stage, *body)
            once = list(
                open_source(
                    stage.store, detect(stage.store, Pointer(bucket="source", key="list.ndjson"))
                ).ids()
            )
            for start in range(self.count // 1_000):
                for ids in once:
                    yield [f"{start}-{i}" if isinstance(i, str) else i for i in ids]

    held = []
    for count in (10_000, 50_000):
        made = BatchList(
            Ledger(MemoryStore("ledger")), KEYS, "B1", REF, only=frozenset(only) if only else None
        )
        made.take(Rows(count))  # type: ignore[arg-type]
        held.append(sizes(made))
    assert held[1] <= held[0] + 100


def test_looks_for_repetitions_in_files_once_there_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.core.repeats.SPILL", 4)
    names = [f"r{n}" for n in range(2_000)]
    with Repeats() as repeats:
        for start in range(0, 2_000, 50):
            repeats.add(names[start : start + 50])
        repeats.add(["r7", "r1999", "r7"])
        assert max(len(part) for part in repeats._parts) < 60
        assert repeats.found() == {hash("r7"), hash("r1999")}


# One owner


def test_planning_again_gives_the_same_order() -> None:
    stage = Stage()
    put(stage, "a", "b", b"{")
    first = stage.plan(SOURCE)
    before = dict(stage.store.objects)
    assert stage.plan(SOURCE) == first
    assert stage.store.objects == before


def test_another_execution_is_refused_the_same_stage_of_the_same_run() -> None:
    stage = planned("a")
    with pytest.raises(
        DuplicateAttempt,
        match=r"attempt 0 of stage transform of run .* belongs to first; nothing was run twice",
    ):
        stage.plan(SOURCE, execution="second")


RUN = "arn:aws:states:eu-west-1:123456789012:execution:catalogue:nightly"


def of_a_run() -> Stage:
    """A stage of a run that its pipeline has planned, and that has not reached the stage yet."""
    stage = Stage()
    put(stage, "a")
    run = RunDocument(
        run_id=RUN_ID,
        pipeline="catalogue",
        stages=("adapt", "transform"),
        start_at="adapt",
        trigger={"kind": "manual"},
        replay_id=None,
        execution=RUN,
        started_at="2026-11-20T12:00:00.000Z",
        records=Pointer.from_event(SOURCE, "records"),
        stepped_aside=None,
    )
    stage.ledger.write_json(ledger_keys.run(RUN_ID), run.to_json())
    return stage


@pytest.mark.parametrize("starter", [{}, {StageInput.STARTED_BY: f"{RUN}-2"}])
def test_law_8_a_stage_that_is_started_by_hand_does_not_take_the_place_of_a_runs_own(
    starter: dict[str, str],
) -> None:
    stage = of_a_run()
    before = dict(stage.store.objects)
    with pytest.raises(StageInputError) as refused:
        stage.plan(SOURCE, execution="by hand", **starter)
    assert str(refused.value) == (
        f"run_id: belongs to {RUN}, which starts its stages itself; "
        f"leave it out to start this stage by itself, or replay what failed, got: '{RUN_ID}'"
    )
    assert stage.store.objects == before
    assert stage.plan(SOURCE, **{StageInput.STARTED_BY: RUN}).count == 1


def test_a_stage_that_is_started_by_itself_may_have_a_run_id_of_its_own() -> None:
    stage = of_a_run()
    assert stage.plan(SOURCE, run_id="mine").run_id == "mine"


def test_the_plan_that_was_written_first_stands() -> None:
    """A Plan that Step Functions gave up on may still be running beside the one that took its place."""
    stage = planned("a", "b")
    found = stage.the_plan
    late = Stage(store=stage.store)
    put(late, "x")

    def hide_once(key: str, find: Any = Ledger.find_json) -> Any:
        return None if key == KEYS.plan else find(late_ledger, key)

    late_ledger = late.ledger
    late_ledger.find_json = hide_once  # type: ignore[method-assign]
    event = StageInput.from_event({"run_id": RUN_ID, "records": SOURCE})
    order = plan_stage(
        late_ledger, event, pipeline="catalogue", stage=KEYS.stage, policy=stage.policy, execution="first"
    )
    assert stage.the_plan == found
    assert order.count == 2


@pytest.mark.parametrize("writes", range(12))
def test_a_plan_that_was_stopped_half_way_is_made_by_the_next_call(writes: int) -> None:
    whole = planned("a", b"{", "b", "a", "c")
    stage = Stage(store=MoodyStore())
    put(stage, "a", b"{", "b", "a", "c")
    assert isinstance(stage.store, MoodyStore)
    count = Counter[str]()

    def refuse(_key: str) -> bool:
        count["writes"] += 1
        return count["writes"] > writes

    stage.store.refuse = refuse
    try:
        stage.plan(SOURCE)
    except ConnectionError:
        stage.store.refuse = lambda _: False
        stage.plan(SOURCE)
    assert stage.batch_ids() == whole.batch_ids()
    assert stage.the_plan.digest == whole.the_plan.digest
    assert stage.evidence().failed == whole.evidence().failed


# Deeper attempts


def settled_once() -> tuple[Stage, dict[str, Any]]:
    stage = planned("a", "b", "c")
    order = stage.plan(SOURCE)
    journal(stage, succeeded=[0])
    return stage, stage.settle(order, worker_error=DIED)["next"]


def test_a_deeper_attempt_is_what_settle_asked_for() -> None:
    stage, asked = settled_once()
    order = stage.deeper({"next": asked, "next_name": "second"})
    assert (order.attempt, order.try_count, order.count) == (1, 1, 3)
    assert stage.deeper({"next": asked, "next_name": "second"}) == order


@pytest.mark.parametrize(
    ("changes", "field", "remedy"),
    [
        ({"run_id": None}, "run_id", 'is wrong beside "plan"'),
        ({"attempt": "1"}, "attempt", 'is wrong beside "plan"'),
        ({"attempt": True}, "attempt", 'is wrong beside "plan"'),
        ({"attempt": -1}, "attempt", 'is wrong beside "plan"'),
        ({"attempt": 0}, "attempt", 'is wrong beside "plan"'),
        ({"try_count": None}, "try_count", 'is wrong beside "plan"'),
        ({"plan": "s3://ledger/plan.json"}, "plan", 'is wrong beside "plan"'),
        ({"run_id": "never"}, "run_id", "no such run"),
        ({"run_id": "../other"}, "run_id", "must be letters"),
        ({"attempt": 2}, "attempt", "attempt 1 has not asked for it"),
        ({"attempt": 7}, "attempt", "attempt 6 has not asked for it"),
        ({"try_count": 0}, "try_count", "is not what was asked for"),
    ],
)
def test_a_deeper_attempt_that_settle_never_asked_for_is_refused(
    changes: dict[str, Any], field: str, remedy: str
) -> None:
    """Started by hand, it would take the number of an attempt that the run itself starts later."""
    stage, asked = settled_once()
    before = dict(stage.store.objects)
    with pytest.raises(StageInputError) as refused:
        stage.deeper({"next": {**asked, **changes}, "next_name": "by hand"})
    assert refused.value.field == field
    assert remedy in str(refused.value)
    assert stage.store.objects == before


def test_a_deeper_attempt_has_one_owner() -> None:
    stage, asked = settled_once()
    stage.deeper({"next": asked, "next_name": "second"})
    with pytest.raises(DuplicateAttempt, match=r"attempt 1 of stage transform .* belongs to second"):
        stage.deeper({"next": asked, "next_name": "third"})
