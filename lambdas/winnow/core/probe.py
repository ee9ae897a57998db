"""Names that `winnow doctor --probe` and what it runs in AWS have in common."""

from __future__ import annotations

import re
from enum import StrEnum

from winnow.core.contract import ULID, new_run_id

STAGE = "probe"
"""Name of the probe's stage; no pipeline may have a stage of that name."""

FUNCTION_SECONDS = 60
"""Of the probe's function: more than one pause that S3 does not forgive, little for a probe that waits until Lambda ends it."""
FUNCTION_MEMORY_MB = 256
"""What a careful child may have is what the parent leaves, so little memory makes the harder test."""
RECURSION_SECONDS = 45
"""That an attempt of the stage waits for the next: less than the function may run, so that an attempt can outlive its
parent's patience; enough for a careful attempt."""

PREFIX = "probe-"
_RUN_ID = re.compile(f"{PREFIX}{ULID.pattern}(-[a-z]+)?")

SOURCE_FOLDER = ".winnow-probe/"
"""Below the source's prefix: objects that are put there to see that arrivals start runs. They are no records, and expire."""


class Ask(StrEnum):
    """What the probe's function can be asked to do, as `{"probe": …}`."""

    RAISE = "raise"
    """Raise `ProbeError`."""
    EXIT = "exit"
    """End its process."""
    MEMORY = "memory"
    """Use more memory than it has."""
    TIMEOUT = "timeout"
    """Run longer than it may."""
    BIG_STATE = "big-state"
    """Answer with more than Step Functions takes: 256 KiB."""
    BIG_ANSWER = "big-answer"
    """Answer with more than Lambda takes: 6 MB."""
    WAIT = "wait"
    """Wait for `seconds`."""
    FACTS = "facts"
    """Tell what its surroundings are like; writes one object under `run_id`."""
    LIST = "list"
    """Write a list of records under `run_id`: `rows` of them, `row_bytes` each, of which those in `waits` wait `seconds`."""


def new_probe_id(purpose: str = "") -> str:
    """A run id that says that the run is a probe's, and for which purpose: lower-case letters."""
    return PREFIX + new_run_id() + (f"-{purpose}" if purpose else "")


def is_probe(run_id: str) -> bool:
    """Whether a run is a probe's. It is not counted in metrics, so that nobody takes it for the pipeline's work."""
    return run_id.startswith(PREFIX) and _RUN_ID.fullmatch(run_id) is not None


def is_probe_object(key: str) -> bool:
    """Whether an object of the source is a probe's, and no record, whatever the source's prefix is."""
    return SOURCE_FOLDER in key
