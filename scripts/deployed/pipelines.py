"""Finds deployed pipelines by the outputs of their stacks."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from scripts.deployed.target import Target
from scripts.terminal.errors import Mistake
from statemachines.pipeline import pascal_case


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPipeline:
    """A deployed pipeline: what its stack says about it."""

    name: str
    arn: str
    stages: tuple[str, ...]
    """In order."""
    ledger_bucket: str
    source_bucket: str
    source_prefix: str
    state_table: str = ""
    register_table: str = ""
    """Empty where the deployed version has none yet."""
    code_versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the deployed workers, by stage."""
    workers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of the workers' Lambda functions, by stage."""

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, str]) -> Self:
        """Read a stack's outputs; stacks/constructs/pipeline.py writes them."""
        stages = tuple(outputs["StageNames"].split(","))
        return cls(
            name=outputs["PipelineName"],
            arn=outputs["PipelineArn"],
            stages=stages,
            ledger_bucket=outputs["LedgerBucket"],
            source_bucket=outputs["SourceBucket"],
            source_prefix=outputs.get("SourcePrefix", ""),
            state_table=outputs.get("StateTable", ""),
            register_table=outputs.get("RegisterTable", ""),
            code_versions=_by_stage(outputs, stages, "CodeVersion"),
            workers=_by_stage(outputs, stages, "WorkerName"),
        )


def _by_stage(outputs: Mapping[str, str], stages: tuple[str, ...], suffix: str) -> dict[str, str]:
    keys = {stage: f"{pascal_case(stage)}{suffix}" for stage in stages}
    return {stage: outputs[key] for stage, key in keys.items() if key in outputs}


def deployed(target: Target) -> list[DeployedPipeline]:
    """Every pipeline there is, by name."""
    return sorted(
        (DeployedPipeline.from_outputs(outputs) for outputs in _outputs(target)), key=lambda each: each.name
    )


def find(target: Target, name: str, *, field: str = "PIPELINE") -> DeployedPipeline:
    """The pipeline of a name.

    Args:
        target: where to look.
        name: as it is deployed.
        field: the argument or option that named it, as the mistake's name.

    Raises:
        Mistake: there is none.
    """
    pipelines = deployed(target)
    for pipeline in pipelines:
        if pipeline.name == name:
            return pipeline
    raise Mistake(field, name, _remedy(target, pipelines))


def only_one(target: Target) -> DeployedPipeline:
    """The pipeline, where there is no question which one.

    Raises:
        Mistake: there is none, or there are several.
    """
    pipelines = deployed(target)
    if len(pipelines) == 1:
        return pipelines[0]
    raise Mistake("--pipeline", "nothing", _remedy(target, pipelines))


def _remedy(target: Target, pipelines: list[DeployedPipeline]) -> str:
    if pipelines:
        return f"must be one of {', '.join(pipeline.name for pipeline in pipelines)} ({target.name})"
    return f"must be deployed, and {target.name} has no pipeline; deploy one: cdk deploy, or winnow local up"


def _outputs(target: Target) -> Iterator[dict[str, str]]:
    pages: Any = target.client("cloudformation").get_paginator("describe_stacks").paginate()
    for page in pages:
        for stack in page["Stacks"]:
            outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}
            if "PipelineName" in outputs:
                yield outputs
