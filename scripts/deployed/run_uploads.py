"""What a run is about to upload into a source whose arrivals start runs: it claims each upload, so that it is run over once."""

import hashlib
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from scripts.terminal.errors import CommandRefused
from winnow.storage.upload_claims import Upload, UploadClaims

LEASE_SECONDS = 3600
"""How long arrivals wait for a run that was not started after its last upload began, if nobody gave it up. A kill loses an hour."""
RENEWED_AFTER_SECONDS = 300


class RunUploads:
    """The uploads of one run, from the first of them to the run's start.

    A context: who leaves it without having started the run gives the uploads up, and their arrivals start a run.
    """

    def __init__(
        self, run_id: str, claims: UploadClaims | None, *, clock: Callable[[], float] = time.time
    ) -> None:
        """`claims` is None where arrivals start nothing."""
        self._run_id = run_id
        self._claims = claims
        self._clock = clock
        self._lock = threading.Lock()
        self._held_at: float | None = None
        self._is_started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._claims and self._held_at is not None and not self._is_started:
            with suppress(Exception):  # then the lease runs out; what went wrong before is what to tell
                self._claims.give_up(self._run_id)

    def about_to_upload(self, bucket: str, key: str, body: bytes) -> Upload | None:
        """Claim an object before it is uploaded.

        Args:
            bucket: of the source.
            key: of the object.
            body: its content. Its MD5 is the ETag that S3 gives an object which was put at once, if it uses keys of its own.

        Raises:
            CommandRefused: the lease was withdrawn.
        """
        if not self._claims:
            return None
        self._hold(renew_after=RENEWED_AFTER_SECONDS)
        upload = Upload(bucket, key, hashlib.md5(body, usedforsecurity=False).hexdigest())
        self._claims.claim(upload, self._run_id)
        return upload

    def uploaded(self, upload: Upload | None, etag: str) -> None:
        """Claim an object by the ETag that it was given, where that is another: with a key of KMS it is not the MD5.

        Raises:
            CommandRefused: the lease was withdrawn.
        """
        if not self._claims or upload is None:
            return
        if etag.strip('"') != upload.etag:
            self._claims.claim(Upload(upload.bucket, upload.key, etag.strip('"')), self._run_id)
        self._hold(renew_after=RENEWED_AFTER_SECONDS)

    def about_to_start(self) -> None:
        """Make sure that nobody takes the uploads any more.

        Raises:
            CommandRefused: somebody has.
        """
        if self._claims and self._held_at is not None:
            self._hold(renew_after=0)

    def started(self) -> None:
        """The run exists, so the uploads are its own."""
        self._is_started = True

    def _hold(self, *, renew_after: float) -> None:
        with self._lock:
            now = self._clock()
            if self._held_at is not None and now < self._held_at + renew_after:
                return
            assert self._claims
            if not self._claims.hold(self._run_id, until=now + LEASE_SECONDS):
                raise CommandRefused(
                    f"the uploads stood still for more than {LEASE_SECONDS // 60} minutes, so a run that arrivals start has "
                    "taken what was there; no other run was started. Upload the rest with another: winnow run"
                )
            self._held_at = now
