"""The state machines, run by hand: the definitions that are deployed, step by step."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from statemachines.pipeline import PipelineMachine, StageStep
from statemachines.stage import StageMachine
from tests.simulation.schedule import FaultKind, StagePlan
from tests.simulation.world import Execution, Invocation, World
from winnow.core.contract import Policy

PIPELINE = "catalogue"
STEPS = 2_000
"""States that an execution may go through; more means that it never ends."""

Function = Callable[[Any, Execution], Invocation]
"""A Lambda function by name: given a payload, for an execution."""


class TaskFailed(Exception):
    """What a Catch sees: an error name and a cause."""

    def __init__(self, error: str, cause: str) -> None:
        super().__init__(f"{error}: {cause}")
        self.error = error
        self.cause = cause


class Stopped(BaseException):
    """An execution was stopped; every one below it is, too."""

    def __init__(self, execution: Execution, status: str) -> None:
        super().__init__(status)
        self.execution = execution
        self.status = status


class NeverEnds(Exception):
    """An execution went through too many states."""


def stage_definition(stage: StagePlan) -> dict[str, Any]:
    policy = Policy(max_tries=stage.max_tries, spend_tries_first=stage.spend_tries_first, backoff_seconds=20)
    return _stage_definition(stage.name, policy, int(stage.lambda_seconds) + 30)


@cache
def _stage_definition(name: str, policy: Policy, worker_timeout_seconds: int) -> dict[str, Any]:
    return StageMachine(
        stage=name,
        policy=policy,
        plan_function_arn="plan",
        worker_function_arn=f"worker {name}",
        settle_function_arn="settle",
        register_function_arn="register",
        alert_function_arn="alert",
        plan_timeout_seconds=930,
        worker_timeout_seconds=worker_timeout_seconds,
        settle_timeout_seconds=930,
        register_timeout_seconds=330,
        alert_timeout_seconds=90,
        worker_retry_wait_seconds=30,
        recursion_timeout_seconds=10_000,
        stage_timeout_seconds=20_000,
    ).definition()


def pipeline_definition(stages: tuple[StagePlan, ...]) -> dict[str, Any]:
    return _pipeline_definition(tuple(stage.name for stage in stages))


@cache
def _pipeline_definition(names: tuple[str, ...]) -> dict[str, Any]:
    return PipelineMachine(
        name=PIPELINE,
        stages=[StageStep(name=name, machine_arn=name, timeout_seconds=30_000) for name in names],
        plan_run_function_arn="plan_run",
        plan_run_timeout_seconds=60,
        timeout_seconds=100_000,
    ).definition()


class Machines:
    """Executions of all machines of a pipeline."""

    def __init__(
        self, world: World, definitions: Mapping[str, dict[str, Any]], functions: Mapping[str, Function]
    ) -> None:
        self._world = world
        self._definitions = definitions
        self._functions = functions
        self.executions: dict[str, Execution] = {}
        """By ARN, in the order in which they were started."""

    def start(self, machine: str, name: str, given: Any, parent: Execution | None = None) -> Execution | None:
        """Begin an execution; None where one had the name before."""
        made = Execution(
            machine=machine,
            name=name,
            given=given,
            parent=parent,
            started_at=self._world.scheduler.clock,
        )
        if made.arn in self.executions:
            return None
        self.executions[made.arn] = made
        return made

    def run(self, execution: Execution) -> None:
        """Run an execution to its end; how it ended is in the execution."""
        try:
            execution.output = self._walk(execution)
            execution.status = "SUCCEEDED"
        except TaskFailed as failed:
            execution.status, execution.error, execution.cause = "FAILED", failed.error, failed.cause
        except Stopped as stopped:
            execution.status = stopped.status
            if stopped.execution is not execution:
                raise
        finally:
            execution.ended_at = self._world.scheduler.clock

    def _walk(self, execution: Execution) -> Any:
        definition = self._definitions[execution.machine]
        name, data = definition["StartAt"], execution.given
        context = {
            "Execution": {"Id": execution.arn, "Name": execution.name},
            "StateMachine": {"Id": execution.machine},
        }
        for _ in range(STEPS):
            state = definition["States"][name]
            execution.visited.append(name)
            self._measure(data)
            following: str | None
            match state["Type"]:
                case "Succeed":
                    return _at(state.get("OutputPath", "$"), data)
                case "Fail":
                    cause = _at(state["CausePath"], data) if "CausePath" in state else state.get("Cause", "")
                    raise TaskFailed(state["Error"], cause)
                case "Choice":
                    following = next(
                        (rule["Next"] for rule in state["Choices"] if _holds(rule, data)), state["Default"]
                    )
                case "Wait":
                    self._world.sleep(_at(state["SecondsPath"], data))
                    following = state["Next"]
                case "Pass":
                    data = _filled(state["Parameters"], data, context)
                    following = state.get("Next")
                case "Task":
                    data, following = self._task(state, data, context, execution)
                case other:
                    raise NotImplementedError(f"a state of type {other}")
            if following is None:
                return data
            name = following
        raise NeverEnds(f"{execution.machine} {execution.name}")

    def _task(
        self, state: Mapping[str, Any], data: Any, context: Mapping[str, Any], execution: Execution
    ) -> tuple[Any, str | None]:
        tried = [0] * len(state.get("Retry", ()))
        while True:
            try:
                answer = self._resource(state, data, context, execution)
            except TaskFailed as failed:
                if self._waits_and_retries(state.get("Retry", ()), tried, failed.error):
                    continue
                for catch in state.get("Catch", ()):
                    if _names(catch["ErrorEquals"], failed.error):
                        caught = {"Error": failed.error, "Cause": failed.cause}
                        return _placed(catch.get("ResultPath", "$"), data, caught), catch["Next"]
                raise
            if "ResultSelector" in state:
                answer = _filled(state["ResultSelector"], answer, context)
            data = _placed(state.get("ResultPath", "$"), data, answer)
            return _at(state.get("OutputPath", "$"), data), state.get("Next")

    def _waits_and_retries(self, rules: list[dict[str, Any]], tried: list[int], error: str) -> bool:
        for number, rule in enumerate(rules):
            if _names(rule["ErrorEquals"], error):
                if tried[number] >= rule.get("MaxAttempts", 3):
                    return False
                wait = rule.get("IntervalSeconds", 1) * rule.get("BackoffRate", 2.0) ** tried[number]
                wait = min(wait, rule.get("MaxDelaySeconds", wait))
                if rule.get("JitterStrategy") == "FULL":
                    wait *= self._world.random()
                tried[number] += 1
                self._world.sleep(wait)
                return True
        return False

    def _resource(
        self, state: Mapping[str, Any], data: Any, context: Mapping[str, Any], execution: Execution
    ) -> Any:
        resource = state["Resource"]
        given = _at(state.get("InputPath", "$"), data)
        if resource == "arn:aws:states:::lambda:invoke":
            parameters = _filled(state["Parameters"], given, context)
            return {"Payload": self._call(parameters["FunctionName"], parameters["Payload"], execution)}
        if resource == "arn:aws:states:::states:startExecution.sync:2":
            return self._nest(_filled(state["Parameters"], given, context), execution)
        return self._call(resource, given, execution)

    def _call(self, function: str, payload: Any, execution: Execution) -> Any:
        name, _, _ = function.partition(" ")
        invocation = self._functions[name](self._copied(payload), execution)
        if invocation.let_go:
            kind = invocation.let_go.kind
            if kind is FaultKind.FREEZE:
                raise TaskFailed("States.Timeout", "")
            raise Stopped(
                execution.ancestor(invocation.let_go.scope),
                "ABORTED" if kind is FaultKind.STOP else "TIMED_OUT",
            )
        if invocation.death:
            raise TaskFailed(invocation.death, f"{name} ended without an answer")
        if invocation.error:
            error = invocation.error
            cause = {"errorType": type(error).__name__, "errorMessage": str(error)[:2_000]}
            raise TaskFailed(type(error).__name__, json.dumps(cause))
        return self._copied(invocation.answer)

    def _nest(self, parameters: Mapping[str, Any], parent: Execution) -> Any:
        machine = parameters["StateMachineArn"]
        made = self.start(machine, parameters["Name"], self._copied(parameters["Input"]), parent)
        if made is None:
            name = f"{machine} {parameters['Name']}"
            self._world.refused_names.append(name)
            raise TaskFailed("StepFunctions.ExecutionAlreadyExistsException", f"{name} was used before")
        self.run(made)
        if made.status == "SUCCEEDED":
            return {"ExecutionArn": made.arn, "Output": made.output}
        ending = {"ExecutionArn": made.arn, "Status": made.status, "Error": made.error, "Cause": made.cause}
        raise TaskFailed("States.TaskFailed", json.dumps({key: ending[key] for key in ending if ending[key]}))

    def _measure(self, data: Any) -> str:
        text = json.dumps(data)
        self._world.payloads = max(self._world.payloads, len(text))
        return text

    def _copied(self, data: Any) -> Any:
        """As it arrives: through JSON."""
        return json.loads(self._measure(data))


def _names(wanted: list[str], error: str) -> bool:
    return (
        error in wanted
        or "States.ALL" in wanted
        or ("States.TaskFailed" in wanted and error != "States.Timeout")
    )


def _at(path: str, data: Any) -> Any:
    for name in path.removeprefix("$").split("."):
        if name:
            data = data[name]
    return data


def _placed(path: str | None, data: Any, value: Any) -> Any:
    if path is None:
        return data
    if path == "$":
        return value
    *parents, last = path.removeprefix("$.").split(".")
    made = dict(data)
    place = made
    for name in parents:
        place[name] = dict(place[name])
        place = place[name]
    place[last] = value
    return made


def _filled(template: Any, data: Any, context: Mapping[str, Any]) -> Any:
    if isinstance(template, list):
        return [_filled(item, data, context) for item in template]
    if not isinstance(template, dict):
        return template
    made = {}
    for key, value in template.items():
        if key.endswith(".$"):
            made[key[:-2]] = _at(value[1:], context) if value.startswith("$$") else _at(value, data)
        else:
            made[key] = _filled(value, data, context)
    return made


def _holds(rule: Mapping[str, Any], data: Any) -> bool:
    if "And" in rule:
        return all(_holds(each, data) for each in rule["And"])
    if "Or" in rule:
        return any(_holds(each, data) for each in rule["Or"])
    found = _at(rule["Variable"], data)
    if "StringEquals" in rule:
        return bool(found == rule["StringEquals"])
    return found is rule["BooleanEquals"]
