"""A synthesised template, asked in the words of what it guarantees."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN_HANDLERS = {
    name: f"winnow.handlers.{name}.handler"
    for name in (
        "plan_run",
        "plan",
        "settle",
        "register",
        "alert",
        "close_run",
        "start_run",
        "close_window",
        "slack",
    )
}
"""Handlers of Winnow's own functions, by name."""


@dataclass(frozen=True)
class Statement:
    """One statement of a role's policies, with resources as text: `<Bucket.Arn>/runs/*`."""

    effect: str
    actions: frozenset[str]
    resources: frozenset[str]
    policy: str
    """Logical id of the policy."""

    def allows(self, action: str) -> bool:
        return self.effect == "Allow" and any(fnmatch.fnmatchcase(action, each) for each in self.actions)


@dataclass(frozen=True)
class Synthesized:
    """A template, after synthesis."""

    template: dict[str, Any]

    def resources(self, kind: str) -> dict[str, dict[str, Any]]:
        """Resources of a type, by logical id."""
        found: dict[str, dict[str, Any]] = self.template["Resources"]
        return {name: each for name, each in found.items() if each["Type"] == kind}

    def properties(self, kind: str) -> dict[str, dict[str, Any]]:
        return {name: each["Properties"] for name, each in self.resources(kind).items()}

    def the(self, kind: str, containing: str) -> str:
        """Logical id of the one resource of a type whose id contains a text."""
        (name,) = (name for name in self.resources(kind) if containing in name)
        return name

    def handlers(self) -> dict[str, str]:
        """Logical ids of functions, by handler."""
        return {each["Handler"]: name for name, each in self.properties("AWS::Lambda::Function").items()}

    def function(self, handler: str) -> dict[str, Any]:
        found: dict[str, Any] = self.properties("AWS::Lambda::Function")[self.handlers()[handler]]
        return found

    def variables(self, handler: str) -> dict[str, Any]:
        found: dict[str, Any] = self.function(handler)["Environment"]["Variables"]
        return found

    def permissions(self, handler: str) -> list[Statement]:
        """What a function may do."""
        return self.role_permissions(self.function(handler)["Role"]["Fn::GetAtt"][0])

    def machine_permissions(self, containing: str) -> list[Statement]:
        """What a state machine may do."""
        machine = self.resources("AWS::StepFunctions::StateMachine")[
            self.the("AWS::StepFunctions::StateMachine", containing)
        ]
        return self.role_permissions(machine["Properties"]["RoleArn"]["Fn::GetAtt"][0])

    def role_permissions(self, role: str) -> list[Statement]:
        return [
            statement
            for name, policy in self.properties("AWS::IAM::Policy").items()
            if {"Ref": role} in policy["Roles"]
            for statement in statements(policy["PolicyDocument"], name)
        ]

    def definition(self, containing: str) -> dict[str, Any]:
        """A state machine's definition, with references as text."""
        name = self.the("AWS::StepFunctions::StateMachine", containing)
        text = self.properties("AWS::StepFunctions::StateMachine")[name]["DefinitionString"]
        found: dict[str, Any] = json.loads(rendered(text))
        return found


def statements(document: dict[str, Any], policy: str = "") -> Iterator[Statement]:
    for each in document["Statement"]:
        yield Statement(
            effect=each["Effect"],
            actions=frozenset(_list(each["Action"])),
            resources=frozenset(map(rendered, _list(each.get("Resource", [])))),
            policy=policy,
        )


def allowed(permissions: list[Statement], action: str) -> set[str]:
    """The resources that an action is allowed on."""
    return {resource for each in permissions if each.allows(action) for resource in each.resources}


def rendered(value: Any) -> str:
    """A CloudFormation value as text."""
    match value:
        case str():
            return value
        case {"Fn::Join": [str(separator), list(parts)]}:
            return separator.join(map(rendered, parts))
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"<{name}.{attribute}>"
        case {"Ref": str(name)}:
            return f"<{name}>"
    raise ValueError(f"not text: {value!r}")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
