"""Tests of workers without AWS, and the doubles of S3, DynamoDB and Step Functions that they use.

from winnow.testing import run_worker

result = run_worker(transform, [{"id": "a", "data": {...}}, "b"])
assert result.outputs["a"] == {...}
assert result.failures["b"].error_type == "PermanentError"

Names are imported on first use, as in `winnow`: a double does not load the worker's runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.testing.fake_executions import FakeExecutions
    from winnow.testing.memory_arrivals import (
        MemoryArrivalWindows,
        MemoryUploadClaims,
        MemoryWindowQueue,
    )
    from winnow.testing.memory_register import MemoryRegister
    from winnow.testing.memory_state_table import MemoryStateTable
    from winnow.testing.memory_store import MemoryStore
    from winnow.testing.worker_run import BatchResult, Failure, FakeContext, run_worker

_HOMES = {
    "BatchResult": "winnow.testing.worker_run",
    "Failure": "winnow.testing.worker_run",
    "FakeContext": "winnow.testing.worker_run",
    "FakeExecutions": "winnow.testing.fake_executions",
    "MemoryArrivalWindows": "winnow.testing.memory_arrivals",
    "MemoryRegister": "winnow.testing.memory_register",
    "MemoryStateTable": "winnow.testing.memory_state_table",
    "MemoryStore": "winnow.testing.memory_store",
    "MemoryUploadClaims": "winnow.testing.memory_arrivals",
    "MemoryWindowQueue": "winnow.testing.memory_arrivals",
    "run_worker": "winnow.testing.worker_run",
}

__all__ = [
    "BatchResult",
    "Failure",
    "FakeContext",
    "FakeExecutions",
    "MemoryArrivalWindows",
    "MemoryRegister",
    "MemoryStateTable",
    "MemoryStore",
    "MemoryUploadClaims",
    "MemoryWindowQueue",
    "run_worker",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'winnow.testing' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
