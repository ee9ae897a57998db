"""Runs a command that does not outlive the process that started it, however that process ends.

    python -I tether.py [--lock FILE] [--remove FOLDER] -- COMMAND...

Standard input is the tether. When it closes, because the owner returned, raised, was interrupted or was killed
outright, the command's whole process group is killed and FOLDER removed. A line that says "release" cuts the
tether: the command then runs on by itself until the tether is stopped with SIGTERM. When the command ends by
itself, FOLDER stays, to find out why.

FILE is locked as long as the command runs, and holds the tether's process id: a process that can take the lock knows
that nothing is running, and a process id that was given to another process meanwhile is never signalled.

Only the standard library, nothing of Winnow: it starts in a tenth of a second.
"""

import argparse
import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

LOCK_IS_TAKEN = 75
"""Exit code when another process holds the lock (EX_TEMPFAIL)."""
LOCK_WITHIN_SECONDS = 1.0
"""Longer than a process holds the lock that only checks whether it is held."""
STOPPED_WITHIN_SECONDS = 60
"""The kill takes no time; removing a folder of ten thousand files on a busy machine does."""

_AWAITED = {signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


class Tethered:
    """The owner's end: a command that runs at most as long as this process."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log: Path,
        folder: Path | None = None,
        lock: Path | None = None,
        remove: Path | None = None,
    ) -> None:
        options = [f"--lock={lock}"] if lock else []
        options += [f"--remove={remove}"] if remove else []
        with log.open("ab") as output:
            # In a session of its own: Ctrl-C is for the owner to handle, and closing the terminal reaches it anyway.
            self._process = subprocess.Popen(
                [sys.executable, "-I", __file__, *options, "--", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                env=dict(environment),
                cwd=folder,
                start_new_session=True,
            )

    def poll(self) -> int | None:
        """The command's exit code, None while it runs."""
        return self._process.poll()

    def wait(self) -> int:
        """Wait for the command's exit code."""
        return self._process.wait()

    def release(self) -> None:
        """Let the command run on after this process."""
        assert self._process.stdin
        self._process.stdin.write(b"release\n")
        self._process.stdin.close()
        # Not ours to wait for any more; Python warns of children that outlive it.
        self._process.returncode = 0

    def stop(self) -> None:
        """Kill the command and all that it started. Harmless when it has ended."""
        assert self._process.stdin
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait(timeout=STOPPED_WITHIN_SECONDS)


def is_held(lock: Path) -> bool:
    """Whether a command runs under this lock."""
    try:
        handle = lock.open("r")
    except FileNotFoundError:
        return False
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def stop_holder(lock: Path) -> bool:
    """End the released command that runs under this lock; False when there is none.

    Raises:
        TimeoutError: it did not end.
    """
    deadline = time.monotonic() + STOPPED_WITHIN_SECONDS
    told = False
    while is_held(lock):
        if time.monotonic() > deadline:
            raise TimeoutError(f"the process that holds {lock} did not end within {STOPPED_WITHIN_SECONDS} s")
        # Empty for the moment between taking the lock and writing into it.
        holder = lock.read_text()
        if holder and not told:
            os.kill(int(holder), signal.SIGTERM)
            told = True
        time.sleep(0.02)
    return told


def main() -> int:
    """The command's end: start it, wait until it, its owner or this process is to end, and clear up."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--lock", type=Path)
    parser.add_argument("--remove", type=Path)
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    lock = _take(arguments.lock) if arguments.lock else None

    # Blocked from before there is anything to clear up, so that no signal can come in between.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    command = subprocess.Popen(
        arguments.command,
        stdin=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED),  # noqa: PLW1509 one thread yet
    )
    threading.Thread(target=_watch_owner, daemon=True).start()
    received = signal.sigwait(_AWAITED)
    while received == signal.SIGCHLD and command.poll() is None:
        received = signal.sigwait(_AWAITED)

    with contextlib.suppress(ProcessLookupError):
        os.killpg(command.pid, signal.SIGKILL)
    code = command.wait()
    if arguments.remove and received != signal.SIGCHLD:
        # Gone at once, so that a process that waits for it can use the place again.
        removed = arguments.remove.with_name(f".{arguments.remove.name}-{os.getpid()}")
        with contextlib.suppress(OSError):
            arguments.remove.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)
    if lock:
        lock.close()
    return code if code >= 0 else 128 - code


def _watch_owner() -> None:
    # Not sys.stdin: a thread that waits in a buffered reader aborts the interpreter's exit.
    if os.read(sys.stdin.fileno(), 64).strip() != b"release":
        os.kill(os.getpid(), signal.SIGTERM)


def _take(path: Path) -> IO[str]:
    lock = path.open("a+")
    deadline = time.monotonic() + LOCK_WITHIN_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                sys.exit(LOCK_IS_TAKEN)
            time.sleep(0.05)
        else:
            break
    lock.truncate(0)
    lock.write(str(os.getpid()))
    lock.flush()
    return lock


if __name__ == "__main__":
    sys.exit(main())
