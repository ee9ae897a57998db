"""The command line, end to end: a real pipeline, a real run, the numbers of tests/data/README.md."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from scripts import ROOT
from scripts.commands import cli
from scripts.local import state as local_state
from tests.integration.conftest import Deployment
from winnow.core.keys import StageKeys

MANUSCRIPTS = ROOT / "tests" / "data" / "manuscripts"
CORRECTIONS = ROOT / "tests" / "data" / "corrections"
BROKEN = "Arabic/MS_Arabic_4.xml"
GOOD = "Arabic/MS_Arabic_1.xml"


def numbers(run: dict[str, Any]) -> dict[str, tuple[int, int, int, int]]:
    return {
        each["stage"]: (each["in"], each["succeeded"], each["skipped"], each["failed"])
        for each in run["stages"]
    }


@pytest.fixture(scope="module")
def sample(deployment: Deployment) -> tuple[int, dict[str, Any]]:
    return deployment.run("--source", str(MANUSCRIPTS), "--include", "*.xml")


def test_a_run_that_lost_records_says_which_and_exits_with_3(
    deployment: Deployment, sample: tuple[int, dict[str, Any]]
) -> None:
    code, run = sample
    assert (code, run["status"]) == (3, "SUCCEEDED")
    assert numbers(run) == {"adapt": (60, 53, 0, 7), "transform": (53, 51, 2, 0), "mint": (51, 50, 0, 1)}
    files = [each["failures_file"] for each in run["stages"]]
    ledger = f"s3://{deployment.pipeline.ledger_bucket}/runs/{run['run_id']}"
    assert files == [f"{ledger}/adapt/failures.ndjson.gz", None, f"{ledger}/mint/failures.ndjson.gz"]


def test_verify_proves_the_run(deployment: Deployment, sample: tuple[int, dict[str, Any]]) -> None:
    done = deployment.winnow("verify", sample[1]["run_id"])
    assert done.returncode == 3
    assert done.stdout.count("adds up") == 4
    assert "8 lost, each by name" in done.stdout


def test_verify_tells_what_became_of_a_record(
    deployment: Deployment, sample: tuple[int, dict[str, Any]]
) -> None:
    run_id = sample[1]["run_id"]
    lost = deployment.winnow("verify", run_id, "--id", BROKEN)
    assert lost.returncode == 0
    assert lost.stdout.split()[:3] == ["adapt", "failed", BROKEN]
    assert "MalformedXml" in lost.stdout
    kept = deployment.winnow("verify", run_id, "--id", GOOD)
    assert [line.split()[:2] for line in kept.stdout.splitlines() if not line.startswith(" ")] == [
        ["adapt", "succeeded"],
        ["transform", "succeeded"],
        ["mint", "succeeded"],
    ]
    assert deployment.winnow("verify", run_id, "--id", "nobody").returncode == 2


def test_verify_finds_a_record_that_was_lost_in_silence(deployment: Deployment) -> None:
    _, run = deployment.run("--source", str(CORRECTIONS))
    key = StageKeys(run["run_id"], "mint").successes
    bucket, s3 = deployment.pipeline.ledger_bucket, deployment.target.client("s3")
    successes = json.loads(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    successes["entries"][0]["lines"] -= 1
    s3.put_object(Bucket=bucket, Key=key, Body=json.dumps(successes).encode())
    done = deployment.winnow("verify", run["run_id"])
    assert done.returncode == 1
    assert "mint: the successes' count of lines" in done.stdout
    assert "does not add up" in done.stdout


def test_runs_over_what_is_uploaded_and_nothing_else(deployment: Deployment) -> None:
    code, run = deployment.run("--source", str(CORRECTIONS))
    assert (code, numbers(run)["adapt"]) == (0, (8, 8, 0, 0))


def test_runs_over_part_of_the_source_bucket(
    deployment: Deployment, sample: tuple[int, dict[str, Any]]
) -> None:
    assert sample
    _, run = deployment.run("--source", f"s3://{deployment.pipeline.source_bucket}/Greek/")
    assert numbers(run)["adapt"][0] == len(list((MANUSCRIPTS / "Greek").iterdir()))


def test_runs_over_a_list_of_records(
    deployment: Deployment, sample: tuple[int, dict[str, Any]], tmp_path: Path
) -> None:
    assert sample
    records = tmp_path / "records.ndjson"
    records.write_text(f'"{GOOD}"\n"{GOOD}"\n')
    code, run = deployment.run("--records", str(records))
    assert (code, numbers(run)["adapt"]) == (0, (1, 1, 0, 0))


def test_a_run_that_fails_exits_with_1_and_says_why(deployment: Deployment, tmp_path: Path) -> None:
    archive = tmp_path / "broken.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("broken.xml", "<TEI>")
    done = deployment.winnow("run", "catalogue", "--source", str(archive), "--watch")
    assert done.returncode == 1
    assert "none of 1 records succeeded" in " ".join(done.stdout.split())
    assert "broken.xml" in done.stdout
    assert "not run" in done.stdout
    assert "adapt failed, try 1: 1 in" in done.stderr


@pytest.mark.emulator
@pytest.mark.xdist_group("local")
def test_local_up_status_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_state, "HOME", tmp_path / "local")

    def winnow(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(cli.main, arguments)
        return result.exit_code, result.output

    assert winnow("local", "status") == (1, "not running; start it: winnow local up\n")
    code, told = winnow("local", "up", "--wait-scale", "0.1")
    try:
        assert code == 0
        assert "pipeline catalogue: adapt → transform → mint" in told
        assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in told
        assert winnow("local", "status")[0] == 0
        assert winnow("local", "up")[0] == 2
        code, said = winnow("run", "catalogue", "--local", "--source", str(CORRECTIONS))
        assert (code, said.count("done")) == (0, 3)
    finally:
        assert winnow("local", "down") == (0, "stopped\n")
    assert winnow("local", "down") == (0, "not running\n")
    assert not (tmp_path / "local").exists()
