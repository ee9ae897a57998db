"""Behind ./scripts/test: every check there is, in the order in which they fail fastest."""

import os
import subprocess
import sys
import time

from scripts import ROOT
from scripts.cdk import SILENCE

LINTS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check", "--quiet"],
    "types": ["mypy"],
}

MAX_WORKERS = 4
"""Test processes at once; each that reaches the emulator tests starts one of its own."""


def main() -> int:
    """Run all checks, even where one fails, and close with pytest's own summary.

    Returns:
        Exit code: pytest's, or 1 where only another check failed.
    """
    failed = [name for name, command in LINTS.items() if not _passes(name, command)]
    tests = subprocess.run(
        [sys.executable, "-m", "pytest", *_parallel(), *sys.argv[1:]],
        cwd=ROOT,
        env={**os.environ, **SILENCE},
        check=False,
    )
    if failed:
        print(f"failed before the tests: {', '.join(failed)} (see above)", file=sys.stderr)
    return tests.returncode or bool(failed)


def _passes(name: str, command: list[str]) -> bool:
    since = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False
    )
    print(
        f"{name}: {'ok' if done.returncode == 0 else 'FAILED'} ({time.monotonic() - since:.1f} s)", flush=True
    )
    if done.returncode:
        print(done.stdout + done.stderr, flush=True)
    return done.returncode == 0


def _parallel() -> list[str]:
    workers = min(MAX_WORKERS, os.cpu_count() or 1)
    # By group: what shares an emulator runs in one process, one after the other.
    return [f"--numprocesses={workers}", "--dist=loadgroup"]


if __name__ == "__main__":
    sys.exit(main())
