"""What a pipeline works on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.bucket_grants import grant_list, grant_objects
from stacks.constructs.nag import accept
from stacks.constructs.private_bucket import PrivateBucket
from stacks.settings import Removal
from winnow.core.probe import SOURCE_FOLDER

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from stacks.settings import EnvironmentSettings

SUPERSEDED_DAYS = 30
"""How long a version is kept that was overwritten or deleted."""


class SourceBucket(Construct):
    """A bucket in which every object under a prefix is a record. It tells EventBridge of every arrival.

    Where data outlives its stack, overwritten versions are kept for a while: a corrected record replaces a broken
    one, and it may be needed to see what was wrong.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings) -> None:
        super().__init__(scope, construct_id)
        self.prefix = settings.source_prefix
        bucket = PrivateBucket(
            self,
            "Bucket",
            settings=settings,
            versioned=settings.removal is Removal.RETAIN,
            lifecycle_rules=[
                s3.LifecycleRule(
                    noncurrent_version_expiration=Duration.days(SUPERSEDED_DAYS),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                ),
                s3.LifecycleRule(
                    prefix=f"{settings.source_prefix}{SOURCE_FOLDER}",
                    expiration=Duration.days(1),
                    noncurrent_version_expiration=Duration.days(1),
                ),
            ],
        )
        # CDK's event_bridge_enabled brings a custom resource and its function along for what is one property.
        resource = bucket.node.default_child
        assert isinstance(resource, s3.CfnBucket)
        resource.notification_configuration = s3.CfnBucket.NotificationConfigurationProperty(
            event_bridge_configuration=s3.CfnBucket.EventBridgeConfigurationProperty(
                event_bridge_enabled=True
            )
        )
        self.bucket: s3.IBucket = bucket
        accept(
            bucket,
            "AwsSolutions-S1",
            reason="who may read the source is the account's business, not the pipeline's: CloudTrail data events answer it",
        )

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """May read and list the objects under the prefix."""
        grant_objects(self.bucket, grantee, actions=["s3:GetObject"], keys=f"{self.prefix}*")
        self.grant_list(grantee)

    def grant_list(self, grantee: iam.IGrantable) -> None:
        """May list the bucket."""
        grant_list(self.bucket, grantee)
