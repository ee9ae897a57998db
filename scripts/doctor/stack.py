"""The stack of one pipeline in one environment, as CloudFormation has it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from scripts.deployed.pipelines import DeployedPipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedStack:
    """A stack of Winnow's; also one whose first deploy failed or is under way, which has no outputs yet."""

    name: str
    status: str
    """CloudFormation's word, such as UPDATE_COMPLETE."""
    status_reason: str
    termination_protection: bool
    outputs: Mapping[str, str]
    tags: Mapping[str, str]

    @classmethod
    def from_description(cls, stack: Mapping[str, Any]) -> Self:
        """Read one of DescribeStacks' answers."""
        return cls(
            name=stack["StackName"],
            status=stack.get("StackStatus", ""),
            status_reason=stack.get("StackStatusReason", ""),
            termination_protection=stack.get("EnableTerminationProtection", False),
            outputs={each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())},
            tags={each["Key"]: each["Value"] for each in stack.get("Tags", ())},
        )

    @property
    def is_winnows(self) -> bool:
        """Whether it holds a pipeline. One without outputs is known by the tag that cdk.json gives it."""
        return "PipelineName" in self.outputs or (not self.outputs and self.tags.get("project") == "winnow")

    @property
    def pipeline(self) -> str:
        """The pipeline's name; of a stack without outputs what its name begins with."""
        return self.outputs.get("PipelineName") or self.name.removesuffix(f"-{self.environment}")

    @property
    def environment(self) -> str:
        return self.outputs.get("Environment") or self.tags.get("environment", "")

    def deployed(self) -> DeployedPipeline:
        """The pipeline as the other commands know it.

        Raises:
            KeyError: the stack has no outputs.
        """
        return DeployedPipeline.from_outputs(self.outputs)


def find_stacks(cloudformation: Any) -> list[DeployedStack]:
    """Winnow's stacks, by name."""
    found = (DeployedStack.from_description(each) for each in _described(cloudformation))
    return sorted((stack for stack in found if stack.is_winnows), key=lambda stack: stack.name)


def _described(cloudformation: Any) -> Iterator[Mapping[str, Any]]:
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        yield from page["Stacks"]
