"""BuildVersion: writes what a run made as a candidate of the publication. Comes after the last stage."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.metrics.watch import watched
from winnow.publish.build import VersionBuilder
from winnow.publish.documents import Format, Mode
from winnow.publish.published_set import PublishedSet
from winnow.settings import Settings
from winnow.storage.ledger import Ledger
from winnow.storage.published_store import published_store

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: `{"run_id"}`. Rows that cannot be one data set fail with `UnpublishableRows`."""
    settings = Settings.from_env()
    with watched(settings, run_id=event["run_id"], context=context):
        builder = VersionBuilder(
            ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
            published=PublishedSet(
                published_store(settings.need("published_bucket")), settings.need("publication")
            ),
            mode=Mode(settings.need("publication_mode")),
            form=Format(settings.need("publication_format")),
        )
        return builder.build(event["run_id"]).to_payload()
