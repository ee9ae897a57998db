"""The pipeline machine, built from the list of stages: the happy path only, one named state per stage, and no Catch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from winnow.core import probe
from winnow.core.contract import STAGE_NAME
from winnow.core.sfn_errors import CALL_REFUSED, OUT_OF_TIME, START_REFUSED, SfnError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOURCE = "source"
"""The entry before the first stage in `$.stages`: the records that the run was given."""

OWN_STATES = ("PlanRun", "WhereToStart?", "SteppedAside", "UnknownStage", "SumUp")
PUBLISHING_STATES = ("BuildVersion", "CheckQuality", "Publish", "Published?")
"""Reserved only where a pipeline publishes."""

CANDIDATE_FIELDS = ("version",)
GATE_FIELDS = ("violations",)
PUBLISHED_FIELDS = ("version", "reason", "again")
"""What the steps of publishing answer; a field that one does not have fails the run."""

STAGE_OUTPUT_FIELDS = ("run_id", "stage", "tries", "successes", "skipped", "failures", "lost")
"""What a stage hands to the pipeline; a field that it does not have fails the run."""


RETRIES_OF_PLAN_RUN = [
    {
        "Comment": "A wrong input stays wrong, however often it is tried.",
        "ErrorEquals": [SfnError.STAGE_INPUT],
        "MaxAttempts": 0,
    },
    {
        "Comment": "Lambda's own trouble and throttling; up to four minutes. Planned again by the same execution, a run is the same.",
        "ErrorEquals": list(CALL_REFUSED),
        "IntervalSeconds": 2,
        "BackoffRate": 2,
        "MaxDelaySeconds": 60,
        "MaxAttempts": 8,
        "JitterStrategy": "FULL",
    },
    {
        "Comment": "It took all of its time, or Lambda lost it: once more.",
        "ErrorEquals": list(OUT_OF_TIME),
        "IntervalSeconds": 10,
        "MaxAttempts": 1,
        "JitterStrategy": "FULL",
    },
    {
        "Comment": "S3 or DynamoDB refusing for a moment, a process that died: no record is at stake yet.",
        "ErrorEquals": [SfnError.ALL],
        "IntervalSeconds": 5,
        "BackoffRate": 3,
        "MaxAttempts": 2,
        "JitterStrategy": "FULL",
    },
]
"""As the stage machine's for Plan; a test holds them together."""

NO_ANSWERS = (SfnError.QUALITY_GATE_FAILED, SfnError.UNPUBLISHABLE_ROWS, SfnError.PUBLISH_CONTENDED)

RETRIES_OF_PUBLISHING = [
    {
        "Comment": "The gate said no, or the data cannot be published: the same data gets the same answer.",
        "ErrorEquals": list(NO_ANSWERS),
        "MaxAttempts": 0,
    },
    *RETRIES_OF_PLAN_RUN[1:],
]
"""As PlanRun's: what a step of publishing did, the same step finds again when it is repeated."""

RETRIES_OF_A_START = [
    {
        "Comment": (
            "The stage was not started, or it is not known whether it was: the same name and input are the same execution "
            "while it runs. How a stage ended is never retried."
        ),
        "ErrorEquals": list(START_REFUSED),
        "IntervalSeconds": 5,
        "BackoffRate": 2,
        "MaxDelaySeconds": 120,
        "MaxAttempts": 8,
        "JitterStrategy": "FULL",
    }
]
"""As the stage machine's for RunOutstanding; a test holds them together."""


def pascal_case(name: str) -> str:
    """`check-quality` as `CheckQuality`."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("-"))


def check_pipeline_name(name: str) -> None:
    """Raises `ValueError` where it cannot be part of keys, alerts and commands."""
    if not STAGE_NAME.fullmatch(name):
        raise ValueError(
            f"a pipeline's name must be lower-case letters, digits and -, at most 32, got: {name!r}"
        )


def check_stage_names(names: Sequence[str], *, publishes: bool = False) -> None:
    """Raises `ValueError` where a pipeline cannot be built of stages with these names.

    `publishes`: the pipeline also has the states of publishing.
    """
    taken = (*OWN_STATES, *PUBLISHING_STATES) if publishes else OWN_STATES
    if not names:
        raise ValueError("stages must be at least one, got: none")
    states: set[str] = set()
    for name in names:
        if not STAGE_NAME.fullmatch(name):
            raise ValueError(
                f"a stage's name must be lower-case letters, digits and -, at most 32, got: {name!r}"
            )
        state = pascal_case(name)
        if name in (SOURCE, probe.STAGE) or state in taken:
            own = ", ".join((SOURCE, probe.STAGE, *taken))
            raise ValueError(f"a stage's name must not be one of the pipeline's own ({own}), got: {name!r}")
        if state in states:
            raise ValueError(f"a stage's name must be its own in the pipeline, got twice: {name!r}")
        states.add(state)


@dataclass(frozen=True, slots=True, kw_only=True)
class StageStep:
    """One stage as the pipeline machine sees it."""

    name: str
    machine_arn: str
    """May be a CDK token."""
    timeout_seconds: int
    """Longer than the stage machine's own, so that the stage is the one to settle what it got done."""

    @property
    def state(self) -> str:
        """Name of its state."""
        return pascal_case(self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionStep:
    """A function as the pipeline machine sees it."""

    arn: str
    """May be a CDK token."""
    timeout_seconds: int
    """Longer than the function's own, so that its own end is what is told."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishingSteps:
    """What comes after the last stage of a pipeline that publishes."""

    build_version: FunctionStep
    check_quality: FunctionStep | None
    """None where no rule is given."""
    publish: FunctionStep
    rules: Sequence[Mapping[str, Any]] = ()
    """The gate's, as JSON: they travel in the payload, so that whoever looks at the machine sees them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineMachine:
    """What a pipeline's machine is made of."""

    name: str
    stages: Sequence[StageStep]
    plan_run_function_arn: str
    plan_run_timeout_seconds: int
    timeout_seconds: int
    publishing: PublishingSteps | None = None
    """None where the pipeline publishes nothing."""

    def __post_init__(self) -> None:
        check_pipeline_name(self.name)
        check_stage_names([stage.name for stage in self.stages], publishes=self.publishing is not None)

    def definition(self) -> dict[str, Any]:
        """The machine in the Amazon States Language."""
        return {
            "Comment": (
                f"Pipeline {self.name}. The happy path only: no Catch, because errors are the stages' business and a run "
                "that failed is reported by the run closer, which hears of it from outside. Retried is only what did not "
                "begin: a plan that Lambda or S3 refused for a moment, and the start of a stage that was refused."
            ),
            "StartAt": "PlanRun",
            "TimeoutSeconds": self.timeout_seconds,
            "States": {
                "PlanRun": self._plan_run(),
                "WhereToStart?": self._where_to_start(),
                "SteppedAside": {
                    "Type": "Succeed",
                    "Comment": "Another run is under way; the output says which.",
                },
                "UnknownStage": {
                    "Type": "Fail",
                    "Comment": "Reached only where PlanRun and this machine are of different versions.",
                    "Error": str(SfnError.UNKNOWN_STAGE),
                    "Cause": f"Pipeline {self.name} has no such stage: {', '.join(stage.name for stage in self.stages)}.",
                },
                **{stage.state: self._stage(position) for position, stage in enumerate(self.stages)},
                **(self._publishing(self.publishing) if self.publishing else {}),
                "SumUp": self._sum_up(),
            },
        }

    def to_json(self) -> str:
        """The definition as text, indented: operators read it in the console."""
        return json.dumps(self.definition(), indent=2, ensure_ascii=False)

    def _plan_run(self) -> dict[str, Any]:
        return {
            "Type": "Task",
            "Comment": "Checks what the run was started with, lists the source, and steps aside for a run under way.",
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {
                "FunctionName": self.plan_run_function_arn,
                "Payload": {"input.$": "$", "execution.$": "$$.Execution.Id", "name.$": "$$.Execution.Name"},
            },
            "OutputPath": "$.Payload",
            "TimeoutSeconds": self.plan_run_timeout_seconds,
            "Retry": RETRIES_OF_PLAN_RUN,
            "Next": "WhereToStart?",
        }

    def _where_to_start(self) -> dict[str, Any]:
        return {
            "Type": "Choice",
            "Comment": "A replay starts at the stage that failed; PlanRun puts its records where the stage before left them.",
            "Choices": [
                {"Variable": "$.proceed", "BooleanEquals": False, "Next": "SteppedAside"},
                *(
                    {"Variable": "$.start_at", "StringEquals": stage.name, "Next": stage.state}
                    for stage in self.stages
                ),
            ],
            "Default": "UnknownStage",
        }

    def _stage(self, position: int) -> dict[str, Any]:
        stage = self.stages[position]
        before = self.stages[position - 1].name if position else SOURCE
        last = position == len(self.stages) - 1
        return {
            "Type": "Task",
            "Comment": (
                "Named after the run, so that a stage runs once per run: a native redrive of this execution is "
                "refused as ExecutionAlreadyExists. Replay the failed records instead."
            ),
            "Resource": "arn:aws:states:::states:startExecution.sync:2",
            "Parameters": {
                "StateMachineArn": stage.machine_arn,
                "Name.$": "$.run_id",
                "Input": {
                    "run_id.$": "$.run_id",
                    "records.$": f"$.stages.{before}.successes.batch_file_location",
                    "AWS_STEP_FUNCTIONS_STARTED_BY_EXECUTION_ID.$": "$$.Execution.Id",
                },
            },
            "ResultSelector": {f"{field}.$": f"$.Output.{field}" for field in STAGE_OUTPUT_FIELDS},
            "ResultPath": f"$.stages.{stage.name}",
            "TimeoutSeconds": stage.timeout_seconds,
            "Retry": RETRIES_OF_A_START,
            "Next": self._after_stages() if last else self.stages[position + 1].state,
        }

    def _after_stages(self) -> str:
        return "BuildVersion" if self.publishing else "SumUp"

    def _publishing(self, steps: PublishingSteps) -> dict[str, Any]:
        states = {
            "BuildVersion": self._step(
                steps.build_version,
                comment=(
                    "Writes a candidate: this run's outputs, in merge mode laid over the current version. Nobody reads it yet. "
                    "Built again from the same version, it is the same."
                ),
                payload={"run_id.$": "$.run_id"},
                fields=CANDIDATE_FIELDS,
                result_path="$.candidate",
                following="CheckQuality" if steps.check_quality else "Publish",
            )
        }
        if steps.check_quality:
            states["CheckQuality"] = self._step(
                steps.check_quality,
                comment="Holds the candidate against the rules. A broken rule that blocks fails the run: what is published stays.",
                payload={
                    "run_id.$": "$.run_id",
                    "version.$": "$.candidate.version",
                    "rules": list(steps.rules),
                },
                fields=GATE_FIELDS,
                result_path="$.gate",
                following="Publish",
            )
        states["Publish"] = self._step(
            steps.publish,
            comment="Moves the pointer from the version that the candidate was built on to the candidate, or says why not.",
            payload={"run_id.$": "$.run_id", "version.$": "$.candidate.version"},
            fields=PUBLISHED_FIELDS,
            result_path="$.published",
            following="Published?",
        )
        states["Published?"] = {
            "Type": "Choice",
            "Comment": "Another run published meanwhile: this one's outputs are laid over its version. Publish gives up after a few rounds.",
            "Choices": [{"Variable": "$.published.again", "BooleanEquals": True, "Next": "BuildVersion"}],
            "Default": "SumUp",
        }
        return states

    def _step(
        self,
        step: FunctionStep,
        *,
        comment: str,
        payload: dict[str, Any],
        fields: Sequence[str],
        result_path: str,
        following: str,
    ) -> dict[str, Any]:
        return {
            "Type": "Task",
            "Comment": comment,
            "Resource": "arn:aws:states:::lambda:invoke",
            "Parameters": {"FunctionName": step.arn, "Payload": payload},
            "ResultSelector": {f"{field}.$": f"$.Payload.{field}" for field in fields},
            "ResultPath": result_path,
            "TimeoutSeconds": step.timeout_seconds,
            "Retry": RETRIES_OF_PUBLISHING,
            "Next": following,
        }

    def _sum_up(self) -> dict[str, Any]:
        return {
            "Type": "Pass",
            "Comment": "Never green with silent loss: what the whole run lost comes first in its output.",
            "Parameters": {
                "run_id.$": "$.run_id",
                "lost.$": f"$.stages.{self.stages[-1].name}.lost.run",
                "stages.$": "$.stages",
                **({"published.$": "$.published"} if self.publishing else {}),
            },
            "End": True,
        }
