"""Stand-ins for AWS, and TEI in a line."""

from __future__ import annotations

import io
import threading
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError

TABLE = "identifiers"

WRITTEN = datetime(2026, 8, 18, 12, 30, tzinfo=UTC)


class FakeS3:
    """One bucket. An object that is an exception is raised, as S3 would answer with it."""

    def __init__(self, objects: dict[str, bytes | Exception]) -> None:
        self.objects = objects
        self.asked: list[dict[str, str]] = []

    def get_object(self, **request: str) -> dict[str, Any]:
        self.asked.append(request)
        content = self.objects.get(request["Key"], aws_error("NoSuchKey", 404))
        if isinstance(content, Exception):
            raise content
        return {"Body": io.BytesIO(content), "ContentLength": len(content), "LastModified": WRITTEN}


def aws_error(code: str, status: int, **more: Any) -> ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": ""},
        "ResponseMetadata": {"HTTPStatusCode": status},
        **more,
    }
    return ClientError(response, "Operation")


class OneAtATime:
    """A DynamoDB client in which each call is atomic, as in DynamoDB itself; moto's are not when threads call them."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._client, name)

        def call(**request: Any) -> Any:
            with self._lock:
                return operation(**request)

        return call


def create_table(client: Any) -> None:
    client.create_table(
        TableName=TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
    )


def in_listing_order(objects: dict[str, bytes]) -> dict[str, bytes]:
    """As S3 lists keys: by their UTF-8 bytes."""
    return dict(sorted(objects.items(), key=lambda item: item[0].encode()))


def unzip(archive: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(archive) as opened:
        return in_listing_order(
            {entry.filename: opened.read(entry) for entry in opened.infolist() if not entry.is_dir()}
        )


def tei(body: str = "", *, identifier: str = "MS_1") -> str:
    """A description with the given `msDesc` content."""
    return (
        f'<TEI xmlns="http://www.tei-c.org/ns/1.0" xml:id="{identifier}"><teiHeader><fileDesc>'
        f"<sourceDesc><msDesc>{body}</msDesc></sourceDesc></fileDesc></teiHeader></TEI>"
    )
