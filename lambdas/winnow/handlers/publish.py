"""Publish: moves the pointer of the publication to a run's candidate. Comes after the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.metrics.watch import get_logger, watched
from winnow.publish.published_set import PublishedSet
from winnow.publish.publisher import Publisher
from winnow.settings import Settings
from winnow.storage.published_store import published_store

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: `{"run_id", "version"}`."""
    settings = Settings.from_env()
    with watched(settings, run_id=event["run_id"], context=context):
        published = PublishedSet(
            published_store(settings.need("published_bucket")), settings.need("publication")
        )
        done = Publisher(published, who=f"pipeline {settings.pipeline}").publish(event["version"])
        if done.reason:
            get_logger().warning("not published", version=event["version"], reason=done.reason)
        return done.to_payload()
