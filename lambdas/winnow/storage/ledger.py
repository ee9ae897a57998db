"""The ledger: everything a run writes to S3. Evidence is written once and never changed."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from typing import Any, TypeVar

from winnow.core.errors import DamagedDocument, LedgerObjectMissing, StageInputError, shorten
from winnow.storage.store import ObjectStore, S3Store

GZIP = 31
"""zlib's name for the gzip format."""
GZIP_LEVEL = 1
"""Level 1 is three to four times faster than the default and costs a few per cent of size; the CPU is the worker's."""


DAMAGE = (ValueError, KeyError, TypeError, IndexError, EOFError, RecursionError, zlib.error, StageInputError)
"""Whatever unpacking and decoding raise on an object that is not what it should be."""

T = TypeVar("T")


def compress(body: bytes) -> bytes:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP)
    return packer.compress(body) + packer.flush()


def decompress(body: bytes) -> bytes:
    return zlib.decompress(body, GZIP)


def digest_of(body: bytes) -> str:
    """By which an object is known again."""
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def check_digest(body: bytes, digest: str | None) -> None:
    """Raises `ValueError` if a body does not have the digest that it was written with."""
    if digest is not None and digest_of(body) != digest:
        raise ValueError("its body is not the one that was written")


@contextmanager
def naming_damage(where: str, remedy: str) -> Iterator[None]:
    """Name an object in what decoding it raises, and what to do about it.

    Raises:
        DamagedDocument: instead of anything in `DAMAGE`.
    """
    try:
        yield
    except DAMAGE as error:
        problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise DamagedDocument(f"{where} is damaged: {problem}; {remedy}") from error


class Ledger:
    """JSON documents and gzipped lines in one bucket. Keys come from `winnow.core.keys`."""

    def __init__(self, store: ObjectStore) -> None:
        self.store = store

    @classmethod
    def of_bucket(cls, bucket: str) -> Ledger:
        from winnow.storage.clients import client  # noqa: PLC0415  botocore is slow to import, and no ledger on disk needs it

        return cls(S3Store(bucket, client("s3")))

    @property
    def bucket(self) -> str:
        return self.store.bucket

    def pointer(self, key: str) -> dict[str, str]:
        """What travels through the state machines instead of the thing itself."""
        return {"bucket": self.store.bucket, "key": key}

    def write_json(self, key: str, document: object, *, if_absent: bool = False) -> str:
        """Write a document; gzipped when the key ends in `.gz`. Returns the digest of its body.

        Raises:
            LedgerConflict: `if_absent`, and there is one already.
        """
        # "replace": a lone surrogate in what a record said of itself must not cost the others their evidence.
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
        body = compress(body) if key.endswith(".gz") else body
        self.store.put(key, body, if_absent=if_absent)
        return digest_of(body)

    def read_json(self, key: str, *, digest: str | None = None) -> Any:
        """Read a document.

        Args:
            key: of the document.
            digest: that its body must have.

        Raises:
            LedgerObjectMissing: there is none.
            ValueError: it is not JSON, or has another digest.
        """
        body = self.store.get(key).body
        check_digest(body, digest)
        return json.loads(decompress(body) if key.endswith(".gz") else body)

    def find_json(self, key: str) -> Any | None:
        """Read a document that may not be there."""
        try:
            return self.read_json(key)
        except LedgerObjectMissing:
            return None

    def read(self, key: str, decode: Callable[[dict[str, Any]], T], *, digest: str | None = None) -> T:
        """Read a document of Winnow's own as its type.

        Raises:
            LedgerObjectMissing: there is none.
            DamagedDocument: it cannot be decoded, or its body does not have the digest.
        """
        with self.naming(key):
            found = self.read_json(key, digest=digest)
            if type(found) is not dict:
                raise ValueError(f"it must be an object, got: {shorten(found)}")
            return decode(found)

    def find(self, key: str, decode: Callable[[dict[str, Any]], T]) -> T | None:
        """Read a document that may not be there. Raises `DamagedDocument`, as `read`."""
        try:
            return self.read(key, decode)
        except LedgerObjectMissing:
            return None

    def naming(self, key: str) -> AbstractContextManager[None]:
        """Name the object in what decoding it raises: `DamagedDocument` instead of anything in `DAMAGE`."""
        return naming_damage(f"s3://{self.bucket}/{key}", "nothing can write it again, so start a new run")

    def write_lines(self, key: str, lines: Iterator[str]) -> None:
        """Write gzipped ndjson of any length, streamed."""
        self.store.put_stream(key, gzipped(lines))

    def write_records(self, key: str, rows: Iterable[object], *, if_absent: bool = False) -> None:
        """Write a list of records that a stage can be given: plain ndjson of any length, streamed.

        Raises:
            LedgerConflict: `if_absent`, and there is one already.
        """
        if if_absent:  # S3 streams nothing conditionally
            self.store.put(key, b"".join(record_lines(rows)), if_absent=True)
        else:
            self.store.put_stream(key, record_lines(rows))

    def read_lines(self, key: str, *, bucket: str | None = None) -> Iterator[bytes]:
        """Lines of a gzipped ndjson object, streamed: memory stays at one piece whatever its size."""
        for lines in split_lines(gunzip(self.store.stream(key, bucket=bucket))):
            yield from lines


LINES_PER_PIECE = 1_000


def record_lines(records: Iterable[object]) -> Iterator[bytes]:
    """Records as ndjson, in pieces of many lines."""
    lines = (json.dumps(record, ensure_ascii=False, separators=(",", ":")) for record in records)
    while some := list(islice(lines, LINES_PER_PIECE)):
        yield "".join(f"{line}\n" for line in some).encode("utf-8", "surrogatepass")


def gzipped(lines: Iterator[str]) -> Iterator[bytes]:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, GZIP)
    while some := list(islice(lines, LINES_PER_PIECE)):
        yield packer.compress("".join(f"{line}\n" for line in some).encode("utf-8", "replace"))
    yield packer.flush()


MAX_UNPACKED_BYTES = 4 * 1024 * 1024
"""Unpacked at once: a megabyte of gzip may hold a gigabyte, and memory must not depend on how well it was packed."""


def gunzip(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress a stream that may hold several gzip members one after another.

    Raises:
        EOFError: the last member has no end, so that what would have followed is missing.
        zlib.error: it is damaged.
    """
    unpacker, begun = zlib.decompressobj(GZIP), False
    for piece in pieces:
        data, full = piece, False
        while data or full:
            begun = True
            unpacked = unpacker.decompress(data, MAX_UNPACKED_BYTES)
            yield unpacked
            if unpacker.eof:
                data, full = unpacker.unused_data, False
                unpacker, begun = zlib.decompressobj(GZIP), False
            else:
                data, full = unpacker.unconsumed_tail, len(unpacked) == MAX_UNPACKED_BYTES
    if begun:
        raise EOFError("it ends too early")


def split_lines(pieces: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Lines of a stream without their line ends, as many at once as a piece holds; a last line without an end counts too."""
    rest = b""
    for piece in pieces:
        lines = (rest + piece).split(b"\n")
        rest = lines.pop()
        if lines:
            yield lines
    if rest:
        yield [rest]
