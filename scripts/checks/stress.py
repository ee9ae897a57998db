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
    """What a seed makes of the machine."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._chosen = random.Random(seed)  # noqa: S311  no secret
        self._waits = self._chosen.choice(WAITS)
        self._is_worker: dict[psutil.Process, bool] = {}

    @classmethod
    def of_seed(cls, text: str | None) -> Self:
        """Of a seed that was given, or of a random one.

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

    @contextlib.contextmanager
    def on(self, tests: int) -> Iterator[None]:
        """Within it, a process, which has just been started, and all that it starts are slow."""
        psutil.Process(tests).nice(psutil.Process().nice() + PRIORITY)
        over = threading.Event()
        stopper = threading.Thread(target=self._stop_workers, args=(psutil.Process(tests), over))
        command = [sys.executable, "-m", __spec__.name]
        loads = [
            subprocess.Popen([*command, str(self._seed + number)], stdin=subprocess.PIPE)
            for number in range(os.cpu_count() or 1)
        ]
        stopper.start()
        try:
            yield
        finally:
            over.set()
            stopper.join()
            for load in loads:
                load.communicate()

    def _stop_workers(self, tests: psutil.Process, over: threading.Event) -> None:
        chosen = self._chosen
        while not over.wait(chosen.uniform(0, 2 * STOP_EVERY_SECONDS)):
            # Each may end at any moment, by itself or by a test.
            with contextlib.suppress(psutil.Error, IndexError):
                worker = chosen.choice(list(self._workers(tests)))
                worker.suspend()
                over.wait(chosen.uniform(0, LONGEST_STOP_SECONDS))
                worker.resume()

    def _workers(self, tests: psutil.Process) -> Iterator[psutil.Process]:
        seen, self._is_worker = self._is_worker, {}
        for process in tests.children(recursive=True):
            try:
                found = seen.get(process) or WORKER_VARIABLE in process.environ()
            except psutil.Error:
                continue
            self._is_worker[process] = found
            if found:
                yield process


def _burden(seed: int) -> None:
    """Compute and rest by turns, until standard input ends with the process that started this."""
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
