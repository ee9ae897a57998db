"""The same app with TLS and IAM enforced: a permission that is missing, or too narrow, fails here as on AWS."""

from __future__ import annotations

from tests.integration.conftest import Deployment
from tests.integration.test_command_line import MANUSCRIPTS, numbers
from tests.patience import PATIENCE_SECONDS

ALERTS = 2


def test_every_function_may_do_what_it_has_to(strict_deployment: Deployment) -> None:
    code, run = strict_deployment.run("--source", str(MANUSCRIPTS), "--include", "*.xml")
    assert code == 3
    assert numbers(run) == {"adapt": (60, 53, 0, 7), "transform": (53, 51, 2, 0), "mint": (51, 50, 0, 1)}
    assert len(strict_deployment.slack.receive(ALERTS, within_seconds=PATIENCE_SECONDS)) == ALERTS
    assert strict_deployment.winnow("verify", run["run_id"]).returncode == 3
