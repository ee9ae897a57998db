"""The CDK command line, quietly: synthesis that is reused, bootstrap and deployment to an emulator."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts import ROOT
from scripts.local import tether
from scripts.local.emulator import ACCOUNT, REGION, Endpoint, environment_without_aws, tail
from scripts.local.state import FOLDER
from scripts.terminal.errors import CommandFailed

CDK = ROOT / "node_modules" / ".bin" / "cdk"
ENVIRONMENT = "local"
"""The environment of cdk.json that goes to emulators."""
SILENCE = {  # a banner about Node at each start; it works, and our own check says when it does not
    "CDK_DISABLE_CLI_TELEMETRY": "true",
    "JSII_SILENCE_WARNING_DEPRECATED_NODE_VERSION": "1",
    "JSII_SILENCE_WARNING_END_OF_LIFE_NODE_VERSION": "20",  # a list of major versions
    "JSII_SILENCE_WARNING_UNTESTED_NODE_VERSION": "1",
}

ASSEMBLIES = FOLDER / "assemblies"
KEPT_ASSEMBLIES = 3
"""Going back and forth between branches finds its synthesis again."""
INPUTS = ("app.py", "cdk.json", "constraints.txt", "lambdas", "stacks", "statemachines")
"""Files and folders that a synthesis depends on."""


class CdkError(CommandFailed):
    """A CDK command failed; the message ends with the end of its log."""


def settings() -> Mapping[str, Any]:
    """What cdk.json says of the environment that goes to emulators."""
    found: Mapping[str, Any] = json.loads((ROOT / "cdk.json").read_text())
    values: Mapping[str, Any] = found["context"]["environments"][ENVIRONMENT]
    return values


class Command:
    """A CDK command that runs in the background, and at most as long as this process."""

    def __init__(
        self,
        arguments: list[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path,
        remove: Path | None = None,
    ) -> None:
        if not CDK.exists():
            raise CdkError(f"the CDK command line is missing ({CDK}); ./scripts/winnow --version installs it")
        # cdk.json may start the app by a bare `python`.
        path = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
        self._name = arguments[0]
        self._log = log
        self._process = tether.Tethered(
            [str(CDK), *arguments, "--no-notices", "--no-version-reporting"],
            environment={**environment, **SILENCE, "PATH": path},
            folder=folder,
            log=log,
            remove=remove,
        )

    def wait(self) -> None:
        """Wait until it has done its work.

        Raises:
            CdkError: it has not.
        """
        try:
            code = self._process.wait()
        finally:
            self._process.stop()
        if code:
            raise CdkError(f"cdk {self._name} failed; its log ends with:\n{tail(self._log)}")


class Synthesis:
    """The app synthesised for emulators, in the background, or found where nothing it depends on has changed."""

    def __init__(self) -> None:
        ASSEMBLIES.mkdir(parents=True, exist_ok=True)
        self._made = ASSEMBLIES / f"{ENVIRONMENT}-{_fingerprint()}"
        self._command: Command | None = None
        if not self._made.is_dir():
            self._folder = Path(tempfile.mkdtemp(dir=ASSEMBLIES, prefix="new-"))
            self._command = Command(
                [
                    "synth",
                    "--quiet",
                    f"--context=environment={ENVIRONMENT}",
                    f"--output={self._folder / 'assembly'}",
                ],
                environment=environment_without_aws(os.environ),
                log=self._folder / "log",
                folder=ROOT,
                remove=self._folder,
            )

    @property
    def is_reused(self) -> bool:
        """Whether it was made before."""
        return self._command is None

    def wait(self) -> Path:
        """The folder of the assembly.

        Raises:
            CdkError: the app cannot be synthesised.
        """
        if self._command:
            try:
                self._command.wait()
                # Another process may have made the same meanwhile.
                with contextlib.suppress(OSError):
                    (self._folder / "assembly").rename(self._made)
            finally:
                shutil.rmtree(self._folder, ignore_errors=True)
        os.utime(self._made)
        _forget_old_assemblies()
        return self._made


def bootstrap(endpoint: Endpoint, log: Path) -> Command:
    """Prepare an emulator for deployments."""
    # From a folder without an app: bootstrapping would synthesise it first.
    arguments = ["bootstrap", f"aws://{ACCOUNT}/{REGION}"]
    return Command(arguments, environment=endpoint.environment(), log=log, folder=log.parent)


def deploy(assembly: Path, endpoint: Endpoint, log: Path) -> Command:
    """Deploy all stacks of a synthesised app to an emulator."""
    arguments = ["deploy", "--all", f"--app={assembly}", "--require-approval=never", "--progress=events"]
    # A change set is for review before it is applied; here there is no review.
    arguments.append("--method=direct")
    return Command(arguments, environment=endpoint.environment(), log=log, folder=log.parent)


def _fingerprint() -> str:
    summary = hashlib.sha256(f"{sys.version_info[:2]}".encode())
    for name in INPUTS:
        path = ROOT / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                summary.update(f"{file.relative_to(ROOT)}\0".encode())
                summary.update(hashlib.sha256(file.read_bytes()).digest())
    return summary.hexdigest()[:16]


def _forget_old_assemblies() -> None:
    newest_first = sorted(
        ASSEMBLIES.glob(f"{ENVIRONMENT}-*"), key=lambda each: each.stat().st_mtime, reverse=True
    )
    for old in newest_first[KEPT_ASSEMBLIES:]:
        shutil.rmtree(old, ignore_errors=True)
