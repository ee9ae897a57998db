"""Behind ./scripts/test: runs pytest, keeps its whole output in a file, and makes the machine slow where asked."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext

from scripts import ROOT
from scripts.checks.plugin import BESIDE
from scripts.checks.stress import Stress
from scripts.local.cdk import SILENCE

LOG = ROOT / ".local" / "test.log"
MAX_WORKERS = 4
"""Test processes at once; each that reaches the emulator tests starts one of its own."""
PLUGIN = "scripts.checks.plugin"
STRESS = re.compile(r"--stress(?:=(?P<seed>.*))?")
COLORS = re.compile(rb"\x1b\[[0-9;]*m")
INTERACTIVE = {"--pdb", "--trace", "--help", "-h"}
"""Options with which pytest needs the terminal for itself."""


def main() -> int:
    """Run all checks, or only what the arguments ask pytest for.

    Returns:
        Exit code: pytest's; 1 also where only lint or types failed.
    """
    try:
        stress, arguments = _take_stress(sys.argv[1:])
    except ValueError as error:
        print(f"scripts/test: {error}", file=sys.stderr)
        return 2
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN]
    environment = {**os.environ, **SILENCE}
    if not _names_files_only(arguments):
        # By group: what shares an emulator runs in one process, one after the other.
        command += [f"--numprocesses={min(MAX_WORKERS, os.cpu_count() or 1)}", "--dist=loadgroup"]
    if not arguments:
        command.append(BESIDE)
    if INTERACTIVE & set(arguments):
        tests = subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment)
        with _ending(tests):
            return tests.wait()
    if stress:
        print(stress.description, flush=True)
        environment |= stress.environment
    return _run([*command, *arguments], environment, stress)


def _take_stress(arguments: Sequence[str]) -> tuple[Stress | None, list[str]]:
    """Take `--stress` or `--stress=SEED` out of the arguments; all others are pytest's."""
    rest = [each for each in arguments if not STRESS.fullmatch(each)]
    found = [match for each in arguments if (match := STRESS.fullmatch(each))]
    return (Stress.of_seed(found[-1]["seed"]) if found else None), rest


def _names_files_only(arguments: Sequence[str]) -> bool:
    """Whether these ask for tests of some files: starting more processes would take longer than those.

    So do paths that do not exist: only in one process pytest says so.
    """
    named = [each.split("::", 1)[0] for each in arguments if not each.startswith("-")]
    paths = [path for each in named if (path := ROOT / each).exists() or "/" in each or each.endswith(".py")]
    return bool(paths) and not any(path.is_dir() for path in paths)


def _run(command: Sequence[str], environment: Mapping[str, str], stress: Stress | None = None) -> int:
    """Run a command; what it prints goes to the terminal and, without colors, into the log."""
    if sys.stdout.isatty():
        environment = {**environment, "COLUMNS": str(os.get_terminal_size().columns)}
        command = [*command, "--color=yes"]
    LOG.parent.mkdir(exist_ok=True)
    tests = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert tests.stdout
    with (
        tests.stdout as said,
        LOG.open("wb") as log,
        _ending(tests),
        stress.on(tests.pid) if stress else nullcontext(),
    ):
        while piece := os.read(said.fileno(), 65536):
            sys.stdout.buffer.write(piece)
            sys.stdout.buffer.flush()
            log.write(COLORS.sub(b"", piece))
            log.flush()
        code = tests.wait()
        return code if code >= 0 else 128 - code


@contextmanager
def _ending(tests: subprocess.Popen[bytes]) -> Iterator[None]:
    """Within it, what ends this process ends pytest, too; interrupted, pytest still says what there was so far."""

    def terminate(*_: object) -> None:
        tests.terminate()

    # Ctrl-C reaches pytest by itself: both belong to the terminal.
    before = {signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None)}
    before[signal.SIGTERM] = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
