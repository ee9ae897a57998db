"""Lists what is under a prefix, several of the prefixes below it at once, and still in the order of keys.

One request lists a thousand keys and takes a tenth of a second, for most of which the caller waits. Prefixes below can be listed
side by side where there are few of them with many keys each. Everywhere else, a bucket without slashes or with a folder for each
object, one page after the other is right: a request for each folder would cost more than it saves.
"""

from __future__ import annotations

import json
import threading
import zlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from math import inf
from typing import Any

LANES = 8
"""Prefixes listed at once. The answers have to be parsed by one processor, which eight requests keep busy."""
MIN_KEYS_PER_CHILD = 50
"""On a page, for the prefixes below to be worth a request each."""
SPLIT_WITHIN_PAGES = 20
"""A prefix is split at once or never: what was listed before is listed again, as names of the prefixes below."""
SPLIT_BRANCH_AFTER_PAGES = 5
"""A prefix that is listed beside others and is larger than this is split in turn, if it can be."""
SMALL_CHILDREN = 32
"""So many prefixes in a row that would have fitted on one page: they are not worth a request each any more."""
PAGE_KEYS = 1_000
MAX_WAITING_BYTES = 256 * 1024 * 1024
"""Of packed pages that wait for their turn: some eight million keys."""

DELIMITER = "/"

Listed = tuple[str, str, str, int]
"""Key, tag without quotes, when it was last modified (ISO 8601, UTC), size in bytes."""


class ListingTooLong(Exception):
    """There is no time left to list the rest."""


@dataclass(frozen=True, slots=True)
class _Cursor:
    """Where to go on."""

    after: str = ""
    """The last key that was listed."""
    token: str | None = None
    """S3's own, if the prefix is the same."""

    def request(self) -> dict[str, str]:
        if self.token:
            return {"ContinuationToken": self.token}
        return {"StartAfter": self.after} if self.after else {}


@dataclass(frozen=True, slots=True)
class _Page:
    objects: list[Listed]
    next: _Cursor | None
    """None after the last page."""


@dataclass(slots=True)
class _Branch:
    """What was listed of a prefix ahead of its turn."""

    prefix: str
    last: str
    """The last key that was listed."""
    next: _Cursor | None
    packed: list[bytes] = field(default_factory=list)
    keys: int = 0


class PrefixWalk:
    """One listing."""

    def __init__(
        self,
        bucket: str,
        s3: Any,
        *,
        seconds_left: Callable[[], float] = lambda: inf,
        lanes: int = LANES,
    ) -> None:
        """Define a listing.

        Args:
            bucket: its name.
            s3: a client; called in threads.
            seconds_left: until the listing has to end.
            lanes: prefixes that are listed at once.
        """
        self._bucket = bucket
        self._s3 = s3
        self._seconds_left = seconds_left
        self._lanes = lanes
        self._pool = ThreadPoolExecutor(max_workers=lanes)
        self._stopped = threading.Event()
        self._counting = threading.Lock()
        self._waiting_bytes = 0
        self.listed = 0
        """Keys so far, those that wait for their turn included."""

    def close(self) -> None:
        """End what is under way."""
        self._stopped.set()
        self._pool.shutdown(cancel_futures=True)

    def pages(self, prefix: str) -> Iterator[Sequence[Listed]]:
        """Everything under a prefix, in ascending order of keys.

        Raises:
            ListingTooLong: before everything was listed.
        """
        return self._pages(prefix, _Cursor())

    def _pages(self, prefix: str, cursor: _Cursor | None) -> Iterator[Sequence[Listed]]:
        number = 0
        while cursor:
            self._check_time()
            page = self._page(prefix, cursor)
            yield page.objects
            cursor = page.next
            number += 1
            if cursor and number <= SPLIT_WITHIN_PAGES and _is_worth_splitting(prefix, page):
                cursor = yield from self._side_by_side(prefix, cursor.after)
                number = SPLIT_WITHIN_PAGES

    def _side_by_side(self, prefix: str, after: str) -> Generator[Sequence[Listed], None, _Cursor | None]:
        """Pages of what is under a prefix after a key, from branches that are listed ahead.

        Returns:
            Where to go on page by page because the prefixes below have become small; None at the end.
        """
        ahead: deque[list[Listed] | Future[_Branch]] = deque()
        sizes: deque[int] = deque(maxlen=SMALL_CHILDREN)
        level = self._level(prefix, after)
        while True:
            while len(ahead) < self._lanes and (found := next(level, None)) is not None:
                ahead.append(
                    found if isinstance(found, list) else self._pool.submit(self._list_ahead, found, after)
                )
            if not ahead:
                return None
            first = ahead.popleft()
            if isinstance(first, list):
                yield first
                continue
            branch = self._result(first)
            yield from self._unpacked(branch)
            yield from self._pages(branch.prefix, branch.next)
            sizes.append(PAGE_KEYS if branch.next else branch.keys)
            if len(sizes) == SMALL_CHILDREN and sum(sizes) < PAGE_KEYS:
                for each in ahead:
                    if isinstance(each, Future):
                        each.cancel()
                return _Cursor(branch.last)

    def _level(self, prefix: str, after: str) -> Iterator[list[Listed] | str]:
        """What is directly under a prefix after a key, in order: objects, and the prefixes below."""
        token: dict[str, str] = {}
        while True:
            self._check_time()
            answer = self._request(prefix, Delimiter=DELIMITER, **token)
            below = [each["Prefix"] for each in answer.get("CommonPrefixes", ())]
            direct = {each[0]: each for each in map(_listed, answer.get("Contents", ()))}
            run: list[Listed] = []
            for name in sorted([*below, *direct]):
                if name in direct:
                    if name > after:
                        run.append(direct[name])
                elif name > after or after.startswith(name):
                    if run:
                        yield run
                        run = []
                    yield name
            if run:
                yield run
            if not answer.get("IsTruncated"):
                return
            token = {"ContinuationToken": answer["NextContinuationToken"]}

    def _list_ahead(self, prefix: str, after: str) -> _Branch:
        """List a prefix in a lane, as far as memory allows and unless it is better split."""
        begin = after if after.startswith(prefix) else ""
        branch = _Branch(prefix, last=begin or prefix, next=_Cursor(begin))
        while branch.next and not self._stopped.is_set() and self._seconds_left() > 0:
            page = self._page(prefix, branch.next)
            packed = zlib.compress(json.dumps(page.objects).encode(), 1)
            branch.packed.append(packed)
            if page.objects:
                branch.keys += len(page.objects)
                branch.last = page.objects[-1][0]
            branch.next = page.next
            with self._counting:
                self._waiting_bytes += len(packed)
                is_full = self._waiting_bytes > MAX_WAITING_BYTES
            is_large = len(branch.packed) >= SPLIT_BRANCH_AFTER_PAGES
            if is_full or (is_large and _is_worth_splitting(prefix, page)):
                break
        return branch

    def _result(self, branch: Future[_Branch]) -> _Branch:
        seconds = self._seconds_left()
        try:
            return branch.result(None if seconds == inf else max(0.0, seconds))
        except TimeoutError:
            self._check_time()
            raise

    def _unpacked(self, branch: _Branch) -> Iterator[Sequence[Listed]]:
        for packed in branch.packed:
            self._check_time()
            with self._counting:
                self._waiting_bytes -= len(packed)
            yield json.loads(zlib.decompress(packed))

    def _page(self, prefix: str, cursor: _Cursor) -> _Page:
        answer = self._request(prefix, **cursor.request())
        objects = [_listed(each) for each in answer.get("Contents", ())]
        with self._counting:
            self.listed += len(objects)
        if not answer.get("IsTruncated"):
            return _Page(objects, None)
        last = objects[-1][0] if objects else cursor.after
        return _Page(objects, _Cursor(last, answer["NextContinuationToken"]))

    def _request(self, prefix: str, **more: str) -> Any:
        return self._s3.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)

    def _check_time(self) -> None:
        if self._seconds_left() <= 0:
            raise ListingTooLong


def _listed(item: dict[str, Any]) -> Listed:
    return (item["Key"], item["ETag"].strip('"'), item["LastModified"].isoformat(), item["Size"])


def _is_worth_splitting(prefix: str, page: _Page) -> bool:
    """Whether a page shows that there are few prefixes below, with many keys each."""
    rests = (key[len(prefix) :] for key, *_ in page.objects)
    children = [rest.partition(DELIMITER)[0] for rest in rests if DELIMITER in rest]
    return len(children) >= MIN_KEYS_PER_CHILD * len(set(children)) > 0
