"""A failing schedule, made as small as it gets and told in plain sentences."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.simulation.checking import Checked, check
from tests.simulation.schedule import (
    ALWAYS,
    WHOLE,
    FaultKind,
    Manner,
    RunPlan,
    Schedule,
    Shape,
    StagePlan,
    Way,
)

RUNS = 400
"""Schedules that are tried, at most, while one is made smaller."""

PLAIN = StagePlan(name="plain", max_tries=3, lambda_seconds=900.0)


def shrink(checked: Checked, *, runs: int = RUNS) -> Checked:
    """The smallest schedule found in which the same law does not hold: every part that it needs not is taken out."""
    laws = {violation.law for violation in checked.violations}
    smallest = checked
    left = runs
    found = True
    while found and left > 0:
        found = False
        for candidate in _smaller(smallest.schedule):
            left -= 1
            if left <= 0:
                break
            tried = check(candidate)
            if laws & {violation.law for violation in tried.violations}:
                smallest, found = tried, True
                break
    return smallest


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Schedules with a little less in them, the largest steps first."""
    yield from _without(schedule, "faults", least=0)
    yield from _without(schedule, "replays", least=0)
    yield from _without(schedule, "runs", least=1)
    if len(schedule.stages) > 1:
        yield replace(schedule, stages=schedule.stages[:-1])
    yield from _without_records(schedule)
    defaults: dict[str, Any] = {
        "skewed": False,
        "horizon": 10_000,
        "block": 50_000,
        "buffer": 8 * 1024 * 1024,
        "flushes": 0.0,
    }
    for name, value in defaults.items():
        if getattr(schedule, name) != value:
            yield replace(schedule, **{name: value})
    for place, run in enumerate(schedule.runs):
        for simpler in _simpler_runs(run):
            yield replace(schedule, runs=_with(schedule.runs, place, simpler))
    for place, record in enumerate(schedule.records):
        if record.copies > 1:
            yield replace(schedule, records=_with(schedule.records, place, replace(record, copies=1)))
        for number, manner in enumerate(record.manners):
            if manner.way is not Way.ONE:
                manners = _with(record.manners, number, Manner())
                yield replace(
                    schedule, records=_with(schedule.records, place, replace(record, manners=manners))
                )
    for place, stage in enumerate(schedule.stages):
        for name in (
            "shape",
            "mutates",
            "give_up_after",
            "record_seconds",
            "lambda_seconds",
            "down_for",
            "setup_fails",
        ):
            if getattr(stage, name) != getattr(PLAIN, name):
                simpler_stage = replace(stage, **{name: getattr(PLAIN, name)})
                yield replace(schedule, stages=_with(schedule.stages, place, simpler_stage))


def _without(schedule: Schedule, name: str, *, least: int) -> Iterator[Schedule]:
    parts = getattr(schedule, name)
    if len(parts) > max(2, least + 1):
        half = len(parts) // 2
        yield replace(schedule, **{name: parts[:half]})
        yield replace(schedule, **{name: parts[half:]})
    if len(parts) > least:
        for place in range(len(parts)):
            yield replace(schedule, **{name: parts[:place] + parts[place + 1 :]})


def _without_records(schedule: Schedule) -> Iterator[Schedule]:
    count = len(schedule.records)
    pieces = [range(count // 2), range(count // 2, count)] if count > 3 else []
    for gone in (*pieces, *([place] for place in range(count))):
        runs = tuple(
            replace(
                run,
                records=tuple(place for place in run.records if place not in gone),
                worse=tuple(place for place in run.worse if place not in gone),
            )
            for run in schedule.runs
        )
        if runs != schedule.runs and all(run.records for run in runs):
            yield replace(schedule, runs=runs)


def _simpler_runs(run: RunPlan) -> Iterator[RunPlan]:
    if run.again_after is not None:
        yield replace(run, again_after=None)
    if run.unreadable:
        yield replace(run, unreadable=0)
    if run.scheduled:
        yield replace(run, scheduled=False)
    if run.worse:
        yield replace(run, worse=())
    if run.name:
        yield replace(run, name=None)


def _with(parts: tuple[Any, ...], place: int, part: Any) -> tuple[Any, ...]:
    return (*parts[:place], part, *parts[place + 1 :])


def tell(checked: Checked) -> str:
    """A schedule, what happened in it, and what is wrong afterwards: numbered sentences."""
    schedule = checked.schedule
    sentences = [*_of_stages(schedule), *_of_records(schedule), *_of_runs(schedule), *_of_knobs(schedule)]
    numbered = [f"{number:3}. {sentence}" for number, sentence in enumerate(sentences, start=1)]
    happened = [f"     {event}" for event in checked.events]
    wrong = [f"   - {violation}" for violation in checked.violations] or ["   - nothing"]
    return "\n".join(
        [f"Seed {schedule.seed}", *numbered, "  Then:", *happened, "  What is wrong afterwards:", *wrong]
    )


def _of_stages(schedule: Schedule) -> Iterator[str]:
    for stage in schedule.stages:
        size = f" of {stage.batch}" if stage.shape in {Shape.BATCH, Shape.JOIN} else ""
        tries = "1 try" if stage.max_tries == 1 else f"{stage.max_tries} tries"
        parts = [f"Stage {stage.name} takes its records {stage.shape}{size}, with {tries}"]
        if stage.spend_tries_first:
            parts.append("spends them before it fails as a whole")
        if stage.mutates:
            parts.append("its worker changes the data that it is given")
        if stage.give_up_after < 100:
            parts.append(f"it gives up after {stage.give_up_after} failures in a row")
        if stage.down_for:
            parts.append(f"what it depends on is down for {stage.down_for} calls")
        if stage.setup_fails:
            parts.append(f"its setup fails {stage.setup_fails} times")
        if stage.foreign and stage.shape is Shape.JOIN:
            parts.append("its worker names records of earlier batches, too")
        parts.append(
            f"a record takes {stage.record_seconds:g} s, and its Lambda has {stage.lambda_seconds:g} s"
        )
        yield "; ".join(parts) + "."


def _of_records(schedule: Schedule) -> Iterator[str]:
    used = {place for run in schedule.runs for place in run.records}
    for place, record in enumerate(schedule.records):
        if place not in used:
            continue
        told = []
        for stage, manner in zip(schedule.stages, record.manners, strict=False):
            times = (
                ""
                if manner.times >= ALWAYS
                else f" ({manner.times})"
                if manner.way is Way.MANY
                else f" {_times(manner.times)}"
            )
            told.append(f"{stage.name} {manner.way}{times}")
        copies = f" The list has {record.copies} rows of it." if record.copies > 1 else ""
        yield f"Record {record.id}, value {record.value}: {', '.join(told)}.{copies}"


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count} times")


def _of_runs(schedule: Schedule) -> Iterator[str]:
    for number, run in enumerate(schedule.runs):
        ids = ", ".join(schedule.records[place].id for place in run.records)
        name = f" called {run.name}" if run.name else ""
        parts = [
            f"Run {number}{name} begins after {run.after:g} s, {'by schedule ' if run.scheduled else ''}with {ids}"
        ]
        if run.worse:
            worse = ", ".join(schedule.records[place].id for place in run.worse)
            parts.append(f"of which {worse} are broken in its source")
        if run.unreadable:
            parts.append(f"and {run.unreadable} rows that are no JSON")
        if run.again_after is not None:
            parts.append(f"and its event comes again {run.again_after:g} s later")
        yield ", ".join(parts) + "."
    for after in schedule.replays:
        yield f"After {after:g} s an operator replays what is open."


def _of_knobs(schedule: Schedule) -> Iterator[str]:
    if schedule.skewed:
        yield "The clocks of two Lambdas differ by up to two minutes."
    knobs = []
    if schedule.horizon < 10_000:
        knobs.append(f"{schedule.horizon} records may be taken before a segment is durable")
    if schedule.block < 50_000:
        knobs.append(f"an object of a batch holds {schedule.block} ids")
    if schedule.buffer < 8 * 1024 * 1024:
        knobs.append(f"{schedule.buffer} bytes of outputs are buffered")
    if schedule.flushes:
        knobs.append(f"a segment is written between two records with a chance of {schedule.flushes:g}")
    if knobs:
        yield "; ".join(knobs).capitalize() + "."
    for fault in schedule.faults:
        where = f"invocation {fault.invocation + 1} of {fault.function}"
        if fault.kind in WHOLE:
            yield f"Fault: {where} {fault.kind}."
            continue
        scope = f", of {fault.scope} execution" if fault.kind in {FaultKind.STOP, FaultKind.TIMED_OUT} else ""
        yield f"Fault: {fault.kind.name.lower().replace('_', ' ')} at call {fault.call + 1} in {where}{scope}."
