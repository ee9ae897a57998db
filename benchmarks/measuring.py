"""How numbers are taken: in fresh processes, the sides in turn, and the middle one counts."""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from scripts import ROOT
from scripts.emulator import CREDENTIALS, REGION, environment_without_aws

Sample = dict[str, Any]


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
    since, cpu_before = time.perf_counter(), _children_cpu_seconds()
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**environment(), **(extra or {})},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ChildFailedError(f"a measured process failed: {done.stderr.strip()[-2000:]}")
    taken = {
        "process_seconds": time.perf_counter() - since,
        "process_cpu_seconds": _children_cpu_seconds() - cpu_before,
    }
    sample: Sample = json.loads(done.stdout.strip().splitlines()[-1])
    return {**taken, **sample}


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
