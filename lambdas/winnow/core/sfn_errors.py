"""Every error name that our state machines' `Retry`, `Catch` and `Fail` may use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple


class SfnError(StrEnum):
    """An error name as Step Functions compares it: exact, case-sensitive, no inheritance.

    A test refuses names that are not listed here. Step Functions accepts a misspelt name, which then matches nothing: in a published
    project, `Ecs.` for `ECS.` lost one window a week.
    """

    # Step Functions' own

    ALL = "States.ALL"
    """Any other error, except `States.DataLimitExceeded` and `States.Runtime`, which nothing can catch."""
    TIMEOUT = "States.Timeout"
    """A Task ran longer than its `TimeoutSeconds`."""
    TASK_FAILED = "States.TaskFailed"
    """Any Task's failure but `States.Timeout`, and a failed nested execution."""

    # Lambda refused or lost the call: the function's code did not run, so calling again is harmless

    LAMBDA_SERVICE = "Lambda.ServiceException"
    """Lambda itself failed (500)."""
    LAMBDA_AWS = "Lambda.AWSLambdaException"
    """Any other failure of the Lambda service."""
    LAMBDA_SDK_CLIENT = "Lambda.SdkClientException"
    """The connection between Step Functions and Lambda failed."""
    LAMBDA_TOO_MANY_REQUESTS = "Lambda.TooManyRequestsException"
    """Throttled: the account's or the function's concurrency is used up. Not in CDK's default retry."""
    LAMBDA_RESOURCE_CONFLICT = "Lambda.ResourceConflictException"
    """The function is being updated, as during a deployment."""
    LAMBDA_RESOURCE_NOT_READY = "Lambda.ResourceNotReadyException"
    """The function is being made ready, as after weeks without a call."""

    # Lambda started the call and it died, or may be running still

    LAMBDA_CLIENT_TIMEOUT = "Lambda.ClientExecutionTimeoutException"
    """Step Functions stopped waiting for Lambda's answer; the function may be running still."""
    LAMBDA_UNKNOWN = "Lambda.Unknown"
    """The function ended without an answer: out of memory or out of time."""
    SANDBOX_TIMED_OUT = "Sandbox.Timedout"
    """The function ran out of its own time."""
    RUNTIME_EXIT = "Runtime.ExitError"
    """The function's process ended: `os._exit`, a segmentation fault, a kill."""
    RUNTIME_OUT_OF_MEMORY = "Runtime.OutOfMemory"
    """The function's process was killed at its memory limit."""

    # Step Functions refused to start a nested execution. StartExecution's reference says that starting it again is harmless: while
    # an execution is open, the same name and input are answered with success; once it is closed, the name is refused.
    # What follows each name is its source; what has none is a belief, which `winnow doctor --probe` can only measure where it occurs.

    EXECUTION_LIMIT = "StepFunctions.ExecutionLimitExceeded"
    """More executions are open than the account may have.

    Documented: the developer guide's page on starting executions from a Task retries this name, for throttled calls, too.
    """
    EXECUTION_LIMIT_EXCEPTION = "StepFunctions.ExecutionLimitExceededException"
    """The same, under the name of the SDK's class.

    Inferred: integrations name errors that a service's API models after the class (`DynamoDB.ConditionalCheckFailedException`), and
    the concurrency sample of AWS retries `StepFunctions.ExecutionAlreadyExistsException` around a nested execution.
    """
    STEP_FUNCTIONS_AWS = "StepFunctions.AWSStepFunctionsException"
    """Whatever the API does not model: throttling, a failure of Step Functions itself, and also a permission that is missing.

    Used by AWS: its solution that moves archives out of Glacier retries this name alone around `startExecution.sync:2`. It is the
    counterpart of the documented `Lambda.AWSLambdaException`; the API's model has no throttling error.
    """
    STEP_FUNCTIONS_SDK_CLIENT = "StepFunctions.SdkClientException"
    """The connection to Step Functions failed, so the execution may have been started.

    Inferred: the counterpart of the documented `Lambda.SdkClientException`, which other integrations have under their own names.
    """
    START_THROTTLED = "StepFunctions.ThrottlingException"
    """Too many StartExecution calls a second.

    A belief: neither documentation nor a published machine has it. A name that never comes costs nothing.
    """

    # Raised by our own Lambdas: the name of the Python class

    STAGE_INPUT = "StageInputError"
    """The input of a stage or a run is invalid."""
    DUPLICATE_ATTEMPT = "DuplicateAttempt"
    """Another execution owns this attempt."""
    SOURCE_CHANGED = "SourceChanged"
    """The source changed since Plan fixed the batch."""
    QUALITY_GATE_FAILED = "QualityGateFailed"
    """A candidate breaks a rule that blocks: it is not published."""
    UNPUBLISHABLE_ROWS = "UnpublishableRows"
    """The rows of a run cannot be one data set."""
    PUBLISH_CONTENDED = "PublishContended"
    """Other runs published again and again while this one built on their versions."""

    # What our machines fail with

    STAGE_TOTAL_FAILURE = "StageTotalFailure"
    """A stage in which nothing succeeded."""
    UNKNOWN_VERDICT = "UnknownVerdict"
    """Settle and the stage machine are not of one version."""
    UNKNOWN_PROBE = "UnknownProbe"
    """The command line asks the probe's machine for something that it does not know."""
    UNKNOWN_STAGE = "UnknownStage"
    """A run is to start at a stage that its pipeline does not have."""

    # Only compared with what `winnow doctor --probe` sees

    DATA_LIMIT = "States.DataLimitExceeded"
    """An input or output is larger than 256 KiB."""
    RESPONSE_TOO_LARGE = "Function.ResponseSizeTooLarge"
    """A function answers with more than 6 MB."""
    NAME_TAKEN = "StepFunctions.ExecutionAlreadyExistsException"
    """Another execution has the name. The names of other refusals to start are made alike."""


WORKER_DEATHS = frozenset(
    {
        SfnError.TIMEOUT,
        SfnError.LAMBDA_CLIENT_TIMEOUT,
        SfnError.LAMBDA_UNKNOWN,
        SfnError.SANDBOX_TIMED_OUT,
        SfnError.RUNTIME_EXIT,
        SfnError.RUNTIME_OUT_OF_MEMORY,
    }
)
"""The worker was killed rather than raised: it is not run again in place, and the next attempt is careful."""

CALL_REFUSED = (
    SfnError.LAMBDA_SERVICE,
    SfnError.LAMBDA_AWS,
    SfnError.LAMBDA_SDK_CLIENT,
    SfnError.LAMBDA_TOO_MANY_REQUESTS,
    SfnError.LAMBDA_RESOURCE_CONFLICT,
    SfnError.LAMBDA_RESOURCE_NOT_READY,
)
"""Lambda's own trouble and throttling: the function's code did not run."""

OUT_OF_TIME = (
    SfnError.LAMBDA_CLIENT_TIMEOUT,
    SfnError.LAMBDA_UNKNOWN,
    SfnError.SANDBOX_TIMED_OUT,
    SfnError.TIMEOUT,
)
"""A function took all of its time, or Lambda lost it. Each try may take as long again, so machines count these apart."""

START_REFUSED = (
    SfnError.EXECUTION_LIMIT,
    SfnError.EXECUTION_LIMIT_EXCEPTION,
    SfnError.STEP_FUNCTIONS_AWS,
    SfnError.STEP_FUNCTIONS_SDK_CLIENT,
    SfnError.START_THROTTLED,
)
"""Step Functions refused to start a nested execution, or nobody knows. None of these is a nested execution's own failure."""


class ExecutionError(NamedTuple):
    """Why an execution failed: an error name, and a message for people. Either may be empty."""

    error: str
    message: str

    def __str__(self) -> str:
        return ": ".join(filter(None, self))


def was_stopped(cause: str) -> bool:
    """Whether a nested execution ended because somebody stopped it. `cause` is what the state that waited for it caught."""
    try:
        document = json.loads(cause)
    except (ValueError, RecursionError):
        return False
    return isinstance(document, Mapping) and document.get("Status") == "ABORTED"


def innermost(error: str, cause: str) -> ExecutionError:
    """The error where it began. `cause` is text, or JSON of a Lambda function's error, or of a nested execution with its own cause."""
    try:
        document = json.loads(cause)
    except (ValueError, RecursionError):
        document = None
    if isinstance(document, Mapping):
        if "errorMessage" in document:
            return ExecutionError(str(document.get("errorType") or error), str(document["errorMessage"]))
        if "ExecutionArn" in document or "Cause" in document:
            return innermost(
                str(document.get("Error") or document.get("Status") or error),
                str(document.get("Cause") or ""),
            )
    return ExecutionError(error, cause)
