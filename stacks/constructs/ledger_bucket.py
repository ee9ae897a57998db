"""Everything that runs write to S3."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.constructs.bucket_grants import grant_list, grant_objects
from stacks.constructs.nag import accept
from stacks.constructs.private_bucket import PrivateBucket
from winnow.core.keys import REPLAYS, RUNS, StageKeys

if TYPE_CHECKING:
    from aws_cdk import aws_iam as iam

    from stacks.settings import EnvironmentSettings

SMALLEST_COLD_BYTES = 128 * 1024
"""S3 charges any smaller object in cold storage as if it had this size. Journals, settlements and results are smaller."""

WRITE = ("s3:PutObject", "s3:AbortMultipartUpload")


class LedgerBucket(Construct):
    """The bucket of plans, journals, outputs, failures and settlements.

    Evidence is written once and never changed: no deletion is granted, and writes are conditional. That is
    why the bucket keeps no versions: there would never be a second one. Lifecycle rules alone remove things.
    """

    def __init__(self, scope: Construct, construct_id: str, *, settings: EnvironmentSettings) -> None:
        super().__init__(scope, construct_id)
        self.bucket: s3.IBucket = PrivateBucket(
            self,
            "Bucket",
            settings=settings,
            lifecycle_rules=[
                s3.LifecycleRule(
                    prefix=prefix,
                    expiration=Duration.days(settings.ledger_retention_days),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
                for prefix in (RUNS, REPLAYS)
            ]
            + _cold(settings),
        )
        accept(
            self.bucket,
            "AwsSolutions-S1",
            reason="only this pipeline's functions may write here, and each object names the execution that wrote it: "
            "access logs would say the same again, one line for every journal segment",
        )
        if settings.ledger_cold_after_days is not None:
            accept(
                self.bucket,
                "CloudFormation-Validate::W9003",
                reason="CDK writes the smallest size as a number, where CloudFormation names a string and takes both",
            )

    def grant_read(self, grantee: iam.IGrantable) -> None:
        """May read every run, and what replays are started with."""
        for prefix in (RUNS, REPLAYS):
            grant_objects(self.bucket, grantee, actions=["s3:GetObject"], keys=f"{prefix}*")
        grant_list(self.bucket, grantee)

    def grant_write(self, grantee: iam.IGrantable) -> None:
        """May add to every run."""
        grant_objects(self.bucket, grantee, actions=WRITE, keys=f"{RUNS}*")

    def grant_write_attempts(self, grantee: iam.IGrantable, *, stage: str) -> None:
        """May add to the attempts of one stage, so that no worker can vouch for another stage's records."""
        attempts = StageKeys(run_id="*", stage=stage).attempts
        grant_objects(self.bucket, grantee, actions=WRITE, keys=f"{attempts}*")


def _cold(settings: EnvironmentSettings) -> list[s3.LifecycleRule]:
    """Outputs and evidence lie under the same prefixes, but outputs are large and evidence is small."""
    if settings.ledger_cold_after_days is None:
        return []
    return [
        s3.LifecycleRule(
            prefix=RUNS,
            object_size_greater_than=SMALLEST_COLD_BYTES,
            transitions=[
                s3.Transition(
                    storage_class=s3.StorageClass.GLACIER_INSTANT_RETRIEVAL,
                    transition_after=Duration.days(settings.ledger_cold_after_days),
                )
            ],
        )
    ]
