"""Makes a machine slow and uneven, for those who write tests: a test that depends on luck or speed fails here first.

    ./scripts/test --stress           with a seed of its own, which it prints
    ./scripts/test --stress=SEED PATH the same loads and waits again

While it lasts,

- a process for each core computes and rests by turns, for up to two seconds each;
- the tests, and all that they start, have a lower priority than those;
- Lambda workers in the emulator are stopped at any moment, for up to a second, and continued;
- the emulator's waits are longer or shorter than usual.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Self

import psutil

PRIORITY = 3
"""How much nicer the tests are than the loads: of a core that both want, they get about a third."""
WAITS = (0.3, 1.0, 3.0)
"""Factors on the emulator's waits, one for a session."""
WAITS_VARIABLE = "WINNOW_TEST_WAITS"
"""Tells the tests that factor."""
LONGEST_LOAD_SECONDS = 2.0
LONGEST_STOP_SECONDS = 1.0
STOP_EVERY_SECONDS = 0.5
WORKER_VARIABLE = "AWS_LAMBDA_FUNCTION_NAME"
"""Only processes of Lambda functions have it in their environment."""


class Stress:
    """The loads, as a context: within it, this process and its children are slow."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chosen = random.Random(seed)  # noqa: S311  no secret
        self._waits = self._chosen.choice(WAITS)
        self._over = threading.Event()
        self._loads: list[subprocess.Popen[bytes]] = []
        self._stopper = threading.Thread(target=self._stop_workers, name="stopper")
        self._is_worker: dict[psutil.Process, bool] = {}

    @classmethod
    def of_seed(cls, text: str | None) -> Self:
        """Of a seed as somebody typed it, or of any.

        Raises:
            ValueError: it is no whole number.
        """
        if text is None:
            return cls(random.SystemRandom().randrange(10_000))
        if not text.isdecimal():
            raise ValueError(f"--stress={text}: the seed is a whole number, as an earlier run printed it")
        return cls(int(text))

    @property
    def description(self) -> str:
        return f"stress: seed {self._seed}, the emulator's waits × {self._waits:g}; again: ./scripts/test --stress={self._seed}"

    @property
    def environment(self) -> dict[str, str]:
        """What the tests have to know."""
        return {WAITS_VARIABLE: str(self._waits)}

    def __enter__(self) -> Self:
        for number in range(os.cpu_count() or 1):
            command = [sys.executable, "-m", __spec__.name, str(self._seed + number)]
            self._loads.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        os.nice(PRIORITY)
        self._stopper.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._stopper.join()
        for load in self._loads:
            load.communicate()

    def _stop_workers(self) -> None:
        chosen = self._chosen
        while not self._over.wait(chosen.uniform(0, 2 * STOP_EVERY_SECONDS)):
            workers = list(self._workers())
            if not workers:
                continue
            worker = chosen.choice(workers)
            # It may end at any moment, by itself or by a test.
            with contextlib.suppress(psutil.Error):
                worker.suspend()
                self._over.wait(chosen.uniform(0, LONGEST_STOP_SECONDS))
                worker.resume()

    def _workers(self) -> Iterator[psutil.Process]:
        seen, self._is_worker = self._is_worker, {}
        for process in psutil.Process().children(recursive=True):
            try:
                found = seen.get(process) or WORKER_VARIABLE in process.environ()
            except psutil.Error:
                continue
            self._is_worker[process] = found
            if found:
                yield process


def _burden(seed: int) -> None:
    """Compute and rest by turns, until standard input ends with whoever started this."""
    turns = random.Random(seed)  # noqa: S311  no secret
    while True:
        until = time.monotonic() + turns.uniform(0, LONGEST_LOAD_SECONDS)
        while time.monotonic() < until:
            sum(range(50_000))
            if select.select([sys.stdin], [], [], 0)[0]:
                return
        if select.select([sys.stdin], [], [], turns.uniform(0, LONGEST_LOAD_SECONDS))[0]:
            return


if __name__ == "__main__":
    _burden(int(sys.argv[1]))
