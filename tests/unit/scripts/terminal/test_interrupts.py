"""Ctrl-C at any moment of any command: exit code 130 and one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from scripts import ROOT
from scripts.commands import cli
from tests.patience import PATIENCE_SECONDS

STUBBORN = """
import os, signal
try:
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1_000_000):
        pass
except BaseException as error:  # as packages do that can do without another
    raise ImportError("something is missing") from error
"""
"""A package that is interrupted while it loads."""


def launched(*arguments: str, packages: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", "-m", *arguments],
        env=os.environ | {"PYTHONPATH": f"{packages}:{ROOT}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (("scripts.commands", "local", "status"), "boto3"),
        (("scripts.terminal", "scripts.demonstration", "--help"), "click"),
        (("scripts.terminal", "benchmarks", "--help"), "click"),
        (("scripts.terminal", "scripts.checks", "tests/unit/test_names.py"), "pytest"),
    ],
)
def test_while_a_command_loads(arguments: tuple[str, ...], package: str, tmp_path: Path) -> None:
    (tmp_path / f"{package}.py").write_text(STUBBORN)
    done = launched(*arguments, packages=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "winnow: interrupted\n")


def test_while_a_command_works(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.commands.aim.at_environment", interrupt)
    result = CliRunner().invoke(cli.main, ["verify", "RUN"])
    assert (result.exit_code, result.output) == (130, "")
    assert capfd.readouterr().err == "winnow: interrupted\n"


def test_what_is_open_is_closed_first(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(
        "import os, signal\n"
        "from scripts.terminal.interrupts import closing_first\n"
        "with closing_first():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        print('went on')\n"
        "    finally:\n"
        "        print('closed')\n"
    )
    done = launched("scripts.terminal", "command", packages=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (130, "closed\n", "winnow: interrupted\n")


def test_a_command_in_the_background_of_a_shell_is_not_interrupted(tmp_path: Path) -> None:
    (tmp_path / "command.py").write_text(
        "import os, signal\nos.kill(os.getpid(), signal.SIGINT)\nprint('went on')\n"
    )
    ignoring = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_IGN); os.execv(sys.executable, sys.argv)"
    done = subprocess.run(
        [sys.executable, "-c", ignoring, "-P", "-m", "scripts.terminal", "command"],
        env=os.environ | {"PYTHONPATH": f"{tmp_path}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")
