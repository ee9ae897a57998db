"""What other people's rules say of the template: cdk-nag and cfn-lint."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aws_cdk import App, Validations
from cdk_nag import AwsSolutionsChecks

from stacks.catalogue_stack import CatalogueStack
from tests.stacks.conftest import EVERYTHING_ON

if TYPE_CHECKING:
    from collections.abc import Callable

    from stacks.settings import EnvironmentSettings
    from tests.stacks.synthesized import Synthesized

CFN_LINT_IGNORED = {
    "W3005": "CDK names a function's role as a dependency beside referring to it, which is harmless",
}


def test_leaves_no_finding_of_cdk_nag_without_a_reason(
    configured: Callable[[str], EnvironmentSettings], context: dict[str, Any], tmp_path: Path
) -> None:
    app = App(context=context, outdir=str(tmp_path), builtin_cloud_formation_validation=False)
    Validations.of(app).add_plugins(AwsSolutionsChecks(app))
    CatalogueStack(app, "Nagged", settings=replace(configured("prod"), **EVERYTHING_ON))

    try:
        app.synth()
    except RuntimeError:
        report = (tmp_path / "validation-report.json").read_text(encoding="utf-8")
        pytest.fail(f"cdk-nag found something that is neither mended nor explained:\n{report}")


@pytest.mark.parametrize("environment", ["local", "prod"])
def test_is_clean_for_cfn_lint(request: pytest.FixtureRequest, tmp_path: Path, environment: str) -> None:
    template: Synthesized = request.getfixturevalue(environment)
    file = tmp_path / "template.json"
    file.write_text(json.dumps(template.template), encoding="utf-8")
    command = [
        str(Path(sys.executable).with_name("cfn-lint")),
        "--ignore-checks",
        *CFN_LINT_IGNORED,
        "--",
        str(file),
    ]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout
