"""The oracle is not blind: each fault that is planted in Winnow is found within a few hundred seeds."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.simulation import simulation
from tests.simulation.checking import Checked, check
from tests.simulation.schedule import draw
from tests.simulation.story import shrink, tell
from winnow.alerts.content import AlertContent
from winnow.core.contract import Kind
from winnow.core.ranges import Ranges
from winnow.core.record import Record
from winnow.journal import evidence
from winnow.journal.segment import Segment
from winnow.planning.stage_planner import continue_stage
from winnow.register import registering
from winnow.register.entry import Success
from winnow.runtime import engine, outcome, segment_writer, units
from winnow.runtime.segment_writer import SegmentWriter
from winnow.settlement import settle as settling
from winnow.storage.formats import NdjsonOutput
from winnow.storage.ledger import compress, decompress

SEEDS = 400

Plant = Callable[[pytest.MonkeyPatch], None]


def drop_a_line_of_outputs(patch: pytest.MonkeyPatch) -> None:
    body = NdjsonOutput.body
    patch.setattr(
        NdjsonOutput, "body", lambda self, lines: body(self, lines[:1] if len(lines) > 2 else lines)
    )


def name_attempts_like_runs(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(settling, "attempt_execution_name", lambda run_id, attempt: f"{run_id}-{attempt}")


def hand_a_record_over_as_it_was_left(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Record, "_begin_again", lambda _record: None)


def report_all_as_permanent_beside_one(patch: pytest.MonkeyPatch) -> None:
    def forged(**fields: Any) -> Any:
        if fields["failed"].get(Kind.PERMANENT):
            rest = Ranges.span(0, 50) - fields["succeeded"] - fields["skipped"]
            fields["failed"] = {**fields["failed"], Kind.PERMANENT: rest}
        return Segment(**fields)

    patch.setattr(segment_writer, "Segment", forged)


def call_what_may_pass_permanent(patch: pytest.MonkeyPatch) -> None:
    kind_of = outcome.kind_of
    for module in (engine, outcome, units):
        patch.setattr(module, "kind_of", lambda error: kind_of(error) and Kind.PERMANENT)


def plan_a_batch_again_in_another_order(patch: pytest.MonkeyPatch) -> None:
    def planned_again(ledger: Any, given: Any, **where: Any) -> Any:
        made = continue_stage(ledger, given, **where)
        for key in [
            key for bucket, key in ledger.store.objects if f"{given['run_id']}/{where['stage']}/batch/" in key
        ]:
            ids = json.loads(decompress(ledger.store.objects[ledger.bucket, key]))
            ledger.store.objects[ledger.bucket, key] = compress(json.dumps(ids[::-1]).encode())
        return made

    patch.setattr(simulation, "continue_stage", planned_again)


def count_records_of_every_segment(patch: pytest.MonkeyPatch) -> None:
    def everything(segments: Any, _order: Any, _ledger: Any) -> Any:
        return [(each, each.succeeded, each.skipped, evidence._entry(each)) for each in segments], 0

    patch.setattr(evidence, "_pick", everything)


def journal_before_the_outputs(patch: pytest.MonkeyPatch) -> None:
    persist = SegmentWriter._persist
    waiting: list[Any] = []

    def late(self: Any, write: Any) -> Any:
        if "_write_outputs" in write.__code__.co_names:
            waiting.append((self, write))
            return None
        return persist(self, write)

    patch.setattr(SegmentWriter, "_persist", late)


def alert_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(AlertContent, "needs_alert", False)


def forget_failures_on_record(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(registering, "register_failures", lambda *_, **__: None)


def resolve_by_older_successes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Success, "is_newer_than", lambda *_: True)


PLANTS: dict[Plant, str] = {
    drop_a_line_of_outputs: "4 conservation",
    name_attempts_like_runs: "8 nothing runs twice",
    hand_a_record_over_as_it_was_left: "4 conservation",
    report_all_as_permanent_beside_one: "3 isolation",
    call_what_may_pass_permanent: "1 failure is the absence of success",
    plan_a_batch_again_in_another_order: "4 conservation",
    count_records_of_every_segment: "4 conservation",
    journal_before_the_outputs: "4 conservation",
    alert_nobody: "5 never green",
    forget_failures_on_record: "5 never green",
    resolve_by_older_successes: "5 never green",
}
"""Faults, and the law that each breaks."""


def first_failing() -> Checked | None:
    return next((checked for seed in range(SEEDS) if (checked := check(draw(seed))).violations), None)


@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_finds_a_planted_fault(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    found = first_failing()
    assert found, f"no seed below {SEEDS} finds it"
    assert any(violation.law.startswith(PLANTS[plant]) for violation in found.violations), tell(found)


def test_tells_a_failing_seed_as_a_shrunk_story(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_a_record_over_as_it_was_left(monkeypatch)
    found = first_failing()
    assert found
    small = shrink(found)
    assert small.violations
    assert small.schedule.faults == ()
    assert len(small.schedule.stages) == 1
    story = tell(small)
    assert story.startswith(f"Seed {found.schedule.seed}\n  1. Stage adapt takes its records ")
    assert re.search(r"^ +\d\. Record \S+, value \d+: adapt ", story, re.MULTILINE)
    assert "its worker changes the data that it is given" in story
    assert "   - 4 conservation: " in story
