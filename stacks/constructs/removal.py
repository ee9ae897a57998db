from __future__ import annotations

from typing import TYPE_CHECKING

from aws_cdk import RemovalPolicy

from stacks.settings import Removal

if TYPE_CHECKING:
    from stacks.settings import EnvironmentSettings


def removal_policy(settings: EnvironmentSettings) -> RemovalPolicy:
    """CDK's word for what the settings say of data whose stack is deleted."""
    return RemovalPolicy.DESTROY if settings.removal is Removal.DESTROY else RemovalPolicy.RETAIN
