from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App
from aws_cdk.assertions import Template

from stacks.catalogue_stack import CatalogueStack
from stacks.settings import EnvironmentSettings
from tests.patience import PATIENCE_SECONDS
from tests.stacks.synthesized import Synthesized

if TYPE_CHECKING:
    from collections.abc import Callable

    RunApp = Callable[[dict[str, Any]], subprocess.CompletedProcess[str]]

ROOT = Path(__file__).parents[2]

EVERYTHING_ON: dict[str, Any] = {
    "alert_emails": ("curators@example.org",),
    "arrivals_window_seconds": 60,
    "bundle_dependencies": False,
    "schedule": "cron(0 2 * * ? *)",
    "slack_webhook_secret": "winnow/slack-webhook",
    "source_prefix": "tei/",
    "tracing": True,
}


@pytest.fixture(scope="session")
def shipped_context() -> dict[str, Any]:
    """The context that the CDK command line reads from cdk.json, as it comes."""
    found: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    return found


@pytest.fixture(scope="session")
def context(shipped_context: dict[str, Any]) -> dict[str, Any]:
    """The context after the first step of docs/deploying.md: production has somebody who hears."""
    environments = shipped_context["environments"]
    heard = {**environments["prod"], "alert_emails": ["curators@example.org"]}
    return {**shipped_context, "environments": {**environments, "prod": heard}}


class Node:
    """The part of a construct's node that settings read."""

    def __init__(self, context: dict[str, Any]) -> None:
        self._context = context

    def try_get_context(self, key: str) -> Any:
        return self._context.get(key)


@pytest.fixture(scope="session")
def configured(context: dict[str, Any]) -> Callable[[str], EnvironmentSettings]:
    """Settings of an environment of cdk.json."""
    return lambda environment: EnvironmentSettings.from_context(Node({**context, "environment": environment}))


def synthesize(settings: EnvironmentSettings, context: dict[str, Any]) -> Synthesized:
    # CDK's own validation takes three seconds to load; test_app.py has it.
    app = App(context=context, builtin_cloud_formation_validation=False)
    stack = CatalogueStack(app, f"catalogue-{settings.environment}", settings=settings)
    return Synthesized(dict(Template.from_stack(stack).to_json()))


@pytest.fixture(scope="session")
def prod(configured: Callable[[str], EnvironmentSettings], context: dict[str, Any]) -> Synthesized:
    """The example in production, with all that can be switched on."""
    return synthesize(replace(configured("prod"), **EVERYTHING_ON), context)


@pytest.fixture(scope="session")
def local(configured: Callable[[str], EnvironmentSettings], context: dict[str, Any]) -> Synthesized:
    """The example as an emulator gets it, exactly as configured."""
    return synthesize(configured("local"), context)


@pytest.fixture
def run_app(context: dict[str, Any], tmp_path: Path) -> RunApp:
    """Runs app.py as the CDK command line does, in an environment that holds nothing but the way to Node."""

    def run(changes: dict[str, Any]) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": os.environ["PATH"],
            "CDK_OUTDIR": str(tmp_path),
            "CDK_CONTEXT_JSON": json.dumps({**context, **changes}),
        }
        command = [sys.executable, "app.py"]
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    return run


@pytest.fixture
def ledger(prod: Synthesized) -> str:
    return f"<{prod.the('AWS::S3::Bucket', 'Ledger')}.Arn>"
