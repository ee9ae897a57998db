from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
from botocore.exceptions import ReadTimeoutError, ResponseStreamingError

from catalogue.adapt import CHANGESET, MAX_DESCRIPTION_BYTES, ListedFile, TooLarge, adapt
from catalogue.tei.document import MalformedXml
from tests.unit.catalogue.fakes import WRITTEN, FakeS3, aws_error, tei
from winnow import PermanentError, Record, Skip
from winnow.storage.tries import TRIES

Source = dict[str, bytes | Exception]


def listed(key: str, **more: Any) -> Record:
    return Record(
        key,
        {
            "bucket": "source",
            "key": key,
            "etag": '"0"',
            "last_modified": "2020-01-01T00:00:00Z",
            "size": 1,
            **more,
        },
    )


def test_a_good_file_becomes_a_row_of_the_changeset(source: Source) -> None:
    source["Arabic/MS 1.xml"] = tei().encode()
    row = adapt(listed("Arabic/MS 1.xml"))
    assert row == {
        "id": "MS_1",
        "content": tei(),
        "source": "Arabic/MS 1.xml",
        "last_modified": WRITTEN,
        "deleted": False,
    }
    pa.Table.from_pylist([row], CHANGESET).validate(full=True)


def test_the_schema_is_explicit() -> None:
    assert {field.name: str(field.type) for field in CHANGESET} == {
        "id": "string",
        "content": "large_string",
        "source": "string",
        "last_modified": "timestamp[us, tz=UTC]",
        "deleted": "bool",
    }
    assert not any(field.nullable for field in CHANGESET)


def test_the_object_is_read_as_it_is_now_whatever_version_was_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    s3 = FakeS3({"a.xml": tei().encode()})
    monkeypatch.setattr("catalogue.adapt.client", lambda _service: s3)
    row = adapt(listed("a.xml", version_id="before the fix"))
    assert s3.asked == [{"Bucket": "source", "Key": "a.xml"}]
    assert row["last_modified"] == WRITTEN > datetime(2020, 1, 1, tzinfo=UTC)


def test_two_files_with_one_identifier_stay_two_records(source: Source) -> None:
    source |= {"a.xml": tei().encode(), "b.xml": tei().encode()}
    rows = [adapt(listed(key)) for key in ("a.xml", "b.xml")]
    assert [(row["id"], row["source"]) for row in rows] == [("MS_1", "a.xml"), ("MS_1", "b.xml")]
    assert all(isinstance(row, dict) for row in rows), (
        "no output id of its own: the record keeps the file's key as id"
    )


def test_a_bad_file_is_permanent_and_leaves_no_row(source: Source) -> None:
    source["a.xml"] = b"<TEI>"
    with pytest.raises(MalformedXml):
        adapt(listed("a.xml"))


def test_a_vanished_file_is_skipped_and_no_deletion(source: Source) -> None:
    assert not source
    assert adapt(listed("gone.xml")) == Skip("gone from the source since it was listed")


def test_a_folder_marker_is_skipped(source: Source) -> None:
    source["Arabic/"] = b""
    assert adapt(listed("Arabic/")) == Skip("folder marker")


@pytest.mark.parametrize(
    "error",
    [
        aws_error("SlowDown", 503),
        aws_error("InternalError", 500),
        aws_error("AccessDenied", 403),
        aws_error("NoSuchBucket", 404),
        ReadTimeoutError(endpoint_url="https://s3"),
    ],
    ids=lambda error: str(error)[:60],
)
def test_trouble_with_s3_is_transient(source: Source, error: Exception) -> None:
    source["a.xml"] = error
    with pytest.raises(type(error)) as raised:
        adapt(listed("a.xml"))
    assert not isinstance(raised.value, PermanentError)


@pytest.mark.parametrize("times", [1, TRIES - 1, TRIES])
def test_a_file_whose_body_breaks_is_read_again_and_at_last_fails_transiently(
    times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = times

    class Breaking(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            nonlocal left
            left -= 1
            if left >= 0:
                raise ResponseStreamingError(error="reset")
            return super().read()

    class S3:
        def get_object(self, **_request: str) -> dict[str, Any]:
            return {"Body": Breaking(tei().encode()), "ContentLength": 5, "LastModified": WRITTEN}

    monkeypatch.setattr("catalogue.adapt.client", lambda _service: S3())
    monkeypatch.setattr("winnow.storage.tries.FIRST_PAUSE_SECONDS", 0)
    if times < TRIES:
        assert adapt(listed("a.xml"))["id"] == "MS_1"
    else:
        with pytest.raises(ResponseStreamingError):
            adapt(listed("a.xml"))


def test_a_file_that_cannot_be_a_description_is_refused_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    class S3:
        def get_object(self, **_request: str) -> dict[str, Any]:
            return {"Body": io.BytesIO(), "ContentLength": MAX_DESCRIPTION_BYTES + 1, "LastModified": WRITTEN}

    monkeypatch.setattr("catalogue.adapt.client", lambda _service: S3())
    with pytest.raises(TooLarge, match="must be at most"):
        adapt(listed("video.xml"))


def test_a_bare_id_is_a_key_in_the_source_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_BUCKET", "descriptions")
    assert ListedFile.from_record(Record("a.xml")) == ListedFile(bucket="descriptions", key="a.xml")


def test_a_bare_id_without_a_source_bucket_is_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_BUCKET", raising=False)
    with pytest.raises(PermanentError, match="set SOURCE_BUCKET"):
        ListedFile.from_record(Record("a.xml"))
