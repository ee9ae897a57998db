"""Long ranges of a settlement are written once, even if several fields have the same."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from winnow.batch.plan import Plan
from winnow.batch.rows import SourceRef
from winnow.core.contract import Pointer, SourceFormat
from winnow.core.ranges import Ranges
from winnow.settlement.settlement import Settlement, before_anything

COUNT = 10_000
FAILED = Ranges.of(range(0, COUNT, 7))


def settlement(**fields: Any) -> Settlement:
    plan = Plan(
        run_id="r",
        pipeline="p",
        stage="s",
        batch_id="B1",
        digest="d",
        count=COUNT,
        source=SourceRef(Pointer(bucket="b", key="k"), SourceFormat.NDJSON, None),
        dropped=Ranges.empty(),
        duplicates=0,
        superseded=0,
        conflicts=0,
        rejected=Ranges.empty(),
        subset=False,
        numbered_ids=False,
        lost_upstream=0,
        created_at="2026-01-01T00:00:00.000Z",
    )
    done = Ranges.span(0, COUNT) - FAILED
    scattered = dict.fromkeys(("failed", "tried", "next"), FAILED)
    return replace(before_anything(plan), attempt=0, succeeded=done, **{**scattered, **fields})


REPORTS = {
    "parts one after the other": (("1", FAILED.within(0, 5_000)), ("2", FAILED.within(5_000, COUNT))),
    "parts that overlap": (("1", Ranges.of(range(0, COUNT, 14))), ("2", Ranges.of(range(7, COUNT, 14)))),
    "records that are done by now": (("1", Ranges.of(range(0, COUNT, 5))),),
    "few": (("1", FAILED.first(3)),),
    "none": (("1", Ranges.empty()),),
}


@pytest.mark.parametrize("reports", REPORTS.values(), ids=REPORTS.keys())
def test_survives_json(reports: tuple[tuple[str, Ranges], ...]) -> None:
    before = settlement(reports=reports)
    assert Settlement.from_json(json.loads(json.dumps(before.to_json()))) == before


def test_the_same_ranges_are_written_once() -> None:
    body = json.dumps(settlement(reports=REPORTS["parts one after the other"]).to_json())
    assert body.count("7000") == 2  # among those that failed, and among those that did not


def test_short_ranges_are_spelt_out() -> None:
    few = FAILED.first(3)
    written = settlement(failed=few, tried=few, next=few, reports=(("1", few),)).to_json()
    assert written["failed"] == written["tried"] == written["next"] == few.to_json()
    assert written["reports"] == [["1", few.to_json()]]
