"""What `winnow run --source` uploads is its own run's: the run claims each upload, so that the arrival starts no other run.

A claim counts once the run exists. Until then it counts as long as the run's lease lasts, which the command line makes longer while
it uploads. After that whoever gathers arrivals withdraws the lease and takes them.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from winnow.storage.items import DAY_SECONDS, Items, key_of, number, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from winnow.storage.items import Item

UPLOAD_TTL_SECONDS = 14 * DAY_SECONDS
"""SQS keeps an arrival for no longer."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An object with exactly this content."""

    bucket: str
    key: str
    etag: str
    """Without quotes."""


class UploadClaims(Protocol):
    """Which runs claim which uploads."""

    def hold(self, run_id: str, *, until: float) -> bool:
        """Begin a run's lease, or make it longer, to a Unix time; False if it was withdrawn."""

    def withdraw(self, run_id: str) -> bool:
        """Let others take what a run that does not exist has claimed; False while its lease lasts."""

    def give_up(self, run_id: str) -> None:
        """Let others take at once what a run has claimed: it is not going to be started."""

    def claim(self, upload: Upload, run_id: str) -> None:
        """Claim an upload for a run. Of several runs the last counts: all are about the same content."""

    def claimed(self, uploads: Iterable[Upload]) -> dict[Upload, str]:
        """Those uploads that a run claims, with its id."""


class DynamoUploadClaims:
    """The claims in DynamoDB."""

    def __init__(self, table: str, dynamodb: Any, *, clock: Callable[[], float] = time.time) -> None:
        self._items = Items(table, dynamodb, clock=clock)
        self._clock = clock

    def hold(self, run_id: str, *, until: float) -> bool:
        lease = {**self._lease(run_id), "lease_until": number(until)}
        standing = self._items.put(lease, "attribute_not_exists(withdrawn)")
        return standing is None

    def withdraw(self, run_id: str) -> bool:
        standing = self._items.put(
            self._withdrawn(run_id),
            "attribute_not_exists(lease_until) OR lease_until < :now",
            values={":now": number(self._clock())},
        )
        return standing is None

    def give_up(self, run_id: str) -> None:
        self._items.replace(self._withdrawn(run_id))

    def _lease(self, run_id: str) -> Item:
        return {**key_of(f"uploads#{run_id}", "lease"), **self._items.expiry(UPLOAD_TTL_SECONDS)}

    def _withdrawn(self, run_id: str) -> Item:
        return {**self._lease(run_id), "withdrawn": {"BOOL": True}}

    def claim(self, upload: Upload, run_id: str) -> None:
        self._items.replace(
            {**_upload_key(upload), **texts(run_id=run_id), **self._items.expiry(UPLOAD_TTL_SECONDS)}
        )

    def claimed(self, uploads: Iterable[Upload]) -> dict[Upload, str]:
        by_pk = {_upload_key(upload)["pk"]["S"]: upload for upload in uploads}
        found = self._items.get_many([_upload_key(upload) for upload in by_pk.values()])
        return {by_pk[item["pk"]["S"]]: str(item["run_id"]["S"]) for item in found}


def _upload_key(upload: Upload) -> Item:
    # A digest, as a key of 1,024 bytes may be twice as long in JSON.
    text = json.dumps([upload.bucket, upload.key, upload.etag])
    return key_of(f"upload#{hashlib.blake2b(text.encode(), digest_size=20).hexdigest()}", "claim")
