"""A bucket as Winnow makes them all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_s3 as s3

from stacks.constructs.removal import removal_policy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from constructs import Construct

    from stacks.settings import EnvironmentSettings


class PrivateBucket(s3.Bucket):
    """Encrypted, reached by TLS alone, never public, and owned by the account; deleted with its stack only where the settings say so."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        settings: EnvironmentSettings,
        lifecycle_rules: Sequence[s3.LifecycleRule],
        versioned: bool = False,
    ) -> None:
        super().__init__(
            scope,
            construct_id,
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=versioned,
            removal_policy=removal_policy(settings),
            lifecycle_rules=lifecycle_rules,
        )
