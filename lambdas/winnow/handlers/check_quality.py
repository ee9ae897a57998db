"""CheckQuality: holds a run's candidate against the rules of its publication. Comes before Publish."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from winnow.core.errors import QualityGateFailed
from winnow.metrics.watch import Metric, get_logger, watched
from winnow.publish.published_set import PublishedSet
from winnow.quality.gate import QualityGate
from winnow.quality.result import GateResult, RuleResult
from winnow.quality.rules import rules_from_json
from winnow.settings import Settings
from winnow.storage.ledger import Ledger
from winnow.storage.published_store import published_store

if TYPE_CHECKING:
    from aws_lambda_powertools.utilities.typing import LambdaContext

MAX_RULES_TOLD = 5
MAX_FOUND_CHARS = 120


def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Payload: `{"run_id", "version", "rules"}`. Fails with `QualityGateFailed` where a rule that blocks is violated.

    Answers how many rules that only warn are violated.
    """
    settings = Settings.from_env()
    with watched(settings, run_id=event["run_id"], context=context) as watch:
        gate = QualityGate(
            ledger=Ledger.of_bucket(settings.need("ledger_bucket")),
            published=PublishedSet(
                published_store(settings.need("published_bucket")), settings.need("publication")
            ),
            rules=rules_from_json(event["rules"]),
        )
        result = gate.judge(event["version"])
        for each in result.warned:
            watch.count(Metric.QUALITY_WARNED)
            get_logger().warning(
                "rule violated", rule=each.rule.name, expected=each.expected, found=each.found
            )
        if result.blocked:
            watch.count(Metric.QUALITY_BLOCKED, len(result.blocked))
            raise QualityGateFailed(refusal(result))
        return {"violations": len(result.warned), "outcome": result.outcome.value}


def refusal(result: GateResult) -> str:
    """Why a candidate is not published, in one line of bounded length."""
    blocked = result.blocked
    told = "; ".join(_told(each) for each in blocked[:MAX_RULES_TOLD])
    more = f"; and {len(blocked) - MAX_RULES_TOLD} more" if len(blocked) > MAX_RULES_TOLD else ""
    stays = (
        f"version {result.base} stays published" if result.base is not None else "nothing is published yet"
    )
    rules = f"{len(blocked)} of {len(result.results)} rules" if len(result.results) > 1 else "its rule"
    return (
        f"version {result.version} of {result.publication} is blocked by {rules}, and {stays}: {told}{more}"
    )


def _told(result: RuleResult) -> str:
    found = result.found if len(result.found) <= MAX_FOUND_CHARS else f"{result.found[:MAX_FOUND_CHARS]}…"
    return f"{result.rule.name} ({found})"
