from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber
from moto import mock_aws

from winnow.batch.opening import detect
from winnow.core.contract import Pointer
from winnow.core.errors import (
    LedgerConflict,
    LedgerObjectMissing,
    ObjectForbidden,
    SourceChanged,
    StageInputError,
)
from winnow.storage.ranged import STREAM_PIECE_BYTES
from winnow.storage.store import HEAD_BYTES, PART_BYTES, ObjectStore, S3Store
from winnow.storage.tries import TRIES
from winnow.testing import MemoryStore


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
        s3.create_bucket(Bucket="ledger")
        yield s3


@pytest.fixture(params=["S3", "memory"])
def store(request: pytest.FixtureRequest, s3: Any) -> Iterator[ObjectStore]:
    """The same promises, kept by S3 and by the fake that other tests rely on."""
    if request.param == "memory":
        yield MemoryStore("ledger")
        return
    yield S3Store("ledger", s3)
    for item in s3.list_objects_v2(Bucket="ledger").get("Contents", ()):
        s3.delete_object(Bucket="ledger", Key=item["Key"])


def test_gives_back_what_was_put(store: ObjectStore) -> None:
    store.put("a/b", b"one")
    store.put("a/b", b"two")
    assert store.get("a/b").body == b"two"
    assert b"".join(store.stream("a/b")) == b"two"


def test_streams_a_large_object_in_pieces(store: ObjectStore) -> None:
    body = bytes(range(256)) * (STREAM_PIECE_BYTES // 100)
    store.put("big", body)
    pieces = list(store.stream("big"))
    assert b"".join(pieces) == body
    assert max(map(len, pieces)) <= STREAM_PIECE_BYTES


def test_writes_a_key_that_must_be_new_only_once(store: ObjectStore) -> None:
    store.put("once", b"first", if_absent=True)
    with pytest.raises(LedgerConflict, match="s3://ledger/once exists already"):
        store.put("once", b"second", if_absent=True)
    assert store.get("once").body == b"first"


@pytest.mark.parametrize("size", [0, 1, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 7])
def test_writes_a_stream_of_any_size_whole(store: ObjectStore, size: int) -> None:
    body = bytes(size)
    store.put_stream("stream", (body[n : n + 999_999] for n in range(0, size, 999_999)))
    assert store.get("stream").body == body


def test_a_stream_that_breaks_off_leaves_nothing(store: ObjectStore) -> None:
    def pieces() -> Iterator[bytes]:
        yield bytes(PART_BYTES)
        yield bytes(PART_BYTES)
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError, match="no more"):
        store.put_stream("stream", pieces())
    assert list(store.keys("")) == []


def test_names_what_is_missing(store: ObjectStore) -> None:
    for look in (store.get, store.head, lambda key: list(store.stream(key))):
        with pytest.raises(LedgerObjectMissing, match="s3://ledger/none does not exist"):
            look("none")


def test_reads_only_what_it_saw_before(store: ObjectStore) -> None:
    store.put("source", b"first")
    tag = store.head("source").etag
    assert store.get("source", if_match=tag).body == b"first"
    store.put("source", b"second")
    with pytest.raises(SourceChanged, match="s3://ledger/source changed after the batch was fixed from it"):
        store.get("source", if_match=tag)
    with pytest.raises(SourceChanged):
        list(store.stream("source", if_match=tag))


@pytest.mark.parametrize("body", [b"", b"x", b"x" * (HEAD_BYTES - 1), b"x" * HEAD_BYTES, b"x" * 1_000])
def test_looks_at_the_beginning(store: ObjectStore, body: bytes) -> None:
    store.put("source", body)
    head = store.head("source")
    assert head.start == body[:HEAD_BYTES]
    assert head.etag == store.get("source").etag


def test_lists_keys_under_a_prefix_in_order(store: ObjectStore) -> None:
    names = [f"a/{n:04d}" for n in range(12)]
    for name in (*reversed(names), "a", "b/1"):
        store.put(name, b"")
    assert list(store.keys("a/")) == names
    assert list(store.keys("none/")) == []


def test_lists_page_after_page() -> None:
    store, stub = stubbed()
    first = {"Contents": [{"Key": "a"}], "IsTruncated": True, "NextContinuationToken": "more"}
    stub.add_response("list_objects_v2", first, {"Bucket": "ledger", "Prefix": ""})
    second = {"Contents": [{"Key": "b"}], "IsTruncated": False}
    stub.add_response(
        "list_objects_v2", second, {"Bucket": "ledger", "Prefix": "", "ContinuationToken": "more"}
    )
    with stub:
        assert list(store.keys("")) == ["a", "b"]


def test_a_conditional_write_that_s3_finds_taken_is_a_conflict() -> None:
    store, stub = stubbed()
    stub.add_client_error("put_object", service_error_code="PreconditionFailed", http_status_code=412)
    with stub, pytest.raises(LedgerConflict):
        store.put("once", b"", if_absent=True)


BUSY = {"service_error_code": "ConditionalRequestConflict", "http_status_code": 409}
"""Another conditional write of the key is under way: S3's documentation says to try again."""


@pytest.mark.parametrize("times", range(1, TRIES))
def test_a_conditional_write_beside_another_is_tried_again(times: int) -> None:
    waits: list[float] = []
    store, stub = stubbed(waits.append)
    for _ in range(times):
        stub.add_client_error("put_object", **BUSY)
    stub.add_response("put_object", {}, {"Bucket": "ledger", "Key": "once", "Body": b"", "IfNoneMatch": "*"})
    with stub:
        store.put("once", b"", if_absent=True)
    stub.assert_no_pending_responses()
    assert len(waits) == times


def test_a_conditional_write_beside_another_that_succeeded_is_a_conflict() -> None:
    store, stub = stubbed()
    stub.add_client_error("put_object", **BUSY)
    stub.add_client_error("put_object", service_error_code="PreconditionFailed", http_status_code=412)
    with stub, pytest.raises(LedgerConflict):
        store.put("once", b"", if_absent=True)


def test_a_conditional_write_of_which_s3_never_says_whether_it_is_taken_is_no_conflict() -> None:
    store, stub = stubbed()
    for _ in range(TRIES):
        stub.add_client_error("put_object", **BUSY)
    with stub, pytest.raises(ClientError, match="ConditionalRequestConflict"):
        store.put("once", b"", if_absent=True)
    stub.assert_no_pending_responses()


def test_a_write_without_a_condition_is_not_tried_again() -> None:
    store, stub = stubbed()
    stub.add_client_error("put_object", service_error_code="OperationAborted", http_status_code=409)
    with stub, pytest.raises(ClientError, match="OperationAborted"):
        store.put("often", b"")


def test_an_object_that_s3_does_not_show_is_told_from_one_that_is_missing() -> None:
    store, stub = stubbed()
    stub.add_client_error("get_object", service_error_code="AccessDenied", http_status_code=403)
    with stub, pytest.raises(ObjectForbidden, match="AccessDenied"):
        store.head("k", bucket="somebody-elses")


@pytest.mark.parametrize("code", ["InvalidBucketName", "KeyTooLongError"])
def test_nothing_goes_by_a_name_that_s3_refuses(code: str) -> None:
    store, stub = stubbed()
    stub.add_client_error("get_object", service_error_code=code, http_status_code=400)
    with stub, pytest.raises(LedgerObjectMissing):
        store.head("k", bucket="a-bucket")


def test_nothing_is_asked_for_in_a_bucket_whose_name_cannot_be() -> None:
    store, _ = stubbed()
    with pytest.raises(LedgerObjectMissing, match="s3://Not A Bucket!/k does not exist"):
        store.head("k", bucket="Not A Bucket!")


@pytest.mark.parametrize("status", [500, 503])
def test_any_other_refusal_is_raised_as_it_is(status: int) -> None:
    store, stub = stubbed()
    for method in ("put_object", "get_object", "get_object"):
        stub.add_client_error(method, service_error_code="Refused", http_status_code=status)
    with stub:
        for call in (
            lambda: store.put("k", b"", if_absent=True),
            lambda: store.get("k"),
            lambda: store.head("k"),
        ):
            with pytest.raises(Exception, match="Refused"):
                call()


def test_a_list_that_may_not_be_read_is_told_apart_from_one_that_is_not_there() -> None:
    store, stub = stubbed()
    stub.add_client_error("get_object", service_error_code="AccessDenied", http_status_code=403)
    with (
        stub,
        pytest.raises(StageInputError, match="records: may not be read by this pipeline; put the list into"),
    ):
        detect(store, Pointer(bucket="elsewhere", key="list.ndjson"))


def stubbed(sleep: Callable[[float], object] = lambda _: None) -> tuple[S3Store, Any]:
    s3 = boto3.client("s3", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")
    return S3Store("ledger", s3, sleep=sleep), Stubber(s3)
