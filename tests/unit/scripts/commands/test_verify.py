"""`winnow verify` over runs in every state that a run can be in, found by every name that a run can have."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result
from moto import mock_aws

from scripts.commands import cli
from tests.unit.scripts.commands.replays import ARN, Bench
from tests.unit.winnow.runs import EXECUTION, RUN_ID, STAGES, Pipeline
from winnow.core import keys
from winnow.core.contract import Pointer
from winnow.core.keys import StageKeys
from winnow.storage.state_table import DynamoStateTable

EXECUTIONS = ARN.replace(":stateMachine:", ":execution:")
STAGE_EXECUTIONS = "arn:aws:states:eu-west-1:123456789012:execution:catalogue-adapt"


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with mock_aws():
        made = Bench.build()
        monkeypatch.setattr("scripts.commands.aim.at_environment", lambda: made.target)
        yield made


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(cli.main, ["verify", *arguments])


def pipeline_of(bench: Bench, execution: str = EXECUTION) -> Pipeline:
    return Pipeline(STAGES, ledger=bench.ledger, execution=execution)


def run(bench: Bench, *records: str, status: str | None) -> None:
    """A run to its end; its execution ended as `status`, or is forgotten."""
    pipeline_of(bench).run({"records": list(records)})
    if status:
        bench.stepfunctions.statuses[RUN_ID] = status


def abort(bench: Bench, *, status: str | None) -> None:
    """A run that is stopped after the first attempt of its first stage."""
    stopped = Pipeline(STAGES, ledger=bench.ledger, stop_after=lambda _stage, _attempt: True)
    stopped.run({"records": ["a", "flaky"]})
    if status:
        bench.stepfunctions.statuses[RUN_ID] = status


class TestExitCodesAreThoseOfRun:
    @pytest.mark.parametrize("status", ["SUCCEEDED", None])
    def test_0_where_all_went_through(self, bench: Bench, status: str | None) -> None:
        run(bench, "a", "b", status=status)
        result = verify(RUN_ID)
        assert result.exit_code == 0
        assert f"The ledger of run {RUN_ID} adds up: nothing lost." in result.stdout

    @pytest.mark.parametrize("status", ["SUCCEEDED", None])
    def test_3_where_records_were_lost(self, bench: Bench, status: str | None) -> None:
        run(bench, "a", "bad", status=status)
        result = verify(RUN_ID)
        assert result.exit_code == 3
        assert "adds up: 1 lost, each by name." in result.stdout

    def test_0_while_it_runs(self, bench: Bench) -> None:
        abort(bench, status="RUNNING")
        result = verify(RUN_ID)
        assert result.exit_code == 0
        assert f"Run {RUN_ID} is not finished; so far its ledger adds up." in result.stdout

    @pytest.mark.parametrize("status", ["ABORTED", "TIMED_OUT", "FAILED"])
    def test_1_where_it_ended_and_never_will_finish(self, bench: Bench, status: str) -> None:
        abort(bench, status=status)
        result = verify(RUN_ID)
        assert result.exit_code == 1
        assert (
            f"Run {RUN_ID} ended as {status} and never will finish; 1 record was left outstanding."
            in result.stdout
        )

    def test_1_where_it_stopped_and_step_functions_has_forgotten_it(self, bench: Bench) -> None:
        abort(bench, status=None)
        result = verify(RUN_ID)
        assert result.exit_code == 1
        assert "Step Functions has forgotten how and never will finish" in result.stdout

    @pytest.mark.parametrize("status", ["FAILED", None])
    def test_1_where_a_stage_had_no_success(self, bench: Bench, status: str | None) -> None:
        run(bench, "bad1", "bad2", status=status)
        result = verify(RUN_ID)
        assert result.exit_code == 1
        assert "2 lost, each by name" in result.stdout

    def test_1_where_the_ledger_does_not_add_up(self, bench: Bench) -> None:
        run(bench, "a", status="SUCCEEDED")
        bench.s3.delete_object(Bucket="ledger", Key=StageKeys(RUN_ID, "mint").result)
        result = verify(RUN_ID)
        assert result.exit_code == 1
        assert "does not add up" in result.stdout

    def test_0_where_it_stepped_aside(self, bench: Bench) -> None:
        run(bench, "a", status="SUCCEEDED")
        document = bench.ledger.read_json(keys.run(RUN_ID))
        bench.ledger.write_json(
            keys.run("aside"), document | {"run_id": "aside", "stepped_aside": "run X is still running"}
        )
        result = verify("aside")
        assert result.exit_code == 0
        assert "Run aside did nothing: run X is still running." in result.stdout

    def test_1_and_one_line_where_the_run_is_damaged(self, bench: Bench) -> None:
        bench.ledger.write_json(keys.run(RUN_ID), {})
        result = verify(RUN_ID)
        assert result.exit_code == 1
        assert f"s3://ledger/runs/{RUN_ID}/run.json is damaged" in result.stderr
        assert result.stderr.count("\n") == 1

    def test_json_says_the_status(self, bench: Bench) -> None:
        abort(bench, status="ABORTED")
        result = verify(RUN_ID, "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, document["status"], document["holds"]) == (1, "ABORTED", True)


class TestStageStartedByItself:
    @pytest.fixture
    def stage_run(self, bench: Bench) -> str:
        """Its run id."""
        bench.ledger.write_records("given.ndjson", ["a", "bad", "flaky"])
        pipeline = pipeline_of(bench)
        records = Pointer(bucket="ledger", key="given.ndjson")
        assert pipeline.run_stage("alone", "adapt", records)
        bench.stepfunctions.statuses["adapt-0"] = "SUCCEEDED"
        return "alone"

    def test_is_proved(self, bench: Bench, stage_run: str) -> None:
        assert bench.ledger.find_json(keys.run(stage_run)) is None
        result = verify(stage_run, "--json")
        document = json.loads(result.stdout)
        assert (result.exit_code, document["holds"], document["lost"]) == (3, True, 2)
        assert [(stage["stage"], stage["in"]) for stage in document["stages"]] == [("adapt", 3)]

    def test_a_record_is_traced(self, stage_run: str) -> None:
        result = verify(stage_run, "--id", "bad")
        assert result.exit_code == 0
        assert result.stdout.split()[:3] == ["adapt", "failed", "bad"]

    def test_what_does_not_add_up_is_found(self, bench: Bench, stage_run: str) -> None:
        key = StageKeys(stage_run, "adapt").successes
        document = bench.ledger.read_json(key)
        document["entries"][0]["lines"] += 1
        bench.ledger.write_json(key, document)
        result = verify(stage_run)
        assert result.exit_code == 1
        assert "adapt: the successes' count of lines" in result.stdout

    def test_one_that_was_aborted_never_will_finish(self, bench: Bench) -> None:
        bench.ledger.write_records("given.ndjson", ["a", "flaky"])
        stopped = Pipeline(STAGES, ledger=bench.ledger, stop_after=lambda _stage, _attempt: True)
        stopped.run_stage("alone", "adapt", Pointer(bucket="ledger", key="given.ndjson"))
        bench.stepfunctions.statuses["adapt-0"] = "ABORTED"
        result = verify("alone")
        assert result.exit_code == 1
        assert "Run alone ended as ABORTED and never will finish" in result.stdout


class TestNamesOfItsOwn:
    def test_by_a_run_id_that_the_caller_gave(self, bench: Bench) -> None:
        pipeline_of(bench, f"{EXECUTIONS}:other").run({"records": ["a"]}, run_id="mine")
        bench.stepfunctions.statuses["other"] = "SUCCEEDED"
        assert verify("mine").exit_code == 0

    @pytest.mark.parametrize("name", ["other", f"{EXECUTIONS}:other"])
    def test_by_the_execution_that_was_given_a_run_id(self, bench: Bench, name: str) -> None:
        pipeline_of(bench, f"{EXECUTIONS}:other").run({"records": ["a"]}, run_id="mine")
        bench.stepfunctions.statuses["other"] = "SUCCEEDED"
        bench.stepfunctions.started["other"] = {"run_id": "mine", "records": ["a"]}
        result = verify(name)
        assert result.exit_code == 0
        assert "The ledger of run mine adds up" in result.stdout

    @pytest.mark.parametrize("name", ["nightly", f"{EXECUTIONS}:nightly"])
    def test_by_the_execution_whose_run_id_was_made(self, bench: Bench, name: str) -> None:
        pipeline = pipeline_of(bench, f"{EXECUTIONS}:nightly")
        pipeline.run({"run_id": None, "records": ["a"]}, run_id="nightly")
        made = pipeline.state.find_run(pipeline.execution)
        assert made
        DynamoStateTable("state", bench.client("dynamodb")).run_of(pipeline.execution, made)
        bench.stepfunctions.statuses["nightly"] = "SUCCEEDED"
        result = verify(name)
        assert result.exit_code == 0
        assert f"The ledger of run {made} adds up" in result.stdout

    def test_an_execution_that_claims_the_run_of_another_is_not_it(self, bench: Bench) -> None:
        run(bench, "a", status="SUCCEEDED")
        bench.stepfunctions.statuses["thief"] = "FAILED"
        bench.stepfunctions.started["thief"] = {"run_id": RUN_ID}
        result = verify("thief")
        assert result.exit_code == 2
        assert "RUN must be in a ledger of" in result.stderr

    def test_a_replay_is_chosen_by_the_name_of_an_execution(self, bench: Bench) -> None:
        bench.broken = {"adapt/a": "permanent"}
        bench.run(bench.upload(a="1", b="2"), run_id=RUN_ID)
        assert bench.ledger.read_json(keys.run(RUN_ID))["execution"] == EXECUTION
        assert [line["count"] for line in bench.lines("list", "--run", EXECUTION)] == [1]
