"""Winnow: batch pipelines in which one bad record never sinks a batch, and nothing is lost in silence.

What a worker needs is here; everything else is in the modules. Names are imported on first use, so that Winnow's own small
Lambdas do not load the worker's runtime.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.core.errors import PermanentError, TransientError
    from winnow.core.record import Delete, Output, Record, Retry, Skip
    from winnow.runtime.decorator import worker

_HOMES = {
    "Delete": "winnow.core.record",
    "Output": "winnow.core.record",
    "PermanentError": "winnow.core.errors",
    "Record": "winnow.core.record",
    "Retry": "winnow.core.record",
    "Skip": "winnow.core.record",
    "TransientError": "winnow.core.errors",
    "worker": "winnow.runtime.decorator",
}

__all__ = ["Delete", "Output", "PermanentError", "Record", "Retry", "Skip", "TransientError", "worker"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'winnow' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
