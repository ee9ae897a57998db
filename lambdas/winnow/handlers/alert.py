"""Alert: what Settle wrote down for this attempt, published once. Invoked by the stage machine, which goes on if this fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.alerts.announcer import Announcer
from winnow.core.contract import Order
from winnow.core.keys import StageKeys
from winnow.metrics.watch import Metric, watched
from winnow.settings import Settings
from winnow.storage.clients import client
from winnow.storage.ledger import Ledger

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: `{"execution", "state": {"order", ...}}`, as the stage machine's Settle left the state."""
    settings = Settings.from_env()
    with watched(settings, context=context) as watch:
        order = Order.from_event(event["state"]["order"])
        watch.identify(run_id=order.run_id, stage=order.stage)
        announcer = Announcer(
            topic_arn=settings.need("alert_topic_arn"), environment=settings.environment, sns=client("sns")
        )
        try:
            published = announcer.announce_attempt(
                Ledger.of_bucket(settings.need("ledger_bucket")),
                StageKeys(order.run_id, order.stage).attempt(order.attempt),
                execution=event["execution"],
            )
        except Exception:
            watch.count(Metric.ALERT_FAILED)
            raise
        if published:
            watch.count(Metric.ALERT_SENT)
        return {"alerted": published is not None}
