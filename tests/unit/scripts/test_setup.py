"""The shell piece that every launcher begins with, in a clone of its own, with stand-ins for Python, Node and npm."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT
from tests.patience import PATIENCE_SECONDS

PYTHON = f"""#!/usr/bin/env bash
# Stands in for Python, and for the Python of a virtual environment that it makes.
case "$*" in
    "-m venv "*)
        echo venv >>"$LOG"
        rm -rf "${{@: -1}}"; mkdir -p "${{@: -1}}/bin"; cp "$0" "${{@: -1}}/bin/python" ;;
    "-m pip install "*)
        echo pip >>"$LOG"
        if [ -n "${{PIP_FAILS:-}}" ]; then echo "no matching distribution"; exit 1; fi
        echo "Collecting a-stand-in"
        if [ -n "${{PIP_HANGS:-}}" ]; then echo hanging >"$PIP_HANGS"; sleep 300; fi ;;
    *)
        exec {sys.executable} "$@" ;;
esac
"""
NODE = '#!/bin/sh\necho "${NODE_VERSION-v22.1.0}"\n'
NPM = '#!/bin/sh\necho npm >>"$LOG"; mkdir -p "$2/node_modules"\n'
LAUNCHER = '#!/usr/bin/env bash\nset -euo pipefail\n. "$(dirname "${BASH_SOURCE[0]}")/setup"\necho ready\n'


class Clone:
    """A clone and a machine around it."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "clone"
        self.log = folder / "log"
        self.tools = folder / "tools"
        (self.root / "scripts").mkdir(parents=True)
        self.tools.mkdir()
        shutil.copy(ROOT / "scripts" / "setup", self.root / "scripts" / "setup")
        for name in ("pyproject.toml", "constraints.txt", "package-lock.json"):
            (self.root / name).write_text(name)
        self.add(self.root / "scripts" / "launcher", LAUNCHER)
        self.add(self.tools / "python3", PYTHON)
        self.add(self.tools / "node", NODE)
        self.add(self.tools / "npm", NPM)

    @staticmethod
    def add(path: Path, text: str) -> None:
        path.write_text(text)
        path.chmod(0o755)

    def start(self, stderr: int = subprocess.PIPE, /, **variables: str) -> subprocess.Popen[str]:
        environment = os.environ | {"PATH": f"{self.tools}:/usr/bin:/bin", "LOG": str(self.log), **variables}
        return subprocess.Popen(
            [self.root / "scripts" / "launcher"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )

    def launch(self, **variables: str) -> tuple[int, str, str]:
        launcher = self.start(**variables)
        out, err = launcher.communicate(timeout=PATIENCE_SECONDS)
        return launcher.returncode, out, err

    def did(self) -> list[str]:
        """What was done since this was last asked."""
        done = self.log.read_text().split() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return done


EVERYTHING = ["venv", "pip", "npm"]


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


def test_sets_up_once(clone: Clone) -> None:
    code, out, _ = clone.launch()
    assert (code, out) == (0, "ready\n")
    assert clone.did() == EVERYTHING
    assert clone.launch() == (0, "ready\n", "")
    assert clone.did() == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "package-lock.json"])
def test_brings_a_good_setup_up_to_date_in_place(clone: Clone, name: str) -> None:
    clone.launch()
    clone.did()
    (clone.root / name).write_text("changed")
    clone.launch()
    assert clone.did() == ["pip", "npm"]


def test_makes_a_failed_setup_again_from_nothing(clone: Clone) -> None:
    code, out, err = clone.launch(PIP_FAILS="yes")
    assert (code, out) == (1, "")
    assert "Python packages: failed" in err
    assert "no matching distribution" in err
    clone.did()
    clone.launch()
    assert clone.did() == EVERYTHING


def test_makes_an_interrupted_setup_again_and_leaves_nothing_running(clone: Clone, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)
    launcher = clone.start(PIP_HANGS=str(hanging))
    hanging.read_text()
    launcher.send_signal(signal.SIGTERM)
    # What pip started would hold these pipes open.
    _, err = launcher.communicate(timeout=PATIENCE_SECONDS)
    assert launcher.returncode == 128 + signal.SIGTERM
    assert "the next start makes it again" in err
    clone.did()
    clone.launch()
    assert clone.did() == EVERYTHING


def test_tells_what_it_does_while_it_does_it(clone: Clone, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)
    launcher = clone.start(PIP_HANGS=str(hanging))
    hanging.read_text()
    assert launcher.stderr
    said = [launcher.stderr.readline().strip() for _ in range(4)]
    launcher.terminate()
    launcher.communicate(timeout=PATIENCE_SECONDS)
    assert said[0].startswith(f"Setting up Winnow in {clone.root}")
    assert said[1] == "1/3 virtual environment …"
    assert said[2].startswith("1/3 virtual environment: ")
    assert said[3] == "2/3 Python packages …"


def test_shows_at_a_terminal_how_far_it_is(clone: Clone, tmp_path: Path) -> None:
    hanging = tmp_path / "hanging"
    os.mkfifo(hanging)
    ours, its = pty.openpty()
    launcher = clone.start(its, PIP_HANGS=str(hanging))
    os.close(its)
    shown = b""
    while b"Collecting a-stand-in" not in shown:
        shown += os.read(ours, 1000)
    launcher.terminate()
    launcher.communicate(timeout=PATIENCE_SECONDS)
    os.close(ours)
    assert "2/3 Python packages … ".encode() in shown


def test_interrupted_before_the_command_starts_says_so_in_one_line(clone: Clone) -> None:
    clone.launch()
    clone.add(clone.tools / "cmp", "#!/bin/sh\nkill -INT $PPID\n")
    assert clone.launch() == (130, "", "winnow: interrupted\n")


def test_interrupted_while_python_starts_says_so_in_one_line(clone: Clone) -> None:
    if subprocess.run(["env", "--block-signal=INT", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine's env(1) cannot have a signal wait")
    starting = "import os; os.kill(os.getpid(), 2); from scripts.terminal.interrupts import leave_at_once; leave_at_once()"
    launcher = LAUNCHER.replace("echo ready", f"cd {ROOT}; winnow_exec {sys.executable} -c '{starting}'")
    clone.add(clone.root / "scripts" / "launcher", launcher)
    code, _, err = clone.launch()
    assert (code, err.splitlines()[-1]) == (130, "winnow: interrupted")
    assert "Traceback" not in err


def test_sets_a_clone_that_was_moved_up_again(clone: Clone, tmp_path: Path) -> None:
    clone.launch()
    clone.did()
    clone.root = clone.root.rename(tmp_path / "elsewhere")
    clone.launch()
    assert clone.did() == EVERYTHING


def test_two_at_once_set_up_once(clone: Clone) -> None:
    both = [clone.start(), clone.start()]
    assert [launcher.communicate(timeout=PATIENCE_SECONDS)[0] for launcher in both] == ["ready\n", "ready\n"]
    assert clone.did() == EVERYTHING


def test_says_in_one_line_that_python_is_too_old(clone: Clone) -> None:
    clone.add(clone.tools / "python3", '#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2"\nexit 1\n')
    for newer in ("python3.14", "python3.13", "python3.12", "python3.11", "python"):
        clone.add(clone.tools / newer, "#!/bin/sh\nexit 127\n")
    code, _, err = clone.launch()
    assert code == 1
    assert err.startswith("winnow: needs Python 3.11 or newer, found Python 3.9.2;")
    assert err.count("\n") == 1


@pytest.mark.parametrize(("version", "lines"), [("v20.20.2", 1), ("v22.0.0", 0), ("v24.1.0", 0)])
def test_says_in_one_line_that_the_support_of_node_has_ended(clone: Clone, version: str, lines: int) -> None:
    code, _, err = clone.launch(NODE_VERSION=version)

    assert code == 0
    assert err.count(f"Node.js {version} works, but its support has ended; install Node.js 22") == lines


@pytest.mark.parametrize(("version", "found"), [("v18.20.1", "v18.20.1"), ("", "none")])
def test_says_in_one_line_that_node_is_missing_or_too_old(clone: Clone, version: str, found: str) -> None:
    code, _, err = clone.launch(NODE_VERSION=version)
    assert code == 1
    assert f"needs Node.js 22 or newer for the CDK command line, found {found};" in err
    assert err.count("\n") == 1
