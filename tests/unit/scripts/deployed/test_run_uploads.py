"""`winnow run --source` where arrivals start runs: what it uploads is run over once, whatever becomes of it."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from scripts.deployed.run_uploads import LEASE_SECONDS, RENEWED_AFTER_SECONDS, RunUploads
from scripts.deployed.sources import LocalSource
from scripts.terminal.errors import CommandRefused
from tests.unit.winnow.arrivals import Arrivals, created
from winnow.storage.upload_claims import Upload

RUN = "01KB0A1V0000000000000000ZZ"


@pytest.fixture
def arrivals() -> Arrivals:
    return Arrivals()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.xml", "b.xml"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.fixture
def s3() -> Iterator[Any]:
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="source")
        yield client


class Telling:
    """S3 that tells of what arrives, and may be interrupted."""

    def __init__(self, s3: Any, arrivals: Arrivals) -> None:
        self._s3 = s3
        self._arrivals = arrivals
        self.before: Callable[[str], None] = lambda _: None
        self.after: Callable[[str], None] = lambda _: None
        self.kms = False
        self._lock = threading.Lock()

    def put_object(self, *, Bucket: str, Key: str, Body: bytes) -> Any:  # noqa: N803  boto3's names
        with self._lock:
            self.before(Key)
            answer = self._s3.put_object(Bucket=Bucket, Key=Key, Body=Body)
            if self.kms:
                answer["ETag"] = f'"not the MD5 of {Key}"'
            self._arrivals.deliver(created(Key, etag=answer["ETag"]))
            self.after(Key)
            return answer


def run(arrivals: Arrivals, s3: Telling, folder: Path, *, pause_seconds: float = 0) -> None:
    """As `winnow run --source` does, with a pause before the start of the run."""
    with RunUploads(RUN, arrivals.uploads, clock=arrivals.clock) as uploads:
        keys = list(LocalSource.open(folder).upload(s3, bucket="source", prefix="tei/", uploads=uploads))
        arrivals.wait(pause_seconds)
        uploads.about_to_start()
        arrivals.store.put("its list", "".join(f'{{"id": "{key}"}}\n' for key in keys).encode())
        arrivals.executions.start(RUN, {"records": {"key": "its list"}})
        uploads.started()


ONCE = {"tei/a.xml": 1, "tei/b.xml": 1}


@pytest.mark.parametrize("kms", [False, True])
def test_starts_one_run(arrivals: Arrivals, s3: Any, folder: Path, kms: bool) -> None:  # noqa: FBT001
    telling = Telling(s3, arrivals)
    telling.kms = kms
    run(arrivals, telling, folder)
    arrivals.settle()
    assert list(arrivals.executions.started) == [RUN]
    assert arrivals.times_run() == ONCE


def test_starts_one_run_however_long_it_uploads(arrivals: Arrivals, s3: Any, folder: Path) -> None:
    """Windows are closed while it uploads."""
    telling = Telling(s3, arrivals)
    telling.after = lambda _: arrivals.wait(LEASE_SECONDS - RENEWED_AFTER_SECONDS)
    run(arrivals, telling, folder)
    arrivals.settle()
    assert arrivals.times_run() == ONCE
    assert list(arrivals.executions.started) == [RUN]


def test_claims_each_object_before_it_is_there(arrivals: Arrivals, s3: Any, folder: Path) -> None:
    claimed: dict[Upload, str] = {}

    def look(key: str) -> None:
        body = (folder / Path(key).name).read_bytes()
        claimed.update(arrivals.uploads.claimed([Upload("source", key, hashlib.md5(body).hexdigest())]))

    telling = Telling(s3, arrivals)
    telling.before = look
    run(arrivals, telling, folder)
    assert {upload.key: run_id for upload, run_id in claimed.items()} == dict.fromkeys(ONCE, RUN)
    for upload in claimed:
        assert s3.head_object(Bucket="source", Key=upload.key)["ETag"] == f'"{upload.etag}"'


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_what_it_uploaded_before_it_ended_is_run_over_in_the_next_window(
    arrivals: Arrivals, s3: Any, folder: Path, error: type[BaseException]
) -> None:
    def interrupt(key: str) -> None:
        if key == "tei/b.xml":
            raise error

    telling = Telling(s3, arrivals)
    telling.before = interrupt
    with pytest.raises(error):
        run(arrivals, telling, folder)
    arrivals.wait()
    assert arrivals.times_run() == {"tei/a.xml": 1}


@pytest.mark.parametrize("where", ["between uploads", "before the start"])
def test_is_refused_where_arrivals_have_taken_its_files(
    arrivals: Arrivals, s3: Any, folder: Path, where: str
) -> None:
    """The laptop slept."""
    telling = Telling(s3, arrivals)
    if where == "between uploads":
        telling.after = lambda _: arrivals.wait(2 * LEASE_SECONDS)
    with pytest.raises(CommandRefused, match="more than 60 minutes"):
        run(arrivals, telling, folder, pause_seconds=2 * LEASE_SECONDS)
    arrivals.settle()
    assert RUN not in arrivals.executions.started
    assert set(arrivals.times_run().values()) == {1}


def test_claims_nothing_where_arrivals_start_nothing(s3: Any, folder: Path) -> None:
    with RunUploads(RUN, None) as uploads:
        assert list(LocalSource.open(folder).upload(s3, bucket="source", uploads=uploads)) == [
            "a.xml",
            "b.xml",
        ]
        uploads.about_to_start()


def test_a_run_that_uploads_nothing_holds_nothing(arrivals: Arrivals) -> None:
    with RunUploads(RUN, arrivals.uploads, clock=arrivals.clock) as uploads:
        uploads.about_to_start()
    assert arrivals.uploads.hold(RUN, until=arrivals.clock() + 1), "nothing was given up"
