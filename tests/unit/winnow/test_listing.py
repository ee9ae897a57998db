"""The source bucket is listed side by side where that helps, always in order, and refused where there is no time for it."""

from __future__ import annotations

import threading
from itertools import islice
from typing import Any

import pytest
from botocore.exceptions import ClientError
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

from tests.patience import PATIENCE_SECONDS
from tests.unit.winnow.breaking_s3 import refusal
from tests.unit.winnow.listed_s3 import ListedS3
from winnow.core.errors import StageInputError
from winnow.storage import prefix_walk
from winnow.storage.clients import _moment
from winnow.storage.listing import S3SourceListing
from winnow.storage.prefix_walk import LANES


def listed(s3: Any, prefix: str = "", **options: Any) -> list[str]:
    return [each.key for each in S3SourceListing("source", s3, **options).objects(prefix)]


def test_what_a_probe_puts_there_is_no_record() -> None:
    keys = ["tei/.winnow-probe/probe-1", "tei/a.xml", ".winnow-probe/probe-2", "z"]
    assert listed(ListedS3(sorted(keys))) == ["tei/a.xml", "z"]


def sequentially(count: int) -> int:
    """Requests that listing page by page takes."""
    return max(1, -(-count // 1_000))


YEARS = [f"{year}/{n:05d}.xml" for year in range(2010, 2022) for n in range(5_000)]
ONE_DEEP = [f"prod/tei/{collection:02d}/{n:04d}.xml" for collection in range(30) for n in range(2_000)]
ONE_HUGE = [
    *(f"{name:02d}/{n:03d}" for name in range(40) for n in range(100)),
    *(f"huge/{part}/{n:05d}" for part in range(10) for n in range(4_000)),
    *(f"z{name:02d}/{n:03d}" for name in range(40) for n in range(100)),
]
BETWEEN = [
    *(f"{name}/{n:04d}" for name in "aceg" for n in range(2_500)),
    *(f"{name}{n:02d}.xml" for name in "bdfh" for n in range(30)),
]
FLAT = [f"{n:06d}.xml" for n in range(20_000)]
FOLDER_EACH = [f"work-{n:06d}/description.xml" for n in range(20_000)]
LARGE_THEN_FOLDER_EACH = [
    *(f"a{name}/{n:05d}" for name in range(4) for n in range(6_000)),
    *(f"work-{n:06d}/description.xml" for n in range(20_000)),
]
BUCKETS = {
    "years": YEARS,
    "all in one prefix": ONE_DEEP,
    "one is huge": ONE_HUGE,
    "objects between prefixes": BETWEEN,
    "flat": FLAT,
    "a folder each": FOLDER_EACH,
    "large ones, then a folder each": LARGE_THEN_FOLDER_EACH,
    "few": ["a/1", "b"],
    "none": [],
}


@pytest.mark.parametrize("keys", BUCKETS.values(), ids=BUCKETS)
def test_every_kind_of_bucket_is_listed_in_order(keys: list[str]) -> None:
    assert listed(ListedS3(keys)) == sorted(keys)


@pytest.mark.parametrize("name", ["flat", "a folder each", "few", "none"])
def test_a_bucket_in_which_it_would_not_help_is_listed_page_by_page(name: str) -> None:
    s3 = ListedS3(BUCKETS[name])
    listed(s3)
    assert len(s3.requests) == sequentially(len(s3.keys))


@pytest.mark.parametrize(
    "name", ["years", "all in one prefix", "one is huge", "large ones, then a folder each"]
)
def test_listing_side_by_side_takes_few_more_requests(name: str) -> None:
    s3 = ListedS3(BUCKETS[name])
    listed(s3)
    assert len(s3.requests) < 2.5 * sequentially(len(s3.keys))


@pytest.mark.parametrize(
    ("name", "below"), [("years", "20"), ("all in one prefix", "prod/tei/"), ("one is huge", "huge/")]
)
def test_prefixes_are_listed_side_by_side(name: str, below: str) -> None:
    """The first requests for what is below a prefix wait for each other, so this ends only if they are under way together."""
    together = threading.Barrier(LANES)
    met = threading.Event()

    def meet(prefix: str) -> None:
        if prefix.startswith(below) and prefix != below and not met.is_set():
            together.wait(PATIENCE_SECONDS)
            met.set()

    keys = BUCKETS[name]
    assert listed(ListedS3(keys, on_request=meet)) == sorted(keys)
    assert met.is_set()


SEGMENTS = st.sampled_from(["a", "b", "c", "a-", "a0", "é", "\U0001f994", "", "b.xml"])
KEYS = st.lists(SEGMENTS, min_size=1, max_size=4).map("/".join).filter(bool)


@given(
    keys=st.sets(KEYS, max_size=60),
    prefix=st.one_of(st.just(""), st.sampled_from(["a", "a/", "b/a/", "é/", "none/"])),
    page=st.integers(1, 7),
    per_child=st.integers(1, 4),
    split_after=st.integers(1, 3),
    small=st.integers(1, 4),
    waiting=st.sampled_from([0, 100, 10**9]),
)
def test_any_bucket_is_listed_whole_and_in_order(
    keys: set[str], prefix: str, page: int, per_child: int, split_after: int, small: int, waiting: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefix_walk, "MIN_KEYS_PER_CHILD", per_child)
        patch.setattr(prefix_walk, "SPLIT_BRANCH_AFTER_PAGES", split_after)
        patch.setattr(prefix_walk, "SMALL_CHILDREN", small)
        patch.setattr(prefix_walk, "PAGE_KEYS", 2 * page)
        patch.setattr(prefix_walk, "MAX_WAITING_BYTES", waiting)
        found = listed(ListedS3(keys, page=page), prefix)
    assert found == sorted(key for key in keys if key.startswith(prefix) and not key.endswith("/"))


def test_what_an_object_is_survives_waiting_for_its_turn() -> None:
    objects = {each.key: each for each in S3SourceListing("source", ListedS3(YEARS)).objects("")}
    last = objects[YEARS[-1]]
    assert (last.bucket, last.etag, last.size) == ("source", YEARS[-1], len(YEARS[-1]))
    assert last.last_modified == "2026-11-20T12:00:00+00:00"


class Clock:
    """Each request takes a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self._lock = threading.Lock()

    def __call__(self) -> float:
        return self.now

    def tick(self, _: str) -> None:
        with self._lock:
            self.now += 1


@pytest.mark.parametrize("keys", [YEARS, FLAT, ONE_HUGE], ids=["years", "flat", "one is huge"])
def test_a_bucket_that_there_is_no_time_to_list_is_refused(keys: list[str]) -> None:
    clock = Clock()
    s3 = ListedS3(keys, on_request=clock.tick)
    with pytest.raises(StageInputError) as refused:
        listed(s3, "", deadline=10.0, clock=clock)
    text = str(refused.value)
    assert text.startswith("prefix: has too many objects to list in one run: ")
    assert text.endswith(
        "and there are more; give a longer prefix, or a list of records (winnow run --records), got: ''"
    )
    assert "\n" not in text
    assert len(s3.requests) < 10 + 3 * LANES, "what was under way was ended"


def test_a_bucket_that_can_just_be_listed_is_not_refused() -> None:
    clock = Clock()
    s3 = ListedS3(FLAT, on_request=clock.tick)
    assert len(listed(s3, deadline=sequentially(len(FLAT)) + 0.5, clock=clock)) == len(FLAT)


def test_a_refusal_by_s3_in_a_lane_is_raised() -> None:
    def refuse(prefix: str) -> None:
        if prefix == "2015/":
            raise refusal("AccessDenied", 403)

    with pytest.raises(ClientError, match="AccessDenied"):
        listed(ListedS3(YEARS, on_request=refuse))


def test_a_listing_that_is_not_read_to_its_end_leaves_no_thread() -> None:
    before = set(threading.enumerate())
    objects = S3SourceListing("source", ListedS3(YEARS)).objects("")
    for _ in islice(objects, 3_000):
        pass
    assert set(threading.enumerate()) > before
    objects.close()  # type: ignore[attr-defined]
    assert set(threading.enumerate()) == before


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-20T12:00:30.000Z",
        "2026-11-20T12:00:30Z",
        "2026-11-20T12:00:30+02:00",
        "Fri, 20 Nov 2026 12:00:30 GMT",
        "1700000000",
        1_700_000_000,
        1_700_000_000.5,
    ],
)
def test_moments_in_answers_are_those_that_botocore_reads(value: Any) -> None:
    assert _moment(value) == parse_timestamp(value)
    assert _moment(value).isoformat() == parse_timestamp(value).isoformat()
