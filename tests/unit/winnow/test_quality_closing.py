"""The run closer on a run that the quality gate judged: one alert of what it blocked, and the results in the report."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.winnow.runs import RUN_ID
from tests.unit.winnow.test_close import LOSSY, World
from tests.unit.winnow.test_published_by_run import build, publish, version
from winnow.metrics.watch import Metric
from winnow.publish.published_set import PublishedSet
from winnow.quality.facts import not_evaluated
from winnow.quality.result import GateOutcome, GateResult, RuleResult
from winnow.quality.rules import NullShare, RuleSeverity
from winnow.runs.closer import CloseRunIncomplete
from winnow.testing import MemoryStore

RULE = NullShare("title", at_most=0.01, reason="a work is found by its title")
FAILED = {
    "error": "QualityGateFailed",
    "cause": json.dumps({"errorType": "QualityGateFailed", "errorMessage": "version 2 of works is blocked"}),
}


def judged(*, outcome: GateOutcome = GateOutcome.BLOCKED) -> PublishedSet:
    """A publication whose version 1 is current, and whose version 2 the run built and the gate judged."""
    published = PublishedSet(MemoryStore("published"), "works")
    publish(published, version(1, "an-earlier-run"))
    build(published, version(2, RUN_ID))
    result = GateResult(
        publication="works",
        version=2,
        run_id=RUN_ID,
        base=1,
        rows=100,
        results=(
            RuleResult(
                rule=RULE,
                outcome=outcome,
                expected="title is null in at most 1% of the rows",
                found="null in 7 of 100 rows (7%)",
                violations=7,
                first_ids=("a", "b", "c", "d", "e"),
            ),
        ),
    )
    published.write_once(published.keys.version(2).gate, result.to_json())
    return published


def test_sends_one_alert_of_what_was_blocked_however_often_the_run_is_closed() -> None:
    world = World(LOSSY, published=judged())

    world.close("FAILED", **FAILED)
    world.close("FAILED", **FAILED)

    (alert,) = [each for each in world.alerts if each["stage"] is None]
    assert (alert["verdict"], alert["severity"], alert["run_id"]) == ("BLOCKED", "critical", RUN_ID)
    assert alert["blocked"]["published"] == 1
    assert [rule["first_ids"] for rule in alert["blocked"]["rules"]] == [["a", "b", "c", "d", "e"]]
    assert world.counted(Metric.RUN_FAILED) == 1


def test_puts_the_results_into_the_report() -> None:
    world = World(LOSSY, published=judged(outcome=GateOutcome.WARNED))

    world.close()

    assert world.report["gate"]["outcome"] == "warned"
    assert world.report["gate"]["results"][0]["found"] == "null in 7 of 100 rows (7%)"
    assert not [each for each in world.alerts if each["stage"] is None]


def test_says_nothing_of_a_gate_where_nothing_is_published() -> None:
    world = World(LOSSY)

    world.close()

    assert world.report["gate"] is None


def damaged(published: PublishedSet) -> None:
    published.store.put(published.keys.version(2).gate, b"{")


def gone(published: PublishedSet) -> None:
    published.store.delete(published.keys.version(2).gate)


@pytest.mark.parametrize("spoil", [damaged, gone])
def test_law_6_tells_the_runs_own_error_where_the_gates_results_are_not_to_be_had(spoil: Any) -> None:
    published = judged()
    spoil(published)
    world = World(LOSSY, published=published)

    if spoil is damaged:
        with pytest.raises(CloseRunIncomplete, match="find what the gate said"):
            world.close("FAILED", **FAILED)
    else:
        world.close("FAILED", **FAILED)

    (alert,) = [each for each in world.alerts if each["stage"] is None]
    assert alert["verdict"] == "FAILED"
    assert "QualityGateFailed: version 2 of works is blocked" in alert["cause"]


@pytest.mark.parametrize("status", ["FAILED", "ABORTED"])
def test_a_run_that_ended_for_another_reason_is_not_told_as_blocked(status: str) -> None:
    world = World(
        LOSSY, published=judged(outcome=GateOutcome.WARNED if status == "FAILED" else GateOutcome.BLOCKED)
    )

    world.close(status, error="States.Runtime", cause="a state is wrong")

    (alert,) = [each for each in world.alerts if each["stage"] is None]
    assert alert["verdict"] == status


def test_knows_a_blocked_run_where_the_errors_name_is_lost_as_on_the_emulator() -> None:
    world = World(LOSSY, published=judged())

    world.close("FAILED", error="Runtime.HandlerError", cause="version 2 of works is blocked")

    (alert,) = [each for each in world.alerts if each["stage"] is None]
    assert alert["verdict"] == "BLOCKED"


def test_results_survive_storage() -> None:
    result = not_evaluated(
        NullShare("x", at_most=0, reason="r", severity=RuleSeverity.WARN), "there is no column x"
    )

    assert RuleResult.from_json(json.loads(json.dumps(result.to_json()))) == result
    with pytest.raises(ValueError, match=r"`outcome` must be one of passed, warned, blocked, got: 'maybe'"):
        RuleResult.from_json({**result.to_json(), "outcome": "maybe"})
    with pytest.raises(ValueError, match=r"`rule`: rules.kind: must be one of"):
        RuleResult.from_json({**result.to_json(), "rule": {"kind": "magic"}})
