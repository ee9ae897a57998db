"""app.py, run as the CDK command line runs it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.stacks.conftest import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.stacks.conftest import RunApp

WITHOUT_BUNDLING: dict[str, Any] = {"aws:cdk:bundling-stacks": []}
"""Packages come from an index, and this is about doing without a network."""


def test_synthesises_offline_in_an_empty_environment(run_app: RunApp, tmp_path: Path) -> None:
    done = run_app({**WITHOUT_BUNDLING, "environment": "prod"})

    assert done.returncode == 0, done.stderr
    template = json.loads((tmp_path / "catalogue-prod.template.json").read_text(encoding="utf-8"))
    assert template["Outputs"]["PipelineName"]["Value"] == "catalogue"
    report = json.loads((tmp_path / "validation-report.json").read_text(encoding="utf-8"))
    assert [found for plugin in report["pluginReports"] for found in plugin["violations"]] == []


def test_says_a_mistake_in_one_line(run_app: RunApp, context: dict[str, Any]) -> None:
    environments = {**context["environments"], "dev": {"max_tries": 0}}

    done = run_app({"environment": "dev", "environments": environments})

    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if not line.startswith("b'!!")] == [
        "cdk.json: environments.dev.max_tries must be a whole number from 1 to 20, got: 0"
    ]
    assert done.stdout == ""


def test_production_is_refused_as_it_comes_because_nobody_would_hear(
    run_app: RunApp, shipped_context: dict[str, Any]
) -> None:
    done = run_app({"environment": "prod", "environments": shipped_context["environments"]})

    assert done.returncode == 1
    [line] = [line for line in done.stderr.splitlines() if not line.startswith("b'!!")]
    assert line.startswith("cdk.json: environments.prod.watch_emails must name somebody")
    assert line.endswith("add an address to alert_emails or watch_emails, got: None")
    assert done.stdout == ""


def test_app_stays_short() -> None:
    assert len((ROOT / "app.py").read_text(encoding="utf-8").splitlines()) < 40
