"""Publishing on the emulator: what a run publishes, through what can go wrong between its last stage and its readers."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from scripts import ROOT
from scripts.deployed.publications import open_published
from tests.integration.conftest import Deployment
from tests.integration.faults.lab import await_
from tests.integration.faults.workers import publish_badly
from tests.integration.faults.workers.publish_badly import (
    DIE_AFTER,
    DIE_BEFORE,
    GO_ON,
    WAIT,
    WAITING,
    order_key,
)
from winnow.core import keys
from winnow.publish.published_set import PublishedSet
from winnow.published import read
from winnow.storage.executions import RUNNING
from winnow.storage.ledger import Ledger
from winnow.storage.published_store import S3PublishedStore
from winnow.storage.store import S3Store

SAMPLE = (ROOT / "tests/data/manuscripts/Hebrew/MS_Hebrew_1.xml").read_text(encoding="utf-8")
SUMMARY = "Book of remedies."
BROKEN = "<TEI"
AT_BAD_PUBLISH = f"{publish_badly.__name__}.handler"


def description(name: str, summary: str) -> str:
    """A manuscript's description of that name, good in every stage."""
    return SAMPLE.replace("MS_Hebrew_1", name).replace("MS Hebrew 1", name).replace(SUMMARY, summary)


@dataclass(frozen=True, slots=True)
class Run:
    """A run of the catalogue, and what there is to be seen of it."""

    shelf: Shelf
    run_id: str

    @property
    def execution(self) -> str:
        return f"{self.shelf.deployment.pipeline.arn.replace(':stateMachine:', ':execution:')}:{self.run_id}"

    def ended(self) -> dict[str, Any]:
        """The execution, once it has ended."""

        def look() -> dict[str, Any] | None:
            found: dict[str, Any] = self.shelf.stepfunctions.describe_execution(executionArn=self.execution)
            return None if found["status"] in RUNNING else found

        return await_(f"the end of {self.run_id}", look)

    def published(self) -> dict[str, Any]:
        """What the pipeline's output says of publishing."""
        ended = self.ended()
        assert ended["status"] == "SUCCEEDED", ended.get("cause")
        said: dict[str, Any] = json.loads(ended["output"])["published"]
        return said

    def entered(self) -> Counter[str]:
        """How often each state was entered."""
        history = self.shelf.stepfunctions.get_execution_history(executionArn=self.execution, maxResults=1000)
        return Counter(
            event["stateEnteredEventDetails"]["name"]
            for event in history["events"]
            if "stateEnteredEventDetails" in event
        )

    def order(self, what: str) -> None:
        self.shelf.ledger.write_json(order_key(self.run_id, what), {})

    def is_waiting(self) -> bool:
        return self.shelf.ledger.find_json(order_key(self.run_id, WAITING)) is not None

    def report(self) -> dict[str, Any]:
        """The run closer's report, once it is there."""
        key = keys.run_report(self.run_id)
        found: dict[str, Any] = await_(
            f"the report of {self.run_id}", lambda: self.shelf.ledger.find_json(key)
        )
        return found


@dataclass(frozen=True, slots=True)
class Shelf:
    """Manuscripts of one test, in the source bucket of the deployment."""

    deployment: Deployment
    name: str

    @property
    def s3(self) -> Any:
        return self.deployment.target.client("s3")

    @property
    def stepfunctions(self) -> Any:
        return self.deployment.target.client("stepfunctions")

    @property
    def ledger(self) -> Ledger:
        return Ledger(S3Store(self.deployment.pipeline.ledger_bucket, self.s3))

    @property
    def set(self) -> PublishedSet:
        found = open_published(self.deployment.target, self.deployment.pipeline)
        assert found
        return found

    @property
    def current(self) -> int | None:
        current, _ = self.set.current()
        return current.version if current else None

    def id_of(self, manuscript: str) -> str:
        return f"{self.name}-{manuscript}"

    def put(self, manuscript: str, text: str) -> None:
        """Upload a description: its summary, or the whole file where it is broken."""
        body = text if text.startswith("<") else description(self.id_of(manuscript), text)
        key = f"{self.name}/{manuscript}.xml"
        self.s3.put_object(Bucket=self.deployment.pipeline.source_bucket, Key=key, Body=body.encode())

    def start(self, *manuscripts: str, orders: Sequence[str] = ()) -> Run:
        """Start a run over some manuscripts."""
        run = Run(self, f"publishing-{uuid.uuid4()}")
        for order in orders:
            run.order(order)
        bucket = self.deployment.pipeline.source_bucket
        where = [f"{self.name}/{manuscript}.xml" for manuscript in manuscripts]
        records = [{"id": key, "data": {"bucket": bucket, "key": key}} for key in where]
        given = {"run_id": run.run_id, "trigger": {"kind": "manual"}, "records": records}
        self.stepfunctions.start_execution(
            stateMachineArn=self.deployment.pipeline.arn, name=run.run_id, input=json.dumps(given)
        )
        return run

    def read(self) -> dict[str, str]:
        """What a consumer reads of this shelf: summaries by manuscript."""
        store = S3PublishedStore(self.deployment.pipeline.published_bucket, self.s3)
        rows = {row["sourceIdentifier"]: row for row in read("works", bucket=store)}
        return {
            name.removeprefix(f"{self.name}-"): _summary(row)
            for name, row in rows.items()
            if name.startswith(f"{self.name}-")
        }

    def winnow(self, *arguments: str) -> str:
        done = self.deployment.winnow("publish", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


def _summary(row: dict[str, Any]) -> str:
    text = json.dumps(row, ensure_ascii=False)
    return next(summary for summary in ("first", "second", "third") if f"the {summary} summary" in text)


FIRST, SECOND, THIRD = "the first summary", "the second summary", "the third summary"


@pytest.fixture
def shelf(deployment: Deployment) -> Shelf:
    return Shelf(deployment, f"MS{uuid.uuid4().hex[:8]}")


@pytest.fixture(scope="module")
def publish_function(deployment: Deployment) -> Iterator[None]:
    """Publish, as it is when it can be told to die or to wait."""
    lambdas = deployment.target.client("lambda")
    functions = [
        each
        for page in lambdas.get_paginator("list_functions").paginate()
        for each in page["Functions"]
        if each["Handler"] == "winnow.handlers.publish.handler"
    ]
    (function,) = functions
    name = function["FunctionName"]
    lambdas.update_function_configuration(FunctionName=name, Handler=AT_BAD_PUBLISH)
    yield
    lambdas.update_function_configuration(FunctionName=name, Handler=function["Handler"])


def test_a_run_publishes_and_says_so(shelf: Shelf) -> None:
    shelf.put("a", FIRST)
    before = shelf.current

    run = shelf.start("a")

    said = run.published()
    assert said == {"version": (before or 0) + 1, "reason": None, "again": False}
    assert shelf.current == said["version"]
    assert shelf.read() == {"a": "first"}
    report = run.report()["published"]
    assert (report["version"], report["counts"]["added"]) == (said["version"], 1)
    assert f"publish  {before or 'nothing'} → {said['version']}" in shelf.winnow("list")


def test_the_command_line_says_in_one_line_what_a_run_published(shelf: Shelf) -> None:
    shelf.put("a", FIRST)
    uri = f"s3://{shelf.deployment.pipeline.source_bucket}/{shelf.name}/"

    done = shelf.deployment.winnow("run", "catalogue", "--source", uri)

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"published works version {shelf.current} (+1 ~0 -0)"


def test_a_record_that_fails_keeps_its_last_good_version_until_it_recovers(shelf: Shelf) -> None:
    for manuscript in ("good", "sick"):
        shelf.put(manuscript, FIRST)
    shelf.start("good", "sick").published()
    shelf.put("sick", BROKEN)
    for summary in (SECOND, THIRD, FIRST):
        shelf.put("good", summary)
        assert shelf.start("good", "sick").published()["version"] == shelf.current
        assert shelf.read() == {"good": summary.split()[1], "sick": "first"}
    shelf.put("sick", SECOND)

    shelf.start("good", "sick").published()

    assert shelf.read() == {"good": "first", "sick": "second"}


@pytest.mark.usefixtures("publish_function")
@pytest.mark.parametrize("when", [DIE_BEFORE, DIE_AFTER])
def test_a_publish_that_is_killed_around_the_move_of_the_pointer_moves_it_once(
    shelf: Shelf, when: str
) -> None:
    shelf.put("a", FIRST)

    run = shelf.start("a", orders=[when])

    version = run.published()["version"]
    assert shelf.read() == {"a": "first"}
    assert shelf.ledger.find_json(order_key(run.run_id, f"{when}-done")) == {}, "it was killed"
    assert [move.after for move in shelf.set.history()].count(version) == 1
    mark = shelf.set.published_by(run.run_id)
    assert mark
    assert mark.version == version


@pytest.mark.usefixtures("publish_function")
def test_of_two_runs_at_once_one_wins_and_the_other_is_laid_over_it(shelf: Shelf) -> None:
    shelf.put("slow", FIRST)
    shelf.put("both", FIRST)
    shelf.put("fast", SECOND)
    slow = shelf.start("slow", "both", orders=[WAIT])
    await_("the slow run's Publish", slow.is_waiting)
    shelf.put("both", SECOND)

    fast = shelf.start("fast", "both").published()["version"]
    assert shelf.read() == {"fast": "second", "both": "second"}
    slow.order(GO_ON)

    said = slow.published()
    assert said["version"] == shelf.current
    assert said["version"] > fast
    assert slow.entered()["BuildVersion"] == 2, "it was built again, on the version of the fast run"
    assert shelf.read() == {"slow": "first", "fast": "second", "both": "second"}, "the newer run's row stays"


@pytest.mark.usefixtures("publish_function")
def test_a_rollback_while_a_run_is_publishing_stands_until_the_run_is_laid_over_it(shelf: Shelf) -> None:
    shelf.put("a", FIRST)
    shelf.start("a").published()
    good = shelf.current
    shelf.put("a", SECOND)
    shelf.start("a").published()
    shelf.put("b", THIRD)
    run = shelf.start("b", orders=[WAIT])
    await_("the run's Publish", run.is_waiting)

    shelf.winnow("rollback", "--reason", "the second summary is wrong", "--execute")

    assert shelf.current == good
    assert shelf.read() == {"a": "first"}
    run.order(GO_ON)
    assert run.published()["version"] == shelf.current
    assert shelf.read() == {"a": "first", "b": "third"}, "built on what was brought back"


def test_a_hold_keeps_what_is_published_and_runs_say_so(shelf: Shelf) -> None:
    shelf.put("a", FIRST)
    shelf.start("a").published()
    before = shelf.current
    shelf.put("a", SECOND)
    shelf.winnow("hold", "--reason", "the index is rebuilt", "--execute")
    try:
        run = shelf.start("a")
        said = run.published()
        assert said["version"] is None
        assert "the index is rebuilt" in said["reason"]
        assert shelf.current == before
        assert shelf.read() == {"a": "first"}
        report = run.report()["published"]
        assert (report["version"], report["current"]) == (None, before)
        assert "the index is rebuilt" in report["reason"]
    finally:
        shelf.winnow("release", "--reason", "it is rebuilt", "--execute")

    candidate = max(shelf.set.versions())
    shelf.winnow("promote", str(candidate), "--reason", "built while it was held", "--execute")
    assert shelf.read() == {"a": "second"}
