"""What probes do, take and cost; said before they begin."""

from math import ceil

from scripts.deployed import prices
from scripts.doctor.probe_errors import FAULTS
from scripts.doctor.probe_stage import NAP_SECONDS, OUTLIVING_SECONDS, PAUSE_SECONDS
from winnow.core.probe import FUNCTION_MEMORY_MB, FUNCTION_SECONDS

MINUTES = 3
"""Most of it is waiting: for a function that uses up its time, and for a stage that stops waiting for its attempt."""

FUNCTION_TOTAL_SECONDS = FUNCTION_SECONDS + PAUSE_SECONDS + NAP_SECONDS + OUTLIVING_SECONDS + 60
"""Of the probe's function, over all probes; the last part is starts and whatever is quick."""
OTHER_GB_SECONDS = 60.0
"""Of Plan, Settle and the functions of an empty run, workers included, generously."""
CALLS = 60
TRANSITIONS_OF_ERRORS = 4
TRANSITIONS_OF_STAGE_RUNS = 3 * 16
"""Three stage runs of two attempts at most."""
TRANSITIONS_OF_EMPTY_RUN = 4
TRANSITIONS_OF_EMPTY_STAGE = 8
OBJECTS = 200


def dollars(stages: int) -> float:
    """What all probes of a pipeline with so many stages cost, in US dollars by list prices; an upper limit."""
    transitions = (
        (len(FAULTS) + 6) * TRANSITIONS_OF_ERRORS
        + TRANSITIONS_OF_STAGE_RUNS
        + TRANSITIONS_OF_EMPTY_RUN
        + stages * TRANSITIONS_OF_EMPTY_STAGE
    )
    gb_seconds = FUNCTION_TOTAL_SECONDS * FUNCTION_MEMORY_MB / 1024 + OTHER_GB_SECONDS
    return (
        transitions * prices.STATE_TRANSITION
        + gb_seconds * prices.LAMBDA_GB_SECOND
        + CALLS * prices.LAMBDA_REQUEST
        + OBJECTS * (prices.S3_WRITE + prices.S3_READ)
    )


def minutes(window_seconds: float | None) -> int:
    """How long all probes take, where nothing is throttled.

    Args:
        window_seconds: for which objects that arrive are gathered; None where they start nothing.
    """
    return max(MINUTES, ceil((window_seconds or 0) / 60) + 1)


def words(stages: int, window_seconds: float | None) -> str:
    """What to know before one says yes. `window_seconds` as `minutes` has it."""
    cents = max(1, round(100 * dollars(stages)))
    put = (
        "" if window_seconds is None else "put one object twice into the source bucket, which is no record, "
    )
    return (
        "Probes start a stage of their own that fails on purpose, and one run of the pipeline over an empty list; they "
        f"{put}set one alarm to ALARM for a moment and send a test alert. They deploy nothing and touch no record. "
        f"They take about {minutes(window_seconds)} minutes and cost about {cents} cent{'s' if cents > 1 else ''}."
    )
