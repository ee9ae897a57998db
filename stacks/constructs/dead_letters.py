"""Where messages that could not be delivered wait for an operator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Duration
from aws_cdk import aws_sqs as sqs

from stacks.constructs.nag import accept

if TYPE_CHECKING:
    from constructs import Construct


class DeadLetters(sqs.Queue):
    """A queue at the end of a delivery. Its depth should be zero, and is watched by `Monitoring`."""

    def __init__(self, scope: Construct, construct_id: str) -> None:
        super().__init__(
            scope,
            construct_id,
            encryption=sqs.QueueEncryption.SQS_MANAGED,
            enforce_ssl=True,
            # The most that SQS allows: over a long holiday nothing is lost.
            retention_period=Duration.days(14),
        )
        accept(self, "AwsSolutions-SQS3", reason="this queue is the dead-letter queue")
