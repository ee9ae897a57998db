"""Reading from an S3 that drops what is not read, and whose bodies break."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.winnow.breaking_s3 import BREAKS, IDLE_SECONDS, Break, BreakingS3, etag, refusal
from tests.unit.winnow.stages import MoodyStore, Stage
from winnow import Record, worker
from winnow.core.errors import LedgerObjectMissing, SourceChanged
from winnow.storage.ranged import RANGE_BYTES, STREAM_PIECE_BYTES
from winnow.storage.store import HEAD_BYTES, S3Store
from winnow.storage.tries import TRIES

KEY = ("source", "list")
RANGE, PIECE = 64, 16


class SlowReading:
    """A stage over a list in S3, whose worker takes its time; the clock is the worker's."""

    def __init__(self, *, records: int, row_bytes: int, seconds_each: float) -> None:
        self.now = 0.0
        filling = "x" * row_bytes
        lines = (json.dumps({"id": f"r{n}", "data": filling}) for n in range(records))
        self.s3 = BreakingS3({KEY: "\n".join(lines).encode()}, clock=lambda: self.now)

        @worker
        def slow(_: Record) -> None:
            self.now += seconds_each

        self.stage = Stage(worker=slow, store=InS3(self.s3))


class InS3(MoodyStore):
    """A bucket whose lists are read from S3."""

    def __init__(self, s3: BreakingS3) -> None:
        super().__init__()
        self._source = S3Store("source", s3)

    def stream(self, key: str, *, bucket: str | None = None, if_match: str | None = None) -> Iterator[bytes]:
        if bucket != "source":
            return super().stream(key, bucket=bucket, if_match=if_match)
        return self._source.stream(key, if_match=if_match)

    def head(self, key: str, *, bucket: str | None = None) -> Any:
        return self._source.head(key) if bucket == "source" else super().head(key, bucket=bucket)


def test_a_slow_worker_gets_all_of_a_long_list() -> None:
    slow = SlowReading(records=2_000, row_bytes=8_000, seconds_each=2 * IDLE_SECONDS / 200)
    size = len(slow.s3.objects[KEY])
    assert size > 1.5 * RANGE_BYTES
    slow.stage.to_end(slow.stage.plan({"bucket": "source", "key": "list"}))
    assert slow.stage.verdicts == ["COMPLETE"]
    assert slow.stage.counts()["succeeded"] == 2_000
    assert slow.s3.broken == 0, "no request is open while the worker works"


def test_the_double_drops_a_body_that_is_not_read() -> None:
    now = [0.0]
    s3 = BreakingS3({KEY: bytes(100)}, clock=lambda: now[0])
    body = s3.get_object(Bucket="source", Key="list")["Body"]
    assert body.read(10) == bytes(10)
    now[0] += IDLE_SECONDS + 1
    with pytest.raises(Exception, match="Connection broken"):
        body.read(10)


@pytest.fixture
def small_ranges(monkeypatch: pytest.MonkeyPatch) -> None:
    use_small_ranges(monkeypatch)


def use_small_ranges(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("winnow.storage.ranged.RANGE_BYTES", RANGE)
    patch.setattr("winnow.storage.ranged.STREAM_PIECE_BYTES", PIECE)


def store_of(
    body: bytes, *breaks: Break | None, sleep: Callable[[float], object] = lambda _: None
) -> tuple[S3Store, BreakingS3]:
    s3 = BreakingS3({KEY: body}, iter(breaks))
    return S3Store("source", s3, sleep=sleep), s3


SIZES = st.one_of(
    st.sampled_from([0, 1, PIECE, RANGE - 1, RANGE, RANGE + 1, 2 * RANGE, 4 * RANGE]),
    st.integers(0, 5 * RANGE),
)
SOME_BREAKS = st.lists(
    st.one_of(st.none(), st.builds(Break, st.sampled_from(sorted(BREAKS)), st.integers(0, RANGE + 1))),
    max_size=TRIES - 1,
)


@given(SIZES, SOME_BREAKS)
def test_a_stream_is_whole_however_its_bodies_break(size: int, breaks: list[Break | None]) -> None:
    body = bytes(n % 251 for n in range(size))
    waits: list[float] = []
    store, s3 = store_of(body, *breaks, sleep=waits.append)
    with pytest.MonkeyPatch.context() as patch:
        use_small_ranges(patch)
        pieces = list(store.stream("list"))
    assert b"".join(pieces) == body
    assert max(map(len, pieces), default=0) <= PIECE
    assert len(waits) <= s3.broken


@given(SIZES, SOME_BREAKS)
def test_an_object_is_whole_however_its_bodies_break(size: int, breaks: list[Break | None]) -> None:
    body = bytes(n % 251 for n in range(size))
    lengths_are_told = [each for each in breaks if not (each and each.way.endswith("how long"))]
    store, s3 = store_of(body, *lengths_are_told)
    assert store.get("list").body == body
    s3.breaks = iter(lengths_are_told)
    head = store.head("list")
    assert head.start == body[:HEAD_BYTES]
    assert head.etag == etag(body)


READS: dict[str, Callable[[S3Store], object]] = {
    "stream": lambda store: list(store.stream("list")),
    "get": lambda store: store.get("list"),
    "head": lambda store: store.head("list"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize("way", [way for way in BREAKS if not way.endswith("how long")])
def test_what_a_body_breaks_with_escapes_when_it_breaks_every_time(
    way: str, read: Callable[[S3Store], object]
) -> None:
    waits: list[float] = []
    store, s3 = store_of(bytes(200), *[Break(way, 0)] * 100, sleep=waits.append)
    error = BREAKS[way]
    expected = type(error()).__name__ if error else "IncompleteReadError"
    with pytest.raises(Exception) as caught:
        read(store)
    # botocore wraps some of urllib3's errors
    assert type(caught.value).__name__ in {expected, "ReadTimeoutError", "ResponseStreamingError"}
    assert len(s3.asked) == TRIES
    assert len(waits) == TRIES - 1


@pytest.mark.usefixtures("small_ranges")
def test_a_body_that_broke_is_read_on_from_there() -> None:
    store, s3 = store_of(bytes(150), Break("reset", 20), Break("too short", 7))
    assert b"".join(store.stream("list")) == bytes(150)
    assert [request["Range"] for request in s3.asked] == [
        "bytes=0-63",
        "bytes=20-63",
        "bytes=27-63",
        "bytes=64-127",
        "bytes=128-191",
    ]


@pytest.mark.usefixtures("small_ranges")
def test_bytes_with_a_wrong_checksum_are_read_again() -> None:
    body = bytes(range(150))
    store, s3 = store_of(body, Break("reset", 20), Break("checksum", 0))
    assert b"".join(store.stream("list")) == body
    assert [request["Range"] for request in s3.asked][:3] == ["bytes=0-63", "bytes=20-63", "bytes=20-63"]


@pytest.mark.parametrize("ranges", [1, 2, 3])
@pytest.mark.usefixtures("small_ranges")
def test_an_object_of_whole_ranges_is_asked_for_no_more_often_than_it_has_ranges(ranges: int) -> None:
    store, s3 = store_of(bytes(ranges * RANGE))
    assert b"".join(store.stream("list")) == bytes(ranges * RANGE)
    assert len(s3.asked) == ranges


@pytest.mark.usefixtures("small_ranges")
def test_memory_holds_one_range() -> None:
    store, s3 = store_of(bytes(10 * RANGE))
    taken = 0
    for piece in store.stream("list"):
        assert len(s3.asked) * RANGE - taken <= RANGE
        taken += len(piece)


@pytest.mark.parametrize(
    ("if_match", "problem"),
    [(None, "changed while it was read"), (etag(bytes(150)), "changed after the batch was fixed from it")],
)
@pytest.mark.usefixtures("small_ranges")
def test_an_object_that_changes_while_it_is_read_is_refused(if_match: str | None, problem: str) -> None:
    store, s3 = store_of(bytes(150))
    stream = store.stream("list", if_match=if_match)
    assert next(stream) == bytes(PIECE)
    s3.objects[KEY] = b"n" * 150
    with pytest.raises(SourceChanged, match=f"s3://source/list {problem}"):
        list(stream)


@pytest.mark.usefixtures("small_ranges")
def test_an_object_that_changes_between_two_tries_is_refused() -> None:
    store, s3 = store_of(bytes(150), Break("reset", 0))

    def change() -> None:
        s3.objects[KEY] = b"n" * 150

    s3.on_answer = change
    with pytest.raises(SourceChanged):
        list(store.stream("list"))


@pytest.mark.usefixtures("small_ranges")
def test_an_object_that_goes_while_it_is_read_is_missed() -> None:
    store, s3 = store_of(bytes(150))
    stream = store.stream("list")
    next(stream)
    s3.objects.clear()
    with pytest.raises(LedgerObjectMissing):
        list(stream)


def test_an_empty_object_has_no_pieces_and_may_not_have_changed() -> None:
    store, _ = store_of(b"")
    assert list(store.stream("list")) == []
    assert list(store.stream("list", if_match=etag(b""))) == []
    with pytest.raises(SourceChanged):
        list(store.stream("list", if_match=etag(b"before")))


def test_what_is_not_the_range_that_was_asked_for_is_not_taken_for_it() -> None:
    store, s3 = store_of(bytes(150))
    s3.ignores_ranges = True
    with pytest.raises(OSError, match="bytes from 0 on were asked for, got: the whole object"):
        list(store.stream("list"))


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_a_refusal_is_not_tried_again(read: Callable[[S3Store], object]) -> None:
    store, s3 = store_of(b"x")
    s3.refuses = refusal("SlowDown", 503)
    with pytest.raises(ClientError, match="SlowDown"):
        read(store)
    assert len(s3.asked) == 1, "the client has tried it again itself"


def test_a_piece_is_as_large_as_before() -> None:
    store, s3 = store_of(bytes(RANGE_BYTES + 10))
    assert [len(piece) for piece in store.stream("list")] == [STREAM_PIECE_BYTES] * 8 + [10]
    assert len(s3.asked) == 2
