"""Where consumers read: the versions of a publication, and the pointer to the current one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.bucket_grants import grant_list, grant_objects
from stacks.constructs.nag import accept
from stacks.constructs.private_bucket import PrivateBucket
from winnow.core.keys import PublicationKeys, VersionKeys

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from stacks.settings import EnvironmentSettings

ADD = ("s3:PutObject", "s3:AbortMultipartUpload")


class PublishedBucket(Construct):
    """A bucket apart from the ledger's, because versions are kept for other reasons, and for longer, than evidence.

    S3 keeps no versions of its own: what is in a version is written once, and the history says where the pointer was. No lifecycle
    rule removes anything, because it could not tell the current version from others: `winnow publish prune` does.
    """

    def __init__(
        self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings, publication: str
    ) -> None:
        super().__init__(scope, construct_id)
        self._keys = PublicationKeys(publication)
        self.bucket: s3.IBucket = PrivateBucket(
            self,
            "Bucket",
            settings=settings,
            lifecycle_rules=[s3.LifecycleRule(abort_incomplete_multipart_upload_after=Duration.days(1))],
        )
        accept(
            self.bucket,
            "AwsSolutions-S1",
            reason="who may read what is published is the account's business, not the pipeline's: CloudTrail data events answer it",
        )

    @property
    def read_keys(self) -> str:
        """Pattern of all keys of the publication."""
        return f"{self._keys.prefix}*"

    @property
    def person_keys(self) -> tuple[str, ...]:
        """Patterns of the keys that the command line writes."""
        pruning = VersionKeys(f"{self._keys.versions}*/").pruning
        return (*self.moved_keys, self._keys.hold, pruning)

    @property
    def deleted_keys(self) -> tuple[str, ...]:
        """Patterns of the keys that the command line deletes: holds that are over, and versions that nobody needs."""
        return (self._keys.hold, f"{self._keys.versions}*")

    @property
    def moved_keys(self) -> tuple[str, ...]:
        """Patterns of the keys that moving the pointer writes."""
        return (self._keys.current, *self.written_down)

    @property
    def written_down(self) -> tuple[str, ...]:
        """Patterns of the keys that say how the pointer was moved."""
        return (f"{self._keys.history}*", self._keys.run("*"))

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """May read every version, the pointer and the history."""
        grant_objects(self.bucket, grantee, actions=["s3:GetObject"], keys=self.read_keys)
        grant_list(self.bucket, grantee)

    def grant_build(self, grantee: iam.IGrantable) -> None:
        """May add versions, and write down the last move, whose mover may have died before it could. It cannot move the pointer."""
        self.grant_read(grantee)
        grant_objects(self.bucket, grantee, actions=ADD, keys=f"{self._keys.versions}*")
        for keys in self.written_down:
            grant_objects(self.bucket, grantee, actions=["s3:PutObject"], keys=keys)

    def grant_judge(self, grantee: iam.IGrantable) -> None:
        """May add the gate's results to a version."""
        self.grant_read(grantee)
        version = VersionKeys(f"{self._keys.versions}*/")
        for keys in (version.gate, version.violations):
            grant_objects(self.bucket, grantee, actions=ADD, keys=keys)

    def grant_move(self, grantee: iam.IGrantable) -> None:
        """May move the pointer. A condition on what is there takes the permission to read it, too."""
        self.grant_read(grantee)
        for keys in self.moved_keys:
            grant_objects(self.bucket, grantee, actions=["s3:PutObject"], keys=keys)
