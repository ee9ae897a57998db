"""Written reasons for what cdk-nag's AwsSolutions rules would otherwise find."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import Acknowledgment, Stack, Validations

if TYPE_CHECKING:
    from constructs import Construct


def accept(construct: Construct, finding: str, *, reason: str) -> None:
    """Accept one finding on a construct and all in it, exactly as cdk-nag names it: `AwsSolutions-S1`."""
    Validations.of(construct).acknowledge(Acknowledgment(id=finding, reason=reason))


def accept_wildcard(construct: Construct, resource: str, *, reason: str) -> None:
    """Accept that a policy names a resource with a wildcard, such as `arn_for_objects("runs/*")`."""
    resource = _rendered(Stack.of(construct).resolve(resource))
    accept(construct, f"AwsSolutions-IAM5[Resource::{resource}]", reason=reason)


def _rendered(value: object) -> str:
    """A CloudFormation value as cdk-nag writes it: `{"Ref": "Bucket"}` as `<Bucket>`."""
    match value:
        case str():
            return value
        case {"Fn::Join": [str(separator), list(parts)]}:
            return separator.join(map(_rendered, parts))
        case {"Fn::GetAtt": [str(name), str(attribute)]}:
            return f"<{name}.{attribute}>"
        case {"Ref": str(name)}:
            return f"<{name}>"
    raise ValueError(f"resource must be made of text, Ref, Fn::GetAtt and Fn::Join, got: {value!r}")
