"""The demonstration, as a user starts it; and that it leaves nothing running, however it ends."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import ROOT
from scripts.local.emulator import environment_without_aws
from scripts.local.state import FOLDER
from tests.patience import PATIENCE_SECONDS, await_

pytestmark = [pytest.mark.emulator, pytest.mark.xdist_group("demo")]

MARK = "WINNOW_TEST_MARK"


class Demo:
    """A demonstration under way; everything that it starts inherits a mark."""

    def __init__(self, *arguments: str) -> None:
        self.mark = f"{MARK}={uuid.uuid4()}"
        name, _, value = self.mark.partition("=")
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-P", "-m", "scripts.demonstration", *arguments],
            env=environment_without_aws(os.environ) | {name: value},
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def read_until(self, text: str) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            if text in line:
                return
        raise AssertionError(f"the demonstration ended without saying {text!r}")

    def end(self) -> str:
        out, _ = self.process.communicate(timeout=PATIENCE_SECONDS)
        return out

    def survivors(self) -> Iterator[str]:
        """Command lines of what it started and is still there."""
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark.encode() in (process / "environ").read_bytes():
                    yield (process / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue  # ended meanwhile

    def assert_nothing_is_left(self) -> None:
        # The tether ends after what it holds: its standard input, the last thing shared, is closed by then.
        await_("the end of all that it started", lambda: not list(self.survivors()))
        assert list(FOLDER.glob(f"demo-{self.process.pid}*")) == []


def test_shows_runs_alerts_a_recovery_and_a_replay() -> None:
    demo = Demo()
    out = demo.end()
    assert demo.process.returncode == 0, out
    row = r"^(\w[\w ]+?) +(\d+)  = +(\d+)  \+ +(\d+)  \+ +(\d+) *$"
    assert re.findall(row, out, re.MULTILINE)[-4:] == [
        ("as they were", "60", "50", "2", "8"),
        ("corrected", "60", "58", "2", "0"),
        ("mistaken", "20", "0", "0", "20"),
        ("replayed", "20", "20", "0", "0"),
    ]
    assert "catalogue/adapt: 7 of 60 records lost" in out
    assert "catalogue/mint: 1 of 51 records lost" in out
    assert re.findall(r"^published works version (\d+) \((.+)\)$", out, re.MULTILINE)[:2] == [
        ("1", "+50 ~0 -0"),
        ("2", "+8 ~0 -0"),
    ]
    assert "not published: the run failed; works stays version 2" in out
    assert out.count("adds up:") == 2
    assert "adapt: 7\n" in out, "on record, by cause"
    assert "8 failures on record have resolved themselves" in out
    assert "CRITICAL catalogue/mint: not one of 20 records succeeded" in out
    assert "20 records that failed in mint" in out
    assert "Nothing was started: this was a dry run" in out
    assert out.count("no failures that match") == 2, "after the correction, and after the replay"
    demo.assert_nothing_is_left()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["1. The system", "starting the embedded AWS", "it started run"])
def test_leaves_nothing_running_whenever_it_is_interrupted(moment: str, number: signal.Signals) -> None:
    demo = Demo()
    demo.read_until(moment)
    demo.process.send_signal(number)
    out = demo.end()
    if number is signal.SIGKILL:
        assert demo.process.returncode == -signal.SIGKILL
    else:
        assert demo.process.returncode == 128 + number
        assert out.endswith("Stopped; nothing is left running.\n")
    demo.assert_nothing_is_left()
