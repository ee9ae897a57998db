"""A bucket that is only listed: as S3 does it, a page at a time, in order, with prefixes folded at a delimiter."""

from __future__ import annotations

import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

WRITTEN = datetime(2026, 11, 20, 12, tzinfo=UTC)


class ListedS3:
    """Keys of one bucket."""

    def __init__(
        self, keys: Iterable[str], *, page: int = 1_000, on_request: Callable[[str], object] = lambda _: None
    ) -> None:
        self.keys = sorted(keys)
        self.page = page
        self.on_request = on_request
        """Called with the prefix of each request."""
        self.requests: list[dict[str, str]] = []
        self._lock = threading.Lock()

    def list_objects_v2(
        self,
        *,
        Bucket: str,  # noqa: N803
        Prefix: str,  # noqa: N803
        Delimiter: str = "",  # noqa: N803
        StartAfter: str = "",  # noqa: N803
        ContinuationToken: str = "",  # noqa: N803
    ) -> dict[str, Any]:
        assert Bucket == "source"
        with self._lock:
            self.requests.append(
                {"Prefix": Prefix, "Delimiter": Delimiter, "After": StartAfter or ContinuationToken}
            )
        self.on_request(Prefix)
        kind, _, name = ContinuationToken.partition(":")
        assert not ContinuationToken or not StartAfter
        assert not (Delimiter and StartAfter), "S3 and its doubles disagree on what this does"
        at = bisect_left(self.keys, Prefix)
        if StartAfter:
            at = max(at, bisect_right(self.keys, StartAfter))
        if kind == "key":
            at = bisect_right(self.keys, name)
        elif kind == "prefix":
            at = bisect_right(self.keys, name + "\U0010ffff")
        contents: list[dict[str, Any]] = []
        prefixes: list[dict[str, str]] = []
        token = ""
        while at < len(self.keys) and self.keys[at].startswith(Prefix):
            if len(contents) + len(prefixes) == self.page:
                return self._answer(contents, prefixes, token)
            key = self.keys[at]
            below, found, _ = key[len(Prefix) :].partition(Delimiter or "\0")
            if Delimiter and found:
                folded = Prefix + below + Delimiter
                prefixes.append({"Prefix": folded})
                token = f"prefix:{folded}"
                at = bisect_right(self.keys, folded + "\U0010ffff")
            else:
                contents.append({"Key": key, "ETag": f'"{key}"', "LastModified": WRITTEN, "Size": len(key)})
                token = f"key:{key}"
                at += 1
        return self._answer(contents, prefixes, "")

    def _answer(self, contents: list[Any], prefixes: list[Any], token: str) -> dict[str, Any]:
        answer: dict[str, Any] = {"IsTruncated": bool(token)}
        if contents:
            answer["Contents"] = contents
        if prefixes:
            answer["CommonPrefixes"] = prefixes
        if token:
            answer["NextContinuationToken"] = token
        return answer
