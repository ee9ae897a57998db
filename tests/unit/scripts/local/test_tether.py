from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.local import tether
from tests.patience import PATIENCE_SECONDS, wait_for_end_of

SPEAKS_AND_STAYS = 'exec 3>"$0"; echo up >&3; sleep 300 & sleep 300'
"""Opens the pipe for itself and for a child, so that the pipe ends when both have ended."""


class Pipe:
    """Tells when everybody who had it open has ended, without polling."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self.path = path
        self._end = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        """What comes next; empty at the end."""
        ready, _, _ = select.select([self._end], [], [], PATIENCE_SECONDS)
        assert ready, "nothing was written, and no process ended"
        return os.read(self._end, 100)


@pytest.fixture
def pipe(tmp_path: Path) -> Pipe:
    return Pipe(tmp_path / "pipe")


def start(pipe: Pipe, **options: Path) -> tether.Tethered:
    command = ["bash", "-c", SPEAKS_AND_STAYS, str(pipe.path)]
    started = tether.Tethered(command, environment=os.environ, log=pipe.path.with_name("log"), **options)
    assert pipe.read() == b"up\n"
    return started


def test_stop_ends_the_command_and_its_children(pipe: Pipe) -> None:
    start(pipe).stop()
    assert pipe.read() == b""


def test_a_killed_owner_takes_the_command_and_its_folder_along(pipe: Pipe, tmp_path: Path) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "file").touch()
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(pipe.path), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert pipe.read() == b"up\n"
    assert owner.stdout
    log_of_tether = int(owner.stdout.readline())
    owner.kill()
    owner.wait()
    owner.stdout.close()
    assert pipe.read() == b""
    wait_for_end_of(log_of_tether)
    assert not folder.exists()


OWNER = f"""
import os, sys
from pathlib import Path
from scripts.local.tether import Tethered
pipe, folder = map(Path, sys.argv[1:])
command = ["bash", "-c", {SPEAKS_AND_STAYS!r}, str(pipe)]
started = Tethered(command, environment=os.environ, log=pipe.with_name("log"), remove=folder)
print(started._process.pid, flush=True)
started.wait()
"""


def test_a_released_command_outlives_its_owner_until_the_lock_holder_is_stopped(
    pipe: Pipe, tmp_path: Path
) -> None:
    lock = tmp_path / "lock"
    started = start(pipe, lock=lock)
    started.release()
    assert tether.is_held(lock)
    assert tether.stop_holder(lock)
    assert pipe.read() == b""
    assert not tether.is_held(lock)
    assert not tether.stop_holder(lock)
    assert os.waitpid(started._process.pid, 0)


def test_a_lock_is_held_once(pipe: Pipe, tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    first = start(pipe, lock=lock)
    second = tether.Tethered(["true"], environment=os.environ, log=tmp_path / "log", lock=lock)
    assert second.wait() == tether.LOCK_IS_TAKEN
    second.stop()
    first.stop()


@pytest.mark.parametrize(("command", "code"), [("exit 7", 7), (f"kill -{signal.SIGKILL.value} $$", 128 + 9)])
def test_hands_on_the_exit_code_and_keeps_the_folder_to_look_into(
    command: str, code: int, tmp_path: Path
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    ended = tether.Tethered(
        ["bash", "-c", command], environment=os.environ, log=tmp_path / "log", remove=folder
    )
    assert ended.wait() == code
    ended.stop()
    assert folder.exists()
