"""A stage machine's own timeout cannot be caught, so some attempt must have settled the stage before it."""

from __future__ import annotations

import re
from math import inf
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stacks.constructs.stage import INVOCATION_SLACK_SECONDS
from stacks.constructs.stage_functions import ALERT_SECONDS, MAX_LAMBDA_SECONDS, REGISTER_SECONDS
from stacks.settings import (
    PLANNING_AND_SETTLING_SECONDS,
    SHORTEST_RECURSION_SECONDS,
    EnvironmentSettings,
    EnvironmentSettingsError,
)
from statemachines.stage import StageMachine
from winnow.core.contract import MOST_TRIES
from winnow.core.sfn_errors import OUT_OF_TIME, SfnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.stacks.synthesized import Synthesized

LATE_ERRORS_OF_A_WORKER = 1
"""An error that escapes a worker may come as late as its timeout; one more call of it may end as late."""


def machine(configured: EnvironmentSettings) -> dict[str, Any]:
    """The stage machine that these settings make."""
    return StageMachine(
        stage="adapt",
        policy=configured.retry_policy,
        plan_function_arn="plan",
        worker_function_arn="worker",
        settle_function_arn="settle",
        register_function_arn="register",
        alert_function_arn="alert",
        plan_timeout_seconds=MAX_LAMBDA_SECONDS + INVOCATION_SLACK_SECONDS,
        worker_timeout_seconds=configured.worker_timeout_seconds + INVOCATION_SLACK_SECONDS,
        settle_timeout_seconds=MAX_LAMBDA_SECONDS + INVOCATION_SLACK_SECONDS,
        register_timeout_seconds=REGISTER_SECONDS + INVOCATION_SLACK_SECONDS,
        alert_timeout_seconds=ALERT_SECONDS + INVOCATION_SLACK_SECONDS,
        worker_retry_wait_seconds=configured.worker_retry_wait_seconds,
        recursion_timeout_seconds=configured.recursion_timeout_seconds,
        stage_timeout_seconds=configured.stage_timeout_seconds,
    ).definition()


def waits(rule: dict[str, Any]) -> float:
    """Seconds between a rule's tries, without the luck of jitter."""
    pauses = [
        rule.get("IntervalSeconds", 1) * rule.get("BackoffRate", 2.0) ** number
        for number in range(rule.get("MaxAttempts", 3))
    ]
    return float(sum(min(pause, rule.get("MaxDelaySeconds", pause)) for pause in pauses))


def longest(name: str, state: dict[str, Any], *, backoff: float) -> float:
    """Seconds that a state takes at worst: every wait of every rule, and its time limit as often as it can be reached."""
    if state["Type"] == "Wait":
        return backoff
    if state["Type"] != "Task":
        return 0
    rules = state.get("Retry", [])
    runs = 1
    for error in OUT_OF_TIME:
        rule = next(each for each in [*rules, {}] if _names(each, error))
        runs = max(runs, 1 + int(rule.get("MaxAttempts", 0)))
    if name == "RunWorker":
        runs = max(runs, 1 + LATE_ERRORS_OF_A_WORKER)
    return runs * int(state["TimeoutSeconds"]) + sum(map(waits, rules))


def _names(rule: dict[str, Any], error: str) -> bool:
    return not rule or error in rule["ErrorEquals"] or SfnError.ALL in rule["ErrorEquals"]


def seconds_to_settle(definition: dict[str, Any], *, backoff: float) -> float:
    """How long an execution takes at worst whose nested one never ends."""
    states = definition["States"]

    def path(name: str, until: str | None) -> float:
        """The longest way from a state to another, or to the end; infinitely short where it does not lead there."""
        if name == until:
            return 0
        if name == "RunOutstanding":
            return -inf
        following = [path(each, until) for each in successors(states[name])]
        return longest(name, states[name], backoff=backoff) + max(following, default=-inf if until else 0)

    return (
        path(definition["StartAt"], "RunOutstanding")
        + longest("RunOutstanding", states["RunOutstanding"], backoff=backoff)
        + path("SettleWhatIsProven", None)
    )


def successors(state: dict[str, Any]) -> Iterator[str]:
    yield from (state[field] for field in ("Next", "Default") if field in state)
    for branch in [*state.get("Choices", ()), *state.get("Catch", ())]:
        yield branch["Next"]


def whole(least: int, most: int) -> st.SearchStrategy[int]:
    return st.integers(least, most)


def refusal_of(**values: int) -> str | None:
    """Why settings are refused, if they are."""
    try:
        EnvironmentSettings(**values)  # type: ignore[arg-type]
    except EnvironmentSettingsError as error:
        return str(error)
    return None


@given(
    backoff=whole(0, 3600),
    most_backoff=whole(0, 24 * 3600),
    max_tries=whole(1, MOST_TRIES),
    worker_retry_wait=whole(1, 900),
    worker_timeout=whole(1, 900),
    stage_timeout=whole(1, 3 * 24 * 3600),
)
@settings(max_examples=300)
def test_some_attempt_settles_before_the_machine_times_out(
    backoff: int,
    most_backoff: int,
    max_tries: int,
    worker_retry_wait: int,
    worker_timeout: int,
    stage_timeout: int,
) -> None:
    values = {
        "backoff_seconds": backoff,
        "max_backoff_seconds": most_backoff,
        "max_tries": max_tries,
        "worker_retry_wait_seconds": worker_retry_wait,
        "worker_timeout_seconds": worker_timeout,
        "pipeline_timeout_seconds": 60 * 24 * 3600,
    }
    assume(most_backoff >= backoff)
    refusal = refusal_of(**values, stage_timeout_seconds=stage_timeout)
    if refusal:
        [least] = map(
            int, re.findall(r"^stage_timeout_seconds must be at least (\d+): .*, got: \d+$", refusal)
        )
        assert least > stage_timeout
        assert refusal_of(**values, stage_timeout_seconds=least - 1)
        stage_timeout = least
    configured = EnvironmentSettings(**values, stage_timeout_seconds=stage_timeout)  # type: ignore[arg-type]
    assert configured.recursion_timeout_seconds >= SHORTEST_RECURSION_SECONDS

    # Settle's jitter is a share of the ceiling for the try that is over; the last one that a retry follows is `max_tries - 2`.
    ceilings = [min(most_backoff, backoff * 2**spent) for spent in range(max_tries - 1)]
    assert (
        seconds_to_settle(machine(configured), backoff=max(ceilings, default=0))
        <= configured.stage_timeout_seconds
    )


def test_what_is_kept_back_is_what_the_machine_needs() -> None:
    configured = EnvironmentSettings(backoff_seconds=0, max_backoff_seconds=0)
    needed = seconds_to_settle(machine(configured), backoff=0)
    worker = 2 * configured.worker_timeout_seconds + configured.worker_retry_wait_seconds

    of_the_machine = needed - configured.recursion_timeout_seconds - worker

    assert of_the_machine <= PLANNING_AND_SETTLING_SECONDS < of_the_machine + 120


@pytest.mark.parametrize("machine_of", ["AdaptStage", "TransformStage", "MintStage"])
def test_what_is_deployed_settles_in_time(
    prod: Synthesized, configured: Callable[[str], EnvironmentSettings], machine_of: str
) -> None:
    definition = prod.definition(machine_of)

    backoff = configured("prod").longest_backoff_seconds

    assert seconds_to_settle(definition, backoff=backoff) <= definition["TimeoutSeconds"]


def test_a_long_backoff_does_not_leave_a_stage_unsettled() -> None:
    """An hour's wait once came out of the time to settle."""
    configured = EnvironmentSettings(backoff_seconds=3600, max_backoff_seconds=3600)

    assert (
        configured.recursion_timeout_seconds == EnvironmentSettings().recursion_timeout_seconds - 3600 + 120
    )
