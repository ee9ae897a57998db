"""Permissions on part of a bucket, finer than CDK's own `grant_read`, which allows every kind of read there is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import aws_iam as iam

from stacks.constructs.nag import accept_wildcard

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aws_cdk import aws_s3 as s3


def grant_objects(bucket: s3.IBucket, grantee: iam.IGrantable, *, actions: Sequence[str], keys: str) -> None:
    """May do something with the objects whose keys match a pattern."""
    objects = bucket.arn_for_objects(keys)
    iam.Grant.add_to_principal(grantee=grantee, actions=list(actions), resource_arns=[objects])
    principal = grantee.grant_principal
    if isinstance(principal, iam.Role):
        accept_wildcard(
            principal, objects, reason="keys are known when a run writes them; the pattern is the narrowest"
        )


def grant_list(bucket: s3.IBucket, grantee: iam.IGrantable) -> None:
    """May list the bucket. That also makes a missing object a 404: without it S3 answers 403 for both."""
    iam.Grant.add_to_principal(grantee=grantee, actions=["s3:ListBucket"], resource_arns=[bucket.bucket_arn])
