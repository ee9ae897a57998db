"""What the example's tests share: the sample records, the real ones where they exist, and AWS in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from catalogue.identifiers import IdentifierTable
from tests.unit.catalogue.fakes import TABLE, FakeS3, OneAtATime, create_table, in_listing_order

ROOT = Path(__file__).parents[3]
REAL_DATA = ROOT.parent / "shared" / "data" / "tei"


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes | Exception]:
    """The objects that adapt finds, by key."""
    objects: dict[str, bytes | Exception] = {}
    monkeypatch.setattr("catalogue.adapt.client", lambda _service: FakeS3(objects))
    return objects


@pytest.fixture(scope="session")
def samples() -> dict[str, bytes]:
    return _files(ROOT / "tests" / "data" / "manuscripts")


@pytest.fixture(scope="session")
def corrections() -> dict[str, bytes]:
    return _files(ROOT / "tests" / "data" / "corrections")


def _files(folder: Path) -> dict[str, bytes]:
    return in_listing_order(
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }
    )


@pytest.fixture(scope="session")
def real_data() -> Path:
    if not REAL_DATA.is_dir():
        pytest.skip(f"no real records in {REAL_DATA}: they are not part of the repository")
    return REAL_DATA


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[OneAtATime]:
    """An empty table of identifiers, which mint is pointed at."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("IDENTIFIERS_TABLE", TABLE)
    monkeypatch.setattr("catalogue.identifiers.PAUSES_SECONDS", (0.0,) * 7)
    with mock_aws():
        client = OneAtATime(boto3.client("dynamodb", region_name="eu-west-1"))
        create_table(client)
        monkeypatch.setattr("catalogue.mint.client", lambda _service: client)
        yield client


@pytest.fixture
def table(dynamodb: OneAtATime) -> IdentifierTable:
    return IdentifierTable(dynamodb, TABLE)
