"""What deployed pipelines publish."""

from __future__ import annotations

from typing import TYPE_CHECKING

from winnow.publish.published_set import PublishedSet
from winnow.storage.published_store import S3PublishedStore

if TYPE_CHECKING:
    from scripts.deployed.pipelines import DeployedPipeline
    from scripts.deployed.target import Target


def open_published(target: Target, pipeline: DeployedPipeline) -> PublishedSet | None:
    """What a pipeline publishes, in its bucket; None where it publishes nothing."""
    if not pipeline.publication:
        return None
    return PublishedSet(
        S3PublishedStore(pipeline.published_bucket, target.client("s3")), pipeline.publication
    )
