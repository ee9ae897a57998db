from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from scripts.deployed.progress import RunProgress, RunWatch, StageProgress
from tests.unit.winnow.runs import RUN_ID, STAGES, Pipeline

RECORDS = ["a", "b", "bad1", "flaky", "skip1", "a"]
EXECUTION = f"arn:aws:states:eu-west-1:123456789012:execution:catalogue:{RUN_ID}"
STARTED = datetime(2026, 1, 1, tzinfo=UTC)


class StepFunctions:
    """Knows one execution."""

    def __init__(self, status: str = "RUNNING", cause: str = "") -> None:
        self.status = status
        self.cause = cause

    def describe_execution(self, *, executionArn: str) -> dict[str, Any]:  # noqa: N803 boto3's name
        assert executionArn == EXECUTION
        ended = {} if self.status == "RUNNING" else {"stopDate": STARTED.replace(minute=1)}
        return {"status": self.status, "startDate": STARTED, "cause": self.cause, **ended}


def look(pipeline: Pipeline, status: str = "RUNNING") -> RunProgress:
    return watch(pipeline, StepFunctions(status)).look()


def watch(pipeline: Pipeline, stepfunctions: StepFunctions) -> RunWatch:
    return RunWatch(
        pipeline.stages,
        ledger=pipeline.ledger,
        stepfunctions=stepfunctions,
        execution=EXECUTION,
        pause_seconds=0,
    )


def stopped(stop: Callable[[str, int], bool]) -> Pipeline:
    pipeline = Pipeline(STAGES, stop_after=stop)
    pipeline.run({"records": RECORDS})
    return pipeline


def counts(stage: StageProgress) -> tuple[str, int, int, int, int, int, int]:
    numbers = (stage.records_in, stage.succeeded, stage.skipped, stage.failed, stage.outstanding, stage.tries)
    return (stage.state, *numbers)


def test_a_finished_run_adds_up() -> None:
    progress = look(stopped(lambda *_: False), "SUCCEEDED")
    adapt, transform, mint = progress.stages
    assert counts(adapt) == ("done", 5, 2, 1, 2, 0, 2)
    assert counts(transform) == counts(mint) == ("done", 2, 2, 0, 0, 0, 1)
    assert progress.lost == 2
    assert progress.seconds == 60


def test_between_two_tries_permanent_failures_are_failed_and_the_rest_is_outstanding() -> None:
    progress = look(stopped(lambda _, attempt: attempt == 0))
    adapt, transform, _ = progress.stages
    assert counts(adapt) == ("retrying", 5, 2, 1, 1, 1, 2)
    assert transform.state == "waiting"


def test_an_attempt_under_way_is_read_from_its_journal() -> None:
    pipeline = stopped(lambda _, attempt: attempt == 0)
    for key in list(pipeline.ledger.store.keys("")):
        if key.endswith("settlement.json.gz"):
            del pipeline.ledger.store.objects[pipeline.ledger.bucket, key]  # type: ignore[attr-defined]
    assert counts(look(pipeline).stages[0]) == ("running", 5, 2, 1, 1, 1, 1)


WHOLE = gzip.compress(b'{"batch": "none"}' * 100)


@pytest.mark.parametrize(
    "body",
    [WHOLE, b"no gzip", WHOLE[:-12], WHOLE[:20] + b"\xff" * 20 + WHOLE[40:], gzip.compress(b"[" * 100_000)],
    ids=["another document", "not packed", "cut off", "damaged", "nested"],
)
def test_a_journal_that_holds_garbage_is_watched_all_the_same(body: bytes) -> None:
    pipeline = stopped(lambda _, attempt: attempt == 0)
    pipeline.ledger.store.put(pipeline.keys("adapt").attempt(1).segment("liar", 0), body)
    assert counts(look(pipeline).stages[0]) == ("retrying", 5, 2, 1, 1, 1, 2)


def test_a_run_that_was_aborted_says_which_stages_did_not_run() -> None:
    progress = look(stopped(lambda _, attempt: attempt == 0), "ABORTED")
    assert [stage.state for stage in progress.stages] == ["failed", "not run", "not run"]
    assert progress.has_ended


def test_a_run_that_has_not_begun_is_waiting() -> None:
    assert {stage.state for stage in look(Pipeline(STAGES)).stages} == {"waiting"}


def test_watches_until_the_run_has_ended() -> None:
    stepfunctions = StepFunctions()
    seen = []
    for progress in watch(stopped(lambda *_: False), stepfunctions).until_it_ends():
        seen.append(progress.status)
        stepfunctions.status = "SUCCEEDED"
    assert seen == ["RUNNING", "SUCCEEDED"]


def test_json_is_what_the_command_line_promises() -> None:
    document = look(stopped(lambda *_: False), "SUCCEEDED").to_json()
    assert document["run_id"] == RUN_ID
    assert document["status"] == "SUCCEEDED"
    assert document["stages"][0] == {
        "stage": "adapt",
        "in": 5,
        "succeeded": 2,
        "skipped": 1,
        "failed": 2,
        "tries": 2,
        "failures_file": f"s3://ledger/runs/{RUN_ID}/adapt/failures.ndjson.gz",
        "duplicates": 1,
        "superseded": 0,
        "conflicts": 0,
        "same_outputs": 0,
    }
    assert document["stages"][1]["failures_file"] is None


@pytest.mark.parametrize("status", ["FAILED", "TIMED_OUT", "ABORTED"])
def test_every_terminal_status_is_an_end(status: str) -> None:
    assert look(Pipeline(STAGES), status).has_ended


@pytest.mark.parametrize(
    ("cause", "said"),
    [
        ("none succeeded", "none succeeded"),
        (
            json.dumps({"ExecutionArn": EXECUTION, "Error": "StageTotalFailure", "Cause": "none succeeded"}),
            "none succeeded",
        ),
        ('{"a": 1}', '{"a": 1}'),
        ("", ""),
    ],
)
def test_says_why_the_run_failed(cause: str, said: str) -> None:
    assert watch(Pipeline(STAGES), StepFunctions("FAILED", cause)).look().cause == said
