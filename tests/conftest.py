"""For all tests: nothing of the developer's AWS configuration gets in, so none of them can reach a real account."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from scripts.local.emulator import CREDENTIALS, REGION, environment_without_aws

settings.register_profile("winnow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("winnow")


def pytest_configure() -> None:
    isolated = environment_without_aws(os.environ)
    isolated |= {**CREDENTIALS, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    os.environ.clear()
    os.environ.update(isolated)
