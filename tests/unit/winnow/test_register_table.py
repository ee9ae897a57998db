"""The register on DynamoDB as moto plays it. One lane: moto's transactions are not safe between threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError, ConnectTimeoutError

from tests.unit.winnow.registers import TABLE, dynamodb
from tests.unit.winnow.test_register import at, failure
from winnow.core.contract import Kind
from winnow.register import table as register_table
from winnow.register.entry import Entry, Success, hold, note_failure, note_success, waive
from winnow.register.item import PARTITIONS, Summary, partition
from winnow.register.table import BATCH, FRUITLESS, RegisterTable, RegisterUnavailable, RunMark

if TYPE_CHECKING:
    from collections.abc import Iterator

WHERE = ("catalogue", "adapt")
IDS = ("plain", "a/../b c.xml", "#hash#", "🦔", "مخطوط", "x" * 1_024, "tab-less \\ \" ' {}", "01")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("winnow.register.table.time.sleep", lambda _: None)


@pytest.fixture
def client() -> Iterator[Any]:
    with dynamodb() as made:
        yield made


@pytest.fixture
def table(client: Any) -> RegisterTable:
    return RegisterTable(TABLE, client, lanes=1)


def fail(table: RegisterTable, *ids: str, **fields: Any) -> int:
    def change(record_id: str, found: Entry | None) -> Entry | None:
        noted = note_failure(found, failure(record_id=record_id, **fields))
        return noted.entry if noted.changed else None

    return table.apply(*WHERE, ids, change)


class Refusing:
    """A client that refuses a call some times, as DynamoDB does."""

    def __init__(self, client: Any, call: str, error: Exception, times: float = float("inf")) -> None:
        self._client = client
        self._call = call
        self._error = error
        self.left = times
        self.refused = 0

    def __getattr__(self, name: str) -> Any:
        if name != self._call or self.left <= 0:
            return getattr(self._client, name)

        def refuse(**_: Any) -> None:
            self.left -= 1
            self.refused += 1
            raise self._error

        return refuse


def error(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": "m"}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "PutItem",
    )


class TestEntries:
    @pytest.mark.parametrize("record_id", IDS)
    @pytest.mark.parametrize("pipeline", ["catalogue", "with#hash"])
    def test_come_back_as_they_were(self, table: RegisterTable, record_id: str, pipeline: str) -> None:
        entry = note_failure(None, failure(record_id=record_id, pipeline=pipeline, kind=Kind.CRASHED)).entry
        waived = waive(entry, reason="as scanned", now=at(2), until=at(9))
        held = hold(waived, replay_id="P1", now=at(3), until=at(8))
        resolved = note_success(held, Success(run_id="R2", at=at(4)))
        for each in (entry, waived, held, resolved):
            assert table.apply(pipeline, "adapt", [record_id], lambda _, __, each=each: each) == 1  # type: ignore[misc]
            assert table.find(pipeline, "adapt", record_id) == each
            (summary,) = table.all(pipeline, "adapt")
            assert each
            assert summary == Summary.of_entry(each)

    def test_are_spread_over_partitions(self) -> None:
        assert len({partition(*WHERE, f"r{n}") for n in range(1_000)}) == PARTITIONS

    def test_that_are_not_resolved_are_in_the_index(self, table: RegisterTable) -> None:
        fail(table, *IDS)
        table.apply(
            *WHERE,
            IDS[:3],
            lambda _, found: note_success(found, Success(run_id="R2", at=at(9))) if found else None,
        )
        assert {each.record_id for each in table.unresolved(*WHERE)} == set(IDS[3:])
        assert {each.record_id for each in table.all(*WHERE)} == set(IDS)
        assert {each.record_id for each in table.unresolved_in_brief(*WHERE)} == set(IDS[3:])
        assert {
            (each.status, each.first_seen, each.replay_id) for each in table.unresolved_in_brief(*WHERE)
        } == {("open", at(1), "")}
        assert list(table.unresolved("catalogue", "mint")) == []
        assert list(table.unresolved_in_brief("catalogue", "mint")) == []

    def test_are_told_from_the_marks_of_runs(self, table: RegisterTable) -> None:
        for mark in (RunMark(settled_at=at(3), run_id="R3"), RunMark(settled_at=at(2), run_id="R2")):
            table.mark_run(*WHERE, mark)
        fail(table, "a")
        assert list(table.runs_after(*WHERE, at(2))) == [RunMark(settled_at=at(3), run_id="R3")]
        assert [mark.run_id for mark in table.runs_after(*WHERE, at(1))] == ["R2", "R3"]
        assert [each.record_id for each in table.all(*WHERE)] == ["a"]
        assert list(table.runs_after("catalogue", "mint", "")) == []


class TestChanges:
    def test_are_as_many_as_there_are_however_many(self, table: RegisterTable) -> None:
        ids = [f"r{n}" for n in range(2 * BATCH + 7)]
        assert fail(table, *ids, *ids) == len(ids)
        assert fail(table, *ids) == 0, "registering twice changes nothing"
        assert {each.occurrences for each in table.all(*WHERE)} == {1}

    def test_of_one_entry_do_not_overwrite_each_other(self, client: Any, table: RegisterTable) -> None:
        fail(table, "a", "b", "c")
        rival = RegisterTable(TABLE, client, lanes=1)
        interfered: list[str] = []

        def change(record_id: str, found: Entry | None) -> Entry | None:
            if record_id == "b" and not interfered:  # between this one's reading and its writing
                interfered.append("b")
                fail(rival, "b", run_id="R2", minute=5)
            return note_failure(found, failure("R3", 9, record_id=record_id)).entry

        assert table.apply(*WHERE, ["a", "b", "c"], change) == 3
        entries = table.read(*WHERE, ["a", "b", "c"])
        assert {i: entry.occurrences for i, entry in entries.items()} == {"a": 2, "b": 3, "c": 2}
        assert [each.run_id for each in entries["b"].history] == ["R1", "R2", "R3"]

    def test_give_an_entry_to_one_of_two_replays(self, client: Any, table: RegisterTable) -> None:
        fail(table, *IDS)
        rival = RegisterTable(TABLE, client, lanes=1)
        rivals: list[str] = []

        def take(replay_id: str) -> Any:
            def change(_: str, found: Entry | None) -> Entry | None:
                if replay_id == "P1" and not rivals:
                    rivals.append("P2")
                    rival.apply(*WHERE, IDS[4:], take("P2"))
                assert found
                return (
                    None if found.held(at(9)) else hold(found, replay_id=replay_id, now=at(9), until=at(30))
                )

            return change

        table.apply(*WHERE, IDS, take("P1"))
        holders = {each.record_id: each.replay_id for each in table.unresolved(*WHERE)}
        assert holders == {i: "P2" if i in IDS[4:] else "P1" for i in IDS}

    def test_do_not_exceed_what_a_transaction_holds(
        self, client: Any, table: RegisterTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(register_table, "MAX_TRANSACTION_BYTES", 10_000)
        sizes: list[int] = []
        transact = client.transact_write_items

        def counting(**request: Any) -> Any:
            sizes.append(len(str(request)))
            return transact(**request)

        monkeypatch.setattr(client, "transact_write_items", counting)
        assert fail(table, *(f"r{n}" for n in range(30)), message="é" * 1_000) == 30
        assert len(sizes) > 5
        assert len(list(table.all(*WHERE))) == 30

    @pytest.mark.parametrize("call", ["batch_get_item", "transact_write_items"])
    @pytest.mark.parametrize(
        "refusal",
        [
            error("ProvisionedThroughputExceededException"),
            error("ThrottlingException"),
            error("InternalServerError", 500),
            error("TransactionConflictException"),
        ],
    )
    def test_wait_while_the_table_is_throttled(self, client: Any, call: str, refusal: ClientError) -> None:
        refusing = Refusing(client, call, refusal, times=3)
        assert fail(RegisterTable(TABLE, refusing, lanes=1), "a", "b") == 2
        assert refusing.refused == 3

    @pytest.mark.parametrize(
        ("refusal", "tries"),
        [
            (error("ThrottlingException"), FRUITLESS),
            (error("AccessDeniedException"), 1),
            (ConnectTimeoutError(endpoint_url="https://dynamodb"), 1),
        ],
    )
    def test_are_given_up_when_the_table_stays_unavailable(
        self, client: Any, refusal: Exception, tries: int
    ) -> None:
        refusing = Refusing(client, "transact_write_items", refusal)
        table = RegisterTable(TABLE, refusing, lanes=1)
        with pytest.raises(RegisterUnavailable, match="cannot be changed"):
            fail(table, *(f"r{n}" for n in range(20 * BATCH)))
        assert refusing.refused == tries, "batches that wait are not tried, too"

    def test_are_given_up_after_too_many_write_conflicts(self, client: Any, table: RegisterTable) -> None:
        rival = RegisterTable(TABLE, client, lanes=1)
        fail(table, "a")
        runs = iter(range(2, 100))

        def change(_: str, found: Entry | None) -> Entry | None:
            fail(rival, "a", run_id=f"R{next(runs)}", minute=9)
            return note_failure(found, failure("R1000", 10, record_id="a")).entry

        with pytest.raises(RegisterUnavailable, match=r"contended for, e\.g\. 'a'"):
            table.apply(*WHERE, ["a"], change)

    def test_go_on_where_a_batch_was_read_in_part(self, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        table = RegisterTable(TABLE, client, lanes=1)
        fail(table, "a", "b")
        read = client.batch_get_item

        def halving(RequestItems: Any) -> Any:  # noqa: N803
            keys = RequestItems[TABLE]["Keys"]
            answer = read(RequestItems={TABLE: {**RequestItems[TABLE], "Keys": keys[:1]}})
            return {**answer, "UnprocessedKeys": {TABLE: {"Keys": keys[1:]}} if keys[1:] else {}}

        monkeypatch.setattr(client, "batch_get_item", halving)
        assert set(table.read(*WHERE, ["a", "b"])) == {"a", "b"}
