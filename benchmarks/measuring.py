"""How numbers are taken: in fresh processes, the sides in turn, and the middle one counts.

The speed of a shared machine changes within seconds, by a third and more. Ratios near one are therefore taken `by_turns`.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from scripts import ROOT
from scripts.local.emulator import CREDENTIALS, REGION, environment_without_aws

Sample = dict[str, Any]


TURN_SECONDS = 0.1
BEGUN_CHARS = 24
"""Of the line in which a side says when it began."""


class ChildFailedError(RuntimeError):
    """A measured process did not do what it should."""


def environment() -> dict[str, str]:
    """Of measured processes: no account, no proxy, and bytecode is written and used as it is on Lambda."""
    return {
        **environment_without_aws(os.environ),
        **CREDENTIALS,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "POWERTOOLS_LOG_LEVEL": "CRITICAL",
        "PYTHONHASHSEED": "0",
    }


def fresh(module: str, *arguments: object, extra: Mapping[str, str] | None = None) -> Sample:
    """Run `module.main(arguments)` in a process of its own, and give the JSON object that it prints last."""
    code = f"import sys; from {module} import main; main(sys.argv[1:])"
    return run_code(code, *arguments, extra=extra)


def run_code(code: str, *arguments: object, extra: Mapping[str, str] | None = None) -> Sample:
    """Run a piece of Python in a process of its own, and give the JSON object that it prints last."""
    return _measured([sys.executable, "-c", code, *map(str, arguments)], extra)


def run_file(python: Path, program: Path, *arguments: object) -> Sample:
    """Run a program by another Python, with packages of its own, and give the JSON object that it prints last."""
    return _measured([str(python), str(program), *map(str, arguments)], {"GX_ANALYTICS_ENABLED": "false"})


def _measured(command: list[str], extra: Mapping[str, str] | None) -> Sample:
    since, cpu_before = time.perf_counter(), _children_cpu_seconds()
    with _start(command, extra) as process:
        sample = _sample(process)
    taken = {
        "process_seconds": time.perf_counter() - since,
        "process_cpu_seconds": _children_cpu_seconds() - cpu_before,
    }
    return {**taken, **sample}


def _start(command: list[str], extra: Mapping[str, str] | None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        env={**environment(), **(extra or {})},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _sample(process: subprocess.Popen[str]) -> Sample:
    """What a process prints last, once it has ended."""
    out, err = process.communicate()
    if process.returncode:
        raise ChildFailedError(f"a measured process failed: {err.strip()[-2000:]}")
    sample: Sample = json.loads(out.strip().splitlines()[-1])
    return sample


def by_turns(*sides: tuple[object, ...], module: str, extra: Mapping[str, str] | None = None) -> list[Sample]:
    """Measure `module.main` with several lots of arguments in one stretch of time.

    Each runs for a tenth of a second while the others are stopped, so that a machine that is slower for a moment is so for all.
    What is to be measured begins where a side calls `begin`, and ends where it prints its sample.
    Clocks go on for who is stopped: what it does every few seconds it does more often, and an answer that it waits for may
    come meanwhile, a wait that is then not counted.

    Returns:
        The sides' samples; `seconds` is for how long each ran.
    """
    code = f"import sys; from {module} import main; main(sys.argv[1:])"
    ran = [0.0] * len(sides)
    samples: list[Sample] = [{} for _ in sides]
    with ExitStack() as stack:
        running: dict[int, subprocess.Popen[str]] = {}
        for number, arguments in enumerate(sides):
            command = [sys.executable, "-c", code, *map(str, arguments)]
            process = running[number] = stack.enter_context(_start(command, extra))
            stack.callback(process.kill)
            assert process.stdout
            begun = os.read(process.stdout.fileno(), BEGUN_CHARS)  # and not a byte of its sample
            if not begun:
                raise ChildFailedError(f"a measured process ended before it began: {_sample(process)}")
            _stop(process)
            ran[number] = time.monotonic() - float(begun)
        while running:
            for number, process in list(running.items()):
                assert process.stdout
                since = time.monotonic()
                process.send_signal(signal.SIGCONT)
                ended, _, _ = select.select([process.stdout], [], [], TURN_SECONDS)
                if not ended:
                    _stop(process)
                ran[number] += time.monotonic() - since
                if ended:
                    samples[number] = {**_sample(process), "seconds": ran[number]}
                    del running[number]
    return samples


def begin() -> None:
    """Said by a side of `by_turns`."""
    line = f"{time.monotonic():0{BEGUN_CHARS - 1}.6f}\n"
    os.write(sys.stdout.fileno(), line.encode())  # print may write in pieces


def _stop(process: subprocess.Popen[str]) -> None:
    """Stop a process, and wait until it has stopped."""
    process.send_signal(signal.SIGSTOP)
    _, status = os.waitpid(process.pid, os.WUNTRACED)
    if not os.WIFSTOPPED(status):
        process.returncode = os.waitstatus_to_exitcode(status)


def _children_cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def in_turn(times: int, *sides: Callable[[], Sample]) -> list[list[Sample]]:
    """Measure each side once, then each again, and so on, so that what slows the machine down slows all of them."""
    samples: list[list[Sample]] = [[] for _ in sides]
    for _ in range(times):
        for side, taken in zip(sides, samples, strict=True):
            taken.append(side())
    return samples


def middle(samples: list[Sample], name: str) -> float:
    """The median of a number."""
    return float(statistics.median(sample[name] for sample in samples))


def by_cpu(ours: list[Sample], theirs: list[Sample], name: str) -> str:
    """The same ratio of processor time, which a busy machine disturbs less, in words."""
    return f"{paired(ours, theirs, name):.3g} by processor time"


def paired(ours: list[Sample], theirs: list[Sample], name: str) -> float:
    """The median of the ratios of neighbours in time: a slow minute then weighs on both sides of a ratio."""
    return float(statistics.median(a[name] / b[name] for a, b in zip(ours, theirs, strict=True)))
