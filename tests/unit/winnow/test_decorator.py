from __future__ import annotations

import traceback
from typing import Any

import pytest

from tests.unit.winnow import killers
from tests.unit.winnow.stages import Stage
from winnow import Record, worker
from winnow.core.errors import WinnowError
from winnow.runtime.careful_child import find_worker
from winnow.testing import FakeContext, MemoryStore


@worker
def twice(record: Record) -> int:
    """Doubles."""
    return 2 * int(record.data)


@worker(batch=10, concurrency=2)
def sums(records: list[Record]) -> list[int]:
    return [record.data + 1 for record in records]


def test_a_worker_called_with_a_record_is_its_function() -> None:
    assert twice(Record("a", 21)) == 42
    assert sums([Record("a", 1), Record("b", 2)]) == [2, 3]


def test_a_worker_keeps_its_functions_name_and_words() -> None:
    assert twice.__doc__ == "Doubles."
    assert twice.__name__ == "twice"
    assert repr(twice) == "<worker tests.unit.winnow.test_decorator:twice>" or "twice" in repr(twice)


@pytest.fixture
def order(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the worker's Lambda is given, in an environment that it finds its ledger in."""
    store = MemoryStore("ledger")
    monkeypatch.setenv("WINNOW_PIPELINE", "catalogue")
    monkeypatch.setenv("WINNOW_LEDGER_BUCKET", "ledger")
    monkeypatch.setenv("WINNOW_STAGE", "transform")
    monkeypatch.setattr("winnow.storage.ledger.S3Store", lambda _bucket, _client: store)
    monkeypatch.setattr("winnow.storage.clients.client", lambda _service: None)
    return Stage(store=store).plan([{"id": "a", "data": 3}]).to_payload()


def test_a_worker_called_with_an_event_and_a_context_is_the_lambda(order: dict[str, Any]) -> None:
    assert twice(order, FakeContext()) == {
        "succeeded": 1,
        "skipped": 0,
        "failed": 0,
        "stopped": "end",
    }


def test_what_escapes_a_worker_fits_into_a_state_and_is_logged_whole(
    order: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Refused(Exception):
        pass

    def connect(depth: int = 100) -> None:
        if depth:
            connect(depth - 1)
        raise Refused(f"the answer was: {'<p>no</p>' * 10_000} (end of answer)")

    unprepared = worker(setup=connect)(twice.function)
    with pytest.raises(WinnowError, match="the answer was: <p>no</p>") as caught:
        unprepared(order, FakeContext())
    assert caught.type.__name__ == "Refused"
    assert len("".join(traceback.format_exception(caught.value))) < 4_000
    logged = capsys.readouterr().out
    assert "(end of answer)" in logged
    assert logged.count("in connect") > 1


def test_options_are_checked_when_the_worker_is_made() -> None:
    with pytest.raises(ValueError, match="`batch` must be at least 1, got: 0"):
        worker(batch=0)
    with pytest.raises(TypeError, match="threads"):
        worker(threads=3)  # type: ignore[call-overload]


def test_a_function_that_would_only_ever_hand_on_promises_is_refused() -> None:
    async def later(record: Record) -> Any:
        return record.data

    with pytest.raises(ValueError, match=r"a worker's function must not be async, got: .*later"):
        worker(later)


@pytest.mark.parametrize("name", ["plain", "_renamed", "decorated"])
def test_a_child_finds_a_worker_by_its_function(name: str) -> None:
    assert find_worker(f"tests.unit.winnow.killers:{name}").name == f"tests.unit.winnow.killers:{name}"


@pytest.mark.parametrize("name", ["behave", "nothing", "local.<locals>.inside", ""])
def test_a_child_says_where_a_worker_must_be(name: str) -> None:
    with pytest.raises(
        LookupError, match=r"has no worker of .*; give it a name at the top level of its module"
    ):
        find_worker(f"{killers.__name__}:{name}")
