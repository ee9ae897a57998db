"""Why a selection is empty: most often another operator, or the pipeline itself, was quicker."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from winnow.alerts.shown_ids import shown_id
from winnow.batch.plan import find_plan
from winnow.core.errors import LedgerObjectMissing
from winnow.core.keys import StageKeys
from winnow.register.entry import Status
from winnow.settlement.failure_records import read_failed_ids

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scripts.replay.criteria import Criteria
    from scripts.replay.site import Site

LOOKED_UP = 1_000
"""Failures of a run that are looked up one by one: enough to say what became of them."""


def why_nothing(site: Site, criteria: Criteria) -> str:
    """What became of the failures that were meant, in one line."""
    resolved = _resolved(site, criteria)
    if resolved:
        return f"{shown_id(resolved[0])} and all others that match are already resolved ({len(resolved):,})"
    for run_id in criteria.runs:
        elsewhere = list(islice(_failed_since(site, criteria, run_id), 1))
        if elsewhere:
            return elsewhere[0]
        if find_plan(site.ledger, StageKeys(run_id, criteria.stage or site.pipeline.stages[0])) is None:
            return f"pipeline {site.pipeline.name} has no failures of run {run_id}"
    return "no failure matches; see what there is: winnow replay list"


def _resolved(site: Site, criteria: Criteria) -> list[str]:
    now = site.clock()
    return [
        entry.record_id
        for stage in site.stages(criteria)
        for entry in site.register.all(site.pipeline.name, stage)
        if entry.status is Status.RESOLVED and criteria.match(entry, now)
    ]


def _failed_since(site: Site, criteria: Criteria, run_id: str) -> Iterator[str]:
    """What became of the records that a run lost, where it is not the last that they failed in."""
    for stage in site.stages(criteria):
        try:
            failures = islice(read_failed_ids(site.ledger, StageKeys(run_id, stage).failures), LOOKED_UP)
            ids = [record_id for _, record_id in failures]
        except LedgerObjectMissing:
            continue
        for entry in site.entries_of(stage, ids):
            name = shown_id(entry.record_id)
            if entry.status is Status.RESOLVED:
                yield f"{name} failed again since, in run {entry.last.run_id}, and is already resolved"
            elif entry.last.run_id != run_id:
                yield f"{name} failed again since, in run {entry.last.run_id}; select by that run"
