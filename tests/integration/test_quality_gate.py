"""The quality gate on the emulator: what it stops, what people hear of it, and both ways on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.integration.faults.lab import await_
from tests.integration.test_publishing import FIRST, SECOND, Run, Shelf, shelf
from winnow.quality.judged import candidate_of
from winnow.quality.rules import Rule, Sql, rules_to_json

__all__ = ["shelf"]

Deploy = Callable[[Rule], None]
LOOK_SECONDS = 1.0
"""For one message, before the next look."""


@pytest.fixture
def deploy(shelf: Shelf) -> Iterator[Deploy]:
    """Adds a rule to the deployed gate."""
    arn = shelf.deployment.pipeline.arn
    before = shelf.stepfunctions.describe_state_machine(stateMachineArn=arn)["definition"]

    def add(rule: Rule) -> None:
        definition = json.loads(before)
        definition["States"]["CheckQuality"]["Parameters"]["Payload"]["rules"] += rules_to_json([rule])
        shelf.stepfunctions.update_state_machine(stateMachineArn=arn, definition=json.dumps(definition))

    yield add
    shelf.stepfunctions.update_state_machine(stateMachineArn=arn, definition=before)


def no_second(shelf: Shelf) -> Sql:
    """A rule about this shelf: other tests' rows are in the version, too."""
    return Sql(
        f"NOT (coalesce(summary, '') LIKE '%second summary%' AND sourceIdentifier LIKE '{shelf.name}-%')",
        reason="the second summary was sent by mistake",
        name="no second",
    )


def told_of(run: Run) -> str:
    """What Slack was told of the version that was blocked."""

    def look() -> str | None:
        for message in run.shelf.deployment.slack.receive(1, within_seconds=LOOK_SECONDS):
            text = json.dumps(message, ensure_ascii=False)
            if run.run_id in text and "the quality gate blocked" in text:
                return text
        return None

    return await_("the alert", look)


def gate_of(run: Run) -> dict[str, Any]:
    done = run.shelf.deployment.winnow("gate", run.run_id, "--json")
    assert done.returncode in {0, 1, 3}, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_lets_through_what_follows_the_deployed_rules(shelf: Shelf) -> None:
    shelf.put("a", FIRST)

    run = shelf.start("a")

    assert run.published()["version"] == shelf.current
    assert run.report()["gate"]["outcome"] == "passed"
    assert [each["outcome"] for each in gate_of(run)["results"]] == ["passed"] * 5


def test_stops_a_version_that_violates_a_rule_until_a_person_publishes_it_all_the_same(
    shelf: Shelf, deploy: Deploy
) -> None:
    shelf.put("a", FIRST)
    shelf.start("a").published()
    stays = shelf.current
    deploy(no_second(shelf))
    shelf.put("a", SECOND)

    run = shelf.start("a")

    ended = run.ended()
    assert ended["status"] == "FAILED"
    # Not by the error's name, which the emulator loses.
    assert "is blocked by 1 of 6 rules" in ended["cause"]
    assert run.entered()["Publish"] == 0
    assert (shelf.current, shelf.read()) == (stays, {"a": "first"})
    report = run.report()
    version = candidate_of(shelf.set, run.run_id)
    assert (report["gate"]["version"], report["gate"]["outcome"]) == (version, "blocked")
    told = told_of(run)
    assert "no second" in told
    assert f"published stays version {stays}" in told
    assert f"publish promote {version} --publication works --reason WHY --execute" in told
    assert gate_of(run)["outcome"] == "blocked"

    shelf.winnow("promote", str(version), "--reason", "the second summary is right", "--execute")

    assert (shelf.current, shelf.read()) == (version, {"a": "second"})
