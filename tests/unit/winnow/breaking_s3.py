"""S3 whose bodies break: stricter than moto and the emulator, which give every body whole, however late it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import IncompleteRead
from typing import Any

from botocore import exceptions as botocore
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from urllib3 import exceptions as urllib3

IDLE_SECONDS = 20.0
"""After which S3 resets a connection whose body is not read."""

URL = "https://s3.example"
BREAKS: Mapping[str, Callable[[], Exception] | None] = {
    "reset": lambda: urllib3.ProtocolError("Connection broken: ConnectionResetError(104)"),
    "incomplete": lambda: urllib3.IncompleteRead(1, 2),
    "timed out": lambda: urllib3.ReadTimeoutError(None, URL, "Read timed out."),  # type: ignore[arg-type]
    "TLS": lambda: urllib3.SSLError("record layer failure"),
    "socket": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "http.client": lambda: IncompleteRead(b"x", 2),
    "botocore, timed out": lambda: botocore.ReadTimeoutError(endpoint_url=URL),
    "botocore, streaming": lambda: botocore.ResponseStreamingError(error="broken"),
    "botocore, closed": lambda: botocore.ConnectionClosedError(endpoint_url=URL),
    "botocore, connection": lambda: botocore.EndpointConnectionError(endpoint_url=URL),
    "checksum": lambda: botocore.FlexibleChecksumError(error_msg="Expected checksum AA== did not match"),
    "too short": None,
    "too short, and S3 did not say how long": None,
}
"""How a body breaks."""


@dataclass(frozen=True, slots=True)
class Break:
    """One answer's body breaks."""

    way: str
    at: int
    """After so many bytes of it."""


@dataclass(slots=True)
class BreakingS3:
    """Buckets. Each answer to `get_object` takes the next of `breaks`; None is for a body that is whole."""

    objects: dict[tuple[str, str], bytes] = field(default_factory=dict)
    breaks: Iterator[Break | None] = field(default_factory=lambda: iter(()))
    clock: Callable[[], float] = lambda: 0.0
    asked: list[dict[str, str]] = field(default_factory=list)
    refuses: ClientError | None = None
    """What every request is refused with."""
    ignores_ranges: bool = False
    on_answer: Callable[[], None] = lambda: None
    """Called after each answer."""
    broken: int = 0
    """Bodies that broke while they were read."""

    def get_object(self, **request: str) -> dict[str, Any]:
        self.asked.append(request)
        if self.refuses:
            raise self.refuses
        body = self.objects.get((request["Bucket"], request["Key"]))
        if body is None:
            raise refusal("NoSuchKey", 404)
        tag = etag(body)
        if request.get("IfMatch", tag) != tag:
            raise refusal("PreconditionFailed", 412)
        answer: dict[str, Any] = {"ETag": tag, "LastModified": datetime(2026, 11, 20, tzinfo=UTC)}
        if "Range" in request and not self.ignores_ranges:
            first, last = map(int, request["Range"].removeprefix("bytes=").split("-"))
            if first >= len(body):
                raise refusal("InvalidRange", 416)
            last = min(last, len(body) - 1)
            answer["ContentRange"] = f"bytes {first}-{last}/{len(body)}"
            body = body[first : last + 1]
        breaks = next(self.breaks, None)
        told = None if breaks and breaks.way.endswith("how long") else str(len(body))
        answer["Body"] = StreamingBody(_Connection(self, body, breaks), told)  # type: ignore[arg-type]
        answer["ContentLength"] = len(body)
        self.on_answer()
        return answer

    def head_object(self, **request: str) -> dict[str, Any]:
        return {**self.get_object(**request), "Body": None}


class _Connection:
    """What `StreamingBody` reads from."""

    def __init__(self, s3: BreakingS3, body: bytes, breaks: Break | None) -> None:
        self._s3 = s3
        self._body = body
        self._break = breaks
        self._at = 0
        self._read_at = s3.clock()

    def read(self, amount: int | None = None) -> bytes:
        since, self._read_at = self._read_at, self._s3.clock()
        if self._read_at - since > IDLE_SECONDS and self._at < len(self._body):
            self._s3.broken += 1
            raise urllib3.ProtocolError("Connection broken: ConnectionResetError(104)")
        end = len(self._body) if amount is None else min(self._at + amount, len(self._body))
        found = self._body[self._at : end]
        if self._break:
            found = self._until_it_breaks(found, self._break, everything=amount is None)
        self._at += len(found)
        return found

    def _until_it_breaks(self, found: bytes, breaks: Break, *, everything: bool) -> bytes:
        error = BREAKS[breaks.way]
        if breaks.way == "checksum":  # found out at the end
            if everything or not found:
                self._s3.broken += 1
                assert error
                raise error()
            return bytes(byte ^ 0xFF for byte in found)
        before = found[: max(0, breaks.at - self._at)]
        if before == found and found:
            return found
        if error is None:
            self._s3.broken += not before or everything
            return before
        if everything or not before:
            self._s3.broken += 1
            raise error()
        return before


def etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def refusal(code: str, status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": ""}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "Operation",
    )
