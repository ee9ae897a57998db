"""What `winnow doctor --probe` runs in Lambda."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from winnow.core.keys import StageKeys
from winnow.core.probe import STAGE, Ask, is_probe, new_probe_id
from winnow.handlers import probe
from winnow.metrics.watch import Metric, Watch
from winnow.probing.faults import ProbeError
from winnow.probing.lists import write_list
from winnow.probing.work import in_attempt, work
from winnow.storage.ledger import Ledger
from winnow.testing import MemoryStore, run_worker
from winnow.testing.worker_run import FakeContext

CONTEXT: Any = FakeContext(memory_limit_in_mb=32)


def asked(ask: Ask, **more: Any) -> Any:
    return probe.handler({"probe": ask.value, **more}, CONTEXT)


@pytest.fixture(autouse=True)
def first_attempt() -> None:
    in_attempt(0)


class TestFaults:
    def test_raises_an_error_of_a_class_of_ours(self) -> None:
        with pytest.raises(ProbeError, match="on purpose"):
            asked(Ask.RAISE)

    def test_ends_its_process(self) -> None:
        code = "from winnow.probing.faults import leave; leave()"
        assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 1

    def test_writes_to_the_memory_that_it_asks_for(self) -> None:
        """Memory that is only reserved costs a Lambda nothing."""
        code = (
            "from pathlib import Path\nfrom winnow.probing.faults import allocate\n"
            "def most():\n"
            "    fields = dict(line.split(':', 1) for line in Path('/proc/self/status').read_text().splitlines())\n"
            "    return int(fields['VmHWM'].split()[0])\n"
            "before = most()\nallocate(64)\nprint(most() - before)"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert int(done.stdout) > 60 * 1024

    @pytest.mark.parametrize(
        ("ask", "least"), [(Ask.BIG_STATE, 256 * 1024), (Ask.BIG_ANSWER, 6 * 1024 * 1024)]
    )
    def test_answers_with_more_than_is_taken(self, ask: Ask, least: int) -> None:
        assert len(json.dumps(asked(ask))) > least

    def test_refuses_what_it_does_not_know(self) -> None:
        with pytest.raises(ValueError, match="'juggle' is not a valid Ask"):
            probe.handler({"probe": "juggle"}, CONTEXT)


def test_in_the_place_of_register_nobody_is_alerted() -> None:
    state = {"verdict": "EXHAUSTED", "alert": True, "order": {"run_id": "R"}}
    answer = probe.handler({"execution": "arn", "state": state}, CONTEXT)
    assert answer == {**state, "alert": False}


class TestFacts:
    @pytest.fixture
    def found(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        monkeypatch.setenv("WINNOW_PIPELINE", "books")
        monkeypatch.setenv("WINNOW_LEDGER_BUCKET", "ledger")
        with mock_aws():
            s3 = boto3.client("s3", region_name="us-east-1")
            s3.create_bucket(Bucket="ledger")
            monkeypatch.setattr(probe, "client", lambda _: s3)
            yield asked(Ask.FACTS, run_id="probe-1")
            assert [each["Key"] for each in s3.list_objects_v2(Bucket="ledger")["Contents"]] == [
                StageKeys("probe-1", STAGE).scratch
            ]

    def test_tell_what_conditional_writes_answer(self, found: dict[str, Any]) -> None:
        assert found["conditions"] == {
            "if absent": "200",
            "if absent, again": "412 PreconditionFailed",
            "if unchanged, changed": "412 PreconditionFailed",
            "if unchanged": "200",
            "left": "4",
        }

    def test_tell_versions_and_what_unpacks_zstd(self, found: dict[str, Any]) -> None:
        assert found["python"] == ".".join(map(str, sys.version_info[:3]))
        assert found["zstd"] in {"compression.zstd", "backports.zstd"}
        assert found["packages"]["botocore"]

    def test_tell_how_long_a_start_takes(self, found: dict[str, Any]) -> None:
        assert found["start_seconds"] > 0 or not Path("/proc/uptime").exists()


def test_a_list_is_as_long_as_it_is_asked_for() -> None:
    store = MemoryStore()
    order = {"run_id": "probe-1", "rows": 5, "row_bytes": 1000, "waits": [3], "seconds": 25}

    pointer = write_list(Ledger(store), order)

    body = store.get(pointer["key"]).body
    rows = [json.loads(line) for line in body.splitlines()]
    assert pointer["key"].startswith("runs/probe-1/probe/")
    assert [row["id"] for row in rows] == [f"row-{number:04d}" for number in range(5)]
    assert len(body) > 5 * 1000
    assert [row["data"].get("first") for row in rows] == [
        None, None, None, {"do": "wait", "seconds": 25}, None,
    ]  # fmt: skip


class TestWorker:
    def test_loses_the_killer_only_when_it_takes_more_memory_than_there_is(self) -> None:
        """The attempt after a death is careful, and a record that asks for too much loses itself only."""
        in_attempt(1)
        records = [
            {"id": "before", "data": {}},
            {"id": "killer", "data": {"later": {"do": "fail"}}},
            {"id": "after", "data": {"first": {"do": "exit"}}},
        ]
        result = run_worker(work, records, max_tries=1)
        assert set(result.outputs) == {"before", "after"}
        assert "on purpose" in result.failures["killer"].message

    def test_does_in_the_first_attempt_what_is_meant_for_it(self) -> None:
        records = [
            {"id": "fine", "data": {"later": {"do": "fail"}}},
            {"id": "wrong", "data": {"first": {"do": "juggle"}}},
        ]
        result = run_worker(work, records, max_tries=1)
        assert set(result.outputs) == {"fine"}
        assert result.failures["wrong"].message == "do must be wait, fail, exit or allocate, got: 'juggle'"


class TestRunIds:
    def test_are_known_again(self) -> None:
        assert is_probe(new_probe_id())
        assert is_probe(new_probe_id("reading"))

    @pytest.mark.parametrize("run_id", ["01KB0000000000000000000000", "probe-1", "probe-of-march", ""])
    def test_of_others_are_not_a_probes(self, run_id: str) -> None:
        assert not is_probe(run_id)

    def test_of_a_probe_are_not_counted(self, capsys: pytest.CaptureFixture[str]) -> None:
        for run_id in (new_probe_id("careful"), "01KB0000000000000000000000"):
            watch = Watch(environment="test", pipeline="books", stage="clean", run_id=run_id)
            watch.count(Metric.FAILED_CRASHED)
            watch.flush()
        (line,) = capsys.readouterr().out.splitlines()
        assert json.loads(line)["run_id"] == "01KB0000000000000000000000"
