"""dev and prod of one pipeline in one account: what happens in one starts nothing in the other."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest
from moto.events.models import EventPattern

from tests.stacks.conftest import EVERYTHING_ON, synthesize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from stacks.settings import EnvironmentSettings
    from tests.stacks.synthesized import Synthesized

ENVIRONMENTS = ("dev", "prod")


@pytest.fixture(scope="module")
def account(
    configured: Callable[[str], EnvironmentSettings], context: dict[str, Any]
) -> dict[str, Synthesized]:
    """The templates of both environments, with all that can be switched on."""
    return {
        environment: synthesize(replace(configured(environment), **EVERYTHING_ON), context)
        for environment in ENVIRONMENTS
    }


def rules(template: Synthesized, environment: str) -> dict[str, dict[str, Any]]:
    """Event patterns by logical id; what refers to a stack's own resources as the names they get."""

    def named(value: Any) -> Any:
        if isinstance(value, list):
            return [named(each) for each in value]
        if isinstance(value, dict):
            if set(value) in ({"Ref"}, {"Fn::GetAtt"}):
                return f"{environment}:{json.dumps(value)}"
            return {name: named(each) for name, each in value.items()}
        return value

    return {
        name: named(rule["EventPattern"])
        for name, rule in template.properties("AWS::Events::Rule").items()
        if "EventPattern" in rule
    }


def texts(pattern: dict[str, Any], path: str = "") -> Iterator[tuple[str, set[str]]]:
    """Of each path the values that are asked for; paths with other conditions are left out."""
    for name, value in pattern.items():
        if isinstance(value, dict):
            yield from texts(value, f"{path}.{name}")
        elif all(isinstance(each, str) or each == {"exists": False} for each in value):
            yield f"{path}.{name}", {each for each in value if isinstance(each, str)}


def can_both_match(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether an event that names all that the patterns ask for could match both."""
    theirs = dict(texts(other))
    return all(values & theirs[path] for path, values in texts(one) if path in theirs)


def test_no_event_that_is_complete_matches_rules_of_both(account: dict[str, Synthesized]) -> None:
    dev, prod = (rules(template, environment) for environment, template in account.items())
    assert len(dev) == len(prod) >= 3
    both = [(one, other) for one, other in product(dev, prod) if can_both_match(dev[one], prod[other])]
    assert both == []


@pytest.mark.parametrize(
    ("environment", "reached"),
    [("dev", {"dev"}), ("prod", {"prod"}), ("staging", set()), (None, {"dev", "prod"})],
)
def test_an_event_reaches_the_environment_that_it_names_and_all_where_it_names_none(
    account: dict[str, Synthesized], environment: str | None, reached: set[str]
) -> None:
    """Where it names none, StartRun refuses it with an alert, in each."""
    detail = {"pipeline": "catalogue", **({"environment": environment} if environment else {})}
    event: Any = {"source": "winnow", "detail-type": "Run requested", "detail": detail}
    matching = {
        name
        for name, template in account.items()
        for pattern in rules(template, name).values()
        if EventPattern.load(json.dumps(pattern)).matches_event(event)
    }
    assert matching == reached


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_function_knows_its_environment(account: dict[str, Synthesized], environment: str) -> None:
    template = account[environment]
    named = {
        name: template.variables(name).get("WINNOW_ENVIRONMENT")
        for name in template.handlers()
        if "WINNOW_PIPELINE" in template.function(name).get("Environment", {}).get("Variables", {})
    }
    assert len(named) >= 9
    assert set(named.values()) == {environment}


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_every_alarm_names_its_environment(account: dict[str, Synthesized], environment: str) -> None:
    alarms = account[environment].properties("AWS::CloudWatch::Alarm")
    assert alarms
    assert all(each["AlarmDescription"].startswith(f"[{environment}] ") for each in alarms.values())
