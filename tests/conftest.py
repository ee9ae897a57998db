"""For all tests: nothing of the developer's AWS configuration gets in, and Ctrl-C works in what they start."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

from scripts.local.emulator import CREDENTIALS, REGION, environment_without_aws

settings.register_profile("winnow", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("winnow")


def pytest_configure() -> None:
    isolated = environment_without_aws(os.environ)
    isolated |= {**CREDENTIALS, "AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
    os.environ.clear()
    os.environ.update(isolated)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # A shell has what it starts in the background ignore Ctrl-C, and processes that a test starts would inherit that.
        signal.signal(signal.SIGINT, signal.default_int_handler)
