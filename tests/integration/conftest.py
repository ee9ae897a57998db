"""The app of this clone, deployed once to an emulator for all tests that use it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from scripts import ROOT
from scripts.demonstration.slack_receiver import SlackReceiver
from scripts.deployed import pipelines
from scripts.deployed.pipelines import DeployedPipeline
from scripts.deployed.target import Target
from scripts.local.deployment import deploy_to_emulator
from scripts.local.emulator import Emulator
from scripts.local.target import at_emulator
from tests.pace import waits
from tests.patience import PATIENCE_SECONDS

WINNOW = Path(sys.executable).with_name("winnow")
WAIT_SCALE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An emulator with the app in it."""

    emulator: Emulator
    slack: SlackReceiver
    target: Target
    pipeline: DeployedPipeline

    def winnow(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command line as people do, aimed at the emulator by the environment."""
        return subprocess.run(
            [WINNOW, *arguments],
            env=self.emulator.endpoint.environment(),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def run(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        """`winnow run catalogue`; its exit code, and the one object that it prints."""
        done = self.winnow("run", "catalogue", "--json", *arguments)
        assert done.stdout.count("\n") == 1, done.stderr
        return done.returncode, json.loads(done.stdout)


@contextmanager
def deployed(home: Path, *, strict: bool = False) -> Iterator[Deployment]:
    quiet = Console(quiet=True)
    with (
        SlackReceiver() as slack,
        deploy_to_emulator(
            home, quiet, wait_scale=waits(WAIT_SCALE), strict=strict, webhook=slack.url
        ) as emulator,
    ):
        target = at_emulator(emulator.endpoint)
        yield Deployment(
            emulator=emulator, slack=slack, target=target, pipeline=pipelines.find(target, "catalogue")
        )


@pytest.fixture(scope="session")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with deployed(tmp_path_factory.mktemp("deployment") / "emulator") as made:
        yield made


@pytest.fixture(scope="session")
def strict_deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """TLS, and every permission really evaluated."""
    with deployed(tmp_path_factory.mktemp("strict") / "emulator", strict=True) as made:
        yield made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share a deployment run in one process, one after the other.

    A module that has chosen a group keeps it: a test in two groups is in a third, and another process would deploy for it.
    """
    for item in items:
        for fixture in ("deployment", "strict_deployment"):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.emulator)
                if not item.get_closest_marker("xdist_group"):
                    item.add_marker(pytest.mark.xdist_group(fixture))
