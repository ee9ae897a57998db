"""The stage machine: `stage.asl.json` with its placeholders filled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from statemachines.template import load

if TYPE_CHECKING:
    from winnow.core.contract import Policy

TEMPLATE = Path(__file__).with_name("stage.asl.json")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageMachine:
    """What one stage's machine is made of. Function ARNs may be CDK tokens."""

    stage: str
    policy: Policy
    plan_function_arn: str
    worker_function_arn: str
    settle_function_arn: str
    register_function_arn: str
    alert_function_arn: str
    plan_timeout_seconds: int
    worker_timeout_seconds: int
    settle_timeout_seconds: int
    register_timeout_seconds: int
    alert_timeout_seconds: int
    worker_retry_wait_seconds: int
    """Before the one more try that whatever escapes the worker gets."""
    recursion_timeout_seconds: int
    """How long one attempt waits for all that follow it."""
    stage_timeout_seconds: int
    """The whole machine; must leave time to settle after the recursion ran out of its own."""

    def definition(self) -> dict[str, Any]:
        """The machine in the Amazon States Language."""
        definition: dict[str, Any] = load(
            TEMPLATE.read_text(encoding="utf-8"),
            {
                "StageName": self.stage,
                "Policy": self.policy.to_payload(),
                "PlanFunctionArn": self.plan_function_arn,
                "WorkerFunctionArn": self.worker_function_arn,
                "SettleFunctionArn": self.settle_function_arn,
                "RegisterFunctionArn": self.register_function_arn,
                "AlertFunctionArn": self.alert_function_arn,
                "PlanTimeoutSeconds": self.plan_timeout_seconds,
                "WorkerTimeoutSeconds": self.worker_timeout_seconds,
                "SettleTimeoutSeconds": self.settle_timeout_seconds,
                "RegisterTimeoutSeconds": self.register_timeout_seconds,
                "AlertTimeoutSeconds": self.alert_timeout_seconds,
                "WorkerRetryWaitSeconds": self.worker_retry_wait_seconds,
                "RecursionTimeoutSeconds": self.recursion_timeout_seconds,
                "StageTimeoutSeconds": self.stage_timeout_seconds,
            },
        )
        return definition

    def to_json(self) -> str:
        """The definition as text, indented: operators read it in the console."""
        return json.dumps(self.definition(), indent=2, ensure_ascii=False)
