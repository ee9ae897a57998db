"""The rules that a deployed pipeline holds its candidates against."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from winnow.quality.rules import Rule, rules_from_json

if TYPE_CHECKING:
    from scripts.deployed.pipelines import DeployedPipeline
    from scripts.deployed.target import Target

CHECK_QUALITY = "CheckQuality"


def deployed_rules(target: Target, pipeline: DeployedPipeline) -> tuple[Rule, ...]:
    """The rules in the definition of a pipeline's machine; none where it has no gate.

    Raises:
        InvalidRule: they were deployed by another version of Winnow, which has other rules.
    """
    machines: Any = target.client("stepfunctions")
    definition = json.loads(machines.describe_state_machine(stateMachineArn=pipeline.arn)["definition"])
    state = definition["States"].get(CHECK_QUALITY)
    return rules_from_json(state["Parameters"]["Payload"]["rules"]) if state else ()
