"""An output is handed on once per id: the same output is counted once, another output of that id fails its record."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.winnow.stages import Stage, journal
from winnow import Output, PermanentError, Record, TransientError, worker
from winnow.batch.successes import SuccessesSource
from winnow.core.contract import Policy
from winnow.core.ranges import Ranges
from winnow.journal.segment import Stop
from winnow.journal.successes import SuccessManifest
from winnow.settlement.clashes import OutputIdCheck
from winnow.storage.formats import ParquetOutput
from winnow.testing import BatchResult, run_worker


def works(*pairs: tuple[str, Any]) -> BatchResult:
    """Records that name the work that they are about."""

    @worker
    def merge(record: Record) -> object:
        work, data = record.data
        return Output(data, id=work)

    return run_worker(merge, [{"id": i, "data": value} for i, value in pairs])


def messages(result: BatchResult) -> dict[str, str]:
    return {i: f"{failure.error_type}: {failure.message}" for i, failure in result.failures.items()}


def test_the_later_of_two_records_with_one_output_id_fails_and_names_the_owner() -> None:
    result = works(("m1", ["w1", "first copy"]), ("m2", ["w1", "second copy"]), ("m3", ["w2", "x"]))
    assert result.outputs == {"w1": "first copy", "w2": "x"}
    assert messages(result) == {
        "m2": "OutputIdTaken: its output has the id 'w1', which an output of record 'm1' has; "
        "give each output an id of its own"
    }
    assert result.failures["m2"].kind == "permanent"
    assert (result.verdict, result.counts["conflicts"], result.counts["same_outputs"]) == ("EXHAUSTED", 1, 0)


def test_the_same_output_of_two_records_is_one_output() -> None:
    result = works(("m1", ["w1", {"a": 1, "b": 2}]), ("m2", ["w1", {"b": 2, "a": 1}]))
    assert result.outputs == {"w1": {"a": 1, "b": 2}}
    assert (result.failures, result.counts["same_outputs"], result.counts["succeeded"]) == ({}, 1, 2)


def test_a_record_that_gives_one_id_twice_fails_with_all_its_outputs() -> None:
    @worker
    def twice(record: Record) -> object:
        yield Output(1, id=f"{record.id}-x")
        yield Output(2, id=f"{record.id}-y")
        if record.data:
            yield Output(3, id=f"{record.id}-x")

    result = run_worker(twice, ["a", {"id": "b", "data": True}])
    assert result.outputs.keys() == {"a-x", "a-y"}
    assert "gives two different outputs the id 'b-x'" in messages(result)["b"]


def test_a_numbered_output_does_not_take_the_place_of_a_record_of_that_id() -> None:
    @worker
    def split(record: Record) -> object:
        return (part for part in record.data) if record.data else {"plain": record.id}

    result = run_worker(split, [{"id": "a", "data": ["p", "q"]}, "a#1", "b"])
    assert result.outputs == {"a#1": "p", "a#2": "q", "b": {"plain": "b"}}
    assert result.failures.keys() == {"a#1"}
    assert run_worker(split, [{"id": "a", "data": ["p", "q"]}, "b"]).failures == {}


def test_an_id_that_an_earlier_attempt_handed_on_stays_where_it_is() -> None:
    tried: list[str] = []

    @worker
    def merge(record: Record) -> object:
        tried.append(record.id)
        if record.id == "late" and tried.count("late") == 1:
            raise TransientError("busy")
        return Output(record.id, id="work")

    result = run_worker(merge, ["late", "early"])
    assert result.outputs == {"work": "early"}
    assert "record 'early'" in messages(result)["late"]
    assert tried == ["late", "early", "late"]


def test_records_that_share_an_output_fail_together_and_their_neighbours_do_not() -> None:
    @worker(batch=2)
    def join(records: list[Record]) -> object:
        return [Output([r.id for r in records], id=records[0].data, sources=records)]

    pairs = [("a", "k1"), ("b", "-"), ("c", "k2"), ("d", "-"), ("e", "k1"), ("f", "-")]
    result = run_worker(join, [{"id": i, "data": key} for i, key in pairs])
    assert result.outputs == {"k1": ["a", "b"], "k2": ["c", "d"]}
    assert result.failures.keys() == {"e", "f"}


def test_one_join_draws_all_records_of_its_neighbours_outputs_with_it() -> None:
    @worker(batch=4)
    def chain(records: list[Record]) -> object:
        a, b, c, d = records
        return [
            Output(1, id="x", sources=[a]),
            Output(2, id="x", sources=[b, c]),
            Output(3, id="y", sources=[c, d]),
        ]

    result = run_worker(chain, ["a", "b", "c", "d"])
    assert result.outputs == {"x": 1}
    assert result.failures.keys() == {"b", "c", "d"}
    assert "shares an output with a record" in messages(result)["d"]


def test_a_stage_in_which_all_records_give_one_id_hands_on_the_first() -> None:
    result = works(*((f"r{n}", ["same", n]) for n in range(50)))
    assert result.outputs == {"same": 0}
    assert len(result.failures) == 49


def test_parquet_outputs_are_compared_too() -> None:
    schema = pa.schema([pa.field("n", pa.int64())])

    @worker(outputs=ParquetOutput(schema))
    def merge(record: Record) -> object:
        return Output({"n": record.data}, id="w")

    result = run_worker(merge, [{"id": i, "data": n} for i, n in (("a", 1), ("b", 1), ("c", 2))])
    assert result.outputs == {"w": {"n": 1}}
    assert result.failures.keys() == {"c"}


def test_the_next_stage_is_given_each_id_once() -> None:
    result = works(("m1", ["w1", 1]), ("m2", ["w1", 2]), ("m3", ["w1", 1]), ("m4", ["w2", 1]))
    (key,) = [key for key in result.ledger.store.keys("") if key.endswith("successes.json")]
    manifest = result.ledger.read(key, SuccessManifest.from_json)
    ids = [i for some in SuccessesSource(result.ledger.store, manifest).ids() for i in some]
    assert sorted(map(str, ids)) == ["w1", "w1", "w2"]
    assert manifest.lines == 3


def test_stages_whose_outputs_have_their_records_ids_do_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("winnow.settlement.clashes.without_clashes", forbidden)

    @worker
    def plain(record: Record) -> object:
        return (part for part in "xy") if record.id == "b" else Output({}, id=record.id)

    assert run_worker(plain, ["a", "b", "c"]).outputs.keys() == {"a", "b#1", "b#2", "c"}


def test_settling_twice_gives_the_same_settlement() -> None:
    @worker
    def merge(record: Record) -> object:
        return Output(record.id, id="w")

    stage = Stage(worker=merge, policy=Policy(backoff_seconds=0))
    order = stage.plan(["a", "b"])
    ending = stage.work(order)
    first, second = stage.settle(order, **ending), stage.settle(order, **ending)
    assert first == second
    assert stage.failed_ids() == {"b": "permanent"}
    assert stage.failures()[0]["code_version"] == "v1", "so that a replay under the same code is refused"
    assert stage.settlement(0).clashed == Ranges.of([1])


def test_a_false_claim_is_not_counted_for_what_settle_refused() -> None:
    result = works(("m1", ["w1", 1]), ("m2", ["w1", 2]))
    assert result.counts["refused"] == 0


RECORDS = st.lists(st.tuples(st.sampled_from("uvw"), st.integers(0, 2)), min_size=1, max_size=12)


@given(RECORDS, st.integers(1, 4), st.randoms(use_true_random=False))
def test_whatever_is_given_each_id_has_one_content_and_each_record_one_outcome(
    outputs: list[tuple[str, int]], at_once: int, luck: random.Random
) -> None:
    def give(record: Record) -> object:
        if luck.random() < 0.2:
            raise PermanentError("no")
        return [Output(n, id=i) for i, n in record.data]

    @worker
    def several(record: Record) -> object:
        yield from give(record)  # type: ignore[misc]

    parts = [outputs[n : n + at_once] for n in range(0, len(outputs), at_once)]
    result = run_worker(several, [{"id": f"r{n}", "data": part} for n, part in enumerate(parts)])
    owners: dict[str, int] = {}
    for number, part in enumerate(parts):
        failed = f"r{number}" in result.failures
        for output_id, content in part:
            if not failed:
                assert owners.setdefault(output_id, content) == content == result.outputs[output_id]
    assert result.outputs.keys() == owners.keys()
    assert len(result.failures) + result.counts["succeeded"] == len(parts)


def test_repeated_ids_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.settlement.clashes.IDS_AT_ONCE", 3)
    result = works(*((f"r{n}", [f"w{n % 40}", n]) for n in range(80)))
    assert len(result.outputs) == 40
    assert result.failures.keys() == {f"r{n}" for n in range(40, 80)}


@pytest.mark.parametrize("count", [20_000])
def test_memory_grows_with_the_ids_that_repeat_and_not_with_all(count: int) -> None:
    def peak(name: Callable[[int], str]) -> int:
        stage = Stage()
        stage.plan([f"r{n}" for n in range(10)])
        entries = []
        for sequence in range(count // 1_000):
            segment = journal(stage, sequence=sequence, succeeded=range(10), stop=Stop.END)
            assert segment.outputs
            ids = [name(sequence * 1_000 + n) for n in range(1_000)]
            side = {"ids": ids, "of": [n % 10 for n in range(1_000)], "contents": ["0f"] * 1_000}
            digest = stage.ledger.write_json(segment.outputs.ids_key, side)
            manifest_entry = {"key": f"k{sequence}", "ids_key": segment.outputs.ids_key, "lines": 1_000}
            entries.append({**manifest_entry, "digest": "", "ids_digest": digest, "own_ids": True})
        made = SuccessManifest.from_json(
            {"winnow": "successes/1", "run_id": "r", "stage": "s", "records": 1, "lines": 1,
             "lost_in_run": 0, "entries": entries}
        )  # fmt: skip
        tracemalloc.start()
        try:
            assert list(OutputIdCheck(stage.ledger, made.entries).clashes()) == []
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    distinct = peak(lambda n: f"out-{n}")
    assert distinct < 100 * count
