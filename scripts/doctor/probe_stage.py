"""Probes of a stage: the probe's own, of the same template and with the same Plan and Settle as every stage."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from scripts.doctor.finding import Finding
from scripts.doctor.probe import ProbeSite, describe_command, execution_of, probe
from winnow.core.contract import SUCCEEDED, attempt_execution_name
from winnow.core.keys import StageKeys
from winnow.core.probe import STAGE, Ask, new_probe_id
from winnow.core.sfn_errors import SfnError
from winnow.settlement.failure_records import FailureRecord, read_failures
from winnow.settlement.result import StageResult, find_result
from winnow.storage.executions import RUNNING

STAGE_SECONDS = 300.0
"""The slowest of these stage runs takes little more than a minute."""
ANSWER_SECONDS = 240.0
"""The function may be throttled for a while: probes run at the same time."""

ROWS = 200
ROW_BYTES = 100_000
"""With `ROWS` 20 MB: several ranges of the list."""
PAUSES_AT = (60,)
"""In the middle of a range, with far more unread than a connection buffers."""
PAUSE_SECONDS = 25.0
"""S3 ends a connection that is not read for about 20 s."""
LOCAL_PAUSE_SECONDS = 0.5
"""The emulator ends none."""

OVER_ALLOCATED_MB = 512
"""Twice the function's memory."""
KILLER = "killer"
NEIGHBOURS = 10

OUTLIVING_SECONDS = 55.0
"""Longer than the stage waits for its retries, 45 s, and within the function's 60 s."""
NAP_SECONDS = 20.0
"""Longer than the machine waits for an execution of its own, 5 s."""


def look_at_reading(site: ProbeSite) -> Finding:
    """A worker that pauses for longer than S3 is patient reads its list to the end."""
    run_id = new_probe_id("reading")
    pause = LOCAL_PAUSE_SECONDS if site.is_local else PAUSE_SECONDS
    order: dict[str, Any] = {"rows": ROWS, "row_bytes": ROW_BYTES, "waits": PAUSES_AT, "seconds": pause}
    run = _StageRun(site, run_id, site.answer(Ask.LIST, run_id, within=ANSWER_SECONDS, **order))
    if run.counts("succeeded") != ROWS:
        return run.failed(f"{ROWS} records of a list of 20 MB should have succeeded")
    said = f"{ROWS} records of a list of 20 MB succeeded, with a pause of {pause:g} s half way"
    return Finding.ok(f"{said} (the emulator has all the patience there is)" if site.is_local else said)


def look_at_memory(site: ProbeSite) -> Finding:
    """A record that takes more memory than there is costs itself only, once it is in a careful child."""
    killer = {"first": {"do": "exit"}, "later": {"do": "allocate", "mb": OVER_ALLOCATED_MB}}
    records: list[dict[str, Any]] = [
        {"id": f"neighbour-{number}", "data": {}} for number in range(NEIGHBOURS)
    ]
    records.insert(NEIGHBOURS // 2, {"id": KILLER, "data": killer})
    run = _StageRun(site, new_probe_id("memory"), records)
    lost = [failure.record_id for failure in run.failures()]
    if run.counts("succeeded") != NEIGHBOURS or lost != [KILLER]:
        return run.failed(
            f"{NEIGHBOURS} neighbours of a record that takes {OVER_ALLOCATED_MB} MB in a careful child should have succeeded"
        )
    (failure,) = run.failures()
    return Finding.ok(
        f"a record that took {OVER_ALLOCATED_MB} MB in a careful child cost itself only ({failure.kind}, {failure.error_type})"
    )


def look_at_child(site: ProbeSite) -> Finding:
    """What becomes of a nested execution that is waited for no longer."""
    run_id = new_probe_id("nested")
    child = execution_of(site.errors_machine, f"{run_id}-child")
    given = {
        "how": "nest",
        "name": f"{run_id}-child",
        "input": {"probe": Ask.WAIT.value, "seconds": NAP_SECONDS},
    }
    ended = site.run(site.errors_machine, run_id, given, within=ANSWER_SECONDS)
    if ended.failed_as != SfnError.TIMEOUT:
        return Finding.failed(
            f"waiting in vain for an execution should fail as {SfnError.TIMEOUT}, got: {ended.failed_as or 'no error'}",
            "See it:",
            describe_command(ended.arn),
        )
    status = site.status(child)
    if status in RUNNING:
        return Finding.ok(
            "goes on when its parent stops waiting, so Settle has to stop it: see the next line"
        )
    return Finding.ok(f"is {status} as soon as its parent stops waiting")


def look_at_settle(site: ProbeSite) -> Finding:
    """Settle stops the attempt that it settles past, so that no zombie goes on."""
    slow = {"first": {"do": "fail"}, "later": {"do": "wait", "seconds": OUTLIVING_SECONDS}}
    records = [{"id": "fine", "data": {}}, {"id": "slow", "data": slow}]
    run_id = new_probe_id("settle")
    run = _StageRun(site, run_id, records)
    lost = [failure.record_id for failure in run.failures()]
    if run.counts("succeeded") != 1 or lost != ["slow"]:
        return run.failed("the stage should have settled with the slow record lost and the other one kept")
    attempt = execution_of(site.stage_machine, attempt_execution_name(run_id, 1))
    status = site.status(attempt)
    if status in RUNNING:
        return Finding.failed(
            "an attempt that its stage has stopped waiting for goes on after the stage was settled",
            "Settle needs states:StopExecution on it; deploy the version of this clone. See it:",
            describe_command(attempt),
        )
    return Finding.ok(f"an attempt that its stage had stopped waiting for is {status}")


class _StageRun:
    """A run of the probe's stage that has ended, and what it left in the ledger."""

    def __init__(
        self, site: ProbeSite, run_id: str, records: Mapping[str, Any] | Sequence[Mapping[str, Any]]
    ) -> None:
        """Run it. `records` are inline, or a pointer.

        Raises:
            ProbeFailed: it does not end in time.
        """
        given = {"run_id": run_id, "records": records}
        self._ledger = site.ledger
        self._keys = StageKeys(run_id, STAGE)
        self._ended = site.run(site.stage_machine, run_id, given, within=STAGE_SECONDS)
        self._result: StageResult | None = find_result(site.ledger, self._keys)

    def counts(self, outcome: str) -> int:
        """How many records had an outcome; 0 where the stage did not succeed."""
        if self._ended.status != SUCCEEDED or self._result is None:
            return 0
        return int(getattr(self._result.counts, outcome))

    def failures(self) -> list[FailureRecord]:
        """The first few failure records."""
        if self._result is None or not self._result.counts.failed:
            return []
        return list(islice(read_failures(self._ledger, self._keys.failures), ROWS))

    def failed(self, expected: str) -> Finding:
        """The finding that it came out otherwise."""
        said = f"{self._ended.status} {self._ended.error}".strip()
        if self._result:
            counts = self._result.counts
            said = f"{counts.succeeded} succeeded, {counts.failed} failed"
        reasons = [f"; {each.record_id}: {each.kind}, {each.message}" for each in self.failures()[:1]]
        return Finding.failed(
            f"{expected}, got: {said}{''.join(reasons)}", "See it:", describe_command(self._ended.arn)
        )


STAGE_PROBES = (
    probe("slow reading", look_at_reading),
    probe("memory of a child", look_at_memory),
    probe("timed-out child", look_at_child),
    probe("stopped by Settle", look_at_settle),
)
