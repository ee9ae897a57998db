"""In pytest, as ./scripts/test runs it: lint and types beside the tests; and what failed, ready to be run again."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from scripts import ROOT

BESIDE = "--lint-and-types"

CHECKS = {
    "lint": ["ruff", "check"],
    "format": ["ruff", "format", "--check", "--quiet"],
    "imports": ["lint-imports", "--no-cache"],
    "types": ["mypy"],
}
GROUP = re.compile(r"@[\w-]+$")
"""What xdist adds to a test's name: the group of those that run in one process."""
MOST_NAMED = 40
"""Tests that failed, in the command that runs them again; of more, the files are named."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(BESIDE, action="store_true", help="run ruff and mypy beside the tests")


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):  # one of xdist's processes: only the first one reports
        return
    config.pluginmanager.register(WhatFailed())
    if config.getoption("lint_and_types"):
        config.pluginmanager.register(Beside())


class _Check:
    """A command that runs beside the tests."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._output = tempfile.TemporaryFile("w+")  # noqa: SIM115  open as long as the command runs
        program, *arguments = CHECKS[name]
        command = [str(Path(sys.executable).with_name(program)), *arguments]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=self._output, stderr=subprocess.STDOUT)

    @property
    def passed(self) -> bool:
        """Waits for its end."""
        return self._process.wait() == 0

    def said(self) -> str:
        self._output.seek(0)
        return self._output.read().rstrip()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        self._output.close()


class Beside:
    """Lint, format and types: started before the first test, reported with the tests, and failing the session."""

    def __init__(self) -> None:
        self._checks: list[_Check] = []
        self._interrupted = False

    def pytest_sessionstart(self) -> None:
        self._checks = [_Check(name) for name in CHECKS]

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        self._interrupted = session.exitstatus == pytest.ExitCode.INTERRUPTED
        if not self._interrupted and not all(check.passed for check in self._checks):
            session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._interrupted:
            return
        terminalreporter.section("lint and types")
        for check in self._checks:
            terminalreporter.line(f"{check.name}: {'ok' if check.passed else 'FAILED'}")
            if not check.passed:
                terminalreporter.line(check.said())

    def pytest_unconfigure(self) -> None:
        for check in self._checks:
            check.end()


class WhatFailed:
    """Closes a session in which tests failed with the command that runs just those."""

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        failed = {
            GROUP.sub("", report.nodeid): None
            for outcome in ("failed", "error")
            for report in terminalreporter.stats.get(outcome, ())
        }
        if not failed:
            return
        if len(failed) > MOST_NAMED:
            failed = {name.split("::", 1)[0]: None for name in failed}
        terminalreporter.section("what failed")
        terminalreporter.line("Run just that:")
        terminalreporter.line(" \\\n    ".join(["./scripts/test", *map(shlex.quote, failed)]))
        terminalreporter.line("The whole log: .local/test.log")
