"""Finds deployed pipelines by the outputs of their stacks."""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from scripts.deployed.target import ENVIRONMENT_OPTION, ENVIRONMENT_VARIABLE, Target
from scripts.terminal.errors import CommandRefused, Mistake
from statemachines.pipeline import pascal_case


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployedPipeline:
    """A deployed pipeline: what its stack says about it."""

    name: str
    environment: str = ""
    """Empty where the deployed version did not say."""
    stack: str = ""
    """Name of its CloudFormation stack."""
    confirm_changes: bool = False
    """Whether commands ask before they change something in it."""
    arn: str
    stages: tuple[str, ...]
    """In order."""
    ledger_bucket: str
    source_bucket: str
    source_prefix: str
    arrivals_start_runs: bool = False
    """Whether an object that is put into the source starts a run."""
    state_table: str = ""
    register_table: str = ""
    """Empty where the deployed version has none yet."""
    published_bucket: str = ""
    """Empty where the pipeline publishes nothing."""
    publication: str = ""
    """Name of what it publishes."""
    publication_mode: str = ""
    """How its versions are made: `replace` or `merge`."""
    code_versions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Of the deployed workers, by stage."""
    workers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Names of the workers' Lambda functions, by stage."""

    @classmethod
    def from_outputs(cls, outputs: Mapping[str, str], *, stack: str) -> Self:
        """Read a stack's outputs; stacks/constructs/pipeline.py writes them."""
        stages = tuple(outputs["StageNames"].split(","))
        return cls(
            name=outputs["PipelineName"],
            environment=outputs.get("Environment", ""),
            stack=stack,
            confirm_changes=outputs.get("ConfirmChanges") == "true",
            arn=outputs["PipelineArn"],
            stages=stages,
            ledger_bucket=outputs["LedgerBucket"],
            source_bucket=outputs["SourceBucket"],
            source_prefix=outputs.get("SourcePrefix", ""),
            arrivals_start_runs="ArrivalsWindowSeconds" in outputs,
            state_table=outputs.get("StateTable", ""),
            register_table=outputs.get("RegisterTable", ""),
            published_bucket=outputs.get("PublishedBucket", ""),
            publication=outputs.get("PublicationName", ""),
            publication_mode=outputs.get("PublicationMode", ""),
            code_versions=_by_stage(outputs, stages, "CodeVersion"),
            workers=_by_stage(outputs, stages, "WorkerName"),
        )


def _by_stage(outputs: Mapping[str, str], stages: tuple[str, ...], suffix: str) -> dict[str, str]:
    keys = {stage: f"{pascal_case(stage)}{suffix}" for stage in stages}
    return {stage: outputs[key] for stage, key in keys.items() if key in outputs}


def everywhere(target: Target) -> list[DeployedPipeline]:
    """Every pipeline there is, of all environments and of all stacks, by name."""
    found = (DeployedPipeline.from_outputs(outputs, stack=stack) for stack, outputs in _outputs(target))
    return sorted(found, key=lambda each: (each.name, each.environment, each.stack))


def deployed(target: Target) -> list[DeployedPipeline]:
    """Every pipeline of the target's environment, by name; of all environments where none was chosen.

    Raises:
        Mistake: there are pipelines, but none in that environment.
        CommandRefused: two stacks hold the same pipeline of the same environment.
    """
    pipelines = _here(target)
    _check_apart(target, pipelines)
    return pipelines


def find(target: Target, name: str, *, field: str = "PIPELINE") -> DeployedPipeline:
    """The pipeline of a name.

    Args:
        target: where to look.
        name: as it is deployed.
        field: the argument or option that named it, as the mistake's name.

    Raises:
        Mistake: it is not there, or there are several, each in another environment.
        CommandRefused: no pipeline is deployed, or two stacks hold it.
    """
    pipelines = _here(target)
    _check_any(target, pipelines)
    named = [each for each in pipelines if each.name == name]
    if named:
        return _the_one(target, named)
    raise Mistake(field, name, _remedy(target, pipelines))


def only_one(target: Target, *, field: str = "--pipeline") -> DeployedPipeline:
    """The pipeline, where there is no question which one.

    Args:
        target: where to look.
        field: the argument or option that would name it, as the mistake's name.

    Raises:
        Mistake: there are several.
        CommandRefused: no pipeline is deployed, or two stacks hold it.
    """
    pipelines = _here(target)
    _check_any(target, pipelines)
    if len({each.name for each in pipelines}) == 1:
        return _the_one(target, pipelines)
    raise Mistake(field, None, _remedy(target, pipelines))


def _here(target: Target) -> list[DeployedPipeline]:
    """The pipelines of the target's environment."""
    pipelines = everywhere(target)
    chosen = target.environment
    if not chosen:
        return pipelines
    here = [each for each in pipelines if each.environment == chosen.name]
    if pipelines and not here:
        raise Mistake(
            chosen.named_by,
            chosen.name,
            f"must be an environment that is deployed, here {_environments(pipelines)} ({target.name})",
        )
    return here


def _the_one(target: Target, named: list[DeployedPipeline]) -> DeployedPipeline:
    """The pipeline of a name, of all that have it."""
    _check_apart(target, named)
    if len(named) == 1:
        return named[0]
    raise Mistake(
        ENVIRONMENT_OPTION,
        None,
        f"or {ENVIRONMENT_VARIABLE} must say which pipeline {named[0].name} is meant, that of {_environments(named)} ({target.name})",
    )


def _check_apart(target: Target, pipelines: list[DeployedPipeline]) -> None:
    """Refuse stacks that hold the same pipeline: commands would reach one of them by chance."""
    for one, other in pairwise(pipelines):
        if (one.name, one.environment) == (other.name, other.environment):
            of = f" of environment {one.environment}" if one.environment else ""
            raise CommandRefused(
                f"stacks {one.stack} and {other.stack} both hold pipeline {one.name}{of}; "
                f"delete one, or deploy it under another name or environment ({target.name})"
            )


def _environments(pipelines: list[DeployedPipeline]) -> str:
    """Their environments, for people; of a stack that does not say, its name."""
    names = (each.environment or f"stack {each.stack}, which names no environment" for each in pipelines)
    return " or ".join(dict.fromkeys(names))


def _check_any(target: Target, pipelines: list[DeployedPipeline]) -> None:
    if not pipelines:
        raise CommandRefused(
            f"{target.name} has no pipeline; deploy one: npx cdk deploy -c environment=NAME, or winnow local up"
        )


def _remedy(target: Target, pipelines: list[DeployedPipeline]) -> str:
    names = dict.fromkeys(pipeline.name for pipeline in pipelines)
    where = f"{target.name}, {target.environment.name}" if target.environment else target.name
    return f"must be one of {', '.join(names)} ({where})"


def _outputs(target: Target) -> Iterator[tuple[str, dict[str, str]]]:
    pages: Any = target.client("cloudformation").get_paginator("describe_stacks").paginate()
    for page in pages:
        for stack in page["Stacks"]:
            outputs = {each["OutputKey"]: each["OutputValue"] for each in stack.get("Outputs", ())}
            if "PipelineName" in outputs:
                yield stack["StackName"], outputs
