"""The settings of an environment as the app would read them, without a synthesis."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stacks.settings import EnvironmentSettings, EnvironmentSettingsError


@dataclass(frozen=True, slots=True)
class _CdkContext:
    values: Mapping[str, Any]

    def try_get_context(self, key: str) -> Any:
        return self.values.get(key)


def read_settings(root: Path, environment: str) -> EnvironmentSettings:
    """The settings of an environment in the clone's cdk.json.

    Raises:
        EnvironmentSettingsError: there is no such file or environment, or something in it cannot be right.
    """
    return EnvironmentSettings.from_context(_CdkContext({**_context(root), "environment": environment}))


def default_environment(root: Path) -> str | None:
    """The environment that `cdk deploy` takes where none is given; None where cdk.json does not say."""
    try:
        name = _context(root).get("environment")
    except EnvironmentSettingsError:
        return None
    return name if isinstance(name, str) else None


def _context(root: Path) -> Mapping[str, Any]:
    path = root / "cdk.json"
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise EnvironmentSettingsError("cdk.json", str(path), "must exist") from None
    except ValueError as error:
        raise EnvironmentSettingsError("cdk.json", str(error), "must be JSON") from error
    context = document.get("context") if isinstance(document, dict) else None
    if not isinstance(context, dict):
        raise EnvironmentSettingsError("context", context, "must be an object")
    return context
