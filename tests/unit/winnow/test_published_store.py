"""The pointer in S3: a double that conflicts, refuses, and loses answers as S3 does."""

from __future__ import annotations

import ast
import io
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.response import StreamingBody
from moto import mock_aws

from scripts import ROOT
from winnow.core.errors import PublishConflict
from winnow.storage.published_store import PublishedStore, S3PublishedStore
from winnow.storage.tries import TRIES
from winnow.testing import MemoryStore


def refusal(status: int) -> ClientError:
    return ClientError(
        {"Error": {"Code": str(status)}, "ResponseMetadata": {"HTTPStatusCode": status}},  # type: ignore[typeddict-item]
        "PutObject",
    )


class FakeS3:
    """One object. Conditions are checked as S3 does; `answers` come instead of the real ones, in turn."""

    def __init__(self, body: bytes | None = None) -> None:
        self.body = body
        self.answers: list[int | None] = []
        """A status to refuse with before anything is written; None to go on as usual."""
        self.loses_an_answer = False
        self.puts: list[dict[str, Any]] = []

    @property
    def etag(self) -> str | None:
        return None if self.body is None else f'"{self.body.decode()}"'

    def put_object(self, **request: Any) -> dict[str, Any]:
        self.puts.append(request)
        if self.answers and (status := self.answers.pop(0)):
            raise refusal(status)
        if "IfMatch" in request and self.body is None:
            raise refusal(404)
        if request.get("IfNoneMatch") == "*" and self.body is not None:
            raise refusal(412)
        if "IfMatch" in request and request["IfMatch"] != self.etag:
            raise refusal(412)
        self.body = request["Body"]
        if self.loses_an_answer:  # botocore then writes again
            self.loses_an_answer = False
            return self.put_object(**request)
        return {"ETag": self.etag}

    def get_object(self, **_request: Any) -> dict[str, Any]:

        if self.body is None:
            raise refusal(404)
        return {"ETag": self.etag, "Body": StreamingBody(io.BytesIO(self.body), len(self.body))}


def store(s3: FakeS3) -> S3PublishedStore:
    return S3PublishedStore("published", s3, sleep=lambda _: None)


@pytest.fixture(params=["S3", "memory"])
def bucket(request: pytest.FixtureRequest) -> Iterator[PublishedStore]:
    """The same promises, kept by S3 and by the fake that other tests rely on."""
    if request.param == "memory":
        yield MemoryStore("published")
        return
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        s3.create_bucket(Bucket="published")
        yield S3PublishedStore("published", s3)


def test_a_pointer_moves_from_what_was_read_to_what_is_written(bucket: PublishedStore) -> None:
    bucket.swap("current", b"1", if_match=None)
    with pytest.raises(PublishConflict):
        bucket.swap("current", b"other", if_match=None)
    read = bucket.get("current").etag
    bucket.swap("current", b"2", if_match=read)
    with pytest.raises(PublishConflict):
        bucket.swap("current", b"3", if_match=read)
    assert bucket.get("current").body == b"2"
    bucket.delete("current")
    bucket.delete("current")
    with pytest.raises(PublishConflict):
        bucket.swap("current", b"3", if_match=read)
    assert list(bucket.keys("")) == []


def test_the_first_pointer_is_written_only_where_there_is_none() -> None:
    s3 = FakeS3()
    store(s3).swap("current", b"1", if_match=None)
    assert s3.puts[0]["IfNoneMatch"] == "*"
    with pytest.raises(PublishConflict, match="s3://published/current was written by another"):
        store(s3).swap("current", b"other", if_match=None)
    assert s3.body == b"1"


def test_the_pointer_is_replaced_only_where_it_is_the_one_that_was_read() -> None:
    s3 = FakeS3(b"1")
    store(s3).swap("current", b"2", if_match='"1"')
    with pytest.raises(PublishConflict):
        store(s3).swap("current", b"3", if_match='"1"')
    assert s3.body == b"2"


@pytest.mark.parametrize(("before", "tag"), [(None, None), (b"1", '"1"')])
def test_a_pointer_whose_answer_was_lost_is_known_as_its_own(before: bytes | None, tag: str | None) -> None:
    s3 = FakeS3(before)
    s3.loses_an_answer = True
    store(s3).swap("current", b"2", if_match=tag)
    assert len(s3.puts) == 2
    assert s3.body == b"2"


def test_a_pointer_that_is_gone_is_a_conflict() -> None:
    s3 = FakeS3()
    with pytest.raises(PublishConflict):
        store(s3).swap("current", b"2", if_match='"1"')


def test_a_conflict_of_writes_is_tried_again() -> None:
    s3 = FakeS3(b"1")
    s3.answers = [409, 409]
    store(s3).swap("current", b"2", if_match='"1"')
    assert s3.body == b"2"


def test_conflicts_without_end_are_raised() -> None:
    s3 = FakeS3(b"1")
    s3.answers = [409] * TRIES
    with pytest.raises(ClientError):
        store(s3).swap("current", b"2", if_match='"1"')
    assert len(s3.puts) == TRIES


@pytest.mark.parametrize("status", [403, 500])
def test_other_errors_are_raised(status: int) -> None:
    s3 = FakeS3(b"1")
    s3.answers = [status]
    with pytest.raises(ClientError):
        store(s3).swap("current", b"2", if_match='"1"')


def test_nothing_of_winnow_copies_an_object() -> None:
    """Emulators ignore the conditions of CopyObject, so a pointer that moves by it would pass every test and lose a race."""
    found = [
        (path.name, node.attr)
        for path in (ROOT / "lambdas" / "winnow").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute) and node.attr in ("copy_object", "copy")
        if node.attr == "copy_object" or "s3" in ast.unparse(node.value).lower()
    ]
    assert found == []
