from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stacks.constructs.lambda_code import LambdaCode
    from stacks.settings import EnvironmentSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """One pipeline in one environment: what all its functions have in common."""

    pipeline: str
    settings: EnvironmentSettings
    code: LambdaCode
