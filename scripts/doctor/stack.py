"""The stack of one pipeline in one environment, as CloudFormation has it."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from statemachines.pipeline import pascal_case


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

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of its stages, in order; empty where it has no outputs yet."""
        return tuple(filter(None, self.outputs.get("StageNames", "").split(",")))

    def of_stages(self, suffix: str, outputs: Mapping[str, str] | None = None) -> dict[str, str]:
        """By stage, what outputs say of it, such as `WorkerName`: its own, or others of the same stack."""
        said = self.outputs if outputs is None else outputs
        keys = {stage: f"{pascal_case(stage)}{suffix}" for stage in self.stages}
        return {stage: said[key] for stage, key in keys.items() if key in said}


@dataclass(frozen=True, slots=True, kw_only=True)
class StackResource:
    """Something that a stack made."""

    logical_id: str
    type: str
    """CloudFormation's, such as AWS::SQS::Queue."""
    physical_id: str


def find_stacks(cloudformation: Any) -> list[DeployedStack]:
    """Winnow's stacks, by name."""
    found = (DeployedStack.from_description(each) for each in _described(cloudformation))
    return sorted((stack for stack in found if stack.is_winnows), key=lambda stack: stack.name)


def _described(cloudformation: Any) -> Iterator[Mapping[str, Any]]:
    for page in cloudformation.get_paginator("describe_stacks").paginate():
        yield from page["Stacks"]


def find_resources(cloudformation: Any, stack: str) -> list[StackResource]:
    """What a stack has made; not what it failed to make."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=stack)
    return [
        StackResource(
            logical_id=each["LogicalResourceId"],
            type=each["ResourceType"],
            physical_id=each["PhysicalResourceId"],
        )
        for page in pages
        for each in page["StackResourceSummaries"]
        if each.get("PhysicalResourceId")
    ]
