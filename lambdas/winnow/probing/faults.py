"""Faults on purpose, each as a worker may have it."""

from __future__ import annotations

import os
import sys
import time
from typing import Any

from winnow.core.errors import WinnowError
from winnow.core.probe import Ask

MB = 1024 * 1024
PIECE_MB = 16
LONGER_THAN_ANY_FUNCTION_SECONDS = 1_000.0
BIG_STATE_BYTES = 300 * 1024
BIG_ANSWER_BYTES = 7 * MB


class ProbeError(WinnowError):
    """An error class of our own: Step Functions must see its bare name."""


def fail(ask: Ask, *, memory_mb: int) -> Any:
    """Fail in the way that is asked for, or return an answer that is refused.

    Args:
        ask: which fault.
        memory_mb: of this function.

    Raises:
        ProbeError: that was asked for.
    """
    match ask:
        case Ask.RAISE:
            raise ProbeError("raised on purpose by winnow doctor --probe")
        case Ask.EXIT:
            leave()
        case Ask.MEMORY:
            allocate(2 * memory_mb)
        case Ask.TIMEOUT:
            time.sleep(LONGER_THAN_ANY_FUNCTION_SECONDS)
        case Ask.BIG_STATE:
            return "x" * BIG_STATE_BYTES
        case Ask.BIG_ANSWER:
            return "x" * BIG_ANSWER_BYTES
    raise ValueError(f"probe must be a fault, got: {ask.value!r}")


def leave() -> None:
    """End this process without a word, as a crash in a library does."""
    sys.stdout.flush()
    os._exit(1)


def allocate(mb: int) -> None:
    """Use memory, and not only reserve it: pages that nobody has written to cost nothing.

    Raises:
        MemoryError: this process may not have so much.
    """
    held = [b"\1" * (PIECE_MB * MB) for _ in range(0, mb, PIECE_MB)]
    del held
