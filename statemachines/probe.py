"""The machine that shows errors as Step Functions names them: `probe.asl.json` with its placeholders filled."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from statemachines.template import load

TEMPLATE = Path(__file__).with_name("probe.asl.json")

REFUSED_SECONDS = 150
"""How long a call may be refused, at most, before it is given up."""
PATIENCE_SECONDS = 5
"""How long a probe waits for an execution that takes longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeMachine:
    """What the machine is made of. The function's ARN may be a CDK token."""

    probe_function_arn: str
    function_timeout_seconds: int
    """Longer than the function's own: its own end says more than a Task's timeout."""

    def definition(self) -> dict[str, Any]:
        """The machine in the Amazon States Language."""
        definition: dict[str, Any] = load(
            TEMPLATE.read_text(encoding="utf-8"),
            {
                "ProbeFunctionArn": self.probe_function_arn,
                "FunctionTimeoutSeconds": self.function_timeout_seconds,
                "PatienceSeconds": PATIENCE_SECONDS,
                "MachineTimeoutSeconds": self.function_timeout_seconds + REFUSED_SECONDS,
            },
        )
        return definition

    def to_json(self) -> str:
        """The definition as text, indented: operators read it in the console."""
        return json.dumps(self.definition(), indent=2, ensure_ascii=False)
